"""Event statistics: accumulated run by run, on true cell areas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from cubekit.errors import InputError
from cubekit.events._flags import INDICATORS, WINDOWS
from cubekit.events._label import EventIndex, event_ids
from cubekit.events._runs import Runs, runs_of_labels
from cubekit.events._space import LatLonGrid, wrap
from cubekit.typing import FloatArray

__all__ = ["TABLE_UNITS", "EventTables", "TableBuilder", "event_table"]

TABLE_UNITS: dict[str, str] = {
    "label": "1", "start": "", "end": "", "duration": "d", "n_cells": "1", "cell_days": "1",
    "area_mean": "km2", "area_max": "km2", "area_union": "km2", "volume": "km2 d",
    "lon_west": "degrees_east", "lon_east": "degrees_east", "lon_extent": "degrees",
    "lat_south": "degrees_north", "lat_north": "degrees_north",
    "centroid_lon": "degrees_east", "centroid_lat": "degrees_north", "seed_lon": "degrees_east", "seed_lat": "degrees_north",
    "t2m_max_mean": "degC", "t2m_max_peak": "degC",
    **{f"pei_{n}_{kind}": "mm d-1" for n in WINDOWS for kind in ("mean", "peak")},
    "share_heat": "1", **{f"share_dry_{n}": "1" for n in WINDOWS},
}  # fmt: skip
"""Columns of the event table and their units."""

_KELVIN = 273.15


@dataclass(frozen=True, slots=True, eq=False)
class EventTables:
    """Statistics of events.

    Parameters
    ----------
    events
        One row per event, index ``event_id``; columns and units as in ``TABLE_UNITS``.
        ``area_mean``, ``area_max``: mean and maximum over the event's days of the area affected that day; ``area_union``: area affected
        on any day; ``volume``: area summed over days. Longitudes are cell edges in -180..180, ``lon_west > lon_east`` where the event
        crosses 180 degrees. ``*_mean``: mean over the event's cell-days weighted by area; ``*_peak``: the largest Tmax, the smallest PEI.
        ``share_*``: share of the volume on which the bit is set.
    track
        One row per event and day: ``label``, ``time``, ``lon``, ``lat`` (centroid on the sphere, area-weighted), ``area`` (km2).
    """

    events: pd.DataFrame
    track: pd.DataFrame


def event_table(labels: xr.DataArray, codes: xr.DataArray, indicators: xr.Dataset) -> EventTables:
    """Statistics of the events of a label cube in memory.

    Parameters
    ----------
    labels
        Integer, 0 outside events; dimensions ``time``, ``latitude``, ``longitude`` in any order.
    codes
        Event codes (uint8) on the same axes.
    indicators
        ``t2m_max`` (K or degC by its ``units``), ``pei_30``, ``pei_90``, ``pei_180`` on the same axes; those left out give NaN.

    Returns
    -------
    EventTables
        The column ``label`` holds the numbers of the input; events are sorted by start day and seed cell.
    """
    dims = ("time", "latitude", "longitude")
    data = labels.transpose(*dims)
    grid, days = LatLonGrid.of(data), data["time"].values.astype("datetime64[D]")
    nt, ny, nx = data.shape
    values = np.full((4, nt, ny * nx), np.nan, np.float32)
    for i, name in enumerate(INDICATORS):
        if name in indicators:
            values[i] = indicators[name].transpose(*dims).values.reshape(nt, -1)
    found = data.values.reshape(nt, -1)
    if found.min(initial=0) < 0 or found.max(initial=0) >= 2**32:
        raise InputError(f"labels run from {found.min()} to {found.max()}", remedy="Give labels 1..n with 0 outside events.")
    runs, names = runs_of_labels(found, codes.transpose(*dims).values.reshape(nt, -1), values)
    index, numbers, own = _index_of(runs, names, grid)
    builder = TableBuilder(grid, index, days, kelvin=_is_kelvin(indicators))
    builder.add(runs, numbers)
    tables = builder.finish()
    tables.events["label"] = own
    return EventTables(tables.events, tables.track.assign(label=own[tables.track["label"].to_numpy() - 1]))


def _is_kelvin(ds: xr.Dataset) -> bool:
    return "t2m_max" in ds and str(ds["t2m_max"].attrs.get("units", "K")).strip() in ("K", "kelvin", "Kelvin")


def _index_of(runs: Runs, names: npt.NDArray[np.uint32], grid: LatLonGrid) -> tuple[EventIndex, npt.NDArray[np.uint32], npt.NDArray[Any]]:
    own, inverse = np.unique(names, return_inverse=True)
    rows, columns = grid.order()
    ny, nx = grid.shape
    first, stop = np.full(own.size, np.iinfo(np.int64).max), np.zeros(own.size, np.int64)
    place = rows[runs.cell // nx] * nx + columns[runs.cell % nx]
    np.minimum.at(first, inverse, runs.start * np.int64(ny * nx) + place)
    np.maximum.at(stop, inverse, runs.stop)
    order = np.argsort(first, kind="stable")
    rank = np.empty(own.size, np.uint32)
    rank[order] = np.arange(1, own.size + 1)
    place = first[order] % (ny * nx)
    index = EventIndex(first[order] // (ny * nx), stop[order], np.argsort(rows)[place // nx], np.argsort(columns)[place % nx])
    return index, rank[inverse], own[order]


class TableBuilder:
    """Accumulates event statistics from runs that arrive in the order of their cells.

    Parameters
    ----------
    grid
        The whole grid; runs carry its flat cell index.
    index
        All events.
    days
        The time axis of starts and stops.
    kelvin
        Whether Tmax sums are in K; the table is in degC.
    """

    def __init__(self, grid: LatLonGrid, index: EventIndex, days: npt.NDArray[np.datetime64], *, kelvin: bool) -> None:
        self._grid, self._index, self._days, self._kelvin = grid, index, days, kelvin
        n = len(index)
        self._known_area = grid.lon_step > 0
        self._areas = grid.row_areas() if self._known_area else np.ones(grid.lat.size)
        self._sums, self._peaks = np.zeros((n, 15)), np.full((n, 4), np.nan)
        self._last = np.full(n, -1, np.int64)
        self._rows = np.stack([np.full(n, grid.lat.size), np.full(n, -1)], axis=1)
        self._offset = np.concatenate([[0], np.cumsum(index.stop - index.start)])
        self._daily = np.zeros((self._offset[-1], 4))
        self._columns: list[npt.NDArray[np.int64]] = []

    def add(self, runs: Runs, labels: npt.NDArray[np.uint32]) -> None:
        """Take in runs with their labels (1..n)."""
        nx = self._grid.lon.size
        event = labels.astype(np.int64) - 1
        lat, lon = np.deg2rad(self._grid.lat), np.deg2rad(self._grid.lon)
        sphere = (np.cos(lat), np.sin(lat), np.cos(lon), np.sin(lon), self._grid.lon_weights())
        state = (self._sums, self._peaks, self._last, self._rows, self._daily)
        _accumulate(runs.counts, runs.values, event, nx, self._areas, sphere, self._index.start, self._offset, state)
        self._columns.append(np.unique(event * nx + runs.cell % nx))

    def finish(self) -> EventTables:
        """The tables."""
        index, s, days = self._index, self._sums, self._days
        seed_lon, seed_lat = wrap(self._grid.lon[index.column]), self._grid.lat[index.row]
        columns: dict[str, Any] = {"label": np.arange(1, len(index) + 1, dtype=np.uint32)}
        columns |= {"start": days[index.start].astype("datetime64[ns]"), "end": days[index.stop - 1].astype("datetime64[ns]")}
        columns |= {"duration": index.stop - index.start, "n_cells": s[:, 12].astype(np.int64), "cell_days": s[:, 13].astype(np.int64)}
        columns |= self._area_columns() | self._place_columns() | {"seed_lon": seed_lon, "seed_lat": seed_lat}
        columns |= self._intensity_columns()
        events = pd.DataFrame(columns, index=pd.Index(event_ids(days[index.start], seed_lon, seed_lat), name="event_id", dtype=object))
        return EventTables(events[list(TABLE_UNITS)], self._track())

    def _area_columns(self) -> dict[str, Any]:
        duration = self._index.stop - self._index.start
        volume, union = self._sums[:, 0], self._sums[:, 1]
        largest = np.maximum.reduceat(self._daily[:, 0], self._offset[:-1]) if len(self._index) else np.empty(0)
        areas = {"area_mean": volume / duration, "area_max": largest, "area_union": union, "volume": volume}
        return areas if self._known_area else {name: np.full(len(self._index), np.nan) for name in areas}

    def _place_columns(self) -> dict[str, Any]:
        edges = self._grid.lat_edges()
        a, z = edges[self._rows[:, 0]], edges[self._rows[:, 1] + 1]
        west, extent = self._arcs()
        total = np.add.reduceat(self._daily, self._offset[:-1]) if len(self._index) else np.empty((0, 4))
        lon, lat = _lonlat(total)
        return {
            "lon_west": west, "lon_east": wrap(west + extent), "lon_extent": extent, "centroid_lon": lon, "centroid_lat": lat,
            "lat_south": np.minimum(a, z), "lat_north": np.maximum(a, z),
        }  # fmt: skip

    def _arcs(self) -> tuple[FloatArray, FloatArray]:
        """Western edge and width of the shortest arc that holds all columns of each event."""
        nx, edges, n = self._grid.lon.size, self._grid.lon_edges(), len(self._index)
        pairs = np.unique(np.concatenate(self._columns)) if self._columns else np.empty(0, np.int64)
        west, extent = np.zeros(n), np.zeros(n)
        _arcs(pairs // nx, pairs % nx, edges[:-1], edges[1:], west, extent)
        return np.where(extent >= 360, -180.0, wrap(west)), extent

    def _intensity_columns(self) -> dict[str, Any]:
        s, volume = self._sums, self._sums[:, 0]
        zero = _KELVIN if self._kelvin else 0.0
        columns: dict[str, Any] = {"t2m_max_mean": _ratio(s[:, 2], s[:, 14]) - zero, "t2m_max_peak": self._peaks[:, 0] - zero}
        for i, n in enumerate(WINDOWS):
            columns[f"pei_{n}_mean"] = _ratio(s[:, 3 + i], s[:, 6 + i])
            columns[f"pei_{n}_peak"] = self._peaks[:, 1 + i]
            columns[f"share_dry_{n}"] = s[:, 9 + i] / volume
        return columns | {"share_heat": np.ones(volume.size)}

    def _track(self) -> pd.DataFrame:
        duration = self._index.stop - self._index.start
        label = np.repeat(np.arange(1, len(self._index) + 1, dtype=np.uint32), duration)
        day = np.arange(label.size) - np.repeat(self._offset[:-1], duration) + np.repeat(self._index.start, duration)
        lon, lat = _lonlat(self._daily)
        area = self._daily[:, 0] if self._known_area else np.full(label.size, np.nan)
        return pd.DataFrame({"label": label, "time": self._days[day].astype("datetime64[ns]"), "lon": lon, "lat": lat, "area": area})


def _ratio(total: FloatArray, weight: FloatArray) -> FloatArray:
    ratio: FloatArray = np.divide(total, weight, out=np.full(total.size, np.nan), where=weight > 0)
    return ratio


def _lonlat(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    x, y, z = sums[:, 1], sums[:, 2], sums[:, 3]
    return wrap(np.rad2deg(np.arctan2(y, x))), np.rad2deg(np.arctan2(z, np.hypot(x, y)))


@nb.njit(cache=True, nogil=True)
def _accumulate(counts: Any, values: Any, event: Any, nx: int, areas: Any, sphere: Any, begin: Any, offset: Any, state: Any) -> None:
    sums, peaks, last, rows, daily = state
    cos_lat, sin_lat, cos_lon, sin_lon, width = sphere
    for i in range(event.size):
        e, cell, start, stop = event[i], counts[i, 0], counts[i, 1], counts[i, 2]
        row, column = cell // nx, cell % nx
        area = areas[row] * width[column]
        sums[e, 0] += area * (stop - start)
        sums[e, 13] += stop - start
        if last[e] != cell:
            last[e] = cell
            sums[e, 1] += area
            sums[e, 12] += 1
        sums[e, 14] += area * counts[i, 9]
        rows[e, 0], rows[e, 1] = min(rows[e, 0], row), max(rows[e, 1], row)
        for v in range(4):
            sums[e, 2 + v] += area * values[i, v]
            x = values[i, 4 + v]
            if not np.isnan(x) and (np.isnan(peaks[e, v]) or (x > peaks[e, v] if v == 0 else x < peaks[e, v])):
                peaks[e, v] = x
        for v in range(3):
            sums[e, 6 + v] += area * counts[i, 6 + v]
            sums[e, 9 + v] += area * counts[i, 3 + v]
        for t in range(start, stop):
            d = offset[e] + t - begin[e]
            daily[d, 0] += area
            daily[d, 1] += area * cos_lat[row] * cos_lon[column]
            daily[d, 2] += area * cos_lat[row] * sin_lon[column]
            daily[d, 3] += area * sin_lat[row]


@nb.njit(cache=True, nogil=True)
def _arcs(event: Any, column: Any, west_edge: Any, east_edge: Any, west: Any, extent: Any) -> None:
    a = 0
    while a < event.size:
        z = a
        while z < event.size and event[z] == event[a]:
            z += 1
        # the widest gap between neighbouring columns, the one round the back included, is what the arc leaves out
        gap = west_edge[column[a]] + 360.0 - east_edge[column[z - 1]]
        begin = a
        for i in range(a + 1, z):
            hole = west_edge[column[i]] - east_edge[column[i - 1]]
            if hole > gap + 1e-9:
                gap, begin = hole, i
        west[event[a]] = west_edge[column[begin]]
        extent[event[a]] = 360.0 if gap < 1e-6 else 360.0 - gap
        a = z
