"""Which detector saw a pixel, rebuilt from the angle grids alone.

A detector is a line of pixels, so both edges of its footprint keep a constant across-track look angle: along the track the view vector
does not change. The across-track component ``a`` of each detector's view vectors is the projection on the direction in which they vary.
An edge lies between the outermost node that the detector saw and the next node, in the same row, that it did not; some twenty rows
cross the edge at different phases, which narrows it to about 0.01 degrees.

Where two detectors overlap (by 0.5 to 2.5 km) products take the one with the lower number, as footprint masks without overlap show.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cubekit.nbar._vectors import FEATURES
from cubekit.typing import FloatArray

__all__ = ["across_track", "order_west_to_east", "seams"]


def across_track(coefficients: FloatArray, seen: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Across-track look of each grid as a polynomial that grows eastwards, and the look of its two edges.

    Parameters
    ----------
    coefficients
        (grid, 6, 2) polynomials of the view vectors.
    seen
        (grid, 23, 23), nodes that the detector saw.

    Returns
    -------
    look
        (grid, 6) polynomial coefficients, tangent units.
    edges
        (grid, 2) west and east edge; infinite where the tile ends before the footprint does.
    """
    weight = seen.reshape(len(seen), -1).astype(float)
    centre = (weight @ FEATURES[:, 1:3]) / weight.sum(axis=1, keepdims=True)
    u, v = centre[:, 0, None], centre[:, 1, None]
    by_u = coefficients[:, 1] + 2 * coefficients[:, 3] * u + coefficients[:, 4] * v
    by_v = coefficients[:, 2] + coefficients[:, 4] * u + 2 * coefficients[:, 5] * v
    jacobian = np.stack([by_u, by_v], axis=-1)
    left, _, _ = np.linalg.svd(jacobian)
    normal = left[:, :, 0]
    normal = normal * np.where((normal * by_u).sum(axis=1) < 0, -1.0, 1.0)[:, None]
    look = np.einsum("gfc,gc->gf", coefficients, normal)
    return look, _edges(look, seen)


def _edges(look: FloatArray, seen: npt.NDArray[np.bool_]) -> FloatArray:
    """Midpoint between the outermost seen node and the nearest node beyond, per side."""
    values = (look @ FEATURES.T).reshape(seen.shape)
    edges = np.empty((len(seen), 2))
    east_of_seen = np.zeros_like(seen)
    east_of_seen[:, :, 1:] = seen[:, :, :-1] & ~seen[:, :, 1:]
    west_of_seen = np.zeros_like(seen)
    west_of_seen[:, :, :-1] = seen[:, :, 1:] & ~seen[:, :, :-1]
    for side, beyond, sign in ((0, west_of_seen, -1.0), (1, east_of_seen, 1.0)):
        signed = sign * values
        outermost = np.where(seen, signed, -np.inf).max(axis=(1, 2))
        candidates = np.where(beyond & (signed > outermost[:, None, None]), signed, np.inf)
        nearest = candidates.min(axis=(1, 2))
        edges[:, side] = sign * np.where(np.isfinite(nearest), 0.5 * (outermost + nearest), np.inf)
    return edges


def order_west_to_east(look: FloatArray, seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Order of one band's grids along a row, by the mean column (drift along the track removed) of what they saw."""
    size = float((look[:, 1] ** 2).sum())
    drift = float((look[:, 1] * look[:, 2]).sum()) / size if size > 0 else 0.0
    position = FEATURES[:, 1] + drift * FEATURES[:, 2]
    weight = seen.reshape(len(seen), -1).astype(float)
    return np.argsort((weight @ position) / weight.sum(axis=1), kind="stable")


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
