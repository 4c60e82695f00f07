"""Directions as tan-plane vectors, and their continuation over nodes that a detector did not see."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cubekit.nbar._scan import NODES
from cubekit.typing import FloatArray

__all__ = ["FEATURES", "continue_vectors", "continued", "has_any", "tan_vectors"]

PRIOR_WEIGHT = 3e-4
"""Squared ratio of the angles' noise (0.0005 degrees) to how far detectors differ in shape over half a tile (0.03 degrees)."""

WEAK = (1e-9, 1e-9, 1e-6, 1e-6, 1e-6)
"""Weight per node that holds the shared shape's unseen terms at zero."""


SINE = tuple(1.0 / math.factorial(n) for n in range(17, 1, -2))
COSINE = tuple(1.0 / math.factorial(n) for n in range(16, 0, -2))
"""Taylor coefficients but for the signs, highest power first."""

EXPONENTS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""Powers of column and row in each of `FEATURES`."""


def tan_vectors(zenith: FloatArray, azimuth: FloatArray) -> FloatArray:
    """Tan-plane vectors ``tan(zenith) * (sin(azimuth), cos(azimuth))``, (east, north); shape (..., 2). Angles in degrees."""
    zenith, azimuth = np.asarray(zenith, dtype=np.float64), np.asarray(azimuth, dtype=np.float64)
    out = np.empty((*zenith.shape, 2))
    _tan_loop(np.ravel(zenith), np.ravel(azimuth), out.reshape(-1, 2))
    return out


@njit(cache=True, nogil=True)
def _tan_loop(zenith, azimuth, out):  # type: ignore[no-untyped-def]
    for i in range(zenith.shape[0]):
        if np.isnan(zenith[i]) or np.isnan(azimuth[i]):
            out[i, 0] = np.nan
            out[i, 1] = np.nan
        else:
            out[i, 0], out[i, 1] = _tan_vector(zenith[i], azimuth[i])


@njit(cache=True)
def _tan_vector(zenith, azimuth):  # type: ignore[no-untyped-def]
    sine, cosine = _sincos(zenith)
    east, north = _sincos(azimuth)
    return sine / cosine * east, sine / cosine * north


@njit(cache=True)
def _sincos(degrees):  # type: ignore[no-untyped-def]
    """(sine, cosine) of degrees within two turns: Taylor series about the nearest right angle, to 1e-16, at a third of libm's price."""
    quarter = math.floor(degrees / 90.0 + 0.5)
    x = (degrees - 90.0 * quarter) * (math.pi / 180.0)
    z = -x * x
    sine, cosine = 0.0, 0.0
    for n in range(len(SINE)):
        sine = (sine + SINE[n]) * z
        cosine = (cosine + COSINE[n]) * z
    sine, cosine = x * (1.0 + sine), 1.0 + cosine
    turn = int(quarter) % 4
    if turn == 1:
        return cosine, -sine
    if turn == 2:
        return -sine, -cosine
    if turn == 3:
        return -cosine, sine
    return sine, cosine


def has_any(zenith: FloatArray, azimuth: FloatArray) -> npt.NDArray[np.bool_]:
    """Which grids (grid, 23, 23) have a node with both angles."""
    out = np.zeros(len(zenith), dtype=np.bool_)
    _has_any(zenith, azimuth, out)
    return out


@njit(cache=True, nogil=True)
def _has_any(zenith, azimuth, out):  # type: ignore[no-untyped-def]
    for g in range(zenith.shape[0]):
        for r in range(zenith.shape[1]):
            for c in range(zenith.shape[2]):
                out[g] |= np.isfinite(zenith[g, r, c]) and np.isfinite(azimuth[g, r, c])


def _grid_features() -> FloatArray:
    """Terms 1, a, b, a a, a b, b b of a 2nd-order polynomial, a and b being column and row scaled to -1 .. 1; (node, 6)."""
    rows, columns = np.mgrid[0:NODES, 0:NODES].astype(float) * 2 / (NODES - 1) - 1
    a, b = columns.ravel(), rows.ravel()
    return np.ascontiguousarray(np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], axis=-1))


FEATURES = _grid_features()


def continued(zenith: FloatArray, azimuth: FloatArray, index: npt.NDArray[np.intp]) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray]:
    """(filled, seen, coefficients) of `continue_vectors` for some of the grids of angles (grid, 23, 23) in degrees, NaN where not seen."""
    vectors = np.empty((len(index), NODES, NODES, 2))
    seen = np.empty((len(index), NODES, NODES), dtype=np.bool_)
    coefficients = np.empty((len(index), 6, 2))
    _tan_grids(zenith, azimuth, index, vectors, seen)
    _fit(vectors.reshape(len(index), -1, 2), FEATURES, np.array(WEAK), PRIOR_WEIGHT, coefficients)
    return vectors, seen, coefficients


@njit(cache=True, nogil=True)
def _tan_grids(zenith, azimuth, index, vectors, seen):  # type: ignore[no-untyped-def]
    for g in range(index.shape[0]):
        for r in range(NODES):
            for c in range(NODES):
                theta, phi = zenith[index[g], r, c], azimuth[index[g], r, c]
                x, y = np.nan, np.nan
                seen[g, r, c] = not (np.isnan(theta) or np.isnan(phi))
                if seen[g, r, c]:
                    x, y = _tan_vector(theta, phi)
                vectors[g, r, c, 0] = x
                vectors[g, r, c, 1] = y


def continue_vectors(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit each grid's vectors by a 2nd-order polynomial and fill the nodes that have none.

    Parameters
    ----------
    vectors
        (grid, 23, 23, 2), NaN where not seen. Each grid has at least one seen node.

    Returns
    -------
    filled
        Same shape; seen nodes are untouched.
    coefficients
        (grid, 6, 2) of `FEATURES`.

    Notes
    -----
    Grids with few nodes borrow their shape from the others: a polynomial shared by all grids (each about its own mean) is the prior of a
    ridge regression whose weight is that of one node per 3000.
    """
    filled = np.array(vectors, dtype=np.float64)
    coefficients = np.empty((len(vectors), 6, 2))
    _fit(filled.reshape(len(vectors), -1, 2), FEATURES, np.array(WEAK), PRIOR_WEIGHT, coefficients)
    return filled, coefficients


@njit(cache=True, nogil=True)
def _fit(flat, features, weak, prior_weight, coefficients):  # type: ignore[no-untyped-def]
    """Coefficients (grid, 6, 2) of ``flat`` (grid, node, 2), whose missing nodes are filled in place."""
    grids, nodes = flat.shape[0], flat.shape[1]
    gram = np.zeros((grids, 6, 6))
    moment = np.zeros((grids, 6, 2))
    power = np.empty(15)
    for g in range(grids):
        for j in range(15):
            power[j] = 0.0
        for i in range(nodes):
            x, y = flat[g, i, 0], flat[g, i, 1]
            if np.isnan(x):
                continue
            a, b = features[i, 1], features[i, 2]
            term = 1.0
            for degree in range(5):  # sums of a^p b^q, by degree p + q, then by q
                power[degree * (degree + 1) // 2] += term
                term *= a
            power[2] += b
            power[4] += a * b
            power[5] += b * b
            power[7] += a * a * b
            power[8] += a * b * b
            power[9] += b * b * b
            power[11] += a * a * a * b
            power[12] += a * a * b * b
            power[13] += a * b * b * b
            power[14] += b * b * b * b
            for j in range(6):
                moment[g, j, 0] += features[i, j] * x
                moment[g, j, 1] += features[i, j] * y
        for j in range(6):
            for k in range(6):
                p, q = EXPONENTS[j][0] + EXPONENTS[k][0], EXPONENTS[j][1] + EXPONENTS[k][1]
                gram[g, j, k] = power[(p + q) * (p + q + 1) // 2 + q]
    shared = _shared_shape(gram, moment, weak)
    for g in range(grids):
        for j in range(1, 6):
            gram[g, j, j] += prior_weight
            moment[g, j, 0] += prior_weight * shared[j - 1, 0]
            moment[g, j, 1] += prior_weight * shared[j - 1, 1]
        _solve(gram[g], moment[g])
        for j in range(6):
            for axis in range(2):
                coefficients[g, j, axis] = moment[g, j, axis]
        for axis in range(2):
            c0, c1, c2 = moment[g, 0, axis], moment[g, 1, axis], moment[g, 2, axis]
            c3, c4, c5 = moment[g, 3, axis], moment[g, 4, axis], moment[g, 5, axis]
            for i in range(nodes):
                if np.isnan(flat[g, i, axis]):
                    a, b = features[i, 1], features[i, 2]
                    flat[g, i, axis] = c0 + a * (c1 + a * c3 + b * c4) + b * (c2 + b * c5)


@njit(cache=True, nogil=True)
def _shared_shape(gram, moment, weak):  # type: ignore[no-untyped-def]
    """Polynomial (5, 2), without constant, that fits all grids about their own means."""
    system = np.zeros((5, 5))
    target = np.zeros((5, 2))
    total = 0.0
    for g in range(gram.shape[0]):
        count = gram[g, 0, 0]
        total += count
        for j in range(5):
            mean = gram[g, 0, j + 1] / count
            for k in range(5):
                system[j, k] += gram[g, j + 1, k + 1] - mean * gram[g, 0, k + 1]
            for axis in range(2):
                target[j, axis] += moment[g, j + 1, axis] - mean * moment[g, 0, axis]
    for j in range(5):
        system[j, j] += weak[j] * total
    _solve(system, target)
    return target


@njit(cache=True, nogil=True)
def _solve(matrix, right):  # type: ignore[no-untyped-def]
    """Solve a small positive definite system in place by Cholesky; ``right`` (n, m) becomes the answer. LAPACK's threads cost more."""
    n = matrix.shape[0]
    for j in range(n):
        for k in range(j):
            matrix[j, j] -= matrix[j, k] ** 2
        matrix[j, j] = np.sqrt(max(matrix[j, j], 1e-300))
        for i in range(j + 1, n):
            for k in range(j):
                matrix[i, j] -= matrix[i, k] * matrix[j, k]
            matrix[i, j] /= matrix[j, j]
    for m in range(right.shape[1]):
        for i in range(n):
            for k in range(i):
                right[i, m] -= matrix[i, k] * right[k, m]
            right[i, m] /= matrix[i, i]
        for back in range(n):
            i = n - 1 - back
            for k in range(i + 1, n):
                right[i, m] -= matrix[k, i] * right[k, m]
            right[i, m] /= matrix[i, i]
