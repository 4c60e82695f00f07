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

__all__ = ["across_track", "order_west_to_east", "seams"]

WIDTH_TOLERANCE = 3.5e-5
"""How far a detector's width differs between bands, tangent units (0.002 degrees)."""


def across_track(coefficients: FloatArray, seen: npt.NDArray[np.bool_], detectors: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Across-track look of each grid as a polynomial that grows eastwards, and the look of its two edges.

    Parameters
    ----------
    coefficients
        (grid, 6, 2) polynomials of the view vectors.
    seen
        (grid, 23, 23), nodes that the detector saw.
    detectors
        (grid,) detector of each grid.

    Returns
    -------
    look
        (grid, 6) polynomial coefficients, tangent units.
    edges
        (grid, 2) west and east edge; infinite where the tile ends before the footprint does.
    """
    look = np.empty((len(seen), 6))
    brackets = np.empty((len(seen), 2, 2))
    _look_and_brackets(coefficients, np.ascontiguousarray(seen), FEATURES, look, brackets)
    return look, _edges(brackets, detectors)


@njit(cache=True, nogil=True)
def _look_and_brackets(coefficients, seen, features, look, brackets):  # type: ignore[no-untyped-def]
    rows, columns = seen.shape[1], seen.shape[2]
    for g in range(seen.shape[0]):
        a, b = _centre(seen[g], features)
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
        values = np.empty((rows, columns))
        for r in range(rows):
            for c in range(columns):
                value = 0.0
                for j in range(6):
                    value += features[r * columns + c, j] * look[g, j]
                values[r, c] = value
        for side in range(2):
            sign = 2 * side - 1
            inner, outer = _bracket(values, seen[g], sign)
            brackets[g, side, 0] = sign * inner
            brackets[g, side, 1] = sign * outer


@njit(cache=True, nogil=True)
def _centre(seen, features):  # type: ignore[no-untyped-def]
    """Mean scaled column and row of the seen nodes."""
    count, a, b = 0, 0.0, 0.0
    for r in range(seen.shape[0]):
        for c in range(seen.shape[1]):
            if seen[r, c]:
                count += 1
                a += features[r * seen.shape[1] + c, 1]
                b += features[r * seen.shape[1] + c, 2]
    return a / count, b / count


@njit(cache=True, nogil=True)
def _bracket(values, seen, side):  # type: ignore[no-untyped-def]
    """(outermost seen, nearest unseen neighbour beyond it); ``side`` 1 is east, -1 west and both negated. Infinite if there is none."""
    outermost = -np.inf
    for r in range(seen.shape[0]):
        for c in range(seen.shape[1]):
            if seen[r, c]:
                outermost = max(outermost, side * values[r, c])
    nearest = np.inf
    for r in range(seen.shape[0]):
        for c in range(seen.shape[1]):
            inner = c - side
            if not seen[r, c] and 0 <= inner < seen.shape[1] and seen[r, inner] and side * values[r, c] > outermost:
                nearest = min(nearest, side * values[r, c])
    return outermost, nearest


def _edges(brackets: FloatArray, detectors: npt.NDArray[np.int64]) -> FloatArray:
    """Midpoints of the brackets, narrowed by the width of each detector, which is the same in all bands."""
    edges: FloatArray = 0.5 * (brackets[:, :, 0] + brackets[:, :, 1])
    for detector in np.unique(detectors):
        own = np.flatnonzero(detectors == detector)
        (west_in, west_out), (east_in, east_out) = brackets[own, 0].T, brackets[own, 1].T
        narrow = float((east_in - west_in).max()) - WIDTH_TOLERANCE
        wide = float((east_out - west_out).min()) + WIDTH_TOLERANCE
        if not np.isfinite(wide) or wide < narrow:
            continue
        west = np.maximum(west_out, east_in - wide), np.minimum(west_in, east_out - narrow)
        east = np.maximum(east_in, west_out + narrow), np.minimum(east_out, west_in + wide)
        for side, (low, high) in enumerate((west, east)):
            better = np.isfinite(low) & np.isfinite(high) & (low <= high)
            edges[own[better], side] = 0.5 * (low + high)[better]
    return edges


def order_west_to_east(look: FloatArray, seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Order of one band's grids along a row, by the mean column (drift along the track removed) of what they saw."""
    size = float((look[:, 1] ** 2).sum())
    drift = float((look[:, 1] * look[:, 2]).sum()) / size if size > 0 else 0.0
    position = (FEATURES[:, 1] + drift * FEATURES[:, 2]).reshape(seen.shape[1:])
    means = [position[grid].mean() for grid in seen]
    return np.argsort(np.array(means), kind="stable")


def seams(look: FloatArray, edges: FloatArray, detectors: npt.NDArray[np.int64]) -> FloatArray:
    """Seams between neighbours of one band, west to east: (grid - 1, 6) polynomials that are positive east of the seam."""
    out = np.empty((max(len(look) - 1, 0), 6))
    for k in range(len(look) - 1):
        choices = ((k, 1), (k + 1, 0)) if detectors[k] <= detectors[k + 1] else ((k + 1, 0), (k, 1))
        grid, side = next((c for c in choices if np.isfinite(edges[c])), (-1, 0))
        if grid < 0:  # both reach over the whole tile: the lower number is seen everywhere
            out[k] = 0.0
            out[k, 0] = -1.0 if detectors[k] <= detectors[k + 1] else 1.0
            continue
        out[k] = look[grid]
        out[k, 0] -= edges[grid, side]
    return out
