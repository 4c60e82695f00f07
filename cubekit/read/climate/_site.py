"""The daily climate of a site, and of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr

from cubekit.climate import Day, ReferenceMethod
from cubekit.errors import CubekitError, InputError
from cubekit.read.climate._base import ClimateSource, Hourly, daily_of
from cubekit.read.climate._select import SOURCES, open_source
from cubekit.site import Site, TimeRange

__all__ = ["read_daily", "read_hourly", "site_climate"]


def _source(source: ClimateSource | str) -> ClimateSource:
    if not isinstance(source, str):
        return source
    return open_source(source) if source in ("auto", *SOURCES) else open_source("path", path=source)


def read_hourly(source: ClimateSource | str, site: Site, period: TimeRange) -> xr.Dataset:
    """Hours of one site in ERA5 names over ``time``, with 13 hours more on either side; accumulated as the source has them.

    Raises
    ------
    NothingFoundError
        No land near, or no hour of `period`.
    """
    (hours,) = _source(source).read_many([site], period)
    if isinstance(hours, CubekitError):
        raise hours
    return hours


def read_daily(
    source: ClimateSource | str,
    sites: Sequence[Site],
    period: TimeRange,
    *,
    elevations: Sequence[float | None] | None = None,
    day: Day = "utc",
    et0: ReferenceMethod = "fao56",
) -> list[Hourly]:
    """The daily tables of many sites, as `site_climate` gives one; sites that share a stored chunk share its read.

    Returns
    -------
    list
        In the order of `sites`: a dataset, or the error that this site met.
    """
    if elevations is not None and len(elevations) != len(sites):
        raise InputError(f"{len(elevations)} elevations for {len(sites)} sites", remedy="Give one per site, None where unknown")
    where = _source(source)
    tables: list[Hourly] = []
    for i, (site, hours) in enumerate(zip(sites, where.read_many(sites, period), strict=True)):
        tables.append(
            hours if isinstance(hours, CubekitError) else _table(where, hours, site, period, elevations and elevations[i], day, et0)
        )
    return tables


def _table(
    where: ClimateSource, hours: xr.Dataset, site: Site, period: TimeRange, elevation: Any, day: Day, et0: ReferenceMethod
) -> Hourly:
    try:
        table = daily_of(hours, where.convention, period, site, elevation=elevation, day=day, et0=et0)
    except CubekitError as error:
        return error
    table.attrs.update({key: value for key, value in hours.attrs.items() if value})
    return table


def site_climate(
    source: ClimateSource | str,
    lat: float,
    lon: float,
    start: Any,
    end: Any,
    elevation: float | None = None,
    day: Day = "utc",
    *,
    et0: ReferenceMethod = "fao56",
) -> xr.Dataset:
    """The canonical daily climate table of a site.

    Parameters
    ----------
    source
        A source, its name, ``auto``, or the path of a store.
    lat, lon
        Degrees north and east.
    start, end
        First and last day, both included.
    elevation
        Of the site, m.
    day
        ``utc`` or ``solar``.
    et0
        ``fao56`` (daily) or ``asce`` (hourly, summed).

    Returns
    -------
    Dataset
        `cubekit.climate.daily_table` with all its columns over ``time``; those the source lacks are missing throughout. Coordinates
        ``cell_latitude``, ``cell_longitude``, ``cell_distance`` (km), ``cell_elevation`` and ``cell_elevation_difference`` (m; cell less
        site, NaN without `elevation`).

    Raises
    ------
    NothingFoundError
        No land cell near (naming the distance to the nearest), or no day of the range in the record.
    AccessDeniedError
        The source wants credentials or refuses them.
    InputError
        Data that cannot be what they are said to be.
    """
    (table,) = read_daily(source, [Site(lat, lon)], TimeRange(start, end), elevations=[elevation], day=day, et0=et0)
    if isinstance(table, CubekitError):
        raise table
    return table
