"""Turns map-wise chunks into series-wise chunks once, where reading them tile by tile would read every chunk many times."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

from cubekit.event_cube._plan import Tiling
from cubekit.event_cube._tasks import Source
from cubekit.events._inputs import DIMS, INPUTS

__all__ = ["rechunk"]


def rechunk(
    source: Source, chunks: tuple[int, int, int], tiling: Tiling, folder: Path, memory: float, tick: Callable[[int, int], None]
) -> Source:
    """Copy the inputs, float32, to a store whose chunks are tiles of the plan.

    Parameters
    ----------
    source
        The daily data.
    chunks
        (days, rows, columns) of its chunks.
    tiling
        The tiles; their rows and columns divide the chunks of the source.
    folder
        Where to write.
    memory
        Budget in bytes for a block of the copy.
    tick
        Called with (done, all) blocks.

    Returns
    -------
    Source
        The copy, with the same days.
    """
    ds = source.open()
    days, (ny, nx) = ds.sizes["time"], tiling.shape
    rows = min(ny, chunks[1])
    fits = max(1, int(memory // (12 * rows * nx)))
    step = min(days, max(1, fits // chunks[0]) * chunks[0] if fits >= chunks[0] else fits)
    root = zarr.create_group(folder, zarr_format=3)
    for name in INPUTS:
        root.create_array(
            name,
            shape=(days, ny, nx),
            dtype="float32",
            chunks=(step, *tiling.tile),
            compressors=BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"),
            fill_value=np.nan,
            dimension_names=DIMS,
            attributes={"units": str(ds[name].attrs["units"])},
        )
    blocks = [(t, y) for y in range(0, ny, rows) for t in range(0, days, step)]
    for done, (t, y) in enumerate(blocks, 1):
        _copy(ds, root, slice(t, min(t + step, days)), slice(y, min(y + rows, ny)))
        tick(done, len(blocks))
    _coordinates(ds, root)
    return Source(str(folder), None, slice(0, days))


def _copy(ds: xr.Dataset, root: Any, time: slice, rows: slice) -> None:
    for name in INPUTS:
        part = ds[name].isel(time=time, latitude=rows).compute().transpose(*DIMS)
        root[name][time, rows] = part.values.astype(np.float32, copy=False)


def _coordinates(ds: xr.Dataset, root: Any) -> None:
    stamps = ds["time"].values.astype("datetime64[D]").astype(np.int64)
    vectors = {"time": stamps, "latitude": ds["latitude"].values, "longitude": ds["longitude"].values}
    for name, values in vectors.items():
        attrs = {"units": "days since 1970-01-01", "calendar": "proleptic_gregorian"} if name == "time" else {}
        chunks = (max(1, math.ceil(values.size)),)
        array = root.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, dimension_names=(name,), attributes=attrs)
        array[:] = values
