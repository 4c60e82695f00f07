"""Directions as tan-plane vectors, and their continuation over nodes that a detector did not see."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cubekit.nbar._scan import NODES
from cubekit.typing import FloatArray

__all__ = ["FEATURES", "continued", "factor", "has_any", "substitute", "tan_vectors"]

PRIOR_WEIGHT = 3e-4
"""Squared ratio of the angles' noise (0.0005 degrees) to how far detectors differ in shape over half a tile (0.03 degrees)."""

WEAK = (1e-9, 1e-9, 1e-6, 1e-6, 1e-6)
"""Weight per node that holds the shared shape's unseen terms at zero."""


S3, S5, S7, S9, S11, S13, S15, S17 = (1.0 / math.factorial(n) for n in range(3, 18, 2))
C2, C4, C6, C8, C10, C12, C14, C16 = (1.0 / math.factorial(n) for n in range(2, 17, 2))
"""Taylor coefficients of sine and cosine but for the signs."""

EXPONENTS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""Powers of column and row in each of `FEATURES`."""

PRODUCTS = np.array([[(i + j + k + m) * (i + j + k + m + 1) // 2 + k + m for j, m in EXPONENTS] for i, k in EXPONENTS])
"""Which sum of `_moments` two features make together."""


def tan_vectors(zenith: FloatArray, azimuth: FloatArray) -> FloatArray:
    """Tan-plane vectors ``tan(zenith) * (sin(azimuth), cos(azimuth))``, (east, north); shape (..., 2). Angles in degrees."""
    zenith, azimuth = np.asarray(zenith, dtype=np.float64), np.asarray(azimuth, dtype=np.float64)
    out = np.empty((2, *zenith.shape))
    _tan_loop(np.ravel(zenith), np.ravel(azimuth), out.reshape(2, -1))
    return np.ascontiguousarray(np.moveaxis(out, 0, -1))


@njit(cache=True, nogil=True, error_model="numpy")
def _tan_loop(zenith, azimuth, out):  # type: ignore[no-untyped-def]
    """Into ``out`` (2, node): free of branches and not interleaved, so that several nodes are done at a time; NaN in gives NaN out."""
    easts, norths = out[0], out[1]
    for i in range(zenith.shape[0]):
        sine, cosine = _sincos(zenith[i])
        east, north = _sincos(azimuth[i])
        tangent = sine / cosine
        easts[i] = tangent * east
        norths[i] = tangent * north


@njit(cache=True, inline="always")
def _sincos(degrees):  # type: ignore[no-untyped-def]
    """(sine, cosine) of degrees within two turns: Taylor series about the nearest right angle, to 1e-16, at a fraction of libm's price."""
    quarter = np.floor(degrees / 90.0 + 0.5)
    x = (degrees - 90.0 * quarter) * (math.pi / 180.0)
    z = -x * x
    odd = (((((((S17 * z + S15) * z + S13) * z + S11) * z + S9) * z + S7) * z + S5) * z + S3) * z
    even = (((((((C16 * z + C14) * z + C12) * z + C10) * z + C8) * z + C6) * z + C4) * z + C2) * z
    odd, even = x * (1.0 + odd), 1.0 + even
    half = 0.5 * quarter
    swapped = half != np.floor(half)
    turn = quarter - 4.0 * np.floor(0.25 * quarter)
    sine = even if swapped else odd
    cosine = odd if swapped else even
    return sine * (-1.0 if turn >= 2.0 else 1.0), cosine * (-1.0 if (turn >= 1.0) & (turn <= 2.0) else 1.0)


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
            if out[g]:
                break


def _grid_features() -> FloatArray:
    """Terms 1, a, b, a a, a b, b b of a 2nd-order polynomial, a and b being column and row scaled to -1 .. 1; (6, node)."""
    rows, columns = np.mgrid[0:NODES, 0:NODES].astype(float) * 2 / (NODES - 1) - 1
    a, b = columns.ravel(), rows.ravel()
    return np.ascontiguousarray(np.stack([np.ones_like(a), a, b, a * a, a * b, b * b]))


FEATURES = _grid_features()


def continued(zenith: FloatArray, azimuth: FloatArray, index: npt.NDArray[np.intp]) -> tuple[FloatArray, npt.NDArray[np.bool_], FloatArray]:
    """Fit the view vectors of some grids of angles by 2nd-order polynomials, and fill the nodes that have none.

    Parameters
    ----------
    zenith, azimuth
        (grid, 23, 23), degrees, NaN where not seen.
    index
        The grids wanted; each has at least one seen node.

    Returns
    -------
    vectors
        (wanted, 23, 23, 2) tan-plane vectors without gaps.
    seen
        (wanted, 23, 23), nodes that have angles.
    coefficients
        (wanted, 6, 2) of `FEATURES`.

    Notes
    -----
    Grids with few nodes borrow their shape from the others: a polynomial shared by all grids (each about its own mean) is the prior of a
    ridge regression whose weight is that of one node per 3000.
    """
    vectors = np.empty((len(index), NODES, NODES, 2))
    seen = np.empty((len(index), NODES, NODES), dtype=np.bool_)
    coefficients = np.empty((len(index), 6, 2))
    flat = zenith.reshape(len(zenith), -1), azimuth.reshape(len(azimuth), -1), index
    views = vectors.reshape(len(index), -1, 2), seen.reshape(len(index), -1)
    _continue(*flat, FEATURES, np.array(WEAK), PRIOR_WEIGHT, *views, coefficients)
    return vectors, seen, coefficients


@njit(cache=True, nogil=True, error_model="numpy")
def _continue(zenith, azimuth, index, features, weak, prior_weight, vectors, seen, coefficients):  # type: ignore[no-untyped-def]
    grids, nodes = seen.shape
    gram, moment, power = np.zeros((grids, 6, 6)), np.zeros((grids, 6, 2)), np.empty(15)
    where = np.empty(nodes + 1, dtype=np.int64)
    angles, points, places = np.empty((2, nodes + 1)), np.empty((2, nodes)), np.empty((2, nodes))
    for g in range(grids):
        count = 0
        for i in range(nodes):  # free of branches: every node is noted, and overwritten by the next unless it was seen
            theta, phi = zenith[index[g], i], azimuth[index[g], i]
            known = (theta == theta) & (phi == phi)
            seen[g, i] = known
            where[count], angles[0, count], angles[1, count] = i, theta, phi
            count += known
        _tan_loop(angles[0, :count], angles[1, :count], points)
        for n in range(count):
            places[0, n], places[1, n] = features[1, where[n]], features[2, where[n]]
            vectors[g, where[n], 0], vectors[g, where[n], 1] = points[0, n], points[1, n]
        _moments(places, points, count, power, moment[g])
        for j in range(6):
            for k in range(6):
                gram[g, j, k] = power[PRODUCTS[j, k]]
    shared = _shared_shape(gram, moment, weak)
    for g in range(grids):
        for j in range(1, 6):
            gram[g, j, j] += prior_weight
            moment[g, j, 0] += prior_weight * shared[j - 1, 0]
            moment[g, j, 1] += prior_weight * shared[j - 1, 1]
        _solve(gram[g], moment[g])
        for j in range(6):
            coefficients[g, j, 0], coefficients[g, j, 1] = moment[g, j, 0], moment[g, j, 1]
        _fill_unseen(features[1], features[2], seen[g], moment[g], vectors[g])


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _moments(places, points, count, power, moment):  # type: ignore[no-untyped-def]
    """Sums over points: of a^p b^q into ``power``, by degree p + q, then by q; of the features times the vectors into ``moment`` (6, 2)."""
    s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = s10 = s11 = s12 = s13 = s14 = 0.0
    x0 = x1 = x2 = x3 = x4 = x5 = y0 = y1 = y2 = y3 = y4 = y5 = 0.0
    for n in range(count):
        a, b, x, y = places[0, n], places[1, n], points[0, n], points[1, n]
        aa, ab, bb = a * a, a * b, b * b
        s1, s2, s3, s4, s5 = s1 + a, s2 + b, s3 + aa, s4 + ab, s5 + bb
        s6, s7, s8, s9 = s6 + aa * a, s7 + aa * b, s8 + ab * b, s9 + bb * b
        s10, s11, s12, s13, s14 = s10 + aa * aa, s11 + aa * ab, s12 + ab * ab, s13 + ab * bb, s14 + bb * bb
        x0, x1, x2, x3, x4, x5 = x0 + x, x1 + a * x, x2 + b * x, x3 + aa * x, x4 + ab * x, x5 + bb * x
        y0, y1, y2, y3, y4, y5 = y0 + y, y1 + a * y, y2 + b * y, y3 + aa * y, y4 + ab * y, y5 + bb * y
    sums = (float(count), s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14)
    for j in range(15):
        power[j] = sums[j]
    east, north = (x0, x1, x2, x3, x4, x5), (y0, y1, y2, y3, y4, y5)
    for j in range(6):
        moment[j, 0], moment[j, 1] = east[j], north[j]


@njit(cache=True, nogil=True)
def _fill_unseen(a, b, seen, coefficients, vectors):  # type: ignore[no-untyped-def]
    for axis in range(2):
        c0, c1, c2 = coefficients[0, axis], coefficients[1, axis], coefficients[2, axis]
        c3, c4, c5 = coefficients[3, axis], coefficients[4, axis], coefficients[5, axis]
        for i in range(seen.shape[0]):
            value = c0 + a[i] * (c1 + a[i] * c3 + b[i] * c4) + b[i] * (c2 + b[i] * c5)
            vectors[i, axis] = vectors[i, axis] if seen[i] else value


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
    """Solve a small positive definite system in place; ``right`` (n, m) becomes the answer. LAPACK's threads cost more."""
    factor(matrix)
    substitute(matrix, right)


@njit(cache=True, nogil=True)
def factor(matrix):  # type: ignore[no-untyped-def]
    """Cholesky factor of a small positive definite matrix, in place, in the lower triangle."""
    n = matrix.shape[0]
    for j in range(n):
        for k in range(j):
            matrix[j, j] -= matrix[j, k] ** 2
        matrix[j, j] = np.sqrt(max(matrix[j, j], 1e-300))
        for i in range(j + 1, n):
            for k in range(j):
                matrix[i, j] -= matrix[i, k] * matrix[j, k]
            matrix[i, j] /= matrix[j, j]


@njit(cache=True, nogil=True)
def substitute(matrix, right):  # type: ignore[no-untyped-def]
    """Solve with what `factor` left; ``right`` (n, m) becomes the answer."""
    n = matrix.shape[0]
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
