"""Candidates for a sample: where a land-cover class is pure in the footprint of a cube and stays so over the years."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from cubekit.errors import InputError
from cubekit.sampling._model import SiteTable
from cubekit.sampling._splits import event_sets
from cubekit.typing import Float1D, FloatArray, IntArray

__all__ = ["Candidates", "candidates_from_grid", "class_purity"]

_METRES_PER_DEGREE = 111_195.08
"""Length of a degree of latitude on a sphere of radius 6371.0088 km, m."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Places that a sample can be drawn from; all arrays have shape (n,).

    Parameters
    ----------
    lon, lat
        Degrees.
    land_cover
        Class, any label.
    purity
        Share of the footprint that has this class in every year, 0 to 1.
    event
        Event or events of the place as text (several with ``;``), empty for none.
    climate_zone
        Any label; empty where zones do not matter.
    """

    lon: Float1D
    lat: Float1D
    land_cover: tuple[str, ...]
    purity: Float1D
    event: tuple[str, ...]
    climate_zone: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.lon)

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any]) -> Candidates:
        """Candidates of a mapping or data frame with ``lon lat land_cover`` and, where known, ``purity event climate_zone``."""
        if missing := [name for name in ("lon", "lat", "land_cover") if name not in columns]:
            raise InputError(f"Candidates have no column {' or '.join(missing)}", remedy="Give lon, lat and land_cover at least")
        n = len(columns["lon"])
        sizes = {name: len(columns[name]) for name in ("lat", "land_cover", "purity", "event", "climate_zone") if name in columns}
        if wrong := {name: size for name, size in sizes.items() if size != n}:
            raise InputError(f"Candidates have {n} longitudes but {wrong}", remedy="Give columns of one length")
        lon, lat = _numbers(columns, "lon"), _numbers(columns, "lat")
        purity = _numbers(columns, "purity") if "purity" in columns else np.ones(n)
        if not ((purity >= 0) & (purity <= 1)).all():
            raise InputError(f"Purity runs from {np.min(purity)} to {np.max(purity)}", remedy="Give shares from 0 to 1")
        events = event_sets(list(columns["event"])) if "event" in columns else [frozenset()] * n
        zones = columns.get("climate_zone", [""] * n)
        return cls(
            lon,
            lat,
            tuple(map(str, columns["land_cover"])),
            purity,
            tuple(";".join(sorted(found)) for found in events),
            tuple(_text(zone) for zone in zones),
        )

    @classmethod
    def from_table(cls, table: SiteTable) -> Candidates:
        """Candidates of a site table with these columns."""
        present = {name for name in ("land_cover", "purity", "event", "climate_zone") if name in table.columns()}
        return cls.from_columns({"lon": table.lon, "lat": table.lat, **{name: table.column(name, "") for name in present}})


def _numbers(columns: Mapping[str, Any], name: str) -> Float1D:
    values = list(columns[name])
    for number, value in enumerate(values, 1):
        try:
            values[number - 1] = float(value)
        except (TypeError, ValueError):
            raise InputError(f"{name} of candidate {number} is {value!r}, no number", remedy="Correct it, or leave the row out") from None
    return np.asarray(values, dtype=np.float64)


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def class_purity(land_cover: IntArray, rows: int, columns: IntArray, *, wrap: bool = False) -> FloatArray:
    """Share of a footprint around each cell that has the cell's own class, least over the years.

    Parameters
    ----------
    land_cover
        Classes, shape (year, lat, lon).
    rows
        Cells from the centre to the footprint's edge in latitude.
    columns
        The same in longitude, per row of the grid, shape (lat,).
    wrap
        Whether the grid closes at its sides, as a global one does. Footprints are cut at sides that do not close.

    Returns
    -------
    ndarray, shape (lat, lon)
        0 where the class of the cell itself changes over the years.
    """
    years, height, width = land_cover.shape
    purity = np.zeros((height, width))
    middle = land_cover[0]
    stable = (land_cover == middle).all(axis=0)
    for name in np.unique(middle[stable]):
        cells = stable & (middle == name)
        share = np.min([_box_mean(land_cover[year] == name, rows, columns, wrap) for year in range(years)], axis=0)
        purity[cells] = share[cells]
    return purity


def _box_mean(mask: Any, rows: int, columns: IntArray, wrap: bool) -> FloatArray:
    """Mean over the box of 2 rows + 1 by 2 columns + 1 cells around each cell, from running sums."""
    height, width = mask.shape
    down = np.vstack([np.zeros((1, width)), np.cumsum(mask, axis=0, dtype=np.float64)])
    top, bottom = np.clip(np.arange(height) - rows, 0, height), np.clip(np.arange(height) + rows + 1, 0, height)
    strip = (down[bottom] - down[top]) / (bottom - top)[:, None]
    reach = np.minimum(columns, (width - 1) // 2)
    halo = int(reach.max()) if wrap else 0
    padded = np.hstack([strip[:, width - halo :], strip, strip[:, :halo]]) if halo else strip
    across = np.hstack([np.zeros((height, 1)), np.cumsum(padded, axis=1)])
    at = np.arange(width)[None, :] + halo
    west, east = np.clip(at - reach[:, None], 0, padded.shape[1]), np.clip(at + reach[:, None] + 1, 0, padded.shape[1])
    return np.asarray((np.take_along_axis(across, east, 1) - np.take_along_axis(across, west, 1)) / (east - west))


def candidates_from_grid(
    land_cover: xr.DataArray,
    *,
    edge: float,
    min_purity: float = 0.0,
    exclude: Sequence[int] = (0,),
    events: xr.DataArray | None = None,
    zones: xr.DataArray | None = None,
) -> Candidates:
    """Candidates at the cell centres of a land-cover map.

    Parameters
    ----------
    land_cover
        Classes on dims (lat, lon) or (time, lat, lon), regular in degrees.
    edge
        Edge of a cube's footprint, m; it is laid over the map in whole cells, wider in longitude towards the poles.
    min_purity
        Cells below are left out.
    exclude
        Classes that are no land cover, such as no data.
    events
        Event labels, 0 for none, on (lat, lon) or (time, lat, lon); the nearest cell counts, with all labels it ever had.
    zones
        Climate zones on (lat, lon); the nearest cell counts.

    Raises
    ------
    InputError
        If a map lacks dims ``lat`` and ``lon``, or `edge` is not positive.
    """
    if not edge > 0:
        raise InputError(f"edge is {edge} m", remedy="Give the edge of a cube in metres")
    for name, grid in {"land_cover": land_cover, "events": events, "zones": zones}.items():
        if grid is not None and not {"lat", "lon"} <= set(grid.dims):
            raise InputError(f"{name} has dims {grid.dims}", remedy="Rename them to lat and lon")
    cover = land_cover if land_cover.ndim == 3 else land_cover.expand_dims("time")
    cover = cover.transpose(..., "lat", "lon")
    lat, lon = cover["lat"].values.astype(np.float64), cover["lon"].values.astype(np.float64)
    step_y, step_x = float(np.abs(np.diff(lat)).mean()), float(np.abs(np.diff(lon)).mean())
    half = edge / 2 / _METRES_PER_DEGREE
    columns = np.floor(half / (step_x * np.maximum(np.cos(np.radians(lat)), 1e-6)) + 0.5).astype(np.int64)
    wrap = abs(step_x * len(lon) - 360) < step_x / 2
    purity = class_purity(cover.values, int(np.floor(half / step_y + 0.5)), columns, wrap=wrap)
    y, x = np.nonzero((purity >= max(min_purity, np.finfo(float).tiny)) & ~np.isin(cover.values[0], list(exclude)))
    at = {"lat": xr.DataArray(lat[y], dims="site"), "lon": xr.DataArray(lon[x], dims="site")}
    found = (
        events.sel(at, method="nearest").transpose("site", ...).values.reshape(len(y), -1) if events is not None else np.zeros((len(y), 0))
    )
    names = [[str(label) for label in np.unique(row[row != 0])] for row in found]
    zone = zones.sel(at, method="nearest").values.tolist() if zones is not None else [""] * len(y)
    return Candidates.from_columns(
        {
            "lon": (lon[x] + 180) % 360 - 180,
            "lat": lat[y],
            "land_cover": cover.values[0][y, x].tolist(),
            "purity": np.minimum(purity[y, x], 1.0),
            "event": names,
            "climate_zone": zone,
        }
    )
