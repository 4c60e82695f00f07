"""The contract of a climate source, and what all sources share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import xarray as xr

from cubekit.climate import Convention, Day, ReferenceMethod, daily_table, elevation_from_pressure
from cubekit.errors import CubekitError, NothingFoundError
from cubekit.site import Site, TimeRange

__all__ = ["CELL_ATTRS", "ClimateSource", "Hourly", "daily_of", "hours_around"]

Hourly = xr.Dataset | CubekitError
"""The hours of one site, or why there are none."""

CELL_ATTRS: Final[dict[str, dict[str, str]]] = {
    "cell_latitude": {"units": "degrees_north", "long_name": "latitude of the centre of the cell"},
    "cell_longitude": {"units": "degrees_east", "long_name": "longitude of the centre of the cell"},
    "cell_distance": {"units": "km", "long_name": "great-circle distance from the site to the centre of the cell"},
    "cell_elevation": {"units": "m", "long_name": "elevation of the cell"},
    "cell_elevation_difference": {"units": "m", "long_name": "elevation of the cell less elevation of the site"},
}


@runtime_checkable
class ClimateSource(Protocol):
    """Hourly ERA5(-Land) data at sites.

    Attributes
    ----------
    name : str
        Stable name, as a recipe gives it.
    convention : str
        How accumulated variables come (see `cubekit.climate.Convention`), or ``auto``.
    """

    @property
    def name(self) -> str: ...

    @property
    def convention(self) -> str: ...

    def read_many(self, sites: Sequence[Site], period: TimeRange) -> list[Hourly]:
        """Hours of `period` and 13 hours on either side, for each site in order: ERA5 short names, over ``time``.

        Coordinates ``cell_latitude``, ``cell_longitude``, ``cell_distance`` and, where known, ``cell_elevation``. A site without data
        gets its error in place of a dataset; only what concerns all sites is raised.
        """
        ...


def hours_around(period: TimeRange) -> tuple[np.datetime64, np.datetime64]:
    """First and last hour that days of `period` can need, in UTC or in local solar time."""
    first = period.start.astype("datetime64[ns]") - np.timedelta64(13, "h")
    last = (period.end + np.timedelta64(1, "D")).astype("datetime64[ns]") + np.timedelta64(13, "h")
    return first, last


def daily_of(
    hourly: xr.Dataset,
    convention: Convention | Any,
    period: TimeRange,
    site: Site,
    *,
    elevation: float | None = None,
    day: Day = "utc",
    et0: ReferenceMethod = "fao56",
) -> xr.Dataset:
    """The complete daily table of one site's hours, with its cell's coordinates and elevation difference."""
    cell = {name: hourly[name] for name in CELL_ATTRS if name in hourly.coords}
    known = float(cell["cell_elevation"]) if "cell_elevation" in cell else None
    table = daily_table(
        hourly.drop_vars([*cell, "latitude", "longitude"], errors="ignore"),
        convention,
        day,
        start=period.start,
        end=period.end,
        latitude=float(cell["cell_latitude"]),
        longitude=float(cell["cell_longitude"]),
        elevation=known,
        et0=et0,
        complete=True,
    )
    if not any(bool(table[name].notnull().any()) for name in ("t2m_mean", "tp")):
        raise NothingFoundError(
            f"No whole day of {period} at latitude {site.lat:g}, longitude {site.lon:g}",
            remedy="Choose days within the record of the source",
            site=site.id,
        )
    return _with_cell(table, {name: float(value) for name, value in cell.items()}, known, elevation)


def _with_cell(table: xr.Dataset, cell: dict[str, float], known: float | None, elevation: float | None) -> xr.Dataset:
    method = "elevation given by the source"
    if known is None:
        pressure = float(table["sp"].mean(skipna=True)) if bool(table["sp"].notnull().any()) else float("nan")
        known = float(elevation_from_pressure(pressure / 1e3))
        method = "estimated from mean surface pressure, standard atmosphere, to about 100 m"
    cell["cell_elevation"] = known
    cell["cell_elevation_difference"] = known - elevation if elevation is not None else float("nan")
    coords = {name: ((), cell[name], CELL_ATTRS[name]) for name in CELL_ATTRS if name in cell}
    table = table.assign_coords(coords)
    for name in ("cell_elevation", "cell_elevation_difference"):
        table[name].attrs["comment"] = method
    return table
