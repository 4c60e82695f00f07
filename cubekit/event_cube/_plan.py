"""How a job is cut: tiles that follow the chunks of the input and fit the memory budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import xarray as xr

from cubekit.errors import InputError
from cubekit.events._inputs import INPUTS
from cubekit.events._kernels import BLOCK
from cubekit.events._scan import ScanPlan

__all__ = ["Tile", "Tiling", "plan_tiles", "source_chunks"]

_TIME_CHUNK = 512
_CHUNK_ROWS, _CHUNK_COLUMNS = 64, 128


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of cells that is read, coded and written at once."""

    band: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def name(self) -> str:
        """File stem of what is spilled for this tile."""
        return f"tile-{self.band}-{self.columns[0]}"


@dataclass(frozen=True, slots=True)
class Tiling:
    """All tiles of a job.

    Parameters
    ----------
    shape
        (rows, columns) of the grid.
    tile
        (rows, columns) of a full tile.
    chunks
        (days, rows, columns) of the output's chunks; no chunk is shared by two tiles.
    rereads
        How often each input chunk is read.
    tile_bytes
        Memory that one tile takes.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    chunks: tuple[int, int, int]
    rereads: int
    tile_bytes: int

    @property
    def bands(self) -> list[tuple[int, int]]:
        """First row and row after the last of each band of tiles."""
        return [(y, min(y + self.tile[0], self.shape[0])) for y in range(0, self.shape[0], self.tile[0])]

    @property
    def tiles(self) -> list[Tile]:
        """All tiles, band after band."""
        rx, nx = self.tile[1], self.shape[1]
        return [Tile(i, rows, (x, min(x + rx, nx))) for i, rows in enumerate(self.bands) for x in range(0, nx, rx)]


def source_chunks(ds: xr.Dataset) -> tuple[int, int, int]:
    """(days, rows, columns) of the input's chunks: the largest of the three variables; the whole extent where there are none."""
    largest = [1, 1, 1]
    for name in INPUTS:
        known: Any = ds[name].chunksizes or ds[name].encoding.get("preferred_chunks") or {}
        for i, dim in enumerate(("time", "latitude", "longitude")):
            alias = {"latitude": "lat", "longitude": "lon"}.get(dim, dim)
            size = known.get(dim, known.get(alias, ds.sizes[dim]))
            largest[i] = max(largest[i], min(ds.sizes[dim], max(size) if isinstance(size, tuple) else int(size)))
    return largest[0], largest[1], largest[2]


def plan_tiles(plan: ScanPlan, shape: tuple[int, int], chunks: tuple[int, int, int], itemsize: int, memory: float, workers: int) -> Tiling:
    """Choose tiles.

    Parameters
    ----------
    plan
        The job; its days and reference set the memory of a cell.
    shape
        (rows, columns) of the grid.
    chunks
        (days, rows, columns) of the input's chunks.
    itemsize
        Largest item size of the inputs, bytes.
    memory
        Budget in bytes for all workers together.
    workers
        Tiles that are in memory at once.

    Raises
    ------
    InputError
        If the budget does not hold one cell per worker.
    """
    (ny, nx), (_, cy, cx) = shape, chunks
    days = plan.days.size
    cell = days * (3 * 4 + itemsize + 4) + plan.days_out * (1 + 12 * plan.keep_pei + 5) + 48 * plan.reference.slots
    fixed = BLOCK * days * 25 + (32 << 20)
    cells = int((memory / workers - fixed) // cell)
    if cells < 1:
        raise InputError(
            f"a memory budget of {memory / 2**20:.0f} MiB for {workers} workers does not hold one cell of {days} days",
            remedy=f"Give at least {workers * (fixed + cell) / 2**20:.0f} MiB.",
        )
    wanted = max(1, math.ceil(ny * nx / (2 * workers)))
    rows, columns = _tile_shape(ny, nx, cy, cx, cells, wanted)
    rereads = math.ceil(cy / rows) * math.ceil(cx / columns)
    out = (min(_TIME_CHUNK, plan.days_out), _part(rows, ny, _CHUNK_ROWS), _part(columns, nx, _CHUNK_COLUMNS))
    return Tiling(shape, (rows, columns), out, rereads, fixed + cell * rows * columns)


def _tile_shape(ny: int, nx: int, cy: int, cx: int, cells: int, wanted: int) -> tuple[int, int]:
    if nx * cy <= cells:
        bands = max(1, min(cells, wanted) // (nx * cy))
        return min(ny, bands * cy), nx
    if cx * cy <= cells:
        return cy, min(nx, max(1, min(cells, max(wanted, cx * cy)) // (cx * cy)) * cx)
    if cx <= cells:
        return _divisor(cy, cells // cx), cx
    return 1, _divisor(cx, cells)


def _part(tile: int, whole: int, limit: int) -> int:
    """Chunk size within a tile: a tile that spans the grid may end in a partial chunk, others must hold whole chunks."""
    return min(tile, limit) if tile >= whole else _divisor(tile, limit)


def _divisor(n: int, limit: int) -> int:
    return next(d for d in range(max(1, min(n, limit)), 0, -1) if n % d == 0)
