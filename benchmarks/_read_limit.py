"""What the job cannot be faster than: its bytes fetched by the best client, its rows inflated on all cores, each without the other."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cubekit.grid import Grid
from cubekit.read import AssetRead, ReadOptions
from cubekit.read._api import _group
from cubekit.read._decode import Inflater
from cubekit.read._engine import Asset, Engine
from cubekit.read._gdal import read_with_gdal
from cubekit.read._headers import FIRST, HeaderCache
from cubekit.read._layout import Range, Use
from cubekit.read._loop import background


def measure(
    reads: list[AssetRead], grid: Grid, options: ReadOptions, clients: tuple[str, ...] = ("own", "obstore"), server: Any = None
) -> dict[str, float]:
    """Seconds: ``fetch`` by each client (headers first, then ranges), ``inflate`` on all cores; and the bytes.

    ``cpu_fetch``, ``cpu_server`` and ``cpu_inflate`` are seconds of processor time of the own client, of the server meanwhile, and of
    inflating: what one machine has to do in all.
    """
    here = background()
    assets, _ = _group([Use(i, read, grid) for i, read in enumerate(reads)], options)
    ranges: dict[str, list[Range]] = {}

    async def lay_out() -> None:
        engine = Engine(here, options, None, HeaderCache(), read_with_gdal)

        async def work(asset: Asset) -> None:
            layout = await engine.plan(asset)
            ranges[asset.source.href] = layout.ranges if layout else []

        await engine.each(assets, work, lambda _: None)

    here.run(lay_out())
    spans = [(href, [(0, FIRST), *((one.start, one.stop) for one in found)]) for href, found in ranges.items()]
    out: dict[str, float] = {"bytes": sum(stop - start for _, some in spans for start, stop in some)}
    bodies: list[Any] = []
    for client in clients:
        if server is not None:
            server.stats(reset=True)
        begin, used = time.perf_counter(), time.process_time()
        bodies = here.run(_FETCH[client](spans, options, here))
        out[f"fetch_{client}"] = time.perf_counter() - begin
        if client == "own":
            out["cpu_fetch"] = time.process_time() - used
            out["cpu_server"] = server.stats()["cpu"] if server is not None else 0.0
    tiles = [
        (tile, bytes(body[tile.offset + tile.lead[0] - one.start : tile.offset + tile.lead[1] - one.start]))
        for (_, found), got in zip(ranges.items(), bodies, strict=True)
        for one, body in zip(found, got[1:], strict=True)
        for tile in one.tiles
    ]

    def inflate(pair: Any) -> None:
        tile, body = pair
        Inflater(tile.level, tile.inflated).feed(memoryview(body), False, "")

    with ThreadPoolExecutor(options.workers) as pool:
        begin, used = time.perf_counter(), time.process_time()
        list(pool.map(inflate, tiles, chunksize=8))
        out["inflate"], out["cpu_inflate"] = time.perf_counter() - begin, time.process_time() - used
    out["inflated_bytes"] = sum(tile.inflated for tile, _ in tiles)
    out["limit"] = max(min(out[f"fetch_{client}"] for client in clients), out["inflate"])
    return out


async def _fetch_own(spans: list[Any], options: ReadOptions, here: Any) -> list[list[Any]]:
    from cubekit.read._transport import Source, Transport

    transport = Transport(here.client, options, None, here.waiting)
    gate = asyncio.Semaphore(options.concurrency)

    async def one(href: str, some: list[tuple[int, int]]) -> list[Any]:
        source, got = Source.of(href, options), []
        async with gate:
            for start, stop in some:
                got.append(await transport.get(source, start, stop, ends=True))
        return got

    return await asyncio.gather(*(one(href, some) for href, some in spans))


async def _fetch_obstore(spans: list[Any], options: ReadOptions, here: Any) -> list[list[Any]]:
    from urllib.parse import urlsplit

    import obstore

    gate = asyncio.Semaphore(options.concurrency)
    first = urlsplit(spans[0][0])
    store = obstore.store.HTTPStore.from_url(f"{first.scheme}://{first.netloc}", client_options={"allow_http": True})

    async def one(href: str, some: list[tuple[int, int]]) -> list[Any]:
        path, got = urlsplit(href).path.lstrip("/"), []
        async with gate:
            for start, stop in some:
                got.append(memoryview(await obstore.get_range_async(store, path, start=start, end=stop)))
        return got

    return await asyncio.gather(*(one(href, some) for href, some in spans))


_FETCH = {"own": _fetch_own, "obstore": _fetch_obstore}
