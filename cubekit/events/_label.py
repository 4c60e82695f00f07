"""Events: connected components of compound cell-days, found on runs, band after band of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numba as nb
import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import InputError
from cubekit.events._runs import Runs, paint, runs_of_mask
from cubekit.events._space import LatLonGrid, wrap

__all__ = ["Connectivity", "EventIndex", "Labeller", "event_ids", "label_events"]

Connectivity: TypeAlias = Literal[6, 18, 26]

# How far apart in days runs of side neighbours, and of corner neighbours, may lie to touch; -1: never.
_REACH: dict[int, tuple[int, int]] = {6: (0, -1), 18: (1, 0), 26: (1, 1)}


@dataclass(frozen=True, slots=True, eq=False)
class EventIndex:
    """All events in the order of their labels 1..n.

    Parameters
    ----------
    start, stop
        First day and day after the last, as positions on the time axis; int64 (n,).
    row, column
        Seed cell: of the cells of the first day the northernmost, then westernmost from 180 W; int64 (n,).
    """

    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    column: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.start.size)


@dataclass(slots=True, eq=False)
class Labeller:
    """Union-find over bands of rows that arrive in grid order.

    Parameters
    ----------
    grid
        Rows, columns, and whether the last column touches the first.
    connectivity
        6 (faces), 18 (and edges) or 26 (and corners) in (time, lat, lon).
    """

    grid: LatLonGrid
    connectivity: Connectivity = 6
    _parent: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _first: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _stop: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    _edge: tuple[npt.NDArray[Any], npt.NDArray[np.int64]] | None = None
    _next_row: int = 0

    def __post_init__(self) -> None:
        if self.connectivity not in _REACH:
            raise InputError(f"connectivity is {self.connectivity}", remedy="Use 6, 18 or 26.")

    def add(self, runs: Runs, rows: int) -> npt.NDArray[np.int64]:
        """Join the runs of the next ``rows`` rows, sorted by cell and start; returns the provisional component of each run."""
        nx = self.grid.lon.size
        edge, edge_parts = self._edge if self._edge is not None else (runs.counts[:0], np.empty(0, np.int64))
        counts = np.concatenate([edge, runs.counts])
        cell = counts[:, 0].astype(np.int64) - (self._next_row - 1) * nx
        pointers = np.searchsorted(cell, np.arange((rows + 1) * nx + 1))
        local = np.arange(cell.size)
        side, corner = _REACH[self.connectivity]
        _link(pointers, counts[:, 1].copy(), counts[:, 2].copy(), nx, self.grid.periodic, side, corner, local)
        roots, local = np.unique(_roots(local), return_inverse=True)
        parts = self._parent.size + local
        self._grow(roots.size)
        _unite_all(self._parent, edge_parts, parts[: edge_parts.size])
        self._note(runs, parts[edge_parts.size :])
        self._next_row += rows
        last = cell >= rows * nx
        self._edge = (counts[last], parts[last])
        return parts[edge_parts.size :]

    def finish(self) -> tuple[EventIndex, npt.NDArray[np.uint32]]:
        """The events, and the label of each provisional component.

        Labels count from 1 by start day, then seed cell: north to south, from 180 W eastward.
        """
        roots = _roots(self._parent.copy())
        first, stop = self._first.copy(), self._stop.copy()
        np.minimum.at(first, roots, self._first)
        np.maximum.at(stop, roots, self._stop)
        events = np.unique(roots)
        events = events[np.argsort(first[events], kind="stable")]
        if events.size >= 2**32 - 1:
            raise InputError(f"{events.size} events do not fit in uint32 labels", remedy="Raise min_duration or split the region.")
        labels = np.zeros(self._parent.size, np.uint32)
        labels[events] = np.arange(1, events.size + 1, dtype=np.uint32)
        return self._index(first[events], stop[events]), labels[roots]

    def _grow(self, n: int) -> None:
        size = self._parent.size
        self._parent = np.concatenate([self._parent, np.arange(size, size + n)])
        self._first = np.concatenate([self._first, np.full(n, np.iinfo(np.int64).max)])
        self._stop = np.concatenate([self._stop, np.zeros(n, np.int64)])

    def _note(self, runs: Runs, parts: npt.NDArray[np.int64]) -> None:
        rows, columns = self.grid.order()
        nx = self.grid.lon.size
        place = rows[runs.cell // nx] * nx + columns[runs.cell % nx]
        np.minimum.at(self._first, parts, runs.start * np.int64(self.grid.lat.size * nx) + place)
        np.maximum.at(self._stop, parts, runs.stop)

    def _index(self, first: npt.NDArray[np.int64], stop: npt.NDArray[np.int64]) -> EventIndex:
        rows, columns = self.grid.order()
        ny, nx = self.grid.shape
        place = first % (ny * nx)
        return EventIndex(first // (ny * nx), stop, np.argsort(rows)[place // nx], np.argsort(columns)[place % nx])


def label_events(mask: xr.DataArray, *, connectivity: Connectivity = 6, slab_rows: int | None = None) -> xr.DataArray:
    """Number the connected components of a compound mask.

    Parameters
    ----------
    mask
        bool with dimensions ``time``, ``latitude``, ``longitude`` in any order; filtered and land only, as wanted.
    connectivity
        6 (faces), 18 (and edges) or 26 (and corners). Columns that go round the globe wrap.
    slab_rows
        Rows that are joined at a time; the result does not depend on it.

    Returns
    -------
    DataArray of uint32, dims (time, latitude, longitude)
        0 outside events; labels 1..n by start day, then seed cell (north to south, from 180 W eastward), however the grid lies.
    """
    data = mask.transpose("time", "latitude", "longitude")
    grid = LatLonGrid.of(data)
    ny, nx = grid.shape
    runs = runs_of_mask(data.values.astype(bool).reshape(data.shape[0], ny * nx))
    labeller, parts, step = Labeller(grid, connectivity), [], slab_rows or ny
    for row in range(0, ny, step):
        a, z = np.searchsorted(runs.cell, [row * nx, (row + step) * nx])
        parts.append(labeller.add(Runs(runs.counts[a:z], runs.values[a:z]), min(step, ny - row)))
    _, labels = labeller.finish()
    painted = paint(runs, labels[np.concatenate(parts)], (data.shape[0], ny * nx))
    result = data.copy(data=painted.reshape(data.shape))
    result.name = "event_labels"
    result.attrs = label_attrs(connectivity)
    return result


def label_attrs(connectivity: int) -> dict[str, Any]:
    """Attributes of a label variable."""
    return {
        "long_name": "label of the dry-hot event, 0 outside events",
        "comment": f"connected components in (time, latitude, longitude), connectivity {connectivity}; numbered by start, then seed cell",
    }


def event_ids(start: npt.NDArray[np.datetime64], lon: Any, lat: Any) -> list[str]:
    """Persistent id of each event: start date, latitude and longitude of the seed cell's centre to 1e-4 degrees.

    Later days do not change it, nor do chunking, orientation or the longitude convention. Two events never share start day and seed cell.
    """
    days = np.datetime_as_string(np.asarray(start).astype("datetime64[D]"))
    west = wrap(np.atleast_1d(lon))
    return [
        f"{day.replace('-', '')}_{'S' if y < 0 else 'N'}{abs(y):07.4f}_{'W' if x < 0 else 'E'}{abs(x):08.4f}"
        for day, x, y in zip(days, west, np.atleast_1d(lat), strict=True)
    ]


@nb.njit(cache=True, nogil=True)
def _find(parent: Any, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@nb.njit(cache=True, nogil=True)
def _unite(parent: Any, i: int, j: int) -> None:
    i, j = _find(parent, i), _find(parent, j)
    if i < j:
        parent[j] = i
    elif j < i:
        parent[i] = j


@nb.njit(cache=True, nogil=True)
def _unite_all(parent: Any, a: Any, b: Any) -> None:
    for i in range(a.size):
        _unite(parent, a[i], b[i])


@nb.njit(cache=True, nogil=True)
def _roots(parent: Any) -> Any:
    for i in range(parent.size):
        parent[i] = _find(parent, i)
    return parent


@nb.njit(cache=True, nogil=True)
def _join(a: int, a1: int, b: int, b1: int, start: Any, stop: Any, reach: int, parent: Any) -> None:
    while a < a1 and b < b1:
        if start[a] < stop[b] + reach and start[b] < stop[a] + reach:
            _unite(parent, a, b)
        if stop[a] <= stop[b]:
            a += 1
        else:
            b += 1


@nb.njit(cache=True, nogil=True)
def _link(pointers: Any, start: Any, stop: Any, nx: int, periodic: bool, side: int, corner: int, parent: Any) -> None:
    for cell in range(pointers.size - 1):
        a, a1 = pointers[cell], pointers[cell + 1]
        if a == a1:
            continue
        row, x = cell // nx, cell % nx
        below = (row + 1) * nx
        east = x + 1 if x + 1 < nx else (0 if periodic else -1)
        west = x - 1 if x > 0 else (nx - 1 if periodic else -1)
        if east >= 0:
            _join(a, a1, pointers[row * nx + east], pointers[row * nx + east + 1], start, stop, side, parent)
        if below >= pointers.size - 1:
            continue
        _join(a, a1, pointers[below + x], pointers[below + x + 1], start, stop, side, parent)
        if corner >= 0 and east >= 0:
            _join(a, a1, pointers[below + east], pointers[below + east + 1], start, stop, corner, parent)
        if corner >= 0 and west >= 0:
            _join(a, a1, pointers[below + west], pointers[below + west + 1], start, stop, corner, parent)
