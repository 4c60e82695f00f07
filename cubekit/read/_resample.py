"""From the source pixels of a window to the pixels of a grid. Runs in threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling as GdalResampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

from cubekit.grid import REMEMBERED, Grid
from cubekit.read._layout import Use
from cubekit.read._place import CrsLike, Placement, moved, reduction
from cubekit.typing import Resampling

__all__ = ["TOLERANCE", "allocate", "finish", "is_fill", "warp", "warped"]

TOLERANCE = 1e-9
"""Error of the coordinate transformation in pixels; WarpedVRT cannot take 0."""


def is_fill(array: np.ndarray, fill: float) -> np.ndarray:
    """Where an array holds the fill value."""
    if np.isnan(fill):
        return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)
    found: np.ndarray = array == array.dtype.type(fill)
    return found


def allocate(use: Use, dtype: str, masked: bool, sparse: bool = True) -> None:
    """Set the array that tiles are decoded into: a part of the result itself where pixels are copied.

    It holds nodata where no tile will be written (`sparse`); where tiles cover it, filling it would be work for nothing.
    """
    assert use.out is not None
    assert use.placement is not None
    place = use.placement
    if place.empty or (place.method == "copy" and (sparse or place.shape != use.out.shape)):
        use.out[...] = use.fill
    if place.empty:
        return
    if place.method == "copy":
        (top, bottom), (left, right) = place.rows, place.columns
        use.window = use.out[top - place.origin[0] : bottom - place.origin[0], left - place.origin[1] : right - place.origin[1]]
    else:
        use.window = np.full(place.shape, use.fill, dtype) if sparse else np.empty(place.shape, dtype)
    use.mask = np.ones(place.shape, np.uint8) if masked else None


def finish(use: Use, crs: CrsLike) -> bool:
    """Complete a result whose window is read; returns whether it holds any data."""
    place, out, window = use.placement, use.out, use.window
    assert place is not None
    assert out is not None
    if window is None:
        return False
    if use.also_nodata is not None:
        window[is_fill(window, use.also_nodata)] = use.fill
    if use.mask is not None:
        window[use.mask == 0] = use.fill
    if place.method == "repeat":
        _repeat(place, window, out, use.fill)
    elif place.method in ("pick", "mean"):
        out[...] = use.fill
        _reduce(use, window, out)
    elif place.method == "warp":
        corner = moved(place.transform, place.columns[0], place.rows[0])
        if _crosses_zones(use, corner, crs):
            from cubekit.read._crosszone import resample  # numba is worth loading only here

            bilinear, nodata = use.read.resampling == "bilinear", int(use.fill)
            out[...] = resample(window, corner, int(crs), use.grid, bilinear=bilinear, nodata=nodata)
        else:
            valid = use.mask if use.mask is not None and not use.has_nodata else None
            out[...] = warp(window, corner, crs, use.grid, use.read.resampling, use.fill, use.has_nodata, valid)
    if use.has_nodata or use.mask is not None:
        return _holds_data(out, use.fill)
    return True


def _holds_data(array: np.ndarray, fill: float) -> bool:
    """Whether an array is not all fill; mostly its first row tells."""
    return not (is_fill(array[:1], fill).all() and is_fill(array, fill).all())


def _crosses_zones(use: Use, transform: Affine, crs: CrsLike) -> bool:
    """Whether a use takes its pixels from another UTM zone, in a way that does not need GDAL: integers with nodata, no wide kernel."""
    assert use.window is not None
    grid, resampling = use.grid, use.read.resampling
    return (
        all(isinstance(code, int) and code // 100 in (326, 327) and 1 <= code % 100 <= 60 for code in (crs, grid.epsg))
        and int(crs) % 100 != grid.epsg % 100
        and use.has_nodata
        and use.window.dtype.name in ("uint8", "uint16", "int16")
        and grid.width * grid.height <= REMEMBERED
        and (resampling == "nearest" or (resampling == "bilinear" and reduction(transform, crs, grid) == (1.0, 1.0)))
    )


def _repeat(place: Placement, window: np.ndarray, out: np.ndarray, fill: float) -> None:
    """Each pixel of the window becomes a block of the result, as far as it lies in it; the rest of the result becomes `fill`."""
    (fy, fx), (height, width) = place.factor, window.shape
    # Where the window's upper left corner lies in the result; outside of it where the first blocks are cut.
    top, left = place.rows[0] * fy - place.origin[0], place.columns[0] * fx - place.origin[1]
    first, last = max(top, 0), min(top + height * fy, out.shape[0])
    begin, end = max(left, 0), min(left + width * fx, out.shape[1])
    if (first, begin, last, end) != (0, 0, *out.shape):
        out[...] = fill
    if first >= last or begin >= end:
        return
    wide = window.repeat(fx, axis=1)[:, begin - left : end - left]
    for row in range(first, min(first + fy, last)):
        source = (row - top) // fy
        out[row:last:fy, begin:end] = wide[source : source - (row - last) // fy]


def _within(index: np.ndarray, size: int) -> slice:
    inside = np.flatnonzero((index >= 0) & (index < size))
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def _reduce(use: Use, window: np.ndarray, out: np.ndarray) -> None:
    """Blocks of source pixels to one pixel each: GDAL's nearest pixel, or the mean of the valid ones (integers round half up)."""
    assert use.placement is not None
    place = use.placement
    fy, fx = place.factor
    if place.method == "pick":
        rows = place.origin[0] + np.arange(out.shape[0]) * fy + fy // 2 - place.rows[0]
        columns = place.origin[1] + np.arange(out.shape[1]) * fx + fx // 2 - place.columns[0]
        i, j = _within(rows, window.shape[0]), _within(columns, window.shape[1])
        out[i, j] = window[np.ix_(rows[i], columns[j])]
        return
    top, left = place.rows[0] - place.origin[0], place.columns[0] - place.origin[1]
    first, last = top // fy, -(-(top + window.shape[0]) // fy)
    begin, end = left // fx, -(-(left + window.shape[1]) // fx)
    values = np.zeros(((last - first) * fy, (end - begin) * fx))
    valid = np.zeros(values.shape, bool)
    inside = np.s_[top - first * fy : top - first * fy + window.shape[0], left - begin * fx : left - begin * fx + window.shape[1]]
    valid[inside] = ~is_fill(window, use.fill) if use.has_nodata else (use.mask != 0 if use.mask is not None else True)
    if window.dtype.kind == "f":
        valid[inside] &= ~np.isnan(window)
    values[inside] = np.where(valid[inside], window, 0)
    shape = (last - first, fy, end - begin, fx)
    count, mean = _running_mean(values.reshape(shape), valid.reshape(shape))
    if window.dtype.kind != "f":
        mean = np.floor(mean + 0.5)
    out[first:last, begin:end] = np.where(count > 0, mean, use.fill).astype(window.dtype)


def _running_mean(values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number and mean of the valid pixels of blocks (rows, fy, columns, fx), summed up as GDAL does: its last bit decides ties."""
    count = np.zeros((values.shape[0], values.shape[2]))
    mean = np.zeros(count.shape)
    for i in range(values.shape[1]):
        for j in range(values.shape[3]):
            known = valid[:, i, :, j]
            count += known
            mean += np.where(known, 1.0 / np.maximum(count, 1.0) * (values[:, i, :, j] - mean), 0.0)
    return count, mean


def warp(
    window: np.ndarray,
    transform: Affine,
    crs: CrsLike,
    grid: Grid,
    resampling: Resampling,
    fill: float,
    has_nodata: bool,
    valid: np.ndarray | None = None,
) -> np.ndarray:
    """One GDAL warp in memory, with the exact transformation for every pixel.

    Through a WarpedVRT, because `rasterio.warp.reproject` approximates the transformation within 0.125 pixels, whatever it is told.
    """
    height, width = window.shape
    # Without its CRS, which is told below: GDAL takes longer to write it into a file and to read it again than to open one.
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": window.dtype.name}
    own = CRS.from_user_input(crs)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_CACHEMAX=64 << 20), MemoryFile() as memory:
        with memory.open(**profile, transform=transform, nodata=fill if has_nodata else None) as dataset:
            dataset.write(window, 1)
            if valid is not None:
                dataset.write_mask(valid != 0)
        with memory.open() as dataset, warped(dataset, crs, grid, resampling, fill, has_nodata, src_crs=own) as view:
            result: np.ndarray = view.read(1)
    return result


def warped(dataset: Any, crs: CrsLike, grid: Grid, resampling: str, fill: float, has_nodata: bool, **settings: Any) -> WarpedVRT:
    """The view of an open dataset (in `crs`) on a grid that all engines share.

    Without nodata none is declared, or GDAL would move valid zeros to 1; what nothing is written to is 0 all the same.
    The width of GDAL's kernels is given, because it takes it from the sizes of the pieces it warps, which include a margin: a small
    grid would be blurred.
    """
    across, down = reduction(dataset.transform, crs, grid)
    return WarpedVRT(
        dataset,
        crs=CRS.from_epsg(grid.epsg),
        transform=grid.affine,
        width=grid.width,
        height=grid.height,
        resampling=GdalResampling[resampling],
        nodata=fill if has_nodata or np.isnan(fill) else None,
        tolerance=TOLERANCE,
        XSCALE=across,
        YSCALE=down,
        **settings,
    )
