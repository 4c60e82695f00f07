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
from cubekit.read._gdal import crs_of, opened
from cubekit.read._href import asset_key
from cubekit.read._journal import Journal
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
            if (noted := _noted(read, bounds, options.journal)) is not None:
                return noted
            loop = asyncio.get_running_loop()
            window = await loop.run_in_executor(here.waiting, _window, read, bounds, source, transport, loop)
            _note(read, bounds, options.journal, window)
            return window
        except Fault as fault:
            cost = (source.cost.requests, source.cost.bytes, source.cost.retries) if source else (0, 0, 0)
            return AssetOutcome(fault.status, fault.message, *cost)

    async def run() -> list[NativeWindow | AssetOutcome]:
        transport = Transport(here.client, options, sign, here.waiting)
        return await asyncio.gather(*(one(transport, read) for read in reads))

    return here.run(run())


def _noted(read: AssetRead, bounds: BBox, journal: Journal | None) -> NativeWindow | None:
    noted = journal.get(asset_key(read.href), ("native", read, bounds)) if journal is not None else None
    if noted is None:
        return None
    meta, data = noted
    values = np.frombuffer(data, meta["dtype"]).reshape(meta["shape"]).copy()
    return NativeWindow(values, Affine(*meta["transform"]), meta["nodata"], AssetOutcome(ReadStatus(meta["status"]), etag=meta["etag"]))


def _note(read: AssetRead, bounds: BBox, journal: Journal | None, window: NativeWindow) -> None:
    if journal is None or "://" not in read.href:
        return
    values, outcome = np.ascontiguousarray(window.values), window.outcome
    meta = {"dtype": values.dtype.str, "shape": values.shape, "transform": tuple(window.transform)[:6], "nodata": window.nodata}
    payload = values.reshape(-1).view(np.uint8).data if values.size else b""
    journal.put(asset_key(read.href), ("native", read, bounds), {**meta, "status": int(outcome.status), "etag": outcome.etag}, payload)


def _window(read: AssetRead, bounds: BBox, source: Source, transport: Transport, loop: asyncio.AbstractEventLoop) -> NativeWindow:
    with opened(source, transport, loop, {}) as dataset:
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
