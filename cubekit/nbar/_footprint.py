"""Which detector saw a pixel, rebuilt from the angle grids alone.

A detector is a line of pixels, so both edges of its footprint keep a constant across-track look: along the track the view vector does not
change. The across-track component of the view vectors is their projection on the direction in which those of the granule vary. An edge
lies between the outermost node that the detector saw and the next node, in the same row, that it did not: within some 200 m.

The edges of all detectors and bands are one rigid pattern, seen at different phases by the nodes of each band:
``edge(detector, side, band) = e(detector, side) + k s(detector, band) + f(band)``. s is how far the detector looks ahead in that band
(k: the axis is not quite across the track), and f how far the view moved across the track between one band and another. On the focal
plane neighbours overlap by one constant: with k s taken off, ``e(detector, east) - e(its eastern neighbour, west)`` is the same for all
pairs. The edges are the least squares solution that leaves its brackets no more than it must. A detector of which the tile shows a
corner gets its edge from its neighbours.

Where two detectors overlap (by 0.5 to 2.5 km) products take the one with the lower number, as footprint masks without overlap show.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cubekit.nbar._vectors import FEATURES, factor, substitute
from cubekit.typing import FloatArray

__all__ = ["footprints"]

ROUNDS = 12
NOISE = 1e-4
"""Of a bracket and of the overlap of two detectors, in tangents (80 m on the ground)."""
SLOPE_PRIOR = 0.2
"""How far k may be from zero."""
SHIFT_PRIOR = 4e-4
"""How far a band's f may be from zero, in tangents (300 m)."""


def footprints(
    coefficients: FloatArray, seen: npt.NDArray[np.bool_], detectors: npt.NDArray[np.int64], bands: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Order of the grids and the seams between neighbours.

    Parameters
    ----------
    coefficients
        (grid, 6, 2) polynomials of the view vectors.
    seen
        (grid, 23, 23), nodes that the detector saw.
    detectors, bands
        (grid,) detector and band of each grid; those of one band stand side by side.

    Returns
    -------
    order
        (grid,) indices: bands as given, within each the detectors from west to east.
    seams
        (grid, 6): row k is the seam between ``order[k]`` and ``order[k + 1]``, a polynomial that is positive east of it; of no meaning for
        the last grid of a band.
    """
    seen = np.ascontiguousarray(seen)
    look, centres, aim = np.empty((len(seen), 6)), np.empty((len(seen), 2)), np.empty((len(seen), 2))
    edges, brackets = np.full((len(seen), 2), np.inf), np.empty((len(seen), 2, 2))
    order, seams = np.arange(len(seen)), np.zeros((len(seen), 6))
    _look_and_brackets(coefficients, seen, FEATURES, centres, look, aim, brackets)
    _fit_edges(brackets, aim, detectors, bands, edges)
    _order(look, centres, bands, order)
    _seams(look, edges, detectors, bands, order, seams)
    return order, seams


@njit(cache=True, nogil=True)
def _look_and_brackets(coefficients, seen, features, centres, look, aim, brackets):  # type: ignore[no-untyped-def]
    """Polynomial of the across-track look of each grid, looks across and ahead at its centre (``aim``), and the brackets of its edges."""
    xx, yy, xy, eastward, northward = 0.0, 0.0, 0.0, 0.0, 0.0
    for g in range(seen.shape[0]):
        a, b, count = _centre(seen[g].reshape(-1), features)
        centres[g, 0], centres[g, 1] = a, b
        x_east = coefficients[g, 1, 0] + 2 * coefficients[g, 3, 0] * a + coefficients[g, 4, 0] * b
        y_east = coefficients[g, 1, 1] + 2 * coefficients[g, 3, 1] * a + coefficients[g, 4, 1] * b
        x_south = coefficients[g, 2, 0] + coefficients[g, 4, 0] * a + 2 * coefficients[g, 5, 0] * b
        y_south = coefficients[g, 2, 1] + coefficients[g, 4, 1] * a + 2 * coefficients[g, 5, 1] * b
        xx += count * (x_east**2 + x_south**2)
        yy += count * (y_east**2 + y_south**2)
        xy += count * (x_east * y_east + x_south * y_south)
        eastward += count * x_east
        northward += count * y_east
    # the direction in which the vectors vary most: main axis of the symmetric matrix J J^T
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    nx, ny = math.cos(angle), math.sin(angle)
    if nx * eastward + ny * northward < 0:
        nx, ny = -nx, -ny
    values = np.empty((seen.shape[1], seen.shape[2]))
    for g in range(seen.shape[0]):
        a, b = centres[g, 0], centres[g, 1]
        terms = (1.0, a, b, a * a, a * b, b * b)
        aim[g, 0], aim[g, 1] = 0.0, 0.0
        for j in range(6):
            look[g, j] = nx * coefficients[g, j, 0] + ny * coefficients[g, j, 1]
            aim[g, 0] += terms[j] * look[g, j]
            aim[g, 1] += terms[j] * (nx * coefficients[g, j, 1] - ny * coefficients[g, j, 0])
        _look_at_nodes(look[g], features, values.reshape(-1))
        _bracket(values, seen[g], brackets[g])


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _centre(seen, features):  # type: ignore[no-untyped-def]
    """Mean scaled column and row of the seen nodes, and their number."""
    count, a, b = 0.0, 0.0, 0.0
    for i in range(seen.shape[0]):
        weight = np.float64(seen[i])
        count += weight
        a += weight * features[1, i]
        b += weight * features[2, i]
    return a / count, b / count, count


@njit(cache=True, nogil=True)
def _look_at_nodes(look, features, values):  # type: ignore[no-untyped-def]
    c0, c1, c2, c3, c4, c5 = look[0], look[1], look[2], look[3], look[4], look[5]
    for i in range(values.shape[0]):
        a, b = features[1, i], features[2, i]
        values[i] = c0 + a * (c1 + a * c3 + b * c4) + b * (c2 + b * c5)


@njit(cache=True, nogil=True)
def _bracket(values, seen, bracket):  # type: ignore[no-untyped-def]
    """Per side, west and east, (outermost seen, nearest unseen neighbour beyond it) into ``bracket`` (2, 2); infinite if there is none."""
    lowest, highest = np.inf, -np.inf
    for r in range(seen.shape[0]):
        for c in range(seen.shape[1]):
            if seen[r, c]:
                lowest, highest = min(lowest, values[r, c]), max(highest, values[r, c])
    below, above = -np.inf, np.inf
    for r in range(seen.shape[0]):
        for c in range(1, seen.shape[1]):
            if seen[r, c] and not seen[r, c - 1] and values[r, c - 1] < lowest:
                below = max(below, values[r, c - 1])
            elif seen[r, c - 1] and not seen[r, c] and values[r, c] > highest:
                above = min(above, values[r, c])
    bracket[0, 0], bracket[0, 1], bracket[1, 0], bracket[1, 1] = lowest, below, highest, above


@njit(cache=True, nogil=True)
def _fit_edges(brackets, aim, detectors, bands, edges):  # type: ignore[no-untyped-def]
    """Edges (grid, 2), west and east, as the module says; those that the tile does not show, and no neighbour tells, are infinite."""
    mean, count = np.zeros((13, 2)), np.zeros(13)
    for g in range(len(detectors)):
        for axis in range(2):
            mean[detectors[g], axis] += aim[g, axis]
        count[detectors[g]] += 1.0
    for d in range(13):
        for axis in range(2):
            mean[d, axis] /= max(count[d], 1.0)
    slots, slope = np.full((13, 2), -1), 0  # unknowns: edges, k, f of each band, the overlap
    for g in range(len(detectors)):
        for side in range(2):
            if math.isfinite(brackets[g, side, 1]) and slots[detectors[g], side] < 0:
                slots[detectors[g], side] = slope
                slope += 1
    size = slope + 15
    matrix, known, right = np.zeros((size, size)), np.zeros((size, 1)), np.zeros((size, 1))
    matrix[slope, slope] = 1.0 / (12.0 * SLOPE_PRIOR**2)
    for band in range(13):
        matrix[slope + 1 + band, slope + 1 + band] = 1.0 / (12.0 * SHIFT_PRIOR**2)
    pairs = _add_overlaps(slots, count, mean, slope, matrix)
    for turn in range(ROUNDS + 1):  # first the middles; then whatever within each bracket lies nearest to the solution
        _add_brackets(brackets, aim, mean, detectors, bands, slots, slope, turn == 0, known, matrix, right)
        if turn == 0:
            factor(matrix)
        for i in range(size):
            known[i, 0] = right[i, 0]
        substitute(matrix, known)
    for g in range(len(detectors)):
        d = detectors[g]
        for side in range(2):
            edge = np.inf
            if slots[d, side] >= 0:
                edge = known[slots[d, side], 0]
            elif pairs > 0:
                edge = _told_by_neighbour(slots, count, mean, slope, known, d, side)
            edges[g, side] = edge + (aim[g, 1] - mean[d, 1]) * known[slope, 0] + known[slope + 1 + bands[g], 0]


@njit(cache=True, nogil=True)
def _add_brackets(brackets, aim, mean, detectors, bands, slots, slope, at_first, known, matrix, right):  # type: ignore[no-untyped-def]
    """Right side of the normal equations, whose matrix is made ``at_first``, when edges are wanted as near to ``known`` as brackets let."""
    columns, values = np.empty(3, dtype=np.int64), np.ones(3)
    for i in range(right.shape[0]):
        right[i, 0] = 0.0
    for g in range(len(detectors)):
        for side in range(2):
            if not math.isfinite(brackets[g, side, 1]):
                continue
            low, high = min(brackets[g, side, 0], brackets[g, side, 1]), max(brackets[g, side, 0], brackets[g, side, 1])
            weight = 1.0 / (high - low + NOISE) ** 2
            columns[0], columns[1], columns[2] = slots[detectors[g], side], slope, slope + 1 + bands[g]
            values[1] = aim[g, 1] - mean[detectors[g], 1]
            wanted = 0.5 * (low + high)
            if not at_first:
                wanted = min(max(known[columns[0], 0] + values[1] * known[slope, 0] + known[columns[2], 0], low), high)
            for i in range(3):
                right[columns[i], 0] += weight * values[i] * wanted
                if at_first:
                    for j in range(3):
                        matrix[columns[i], columns[j]] += weight * values[i] * values[j]


@njit(cache=True, nogil=True)
def _add_overlaps(slots, count, mean, slope, matrix):  # type: ignore[no-untyped-def]
    """Add to the normal equations that neighbours overlap alike; returns how many pairs there are."""
    overlap, pairs, weight = matrix.shape[0] - 1, 0, 1.0 / (12.0 * NOISE**2)
    columns, values = np.empty(4, dtype=np.int64), np.array([1.0, -1.0, 0.0, -1.0])
    for d in range(1, 13):
        other = _neighbour(count, mean, d, 1) if count[d] > 0.0 else -1
        if other > 0 and slots[d, 1] >= 0 and slots[other, 0] >= 0:
            columns[0], columns[1], columns[2], columns[3] = slots[d, 1], slots[other, 0], slope, overlap
            values[2] = mean[other, 1] - mean[d, 1]
            pairs += 1
            for i in range(4):
                for j in range(4):
                    matrix[columns[i], columns[j]] += weight * values[i] * values[j]
    if pairs == 0:
        matrix[overlap, overlap] = 1.0
    return pairs


@njit(cache=True, nogil=True)
def _neighbour(count, mean, d, side):  # type: ignore[no-untyped-def]
    """The detector beside ``d`` on a side, -1 if there is none: numbers may grow eastwards or westwards."""
    for other in (d - 1, d + 1):
        if 0 < other < 13 and count[other] > 0.0 and (mean[other, 0] > mean[d, 0]) == (side == 1):
            return other
    return -1


@njit(cache=True, nogil=True)
def _told_by_neighbour(slots, count, mean, slope, known, d, side):  # type: ignore[no-untyped-def]
    """Edge of a detector from the neighbour's facing edge and the overlap; infinite if that is not known either."""
    other = _neighbour(count, mean, d, side)
    if other < 0 or slots[other, 1 - side] < 0:
        return np.inf
    sign = 2 * side - 1
    return known[slots[other, 1 - side], 0] + (mean[d, 1] - mean[other, 1]) * known[slope, 0] + sign * known[-1, 0]


@njit(cache=True, nogil=True)
def _order(look, centres, bands, order):  # type: ignore[no-untyped-def]
    """Order grids, those of one band side by side, west to east: by the mean column (drift along the track removed) of what they saw."""
    position = np.zeros(len(bands))
    first = 0
    for g in range(len(bands)):
        if bands[g] != bands[first]:
            first = g
        size, drift = 0.0, 0.0
        for other in range(first, len(bands)):
            if bands[other] != bands[g]:
                break
            size += look[other, 1] ** 2
            drift += look[other, 1] * look[other, 2]
        drift = drift / size if size > 0.0 else 0.0
        position[g] = centres[g, 0] + drift * centres[g, 1]
        k = g
        while k > first and position[order[k - 1]] > position[g]:
            order[k] = order[k - 1]
            k -= 1
        order[k] = g


@njit(cache=True, nogil=True)
def _seams(look, edges, detectors, bands, order, out):  # type: ignore[no-untyped-def]
    """Seam between each grid and the next of its band, in ``order``; the last grid of a band has none."""
    for k in range(len(order) - 1):
        west, east = order[k], order[k + 1]
        if bands[west] != bands[east]:
            continue
        first, side = west, 1
        if detectors[west] > detectors[east]:
            first, side = east, 0
        if not math.isfinite(edges[first, side]):
            first, side = west + east - first, 1 - side
        if not math.isfinite(edges[first, side]):  # both reach over the whole tile: the lower number is seen everywhere
            out[k, 0] = -1.0 if detectors[west] <= detectors[east] else 1.0
            continue
        for j in range(6):
            out[k, j] = look[first, j]
        out[k, 0] -= edges[first, side]
