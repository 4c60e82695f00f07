"""The streaming job: daily store in, committed events store out."""

from __future__ import annotations

import functools
import itertools
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import CubekitWarning, InputError
from cubekit.event_cube._output import building, create_store, write_tables
from cubekit.event_cube._plan import Tile, Tiling, plan_tiles, source_chunks
from cubekit.event_cube._rechunk import rechunk
from cubekit.event_cube._tasks import Job, Source, load_runs, open_zarr, paint_tile, save_runs, scan_tile
from cubekit.events._detect import make_plan
from cubekit.events._flags import Levels
from cubekit.events._inputs import INPUTS, check_extent, is_kelvin, land_of, standard
from cubekit.events._label import Connectivity, Labeller
from cubekit.events._pei import HALO_DAYS
from cubekit.events._quantiles import check_same_grid
from cubekit.events._runs import Runs
from cubekit.events._space import LatLonGrid
from cubekit.events._table import TableBuilder
from cubekit.events._time import Mode, Period, checked_days, period_slice

__all__ = ["DetectReport", "Progress", "detect_events"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (stage, done, all)."""

_MAX_REREADS = 2
_AHEAD = 1
"""Tiles that are read while others are coded."""

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class DetectReport:
    """What was written.

    Parameters
    ----------
    path
        The committed store.
    events
        Number of events.
    runs
        Number of compound runs of single cells.
    days, rows, columns
        Size of the cube.
    tiles
        Number of tiles.
    tile_bytes
        Planned memory of one tile.
    rechunked
        Whether the input was first copied to series-wise chunks.
    """

    path: Path
    events: int
    runs: int
    days: int
    rows: int
    columns: int
    tiles: int
    tile_bytes: int
    rechunked: bool


def detect_events(
    daily_store: str | Path | xr.Dataset,
    out_store: str | Path,
    *,
    mode: Mode = "period",
    reference: Period | None = None,
    window: int = 31,
    period: Period | None = None,
    thresholds: str | Path | xr.Dataset | None = None,
    levels: Levels | None = None,
    min_duration: int = 3,
    connectivity: Connectivity = 6,
    land: xr.DataArray | None = None,
    keep_pei: bool = False,
    memory: float = 1 * _GIB,
    workers: int | None = None,
    client: Any = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DetectReport:
    """Find dry-hot events in a daily store of any size and commit them as one Zarr v3 store.

    Parameters
    ----------
    daily_store
        Zarr store (path) or dataset with ``t2m_max`` (K or degC), ``tp`` and ``et0`` (mm/d), as :func:`cubekit.events.detect`.
    out_store
        Local path of the new store.
    mode, reference, window, period, levels, min_duration, connectivity, land
        As :func:`cubekit.events.detect`. With ``thresholds`` and ``period``, only the period and its halo are read.
    thresholds
        Events store of an earlier run (or its group ``thresholds`` as dataset) whose quantile table is used instead of ranking again.
    keep_pei
        Also store the PEI.
    memory
        Budget in bytes for the tiles of all workers together; tiles are made to fit it, whatever the grid.
    workers
        Threads that compute; default the number of CPUs. One more reads ahead.
    client
        A dask.distributed client to run the tiles on (``daily_store`` must be a path that its workers see).
    overwrite
        Replace an existing store, after the new one is complete.
    progress
        Called as tiles are done.

    Returns
    -------
    DetectReport

    Raises
    ------
    InputError
        If data, units, days, grid or budget cannot be meant as given.
    CommitError
        If ``out_store`` exists.

    Notes
    -----
    A tile is a rectangle of cells with all their days. Coding needs one cell at a time; labels need only the compound runs, which are
    spilled by tile, joined band by band with union-find, and painted tile by tile. The result does not depend on tiles, workers or chunks.
    """
    cpus = workers or os.cpu_count() or 1
    source, ds = _source(daily_store, client)
    plan_days, table = _days_to_read(ds, period, thresholds, min_duration), _table(thresholds)
    ds, source = ds.isel(time=plan_days), Source(source.path, source.dataset, plan_days)
    plan = make_plan(ds, mode, reference, window, period, table, levels, min_duration, keep_pei)
    grid, units = LatLonGrid.of(ds), str(ds["t2m_max"].attrs["units"])
    _check_table(table, grid, units)
    chunks, itemsize = source_chunks(ds), max(ds[name].dtype.itemsize for name in INPUTS)
    ahead = _AHEAD if client is None else 0
    tiling = plan_tiles(plan, grid.shape, chunks, itemsize, memory, cpus + ahead)
    mask = land_of(ds, land)
    with building(out_store, overwrite=overwrite) as folder:
        work = folder / ".work"
        create_store(folder, plan, grid, ds["longitude"].values, tiling, units, connectivity)
        work.mkdir()
        again = tiling.rereads > _MAX_REREADS and plan.days.size > 1
        if again:
            source = rechunk(source, chunks, tiling, work / "series.zarr", memory / 2, functools.partial(_tick, progress, "rechunk"))
        given = str(thresholds) if isinstance(thresholds, (str, Path)) else table
        job = Job(source, plan, grid.lon.size, units, str(folder), str(work), given)
        _scan_all(job, tiling, mask, cpus, client, progress)
        builder, runs = _label_all(job, tiling, grid, connectivity, progress)
        _run(functools.partial(_paint, job), tiling.tiles, cpus, client, progress, "labels")
        tables = builder.finish()
        write_tables(folder, tables)
        _remove(work)
    rows, columns = grid.shape
    path = Path(out_store).absolute()
    return DetectReport(path, len(tables.events), runs, plan.days_out, rows, columns, len(tiling.tiles), tiling.tile_bytes, again)


def _source(daily: str | Path | xr.Dataset, client: Any) -> tuple[Source, xr.Dataset]:
    if isinstance(daily, xr.Dataset):
        if client is not None:
            raise InputError("a dataset in this process cannot be read by dask workers", remedy="Give the path of a store that they see.")
        return Source(None, daily, slice(None)), standard(daily)
    return Source(str(daily), None, slice(None)), standard(open_zarr(daily))


def _table(thresholds: str | Path | xr.Dataset | None) -> xr.Dataset | None:
    return open_zarr(thresholds, "thresholds") if isinstance(thresholds, (str, Path)) else thresholds


def _days_to_read(ds: xr.Dataset, period: Period | None, thresholds: Any, min_duration: int) -> slice:
    """With a table nothing but the period and its halo is needed: 179 days for PEI_180 and the rest of runs that cross its ends."""
    days = checked_days(ds["time"].values)
    if thresholds is None or period is None:
        return slice(0, days.size)
    out, more = period_slice(days, period), max(min_duration, 1) - 1
    return slice(max(0, out.start - HALO_DAYS - more), min(days.size, out.stop + more))


def _check_table(table: xr.Dataset | None, grid: LatLonGrid, units: str) -> None:
    if table is None:
        return
    check_same_grid(table, grid)
    if table.attrs["t2m_max_units"] != units:
        raise InputError(
            f"the quantile table is for t2m_max in {table.attrs['t2m_max_units']}, the data are in {units}", remedy="Convert the data."
        )


def _scan_all(job: Job, tiling: Tiling, land: npt.NDArray[np.bool_], workers: int, client: Any, progress: Progress | None) -> None:
    items = [(tile, land[slice(*tile.rows), slice(*tile.columns)]) for tile in tiling.tiles]
    if client is None:
        task, threads = functools.partial(_scan_in_turn, job, threading.Semaphore(workers)), workers + _AHEAD
    else:
        task, threads = functools.partial(_scan, job), workers
    extents = np.array(_run(task, items, threads, client, progress, "codes"))
    check_extent(np.stack([extents[:, :, 0].min(0), extents[:, :, 1].max(0)], axis=1), job.units, job.plan.days.size)


def _scan(job: Job, item: tuple[Tile, npt.NDArray[np.bool_]]) -> npt.NDArray[np.float64]:
    return scan_tile(job, *item)


def _scan_in_turn(job: Job, turn: threading.Semaphore, item: tuple[Tile, npt.NDArray[np.bool_]]) -> npt.NDArray[np.float64]:
    return scan_tile(job, *item, turn=turn)


def _paint(job: Job, tile: Tile) -> int:
    return paint_tile(job, tile)


def _label_all(
    job: Job, tiling: Tiling, grid: LatLonGrid, connectivity: Connectivity, progress: Progress | None
) -> tuple[TableBuilder, int]:
    work, labeller, total = Path(job.work), Labeller(grid, connectivity), 0
    tiles = {band: list(group) for band, group in itertools.groupby(tiling.tiles, key=lambda tile: tile.band)}
    for band, (first, last) in enumerate(tiling.bands):
        runs = Runs.joined([load_runs(work / tile.name) for tile in tiles[band]]).ordered()
        save_runs(work / f"band-{band}", runs)
        np.save(work / f"band-{band}-parts.npy", labeller.add(runs, last - first))
        total += len(runs)
        _tick(progress, "join", band + 1, len(tiling.bands))
    index, label_of = labeller.finish()
    builder = TableBuilder(grid, index, job.plan.days[job.plan.out], kelvin=is_kelvin(job.units))
    for band in range(len(tiling.bands)):
        labels = label_of[np.load(work / f"band-{band}-parts.npy")]
        np.save(work / f"band-{band}-labels.npy", labels)
        builder.add(load_runs(work / f"band-{band}"), labels)
    return builder, total


def _run(task: Any, items: list[Any], workers: int, client: Any, progress: Progress | None, stage: str) -> list[Any]:
    results = []
    for done, result in enumerate(_results(task, items, workers, client), 1):
        results.append(result)
        _tick(progress, stage, done, len(items))
    return results


def _results(task: Any, items: Iterable[Any], workers: int, client: Any) -> Iterator[Any]:
    if client is not None:
        for future in client.map(task, list(items), pure=False):
            yield future.result()
        return
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(task, item) for item in items]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def _tick(progress: Progress | None, stage: str, done: int, total: int) -> None:
    if progress is not None:
        progress(stage, done, total)


def _remove(work: Path) -> None:
    import shutil

    try:
        shutil.rmtree(work)
    except OSError as error:
        warnings.warn(CubekitWarning(f"could not remove {work}: {error}"), stacklevel=2)
