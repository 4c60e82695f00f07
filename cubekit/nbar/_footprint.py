"""Which detector saw a pixel, rebuilt from the angle grids alone.

A detector is a line of pixels, so both edges of its footprint keep a constant across-track look angle: along the track the view vector
does not change. The across-track component ``a`` of each detector's view vectors is the projection on the direction in which they vary.
An edge lies between the outermost node that the detector saw and the next node, in the same row, that it did not; some twenty rows
cross the edge at different phases, and the width of a detector is the same in all bands, which narrows it to about 0.01 degrees.

Where two detectors overlap (by 0.5 to 2.5 km) products take the one with the lower number, as footprint masks without overlap show.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cubekit.nbar._vectors import FEATURES
from cubekit.typing import FloatArray

__all__ = ["footprints"]

WIDTH_TOLERANCE = 3.5e-5
"""How far a detector's width differs between bands, tangent units (0.002 degrees)."""


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
    look, centres = np.empty((len(seen), 6)), np.empty((len(seen), 2))
    edges, brackets = np.empty((len(seen), 2)), np.empty((len(seen), 2, 2))
    order, seams = np.arange(len(seen)), np.zeros((len(seen), 6))
    _look_and_brackets(coefficients, seen, FEATURES, centres, look, brackets)
    _narrow_edges(brackets, detectors, WIDTH_TOLERANCE, edges)
    _order(look, centres, bands, order)
    _seams(look, edges, detectors, bands, order, seams)
    return order, seams


@njit(cache=True, nogil=True)
def _look_and_brackets(coefficients, seen, features, centres, look, brackets):  # type: ignore[no-untyped-def]
    rows, columns = seen.shape[1], seen.shape[2]
    values = np.empty((rows, columns))
    for g in range(seen.shape[0]):
        a, b = _centre(seen[g].reshape(-1), features)
        centres[g, 0], centres[g, 1] = a, b
        east = coefficients[g, 1] + 2 * coefficients[g, 3] * a + coefficients[g, 4] * b
        south = coefficients[g, 2] + coefficients[g, 4] * a + 2 * coefficients[g, 5] * b
        # the direction in which the vectors vary most: main axis of the symmetric matrix J J^T
        xx = east[0] ** 2 + south[0] ** 2
        yy = east[1] ** 2 + south[1] ** 2
        xy = east[0] * east[1] + south[0] * south[1]
        angle = 0.5 * math.atan2(2 * xy, xx - yy)
        nx, ny = math.cos(angle), math.sin(angle)
        if nx * east[0] + ny * east[1] < 0:
            nx, ny = -nx, -ny
        for j in range(6):
            look[g, j] = nx * coefficients[g, j, 0] + ny * coefficients[g, j, 1]
        _look_at_nodes(look[g], features, values.reshape(-1))
        _bracket(values, seen[g], brackets[g])


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _centre(seen, features):  # type: ignore[no-untyped-def]
    """Mean scaled column and row of the seen nodes."""
    count, a, b = 0.0, 0.0, 0.0
    for i in range(seen.shape[0]):
        weight = np.float64(seen[i])
        count += weight
        a += weight * features[1, i]
        b += weight * features[2, i]
    return a / count, b / count


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
def _narrow_edges(brackets, detectors, tolerance, edges):  # type: ignore[no-untyped-def]
    """Midpoints of the brackets (grid, 2, 2), narrowed by the width of each detector, which is the same in all bands."""
    for g in range(len(detectors)):
        west_in, west_out, east_in, east_out = brackets[g, 0, 0], brackets[g, 0, 1], brackets[g, 1, 0], brackets[g, 1, 1]
        edges[g, 0], edges[g, 1] = 0.5 * (west_in + west_out), 0.5 * (east_in + east_out)
        narrow, wide = -math.inf, math.inf
        for other in range(len(detectors)):
            if detectors[other] == detectors[g]:
                narrow = max(narrow, brackets[other, 1, 0] - brackets[other, 0, 0])
                wide = min(wide, brackets[other, 1, 1] - brackets[other, 0, 1])
        narrow -= tolerance
        wide += tolerance
        if not math.isfinite(wide) or wide < narrow:
            continue
        low, high = max(west_out, east_in - wide), min(west_in, east_out - narrow)
        if math.isfinite(low) and math.isfinite(high) and low <= high:
            edges[g, 0] = 0.5 * (low + high)
        low, high = max(east_in, west_out + narrow), min(east_out, west_in + wide)
        if math.isfinite(low) and math.isfinite(high) and low <= high:
            edges[g, 1] = 0.5 * (low + high)


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
