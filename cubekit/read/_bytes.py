"""Small files, such as granule metadata: whole, many at once, with the statuses of pixel reads."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cubekit.read._engine import Budget, together
from cubekit.read._fault import Fault
from cubekit.read._href import asset_key
from cubekit.read._loop import background
from cubekit.read._transport import Source, Transport
from cubekit.read._types import AssetOutcome, ReadOptions, ReadStatus, Sign

__all__ = ["read_bytes"]

_LIMIT = 64 << 20
_USUAL = 2 << 20


def read_bytes(
    hrefs: Sequence[str],
    *,
    sign: Sign | None = None,
    options: ReadOptions | None = None,
    account: Callable[[int, int, int], None] | None = None,
) -> list[bytes | AssetOutcome]:
    """Read whole small files concurrently.

    Parameters
    ----------
    hrefs
        Unsigned addresses, as in `AssetRead`; an address given twice is read once.
    sign, options
        As in `read_assets`. With ``cache_dir`` a file is kept there and not asked for again: meant for files that never change
        under one name, as metadata of products do.
    account
        Called with (requests, bytes, retries) for every file that was asked for.

    Returns
    -------
    list
        For every href its bytes, or the outcome that tells why there are none. Files above 64 MiB are refused.
    """
    options = options or ReadOptions()
    here = background()

    async def one(transport: Transport, href: str, slots: asyncio.Semaphore, budget: Budget) -> bytes | AssetOutcome:
        begin, source = time.perf_counter(), None
        try:
            source = Source.of(href, options)
            async with slots:
                data = await _whole(transport, source, budget)
        except Fault as fault:
            cost = (source.cost.requests, source.cost.bytes, source.cost.retries) if source else (0, 0, 0)
            return AssetOutcome(fault.status, fault.message, *cost, seconds=time.perf_counter() - begin)
        finally:
            if account is not None and source is not None:
                account(source.cost.requests, source.cost.bytes, source.cost.retries)
        # At once: what is kept survives this process.
        await asyncio.get_running_loop().run_in_executor(here.waiting, _keep, href, data, options)
        return data

    async def run(wanted: list[str]) -> list[bytes | AssetOutcome]:
        transport = Transport(here.client, options, sign, here.waiting)
        slots, budget = asyncio.Semaphore(options.concurrency), Budget(options.memory)
        return await together(one(transport, href, slots, budget) for href in wanted)

    found: dict[str, bytes | AssetOutcome] = {}
    for href in dict.fromkeys(hrefs):
        if (kept := _kept(href, options)) is not None:
            found[href] = kept
    wanted = [href for href in dict.fromkeys(hrefs) if href not in found]
    found |= zip(wanted, here.run(run(wanted)) if wanted else [], strict=True)
    return [found[href] for href in hrefs]


async def _whole(transport: Transport, source: Source, budget: Budget) -> bytes:
    """All of an object: in one request if it is of usual size, else the rest in a second one; large ones take turns."""
    await budget.take(_USUAL)
    try:
        data = bytes(await transport.get(source, 0, _USUAL, ends=True))
    finally:
        budget.give(_USUAL)
    if len(data) < _USUAL or source.size == _USUAL:
        return data
    stop = source.size or _LIMIT + 1
    if stop <= _LIMIT:
        await budget.take(stop)
        try:
            return data + await transport.get(source, _USUAL, stop)
        finally:
            budget.give(stop)
    if source.size is None:
        await budget.take(_LIMIT)
        try:
            data = bytes(await transport.get(source, 0, _LIMIT + 1, ends=True))
        finally:
            budget.give(_LIMIT)
        if len(data) <= _LIMIT:
            return data
    raise Fault(ReadStatus.REFUSED, f"{source.key} has {source.size or len(data)} bytes, more than the {_LIMIT} of a small file")


def _place(href: str, options: ReadOptions) -> Path | None:
    if options.cache_dir is None or "://" not in href:
        return None
    name = hashlib.sha256(asset_key(href).encode()).hexdigest()
    return Path(options.cache_dir) / "files" / name[:2] / name


def _kept(href: str, options: ReadOptions) -> bytes | None:
    place = _place(href, options)
    try:
        return place.read_bytes() if place is not None else None
    except OSError:
        return None


def _keep(href: str, data: bytes, options: ReadOptions) -> None:
    """Write beside and rename, so that nobody reads half a file; a cache that cannot be written is done without."""
    place = _place(href, options)
    if place is None:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, place)
    except OSError:
        return
