"""Hourly series of many cells from one chunked store: each chunk is read once, whatever the number of cells in it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.read.climate._cache import DiskCache
from cubekit.read.climate._kept import SETTLED

__all__ = ["ChunkReader", "Place"]

Place = tuple[int, int]
"""(row, column) of a cell."""

_BLOCK_BYTES: Final = 64 * 2**20
_KEPT_HOURS: Final = 720
"""Kept series are of whole stored chunks, but not shorter than this: a file for every hour helps nobody."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Hours [start, stop) of the cells that lie in one spatial chunk."""

    variable: str
    start: int
    stop: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class ChunkReader:
    """Reads (hour, cell) arrays of a dataset over (time, latitude, longitude).

    Parameters
    ----------
    data
        Lazy; its arrays' ``chunks`` encoding or dask chunks say how it is stored.
    label
        What an error calls the store.
    identity
        What names the store in the cache: URL and grid.
    heights
        Elevation of the cells, if the store tells it (see `cell_heights`).
    cache
        Where series are kept, or None.
    workers
        Concurrent reads.
    """

    data: xr.Dataset
    label: str
    identity: str
    heights: xr.DataArray | None = None
    cache: DiskCache | None = None
    workers: int = 8
    reads: list[tuple[str, int, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def chunk_shape(self, variable: str) -> tuple[int, int, int]:
        """Hours, rows and columns of a stored chunk of `variable`; the whole axis where it is not chunked."""
        array = self.data[variable]
        stored = array.encoding.get("chunks") or array.encoding.get("chunksizes") or array.encoding.get("preferred_chunks")
        sizes = dict(zip(array.dims, stored, strict=False)) if isinstance(stored, (tuple, list)) else dict(stored or {})
        if not sizes and array.chunks:
            sizes = {dim: max(lengths) for dim, lengths in zip(array.dims, array.chunks, strict=True)}
        hours, rows, columns = (int(sizes.get(dim, self.data.sizes.get(dim, 1))) for dim in ("time", "latitude", "longitude"))
        return max(hours, 1), max(rows, 1), max(columns, 1)

    def series(self, variables: Sequence[str], start: int, stop: int, places: Sequence[Place]) -> dict[str, npt.NDArray[Any]]:
        """Hours [start, stop) of every variable as (hour, cell), cells in the order of `places`."""
        unique = sorted(set(places))
        column = {place: i for i, place in enumerate(unique)}
        result: dict[str, npt.NDArray[Any]] = {
            name: np.full((stop - start, len(unique)), np.nan, dtype=np.result_type(self.data[name].dtype, np.float32))
            for name in variables
        }
        blocks = [block for name in variables for block in self._plan(name, start, stop, unique)]

        def run(block: _Block) -> None:
            values = self._block(block)
            first, last = max(block.start, start), min(block.stop, stop)
            where = [column[place] for place in block.places]
            result[block.variable][first - start : last - start, where] = values[first - block.start : last - block.start]

        with ThreadPoolExecutor(min(self.workers, max(len(blocks), 1))) as pool:
            list(pool.map(run, blocks))
        order = [column[place] for place in places]
        return {name: values[:, order] for name, values in result.items()}

    def _plan(self, name: str, start: int, stop: int, places: Sequence[Place]) -> list[_Block]:
        """Blocks of whole time chunks, each within one spatial chunk and about 64 MB; kept ones are as short as is sensible."""
        hours, rows, columns = self.chunk_shape(name)
        groups: dict[Place, list[Place]] = {}
        for place in places:
            groups.setdefault((place[0] // rows, place[1] // columns), []).append(place)
        total = self.data.sizes["time"]
        blocks = []
        for members in groups.values():
            box = np.ptp([p[0] for p in members]) + 1, np.ptp([p[1] for p in members]) + 1
            several = max(1, _BLOCK_BYTES // (4 * hours * int(box[0]) * int(box[1])))
            if self.cache:
                several = -(-_KEPT_HOURS // hours)
            step = hours * several
            first = start // step * step if self.cache or hours < total else start
            for begin in range(first, stop, step):
                end = min(begin + step, total if self.cache else stop)
                blocks.append(_Block(name, begin if self.cache else max(begin, start), end, tuple(members)))
        return blocks

    def _block(self, block: _Block) -> npt.NDArray[Any]:
        if self.cache is None:
            return self._read(block, block.places)
        paths = {
            p: self.cache.path(self.identity, block.variable, f"{p[0]}_{p[1]}", f"{block.start}_{block.stop}.npy") for p in block.places
        }
        found = {p: self.cache.array(path) for p, path in paths.items()}
        missing = [p for p, values in found.items() if values is None or values.shape != (block.stop - block.start,)]
        if missing:
            fresh = self._read(block, missing)
            times = self.data["time"].values
            settled = times[block.stop - 1] <= times[-1] - SETTLED
            for i, place in enumerate(missing):
                found[place] = fresh[:, i]
                if settled:
                    self.cache.put(paths[place], np.ascontiguousarray(fresh[:, i]))
        return np.stack([values for values in found.values() if values is not None], axis=1)

    def _read(self, block: _Block, places: Sequence[Place]) -> npt.NDArray[Any]:
        """(hour, cell) from the smallest box around the cells, which lies within one spatial chunk."""
        rows, columns = [p[0] for p in places], [p[1] for p in places]
        array = self.data[block.variable].isel(time=slice(block.start, block.stop))
        if "latitude" in array.dims and "longitude" in array.dims:
            array = array.isel(latitude=slice(min(rows), max(rows) + 1), longitude=slice(min(columns), max(columns) + 1))
            values = np.asarray(array.transpose("time", "latitude", "longitude").values)
            values = values[:, np.asarray(rows) - min(rows), np.asarray(columns) - min(columns)]
        else:
            values = np.repeat(np.asarray(array.values).reshape(-1, 1), len(places), axis=1)
        with self._lock:
            self.reads.append((block.variable, block.start, block.stop))
        return values
