"""Pixels of one UTM zone on a grid of another: where they lie is worked out once per grid, not once per file as in a warp by GDAL.

Source of what is done to the pixels: GDAL's warper (alg/gdalwarpkernel.cpp), whose results these are; where the ninth decimal of a place
decides how a mean is rounded, GDAL's differs by one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from numba import njit

from cubekit.grid import Grid
from cubekit.read._place import into_pixels
from cubekit.typing import FloatArray

__all__ = ["resample"]

_NUDGE = 1e-10
"""Pixels by which GDAL moves a place before it asks in which pixel it lies."""


def resample(window: npt.NDArray[Any], transform: Affine, epsg: int, grid: Grid, *, bilinear: bool, nodata: int) -> npt.NDArray[Any]:
    """Nearest or bilinear values of integer pixels, `nodata` where there are none.

    Parameters
    ----------
    window
        (row, column), C-contiguous.
    transform
        From (column, row) of `window` to its CRS.
    epsg
        CRS of `window`.
    grid
        Where; its shape is that of the result.

    Returns
    -------
    ndarray
        (y, x), of the type of `window`.
    """
    columns, rows = _places(tuple(transform)[:6], epsg, grid)
    out = np.empty(grid.shape, window.dtype)
    limits = np.iinfo(window.dtype)
    # A mean that happens to be the nodata value is moved by one.
    beside = nodata + 1 if nodata == limits.min else nodata - 1
    work = _bilinear if bilinear else _nearest
    work(window, columns, rows, window.dtype.type(nodata), window.dtype.type(beside), limits.min, limits.max, out)
    return out


@lru_cache(maxsize=8)
def _places(transform: tuple[float, ...], epsg: int, grid: Grid) -> tuple[FloatArray, FloatArray]:
    """(column, row) of the grid's pixel centres in a window, (y, x) each; the upper left corner of the window is (0, 0)."""
    return into_pixels(Affine(*transform), *grid.centers_in(epsg))


@njit(cache=True, nogil=True)
def _inside(column, row, height, width):  # type: ignore[no-untyped-def]
    """Whether a place lies in the window; not so where it is NaN."""
    return column >= 0.0 and row >= 0.0 and column + _NUDGE <= width and row + _NUDGE <= height


@njit(cache=True, nogil=True)
def _nearest(window, columns, rows, nodata, beside, lowest, highest, out):  # type: ignore[no-untyped-def]
    height, width = window.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            value = nodata
            if _inside(columns[i, j], rows[i, j], height, width):
                row, column = int(rows[i, j] + _NUDGE), int(columns[i, j] + _NUDGE)
                value = window[min(row, height - 1), min(column, width - 1)]
            out[i, j] = value


@njit(cache=True, nogil=True)
def _bilinear(window, columns, rows, nodata, beside, lowest, highest, out):  # type: ignore[no-untyped-def]
    """The mean of the valid ones of four neighbours by distance, where the pixel that holds the place is valid itself."""
    height, width = window.shape
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = nodata
            if not _inside(columns[i, j], rows[i, j], height, width):
                continue
            row, column = int(rows[i, j] + _NUDGE), int(columns[i, j] + _NUDGE)
            if window[min(row, height - 1), min(column, width - 1)] == nodata:
                continue
            top, left = int(np.floor(rows[i, j] - 0.5)), int(np.floor(columns[i, j] - 0.5))
            upper, west = 1.5 - (rows[i, j] - top), 1.5 - (columns[i, j] - left)
            total, weights = 0.0, 0.0
            for below in range(2):
                for right in range(2):
                    m, n = top + below, left + right
                    if 0 <= m < height and 0 <= n < width and window[m, n] != nodata:
                        weight = (1.0 - west if right else west) * (1.0 - upper if below else upper)
                        total += window[m, n] * weight
                        weights += weight
            if weights >= 0.00001:
                value = total if weights == 1.0 else total / weights
                rounded = window.dtype.type(min(max(np.floor(value + 0.5), lowest), highest))
                out[i, j] = beside if rounded == nodata else rounded
