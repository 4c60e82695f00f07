"""The calls of this room: plan, read, read for many sites."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cubekit.errors import InputError
from cubekit.grid import Grid
from cubekit.read._engine import Asset, Engine
from cubekit.read._fault import Fault
from cubekit.read._gdal import read_with_gdal, read_with_warp
from cubekit.read._headers import HeaderCache
from cubekit.read._href import asset_key
from cubekit.read._layout import Use
from cubekit.read._loop import background
from cubekit.read._peers import odc_stack, stackstac_stack
from cubekit.read._transport import Source
from cubekit.read._types import AssetOutcome, AssetRead, Progress, ReadOptions, ReadPlan, Sign

__all__ = ["forget_headers", "known_versions", "plan_reads", "read_assets", "read_many"]

Outputs = np.ndarray | Sequence[np.ndarray]
_KEEP_EVERY = 2.0
"""Seconds after which headers that were learnt are written down, so that a killed build has not asked for them in vain."""
_NOTED_WITHIN = 0.02
"""Seconds after which finished reads stand in the journal, at the latest: written one by one, they cost a quarter of the loop's time."""
_cache = HeaderCache()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_cache.unlock)


def forget_headers() -> None:
    """Forget all headers remembered in memory (those on disk stay)."""
    _cache.clear()


def known_versions(reads: Sequence[AssetRead]) -> list[tuple[str | None, int | None] | None]:
    """(ETag, bytes) of the files whose headers are remembered, in the order of `reads`; None for one that is not."""
    from cubekit.read._href import asset_key

    headers = (_cache.get(asset_key(read.href)) for read in reads)
    return [None if header is None else (header.etag, header.size) for header in headers]


def plan_reads(reads: Sequence[AssetRead], grid: Grid, options: ReadOptions | None = None, sign: Sign | None = None) -> ReadPlan:
    """What reading would ask for, by the code that reads; headers that are not known are read, pixels are not.

    With known headers requests and bytes are exact but for retries and for tiles whose estimated leading part proves too short
    (``AssetOutcome.misses``). Files that GDAL has to read are not in the numbers.

    Raises
    ------
    InputError
        For options or reads that cannot be meant.
    """
    options = options or ReadOptions()
    _warm(reads, options)
    here = background()
    uses = [Use(i, read, grid) for i, read in enumerate(reads)]
    assets, refused = _group(uses, options)

    async def run() -> ReadPlan:
        engine = Engine(here, options, sign, _cache, read_with_gdal)
        outcomes = dict(refused)
        numbers = [0, 0, 0]

        async def work(asset: Asset) -> None:
            layout = await engine.plan(asset)
            outcomes.update(asset.outcomes)
            if layout is not None:
                numbers[0] += len(layout.ranges)
                numbers[1] += sum(one.stop - one.start for one in layout.ranges)
                numbers[2] += sum(one.memory for one in layout.ranges) + layout.scratch

        await engine.each(assets, work, lambda _: None)
        headers = sum(a.source.cost.requests for a in assets), sum(a.source.cost.bytes for a in assets)
        return ReadPlan(*headers, numbers[0], numbers[1], min(numbers[2], options.memory), outcomes)

    try:
        return here.run(run())
    finally:
        _keep(options)


def read_assets(
    reads: Sequence[AssetRead],
    grid: Grid,
    out: Outputs,
    *,
    sign: Sign | None = None,
    options: ReadOptions | None = None,
    progress: Progress | None = None,
) -> list[AssetOutcome]:
    """Read one window of each asset into its array.

    Parameters
    ----------
    reads
        What to read.
    grid
        Where; its shape is (height, width).
    out
        ``out[i]`` takes read ``i``: an array of the grid's shape whose type can hold the source's. Pixels outside the image or
        without data, and all pixels of a hole, get the read's nodata value.
    sign
        Signs hrefs late, per asset; asked again (with ``fresh=True`` if it takes that) when the server refuses.
    options
        See `ReadOptions`.
    progress
        Called in this thread now and then with (reads done, reads in all).

    Returns
    -------
    list of AssetOutcome
        One per read, in their order. Nothing is raised for a single asset's sake.

    Raises
    ------
    InputError
        For arrays that do not fit the reads, before any I/O.
    """
    return read_many([(reads, grid, out)], sign=sign, options=options, progress=progress)[0]


def read_many(
    jobs: Sequence[tuple[Sequence[AssetRead], Grid, Outputs]],
    *,
    sign: Sign | None = None,
    options: ReadOptions | None = None,
    progress: Progress | None = None,
) -> list[list[AssetOutcome]]:
    """`read_assets` for several grids at once: every header is read once, every internal tile read and decoded once for all of them.

    Parameters
    ----------
    jobs
        Tuples (reads, grid, out) as `read_assets` takes them.

    Returns
    -------
    list of list of AssetOutcome
        In the order of the jobs and their reads; requests and bytes of a shared asset stand at the first read of it.
    """
    options = options or ReadOptions()
    uses = [use for reads, grid, out in jobs for use in _uses(reads, grid, out)]
    for index, use in enumerate(uses):
        use.index = index
    run = _run_peer if options.engine in ("odc", "stackstac") else _run
    outcomes = run(uses, options, sign, progress)
    result, at = [], 0
    for reads, _, _ in jobs:
        result.append([outcomes[at + i] for i in range(len(reads))])
        at += len(reads)
    return result


def _run(uses: list[Use], options: ReadOptions, sign: Sign | None, progress: Progress | None) -> dict[int, AssetOutcome]:
    _warm([use.read for use in uses], options)
    here = background()
    journal = options.journal
    noted = journal.restore(uses, options.engine, _versions(uses)) if journal else {}
    assets, outcomes = _group([use for use in uses if use.index not in noted], options)
    for use in uses:
        if use.index in outcomes and use.out is not None:
            use.out[...] = use.read.nodata if use.read.nodata is not None else np.nan if use.out.dtype.kind == "f" else 0
    outcomes |= noted

    def done(asset: Asset) -> None:
        outcomes.update(asset.outcomes)
        if journal is not None and journal.note(asset.source.key, asset.uses, asset.outcomes, options.engine) == 1:
            here.loop.call_later(_NOTED_WITHIN, journal.flush)

    async def run() -> None:
        by_gdal = options.engine == "rasterio"
        engine = Engine(here, options, sign, _cache, read_with_warp if by_gdal else read_with_gdal)
        work = engine.read_by_gdal if by_gdal else engine.read
        await engine.each(assets, work, done)

    kept = time.monotonic()

    def tick() -> None:
        nonlocal kept
        if progress is not None:
            progress(len(outcomes), len(uses))
        if time.monotonic() - kept > _KEEP_EVERY:
            _keep(options)
            kept = time.monotonic()

    try:
        here.run(run(), tick)
    finally:
        if journal is not None:
            journal.flush()
        _keep(options)
    if progress is not None:
        progress(len(outcomes), len(uses))
    return outcomes


def _versions(uses: list[Use]) -> dict[int, tuple[str | None, int | None] | None]:
    return dict(zip((use.index for use in uses), known_versions([use.read for use in uses]), strict=True))


def _run_peer(uses: list[Use], options: ReadOptions, sign: Sign | None, progress: Progress | None) -> dict[int, AssetOutcome]:
    """Reads through odc-stac or stackstac: one stack per grid and type, computed by dask's threads."""
    import dask

    stack = odc_stack if options.engine == "odc" else stackstac_stack
    inner = replace(options, engine="rasterio")
    outcomes: dict[int, AssetOutcome] = {}
    groups: dict[tuple[Grid, str, float], list[Use]] = {}
    for use in uses:
        assert use.out is not None
        blank = use.read.nodata if use.read.nodata is not None else np.nan if use.out.dtype.kind == "f" else 0.0
        groups.setdefault((use.grid, use.out.dtype.str, blank), []).append(use)
    for (grid, dtype, fill), members in groups.items():

        def read_one(read: AssetRead, part: Grid, out: np.ndarray, members: list[Use] = members) -> AssetOutcome:
            # A read stands for the use that carries it, whatever equal ones there are.
            index = next(use.index for use in members if use.read is read)
            outcomes[index] = read_assets([read], part, [out], sign=sign, options=inner)[0]
            if progress is not None:
                progress(len(outcomes), len(uses))
            return outcomes[index]

        # Equal reads are told apart by identity.
        for use in members:
            use.read = replace(use.read)
        lazy = stack([[use.read] for use in members], grid, np.dtype(dtype), fill, read_one, 1)
        with dask.config.set(scheduler="threads", num_workers=options.workers * 4):
            pixels = lazy.compute()
        for position, use in enumerate(members):
            assert use.out is not None
            use.out[...] = pixels[position, 0]
    return outcomes


def _uses(reads: Sequence[AssetRead], grid: Grid, out: Any) -> list[Use]:
    if len(out) != len(reads):
        raise InputError(f"{len(reads)} reads were given {len(out)} arrays", remedy="Give out one array per read.")
    uses = []
    for index, read in enumerate(reads):
        target = out[index]
        if target.shape != grid.shape:
            raise InputError(
                f"out[{index}] has shape {target.shape}, but the grid is {grid.shape}", remedy="Allocate (height, width) per read."
            )
        if read.nodata is not None and target.dtype.kind != "f":
            info = np.iinfo(target.dtype)
            if not (float(read.nodata).is_integer() and info.min <= read.nodata <= info.max):
                raise InputError(
                    f"nodata {read.nodata!r} of band {read.band!r} does not fit out[{index}] of type {target.dtype}",
                    remedy="Give an array of a type that holds the nodata value.",
                )
        uses.append(Use(index, read, grid, target))
    return uses


def _group(uses: Sequence[Use], options: ReadOptions) -> tuple[list[Asset], dict[int, AssetOutcome]]:
    """Assets with all their uses, in order of first use; and the outcomes of hrefs that are refused."""
    assets: dict[str, Asset] = {}
    refused: dict[int, AssetOutcome] = {}
    for use in uses:
        asset = assets.get(use.read.href)
        if asset is None:
            try:
                asset = assets[use.read.href] = Asset(Source.of(use.read.href, options), [])
            except Fault as fault:
                refused[use.index] = AssetOutcome(fault.status, fault.message)
                continue
        asset.uses.append(use)
    return list(assets.values()), refused


def _warm(reads: Sequence[AssetRead], options: ReadOptions) -> None:
    if options.cache_dir is not None:
        _cache.warm({asset_key(read.href) for read in reads}, Path(options.cache_dir))


def _keep(options: ReadOptions) -> None:
    if options.cache_dir is not None:
        _cache.save(Path(options.cache_dir))
