"""The window engine: plans of assets carried out on the loop, tiles decoded in threads, results written where they belong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from cubekit.read._decode import Inflater, crop
from cubekit.read._fault import ChangedError, Fault, ShortError
from cubekit.read._headers import HeaderCache, load_header, more_header
from cubekit.read._http import AT_ONCE
from cubekit.read._layout import GdalNeeded, Layout, Range, Tile, Use, lay_out
from cubekit.read._loop import Background
from cubekit.read._resample import allocate, finish
from cubekit.read._tiff import Header
from cubekit.read._transport import Source, Transport
from cubekit.read._types import AssetOutcome, ReadOptions, ReadStatus, Sign

__all__ = ["Asset", "Budget", "Engine", "Fallback", "together"]

T = TypeVar("T")
Fallback = Callable[["Asset", Transport, asyncio.AbstractEventLoop], dict[int, bool]]


@dataclass(slots=True)
class Asset:
    """One object and everything wanted of it."""

    source: Source
    uses: list[Use]
    header: Header | None = None
    filled: dict[int, bool] = field(default_factory=dict)
    outcomes: dict[int, AssetOutcome] = field(default_factory=dict)


class Budget:
    """Bytes that may be in flight; first come, first served; one that exceeds the budget goes alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.peak = 0

    async def take(self, amount: int) -> None:
        """Wait until `amount` bytes are free."""
        if self._queue or (self._used and self._used + amount > self._limit):
            place = asyncio.get_running_loop().create_future()
            self._queue.append((amount, place))
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self.give(amount)
                raise
            return
        self._add(amount)

    def give(self, amount: int) -> None:
        """Free bytes that were taken."""
        self._used -= amount
        while self._queue:
            wanted, place = self._queue[0]
            if place.cancelled():
                self._queue.popleft()
            elif not self._used or self._used + wanted <= self._limit:
                self._queue.popleft()
                self._add(wanted)
                place.set_result(None)
            else:
                return

    def _add(self, amount: int) -> None:
        self._used += amount
        self.peak = max(self.peak, self._used)


class Slots:
    """Requests that may be in flight. Tiles go before headers: what they bring can be decoded while the next headers come."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queues: tuple[deque[asyncio.Future[None]], ...] = (deque(), deque())
        self.tiles, self.headers = (_Turn(self, queue) for queue in self._queues)

    async def take(self, queue: deque[asyncio.Future[None]]) -> None:
        """Wait for a slot; first come, first served within a queue."""
        if self._free:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.give()
            raise

    def give(self) -> None:
        """Hand a slot to the next who waits."""
        for queue in self._queues:
            while queue:
                place = queue.popleft()
                if not place.cancelled():
                    place.set_result(None)
                    return
        self._free += 1


class _Turn:
    """A slot as a context manager."""

    def __init__(self, slots: Slots, queue: deque[asyncio.Future[None]]) -> None:
        self._slots, self._queue = slots, queue

    async def __aenter__(self) -> None:
        await self._slots.take(self._queue)

    async def __aexit__(self, *_: object) -> None:
        self._slots.give()


class Engine:
    """Reads assets; made on the loop for one call."""

    def __init__(self, background: Background, options: ReadOptions, sign: Sign | None, cache: HeaderCache, fallback: Fallback) -> None:
        self.options = options
        self.cache = cache
        self.transport = Transport(background.client, options, sign, background.waiting)
        self.budget = Budget(options.memory)
        self._slots = Slots(options.concurrency)
        self._decoders = background.decoders(options.workers)
        self._readers: Executor = background.gdal
        self._loop = asyncio.get_running_loop()
        self._fallback = fallback

    async def each(self, assets: Sequence[Asset], work: Callable[[Asset], Awaitable[Any]], done: Callable[[Asset], None]) -> None:
        """Run `work` (a coroutine function) over assets, more at once than there may be requests in flight: some of them decode."""
        queue = iter(assets)

        async def worker() -> None:
            for asset in queue:
                await work(asset)
                done(asset)

        await together(worker() for _ in range(min(len(assets), 2 * self.options.concurrency)))

    async def read(self, asset: Asset) -> None:
        """Read all windows of an asset into their results; every use has an outcome afterwards."""
        await self._concluded(asset, self._read)

    async def read_by_gdal(self, asset: Asset) -> None:
        """Read all windows of an asset with GDAL, after the same look at its header as in `read`."""
        await self._concluded(asset, self._gdal)

    async def _concluded(self, asset: Asset, work: Callable[[Asset], Awaitable[dict[int, bool]]]) -> None:
        begin = time.perf_counter()
        try:
            filled = await self._twice(asset, work)
            statuses = {use.index: (ReadStatus.OK if filled[use.index] else ReadStatus.EMPTY, "") for use in asset.uses}
        except Fault as fault:
            statuses = {use.index: (fault.status, fault.message) for use in asset.uses}
            for use in asset.uses:
                _blank(use)
        self._conclude(asset, statuses, time.perf_counter() - begin)

    async def _gdal(self, asset: Asset) -> dict[int, bool]:
        with contextlib.suppress(GdalNeeded):
            await self._laid(asset)
        async with self._slots.headers:
            return await self._loop.run_in_executor(self._readers, self._fallback, asset, self.transport, self._loop)

    async def plan(self, asset: Asset) -> Layout | None:
        """Layout of an asset, reading its header where it is not known; None (and outcomes) where it cannot be read."""
        begin = time.perf_counter()
        try:
            return await self._twice(asset, self._laid)
        except GdalNeeded:
            return Layout([], 0)
        except Fault as fault:
            self._conclude(asset, {use.index: (fault.status, fault.message) for use in asset.uses}, time.perf_counter() - begin)
            return None

    @staticmethod
    async def _twice(asset: Asset, work: Callable[[Asset], Awaitable[T]]) -> T:
        """Do it again, from the header on, if the object changed meanwhile; the second change is a fault."""
        try:
            return await work(asset)
        except ChangedError:
            asset.header = None
            asset.source.forget()
            return await work(asset)

    @staticmethod
    def _conclude(asset: Asset, statuses: dict[int, tuple[ReadStatus, str]], seconds: float) -> None:
        cost = asset.source.cost
        for number, (index, (status, message)) in enumerate(statuses.items()):
            spent = (0, 0, 0, 0) if number else (cost.requests, cost.bytes, cost.retries, cost.misses)
            asset.outcomes[index] = AssetOutcome(status, message, *spent, asset.source.etag, seconds)

    async def _laid(self, asset: Asset) -> Layout:
        source = asset.source
        if asset.header is None:
            asset.header = self.cache.get(source.key) if source.cost.requests == 0 else None
            if asset.header is not None:
                source.etag, source.size = asset.header.etag, asset.header.size
        if asset.header is None:
            self.cache.drop(source.key)
            async with self._slots.headers:
                asset.header = await load_header(self.transport, source)
            self.cache.put(source.key, asset.header, self.options.cache_dir)
        while True:
            try:
                layout = lay_out(source.key, asset.header, asset.uses, self.options)
                asset.header.forget_pieces()
                return layout
            except ShortError as short:
                async with self._slots.headers:
                    await more_header(self.transport, source, asset.header, short)
                self.cache.put(source.key, asset.header, self.options.cache_dir)

    async def _read(self, asset: Asset) -> dict[int, bool]:
        try:
            layout = await self._laid(asset)
        except GdalNeeded:
            return await self._loop.run_in_executor(self._readers, self._fallback, asset, self.transport, self._loop)
        header = asset.header
        assert header is not None
        for use in asset.uses:
            assert use.placement is not None
            allocate(use, header.levels[use.placement.level].dtype, use.placement.level in header.masks, layout.sparse)
        if len(layout.ranges) == 1:
            one = layout.ranges[0]
            if len(one.tiles) == 1:  # finished by the thread that decodes
                await self._range(asset, one, finish_too=True)
                return asset.filled
            await self._range(asset, one)
        elif layout.ranges:
            await together(self._range(asset, one) for one in layout.ranges)
        if layout.scratch or header.masks:
            return await self._decoders.run(self._finish, asset)
        return self._finish(asset)

    @staticmethod
    def _finish(asset: Asset) -> dict[int, bool]:
        assert asset.header is not None
        done = asset.filled
        for use in asset.uses:
            epsg = asset.header.epsg if asset.header.epsg is not None else use.read.epsg
            assert epsg is not None
            done[use.index] = finish(use, epsg)
            use.window = use.mask = None
        return done

    async def _range(self, asset: Asset, one: Range, *, finish_too: bool = False) -> None:
        memory = one.memory
        await self.budget.take(memory)
        try:
            async with self._slots.tiles:
                data = await self.transport.get(asset.source, one.start, one.stop)
            if len(one.tiles) == 1:
                await self._tile(asset, one.tiles[0], data, finish_too=finish_too)
            else:
                await together(
                    self._tile(asset, tile, data[tile.offset + tile.lead[0] - one.start : tile.offset + tile.lead[1] - one.start])
                    for tile in one.tiles
                )
        finally:
            self.budget.give(memory)

    async def _tile(self, asset: Asset, tile: Tile, data: memoryview, *, finish_too: bool = False) -> None:
        inflater = Inflater(tile.level, _wanted(tile))
        key = asset.source.key
        whole = tile.lead[1] >= tile.count or tile.level.codec == "none"
        after = asset if finish_too else None
        if await self._decoded(tile, inflater, data, whole, key, after):
            return
        asset.source.cost.misses += 1
        have, stop = tile.lead[1], inflater.next_stop(tile.count)
        while True:
            async with self._slots.tiles:
                more = await self.transport.get(asset.source, tile.offset + have, tile.offset + stop)
            if await self._decoded(tile, inflater, more, stop >= tile.count, key, after):
                break
            have, stop = stop, tile.count
        tile.level.hints[tile.number] = (tile.rows[1], min(tile.count, inflater.used))
        assert asset.header is not None
        self.cache.put(key, asset.header, self.options.cache_dir)

    async def _decoded(self, *arguments: Any) -> bool:
        job = self._decoders.run(self._decode, *arguments)
        try:
            return await job
        except asyncio.CancelledError:
            await self._decoders.settled(job)  # nothing writes into a result that was given up
            raise

    def _decode(self, tile: Tile, inflater: Inflater, data: memoryview, complete: bool, key: str, after: Asset | None) -> bool:
        done = _decode(tile, inflater, data, complete, key)
        if done and after is not None:
            self._finish(after)
        return done


def _wanted(tile: Tile) -> int:
    first = tile.rows[0] if tile.level.codec == "none" else 0
    return (tile.rows[1] - first) * tile.level.row_bytes


def _decode(tile: Tile, inflater: Inflater, data: memoryview, complete: bool, key: str) -> bool:
    """Inflate and write the crops into their windows; False where more of the tile is needed. Runs in a thread."""
    raw = inflater.feed(data, complete, key)
    if raw is None:
        return False
    skipped = tile.rows[0] if tile.level.codec == "none" else 0
    for part in tile.crops:
        target = part.use.mask if part.masks else part.use.window
        assert target is not None
        height, width = part.rows[1] - part.rows[0], part.columns[1] - part.columns[0]
        area = target[part.top : part.top + height, part.left : part.left + width]
        crop(tile.level, raw, skipped, part.rows, part.columns, part.sample, area)
    return True


def _blank(use: Use) -> None:
    """A result without data: no pixel of an earlier or half-done read may stay in it."""
    if use.out is None:
        return
    value = use.read.nodata
    if value is None:
        value = np.nan if use.out.dtype.kind == "f" else 0
    use.out[...] = value
    use.window = use.mask = None


async def together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run together, begun a few at a time; what they give, in their order. The first fault ends the others and is raised as itself."""
    tasks = []
    try:
        for one in coroutines:
            tasks.append(asyncio.ensure_future(one))
            if len(tasks) % AT_ONCE == 0:
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
