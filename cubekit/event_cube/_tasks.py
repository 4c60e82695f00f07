"""What a worker does with one tile: read and code it; later paint its labels. Everything here can be sent to another process."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from cubekit.errors import InputError
from cubekit.event_cube._plan import Tile
from cubekit.events._flags import INDICATORS, WINDOWS
from cubekit.events._inputs import DIMS, INPUTS, check_extent, standard
from cubekit.events._runs import Runs, paint
from cubekit.events._scan import ScanPlan, scan

__all__ = ["Job", "Source", "load_runs", "paint_tile", "save_runs", "scan_tile"]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Daily data by path (opened where it is used) or as an open dataset; ``days`` are the positions that are read."""

    path: str | None
    dataset: xr.Dataset | None
    days: slice

    def open(self) -> xr.Dataset:
        """The three inputs, lazily, with standard names."""
        found = _open(self.path) if self.path is not None else self.dataset
        if found is None:
            raise InputError("there are no daily data", remedy="Give a path or a dataset.")
        return standard(found).isel(time=self.days)

    def read(self, tile: Tile) -> list[npt.NDArray[np.float32]]:
        """The inputs of a tile, float32 (time, cells)."""
        ds, place = self.open(), {"latitude": slice(*tile.rows), "longitude": slice(*tile.columns)}
        arrays = []
        for name in INPUTS:
            part = ds[name].isel(place).compute().transpose(*DIMS)
            arrays.append(np.ascontiguousarray(part.values, dtype=np.float32).reshape(part.shape[0], -1))
        return arrays


@lru_cache(maxsize=8)
def _open(path: str) -> xr.Dataset:
    return open_zarr(path)


def open_zarr(path: str | Path, group: str | None = None, *, dask: bool = False) -> xr.Dataset:
    """A Zarr store, lazily, without or with dask; consolidated metadata are used where they exist."""
    try:
        node = zarr.open_group(str(path), mode="r", path=group or "")
    except (FileNotFoundError, zarr.errors.GroupNotFoundError) as error:
        raise InputError(f"{path} is no Zarr group", remedy="Give the path of a Zarr store with daily data.", path=str(path)) from error
    consolidated = node.metadata.consolidated_metadata is not None
    ds: xr.Dataset = xr.open_zarr(str(path), group=group, chunks={} if dask else None, consolidated=consolidated)
    return ds


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What all tiles share.

    Parameters
    ----------
    source
        The daily data.
    plan
        What is done to a cell.
    columns
        Columns of the grid.
    units
        Unit of t2m_max.
    store, work
        The store that is being built; the folder for what is spilled.
    thresholds
        Store with the quantile table to use, or the table itself, or None.
    """

    source: Source
    plan: ScanPlan
    columns: int
    units: str
    store: str
    work: str
    thresholds: str | xr.Dataset | None


def scan_tile(
    job: Job, tile: Tile, land: npt.NDArray[np.bool_], *, turn: AbstractContextManager[Any] | None = None
) -> npt.NDArray[np.float64]:
    """Read, code and write one tile and spill its runs; returns the extremes of its inputs (3, 2). `turn` is held once it is read."""
    inputs = job.source.read(tile)
    with turn or nullcontext():
        return _code_tile(job, tile, land, inputs)


def _code_tile(job: Job, tile: Tile, land: npt.NDArray[np.bool_], inputs: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
    rows, columns = slice(*tile.rows), slice(*tile.columns)
    result = scan(job.plan, inputs, land.ravel(), _given(job, rows, columns))
    check_extent(result.extent, job.units, days=0)
    root = zarr.open_group(job.store, mode="r+")
    shape = (tile.rows[1] - tile.rows[0], tile.columns[1] - tile.columns[0])
    _write(root, "events", (slice(None), rows, columns), result.codes.reshape(-1, *shape))
    for i, n in enumerate(WINDOWS if job.plan.keep_pei else ()):
        _write(root, f"pei_{n}", (slice(None), rows, columns), result.peis[i].reshape(-1, *shape))
    for i, name in enumerate(INDICATORS):
        _write(root, f"thresholds/{name}", (slice(None), slice(None), rows, columns), result.tables[i].reshape(-1, 3, *shape))
    cells = (np.arange(*tile.rows)[:, None] * job.columns + np.arange(*tile.columns)).ravel()
    save_runs(Path(job.work) / tile.name, result.runs.at_cells(cells))
    return result.extent


def paint_tile(job: Job, tile: Tile) -> int:
    """Write the labels of one tile; returns the number of its runs."""
    band = Path(job.work) / f"band-{tile.band}"
    runs, labels = load_runs(band), np.load(f"{band}-labels.npy")
    column, row = runs.cell % job.columns, runs.cell // job.columns
    mine = np.flatnonzero((column >= tile.columns[0]) & (column < tile.columns[1]))
    if not mine.size:
        return 0
    shape = (tile.rows[1] - tile.rows[0], tile.columns[1] - tile.columns[0])
    counts = runs.counts[mine].copy()
    counts[:, 0] = (row[mine] - tile.rows[0]) * shape[1] + column[mine] - tile.columns[0]
    painted = paint(Runs(counts, runs.values[mine]), labels[mine], (job.plan.days_out, shape[0] * shape[1]))
    place = (slice(None), slice(*tile.rows), slice(*tile.columns))
    _write(zarr.open_group(job.store, mode="r+"), "event_labels", place, painted.reshape(-1, *shape))
    return int(mine.size)


def save_runs(stem: Path, runs: Runs) -> None:
    """Spill runs."""
    np.save(f"{stem}-counts.npy", runs.counts)
    np.save(f"{stem}-values.npy", runs.values)


def load_runs(stem: Path) -> Runs:
    """Spilled runs."""
    return Runs(np.load(f"{stem}-counts.npy"), np.load(f"{stem}-values.npy"))


def _given(job: Job, rows: slice, columns: slice) -> npt.NDArray[np.float32] | None:
    if job.thresholds is None:
        return None
    ds = open_zarr(job.thresholds, "thresholds") if isinstance(job.thresholds, str) else job.thresholds
    part = ds.isel(latitude=rows, longitude=columns)
    arrays = [part[name].transpose("slot", "bound", "latitude", "longitude").values for name in INDICATORS]
    return np.stack([a.reshape(a.shape[0], 3, -1) for a in arrays])


def _write(root: zarr.Group, name: str, place: Any, values: Any) -> None:
    array: Any = root[name]
    array[place] = values
