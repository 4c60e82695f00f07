"""Directions as tan-plane vectors, and their continuation over nodes that a detector did not see."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cubekit.nbar._scan import NODES
from cubekit.typing import FloatArray

__all__ = ["FEATURES", "continue_vectors", "tan_vectors"]

PRIOR_WEIGHT = 3e-4
"""Squared ratio of the angles' noise (0.0005 degrees) to how far detectors differ in shape over half a tile (0.03 degrees)."""

WEAK = (1e-9, 1e-9, 1e-6, 1e-6, 1e-6)
"""Weight per node that holds the shared shape's unseen terms at zero."""


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
            out[i] = np.nan
        else:
            tangent = math.tan(math.radians(zenith[i]))
            out[i, 0] = tangent * math.sin(math.radians(azimuth[i]))
            out[i, 1] = tangent * math.cos(math.radians(azimuth[i]))


def _grid_features() -> FloatArray:
    """Terms 1, a, b, a a, a b, b b of a 2nd-order polynomial, a and b being column and row scaled to -1 .. 1; (node, 6)."""
    rows, columns = np.mgrid[0:NODES, 0:NODES].astype(float) * 2 / (NODES - 1) - 1
    a, b = columns.ravel(), rows.ravel()
    return np.ascontiguousarray(np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], axis=-1))


FEATURES = _grid_features()


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
    for g in range(grids):
        for i in range(nodes):
            if np.isnan(flat[g, i, 0]):
                continue
            for j in range(6):
                for k in range(j + 1):
                    gram[g, j, k] += features[i, j] * features[i, k]
                moment[g, j, 0] += features[i, j] * flat[g, i, 0]
                moment[g, j, 1] += features[i, j] * flat[g, i, 1]
        for j in range(6):
            for k in range(j):
                gram[g, k, j] = gram[g, j, k]
    shared = _shared_shape(gram, moment, weak)
    for g in range(grids):
        for j in range(1, 6):
            gram[g, j, j] += prior_weight
            moment[g, j, 0] += prior_weight * shared[j - 1, 0]
            moment[g, j, 1] += prior_weight * shared[j - 1, 1]
        _solve(gram[g], moment[g])
        coefficients[g] = moment[g]
        for i in range(nodes):
            if np.isnan(flat[g, i, 0]):
                for axis in range(2):
                    value = 0.0
                    for j in range(6):
                        value += features[i, j] * coefficients[g, j, axis]
                    flat[g, i, axis] = value


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
