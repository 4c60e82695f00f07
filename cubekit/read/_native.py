"""Windows of rasters as they are, without a target grid: for data whose pixels must be put together before they are interpolated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.windows import Window

from cubekit.read._fault import Fault
from cubekit.read._gdal import _opened as opened
from cubekit.read._gdal import crs_of
from cubekit.read._loop import background
from cubekit.read._place import check_extent, checked_transform
from cubekit.read._transport import Source, Transport
from cubekit.read._types import AssetOutcome, AssetRead, ReadOptions, ReadStatus, Sign
from cubekit.typing import BBox

__all__ = ["NativeWindow", "read_native"]


@dataclass(frozen=True, slots=True, eq=False)
class NativeWindow:
    """Pixels of one raster as the file has them.

    Attributes
    ----------
    values
        (row, column) in the file's type; empty where the raster lies outside the bounds.
    transform
        From (column, row) of `values` to the upper left corner of the pixel.
    nodata
        As the file declares it.
    outcome
        What it cost.
    """

    values: npt.NDArray[Any]
    transform: Affine
    nodata: float | None
    outcome: AssetOutcome


def read_native(
    reads: Sequence[AssetRead], bounds: BBox, *, sign: Sign | None = None, options: ReadOptions | None = None
) -> list[NativeWindow | AssetOutcome]:
    """Read the pixels that touch `bounds` (in the raster's own CRS) out of each raster, at full resolution.

    Returns
    -------
    list
        For every read its window, or the outcome that tells why there is none.
    """
    options = options or ReadOptions()
    here = background()

    async def one(transport: Transport, read: AssetRead) -> NativeWindow | AssetOutcome:
        source = None
        try:
            source = Source.of(read.href, options)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(here.waiting, _window, read, bounds, source, transport, loop)
        except Fault as fault:
            cost = (source.cost.requests, source.cost.bytes, source.cost.retries) if source else (0, 0, 0)
            return AssetOutcome(fault.status, fault.message, *cost)

    async def run() -> list[NativeWindow | AssetOutcome]:
        transport = Transport(here.client, options, sign, here.waiting)
        return await asyncio.gather(*(one(transport, read) for read in reads))

    return here.run(run())


def _window(read: AssetRead, bounds: BBox, source: Source, transport: Transport, loop: asyncio.AbstractEventLoop) -> NativeWindow:
    with opened(source, transport, loop) as dataset:
        crs_of(source.key, dataset, read)
        inverse = ~checked_transform(source.key, dataset.transform)
        west, south, east, north = bounds
        columns, rows = zip(inverse @ (west, north), inverse @ (east, south), strict=True)
        left, right = (int(np.clip(edge, 0, dataset.width)) for edge in (np.floor(min(columns)), np.ceil(max(columns))))
        top, bottom = (int(np.clip(edge, 0, dataset.height)) for edge in (np.floor(min(rows)), np.ceil(max(rows))))
        check_extent(source.key, (top, bottom), (left, right))
        values = dataset.read(read.index, window=Window(left, top, right - left, bottom - top))
        transform = dataset.transform @ Affine.translation(left, top)
        nodata = dataset.nodatavals[read.index - 1]
    status = ReadStatus.OK if values.size else ReadStatus.EMPTY
    return NativeWindow(values, transform, nodata, AssetOutcome(status, "", source.cost.requests, source.cost.bytes, source.cost.retries))
