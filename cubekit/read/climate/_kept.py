"""Raw chunks of remote Zarr stores on disk: fetched once, whoever asks, in whatever process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr
from zarr.storage import ObjectStore, WrapperStore

from cubekit.read.climate._cache import DiskCache

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["SETTLED", "KeptChunks"]

SETTLED: Final = np.timedelta64(120, "D")
"""ERA5T becomes ERA5 after two to three months: what is younger than this before a store's end may still change."""

_UNSETTLED_SECONDS: Final = 24 * 3600.0
"""How long chunks that may still change are kept: long enough for a batch."""

_PATIENCE: Final = 900.0
"""Seconds to wait for a chunk that another reader is fetching, before fetching it oneself."""

_CHUNK = re.compile(r"(?P<array>.+?)/(?:c[/.])?(?P<index>\d+(?:[/.]\d+)*)")


@dataclass(slots=True)
class _Axis:
    """Of an array: where time stands among its dimensions, and the first chunk along it that may still change."""

    position: int
    unsettled: int


class KeptChunks(WrapperStore[ObjectStore]):
    """A store whose chunks are kept below the cache's folder, raw as they came; metadata and coordinates are always asked for.

    Nothing is kept before `learn` was called. A chunk is named by the store's unsigned URL, its key and, if it may still change, by the
    length of the record, and then kept for a day. Concurrent readers of one chunk wait for the first.

    Parameters
    ----------
    store
        The remote store.
    url
        Its unsigned URL.
    cache
        Where chunks are kept, and how many bytes of them.
    """

    def __init__(self, store: ObjectStore, url: str, cache: DiskCache) -> None:
        super().__init__(store)
        self._url, self._cache = url, cache
        self._axes: dict[str, _Axis] = {}
        self._length = 0

    def _with_store(self, store: ObjectStore) -> KeptChunks:
        other = KeptChunks(store, self._url, self._cache)
        other._axes, other._length = self._axes, self._length
        return other

    def learn(self, data: xr.Dataset) -> None:
        """Take from an opened dataset which chunks are settled."""
        hours = next((name for name in ("time", "valid_time") if name in data.dims and name in data.coords), None)
        if hours is None or data.sizes[hours] == 0 or not np.issubdtype(data[hours].dtype, np.datetime64):
            return
        stamps = data[hours].values
        open_hours = int(np.searchsorted(stamps, stamps[-1] - SETTLED, side="right"))
        axes = {}
        for name, array in data.data_vars.items():
            chunks = array.encoding.get("shards") or array.encoding.get("chunks")
            if hours in array.dims and chunks:
                position = array.dims.index(hours)
                axes[str(name)] = _Axis(position, open_hours // int(chunks[position]))
        self._axes, self._length = axes, stamps.size

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The chunk from disk, else from the store."""
        path, settled = self._path(key, byte_range)
        if path is None:
            return await self._store.get(key, prototype, byte_range)
        if (found := await asyncio.to_thread(_load, path, settled)) is not None:
            return prototype.buffer.from_bytes(found)
        async with _alone(path):
            if (found := await asyncio.to_thread(_load, path, settled)) is not None:
                return prototype.buffer.from_bytes(found)
            value = await self._store.get(key, prototype, byte_range)
            if value is not None:
                await asyncio.to_thread(self._cache.put_bounded, path, value.to_bytes())
        return value

    def _path(self, key: str, byte_range: ByteRequest | None) -> tuple[Path | None, bool]:
        """File of a chunk and whether the chunk is settled; None for what is not kept."""
        match = _CHUNK.fullmatch(key)
        axis = self._axes.get(match["array"]) if match else None
        if match is None or axis is None:
            return None, False
        index = [int(part) for part in re.split(r"[/.]", match["index"])]
        settled = index[axis.position] < axis.unsettled
        name = f"{key} {byte_range or ''} {'' if settled else self._length}"
        return self._cache.path(self._url, "chunks", match["array"], hashlib.sha256(name.encode()).hexdigest()[:24]), settled


def _load(path: Path, settled: bool) -> bytes | None:
    try:
        if not settled and time.time() - path.stat().st_mtime > _UNSETTLED_SECONDS:
            return None
        found = path.read_bytes()
    except OSError:
        return None
    if settled:
        with contextlib.suppress(OSError):
            os.utime(path)  # the least recently used go first
    return found


@contextlib.asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Hold the lock of a chunk; go on without it where the disk gives none, or its holder takes too long."""
    handle = -1
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        give_up = time.monotonic() + _PATIENCE
        while handle >= 0 and not _locked(handle) and time.monotonic() < give_up:
            await asyncio.sleep(0.02)
        yield
    finally:
        if handle >= 0:
            # Whoever waits on the removed file finds the chunk when it gets the lock.
            with contextlib.suppress(OSError):
                os.unlink(f"{path}.lock")
            os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks on this file system
    return True
