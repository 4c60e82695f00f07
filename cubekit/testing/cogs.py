"""Tiny GeoTIFFs whose every pixel has a value of its own, in every form the readers must know; and ways to damage them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["unique_pixels", "write_cog", "zero_tile_table"]


def unique_pixels(height: int, width: int, dtype: str = "uint16", *, bands: int = 1, seed: int = 0) -> np.ndarray:
    """Pixels (bands, height, width) that tell their place: all different as far as the type allows, none 0, neighbours far apart.

    Unsigned and signed integers run through their positive range in steps; floats are not whole numbers.
    """
    kind = np.dtype(dtype)
    number = np.arange(1, bands * height * width + 1, dtype=np.int64).reshape(bands, height, width) + 7919 * seed
    if kind.kind == "f":
        return (number * 0.37 + 0.011).astype(kind)
    top = int(np.iinfo(kind).max)
    # A step prime to the range visits every value before it repeats one.
    step = {127: 49, 255: 101, 32767: 7919, 65535: 7919}.get(top, 104729)
    return (number * step % (top - 1) + 1).astype(kind)


def write_cog(
    path: str | Path,
    pixels: np.ndarray,
    *,
    epsg: int | None = 32632,
    transform: Sequence[float] = (10.0, 0.0, 600000.0, 0.0, -10.0, 5700000.0),
    nodata: float | None = 0,
    tile: int | None = 256,
    compress: str = "DEFLATE",
    predictor: int = 1,
    overviews: Sequence[int] = (),
    overview_resampling: str = "average",
    planar: bool = False,
    mask: np.ndarray | None = None,
    driver: str = "GTiff",
    **options: Any,
) -> Path:
    """Write `pixels` (bands, height, width) as a GeoTIFF.

    Parameters
    ----------
    tile
        Edge of the internal tiles (a multiple of 16); None writes strips.
    compress, predictor
        As GDAL names them: NONE, DEFLATE, ZSTD, LZW ...; 1, 2 or 3.
    overviews
        Factors, such as (2, 4).
    planar
        Bands apart instead of interleaved.
    mask
        Boolean array (height, width), True = valid, written as internal mask.
    driver
        ``COG`` lays the file out by GDAL's COG driver (directories first, tiles in order), with overviews down to one tile.
    **options
        Further creation options of GDAL's GTiff driver (``BIGTIFF``, ``ENDIANNESS``, ``SPARSE_OK``, ``NBITS`` ...).

    Returns
    -------
    Path
        `path`.
    """
    import rasterio
    import rasterio.shutil
    from rasterio.enums import Resampling

    if driver == "COG":
        plain = Path(path).with_suffix(".plain.tif")
        write_cog(plain, pixels, epsg=epsg, transform=transform, nodata=nodata, tile=tile, compress="NONE", mask=mask)
        cog = {"compress": compress, "predictor": predictor, "blocksize": tile, "overview_resampling": overview_resampling, **options}
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            rasterio.shutil.copy(plain, path, driver="COG", **cog)
        plain.unlink()
        return Path(path)
    count, height, width = pixels.shape
    settings: dict[str, Any] = {"compress": compress, "interleave": "band" if planar else "pixel", **options}
    if predictor != 1:
        settings["predictor"] = predictor
    if tile is not None:
        settings |= {"tiled": True, "blockxsize": tile, "blockysize": tile}
    crs = None if epsg is None else f"EPSG:{epsg}"
    shape = {"width": width, "height": height, "count": count, "dtype": pixels.dtype.name}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(
            path, "w", driver="GTiff", crs=crs, transform=rasterio.Affine(*transform[:6]), nodata=nodata, **shape, **settings
        ) as dataset:
            dataset.write(pixels)
            if mask is not None:
                dataset.write_mask(mask)
        if overviews:
            with rasterio.open(path, "r+") as dataset:
                dataset.build_overviews(list(overviews), Resampling[overview_resampling])
    return Path(path)


def zero_tile_table(path: str | Path, *, counts: bool = False) -> None:
    """Set all tile offsets (and with `counts` all byte counts) of the first image of a little-endian classic TIFF to 0."""
    data = bytearray(Path(path).read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, at)
    for index in range(entries):
        tag, kind, number, value = struct.unpack_from("<HHII", data, at + 2 + 12 * index)
        size = {3: 2, 4: 4}.get(kind, 0) * number
        if tag == 324 or (counts and tag == 325):
            start = value if size > 4 else at + 2 + 12 * index + 8
            data[start : start + size] = bytes(size)
    Path(path).write_bytes(data)
