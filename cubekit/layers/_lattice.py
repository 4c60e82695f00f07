"""Bilinear interpolation between the posts of neighbouring rasters whose steps in longitude may differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine

from cubekit.typing import FloatArray

__all__ = ["bilinear"]

Part = tuple[npt.NDArray[Any], Affine, float | None]


def bilinear(parts: Sequence[Part], lon: FloatArray, lat: FloatArray) -> FloatArray:
    """Interpolate at points between the pixel centres of all parts together.

    Parts are rows of posts at common latitudes; a row may lie in another part than the row below it, with another step in longitude, as
    at the seams of the one-degree tiles of a DEM. Each of the two rows around a point is interpolated along longitude first, then the two
    along latitude, so a seam is treated as any other place.

    Parameters
    ----------
    parts
        (values (row, column), transform, nodata) each, north up, in degrees, without overlap.
    lon, lat
        Points, degrees, of one shape.

    Returns
    -------
    ndarray of float64
        Of the shape of the points; NaN where one of the four posts around a point is missing.
    """
    if not parts:
        return np.full(lon.shape, np.nan)
    step = abs(parts[0][1].e)
    origin = parts[0][1].f - step / 2
    rows = _rows(parts, origin, step)
    position = (origin - lat) / step
    upper = np.floor(position + 1e-9)
    weight = np.clip(position - upper, 0.0, 1.0)
    above, below = np.full(lon.shape, np.nan), np.full(lon.shape, np.nan)
    for number in np.unique(upper):
        here = upper == number
        above[here] = _along(rows.get(int(number)), lon[here])
        below[here] = _along(rows.get(int(number) + 1), lon[here])
    return np.where(weight < 1e-9, above, above * (1 - weight) + below * weight)


def _rows(parts: Sequence[Part], origin: float, step: float) -> dict[int, tuple[FloatArray, FloatArray]]:
    """(longitudes, values) of the posts by row number, counted southwards from `origin`."""
    pieces: dict[int, list[tuple[FloatArray, FloatArray]]] = {}
    for values, transform, nodata in parts:
        lons = transform.c + (np.arange(values.shape[1]) + 0.5) * transform.a
        data = values.astype(np.float64)
        if nodata is not None:
            data[values == nodata] = np.nan
        first = round((origin - (transform.f + transform.e / 2)) / step)
        for row in range(values.shape[0]):
            pieces.setdefault(first + row, []).append((lons, data[row]))
    joined = {}
    for number, some in pieces.items():
        lons = np.concatenate([piece[0] for piece in some])
        order = np.argsort(lons, kind="stable")
        joined[number] = lons[order], np.concatenate([piece[1] for piece in some])[order]
    return joined


def _along(row: tuple[FloatArray, FloatArray] | None, lon: FloatArray) -> FloatArray:
    """Linear interpolation along one row; NaN beyond its ends and across gaps wider than two of its widest steps."""
    if row is None:
        return np.full(lon.shape, np.nan)
    posts, values = row
    if posts.size < 2:
        return np.full(lon.shape, np.nan)
    right = np.clip(np.searchsorted(posts, lon, side="right"), 1, posts.size - 1)
    left = right - 1
    width = posts[right] - posts[left]
    share = (lon - posts[left]) / width
    result = values[left] * (1 - share) + values[right] * share
    gap = width > 2 * np.median(np.diff(posts))
    outside = (share < -1e-6) | (share > 1 + 1e-6)
    on_post = np.where(share <= 0.5, values[left], values[right])
    result = np.where(np.minimum(np.abs(share), np.abs(1 - share)) < 1e-9, on_post, result)
    return np.where(gap | outside, np.nan, result)
