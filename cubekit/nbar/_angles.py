"""Sun and view angles at pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cubekit.nbar import _pixels
from cubekit.nbar._field import MARGIN, CField, Detectors
from cubekit.typing import FloatArray

__all__ = ["angles_at"]


def angles_at(
    field: CField, band: str, x: FloatArray, y: FloatArray, *, detectors: Detectors = "seen"
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Angles at pixel centres given in the granule's own CRS.

    Parameters
    ----------
    field
        Of the granule.
    band
        Band whose detectors look.
    x, y
        Metres. 1-D: columns and rows of a grid; 2-D of one shape: any pixels.
    detectors
        ``"seen"``: the detector that saw the pixel; ``"mean"``: mean of the view vectors.

    Returns
    -------
    sun_zenith, view_zenith, relative_azimuth : float32 (y, x)
        Degrees; relative azimuth is sun minus view, in [-180, 180). NaN outside the granule and where the metadata has no angles.
    """
    u, v = field.node_coordinates(x, y)
    view = field.views.get(band)
    if view is not None and detectors == "mean":
        view = view.mean()
    window = field.window(u, v)
    sun_zenith, sun_azimuth = _at(u, v, window, None if field.sun is None else field.sun[None], np.zeros(u.shape, np.uint8))
    if view is None:
        return sun_zenith, np.full(u.shape, np.nan, np.float32), np.full(u.shape, np.nan, np.float32)
    view_zenith, view_azimuth = _at(u, v, window, view.vectors, _pixels.labels(u, v, view.seams))
    return sun_zenith, view_zenith, (sun_azimuth - view_azimuth + 180.0) % 360.0 - 180.0


def _at(
    u: FloatArray, v: FloatArray, window: tuple[tuple[int, int], tuple[int, int]], vectors: FloatArray | None, label: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], ...]:
    """(zenith, azimuth) in degrees from tan-plane vectors (detector, 23, 23, 2) interpolated to node coordinates within a window."""
    parts = np.full((2, *u.shape), np.nan)
    if vectors is not None:
        rows, columns = window
        for k in range(2):
            nodes = np.ascontiguousarray(vectors[:, slice(*rows), slice(*columns), k])
            _pixels.bilinear(u, v, label, nodes, rows[0], columns[0], MARGIN, parts[k])
    zenith = np.degrees(np.arctan(np.hypot(parts[0], parts[1])))
    return zenith.astype(np.float32), np.degrees(np.arctan2(parts[0], parts[1])).astype(np.float32)
