"""Hours to days: the canonical daily table."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from cubekit.climate._atmosphere import (
    elevation_from_pressure,
    saturation_vapour_pressure,
    wind_speed_at_two_metres,
)
from cubekit.climate._conventions import Convention, check_convention, detect_convention
from cubekit.climate._days import Date, Day, DayAxis, solar_offset
from cubekit.climate._hours import HourBlocks
from cubekit.climate._hygiene import canonical_hourly
from cubekit.climate._radiation import extraterrestrial_daily
from cubekit.climate._ranges import check_sunshine, check_totals
from cubekit.climate._reference import asce_hourly, fao56_daily
from cubekit.climate._table import ReferenceMethod, daily_dataset, describe
from cubekit.climate._variables import DAILY
from cubekit.errors import InputError
from cubekit.typing import FloatArray

__all__ = ["ReferenceMethod", "daily_table"]

_KELVIN: Final = 273.15


def _columns(hours: HourBlocks, min_hours: int) -> dict[str, FloatArray]:
    """All columns but ET0, from the variables that are there; each variable is loaded once."""
    table: dict[str, FloatArray] = {}
    kept = {name: hours.state(name) for name in ("t2m", "d2m", "u10", "v10") if name in hours}
    if "t2m" in kept:
        for name, how in (("t2m_mean", "mean"), ("t2m_min", "minimum"), ("t2m_max", "maximum")):
            table[name] = hours.reduce(kept["t2m"], how, min_hours)
    if {"t2m", "d2m"} <= kept.keys():
        deficit = saturation_vapour_pressure(kept["t2m"] - _KELVIN) - saturation_vapour_pressure(kept["d2m"] - _KELVIN)
        table["vpd"] = hours.reduce(np.maximum(deficit, 0.0), "mean", min_hours)
    if {"u10", "v10"} <= kept.keys():
        table["wind_speed"] = hours.reduce(np.hypot(kept["u10"], kept["v10"]), "mean", min_hours)
    for name in ("d2m", "u10", "v10"):
        if name in kept:
            table["d2m_mean" if name == "d2m" else name] = hours.reduce(kept[name], "mean", min_hours)
    del kept
    for name in ("sp", "swvl1", "swvl2", "swvl3", "swvl4"):
        if name in hours:
            table[name] = hours.reduce(hours.state(name), "mean", min_hours)
    for name in ("tp", "ssrd", "ssr", "e", "pev", "slhf", "sshf"):
        if name in hours:
            table[name] = hours.sum(name)
            check_totals(name, table[name], str(hours.hourly[name].attrs["source_units"]))
    return table


def _position(hourly: xr.Dataset, name: str, given: float | None) -> FloatArray | None:
    """Latitude (column) or longitude (row) of the cells, broadcasting against (latitude, longitude)."""
    if name in hourly.coords:
        values = np.asarray(hourly[name].values, dtype=np.float64)
        both = "latitude" in hourly.dims and "longitude" in hourly.dims
        return values[:, None] if name == "latitude" and both else values
    return None if given is None else np.asarray(given, dtype=np.float64)


def _mean_elevation(table: dict[str, FloatArray]) -> FloatArray | None:
    if "sp" not in table:
        return None
    valid = np.isfinite(table["sp"])
    mean = np.where(valid, table["sp"], 0.0).sum(axis=0) / np.maximum(valid.sum(axis=0), 1)
    return np.where(valid.any(axis=0), elevation_from_pressure(np.maximum(mean, 1e4) / 1e3), np.nan)


def _outside(axis: DayAxis, ndim: int, latitude: FloatArray) -> FloatArray:
    days = pd.DatetimeIndex(axis.days).dayofyear.to_numpy(dtype=np.float64)
    return extraterrestrial_daily(latitude, days.reshape((-1,) + (1,) * (ndim - 1)))


def _fao56(axis: DayAxis, table: dict[str, FloatArray], latitude: FloatArray, elevation: FloatArray) -> FloatArray:
    days = pd.DatetimeIndex(axis.days).dayofyear.to_numpy(dtype=np.float64)
    ndim = table["t2m_min"].ndim - 1
    return fao56_daily(
        minimum=table["t2m_min"] - _KELVIN,
        maximum=table["t2m_max"] - _KELVIN,
        actual_vapour_pressure=saturation_vapour_pressure(table["d2m_mean"] - _KELVIN),
        wind_speed=wind_speed_at_two_metres(table["wind_speed"]),
        solar_radiation=table["ssrd"],
        latitude=latitude,
        elevation=elevation,
        day_of_year=days.reshape((-1,) + (1,) * ndim),
        pressure=table["sp"] / 1e3 if "sp" in table else None,
    )


def _asce(hours: HourBlocks, latitude: FloatArray, longitude: FloatArray, elevation: FloatArray) -> FloatArray:
    """Hourly ET0 summed over the day; the state of an hour is the mean of its two ends."""

    def between(values: FloatArray) -> FloatArray:
        middle = np.full_like(values, np.nan)
        middle[1:] = 0.5 * (values[1:] + values[:-1])
        return middle

    wind = np.hypot(hours.state("u10"), hours.state("v10"))
    origin = (hours.axis.first - np.timedelta64(1, "D")).astype("datetime64[ns]")
    centre = pd.DatetimeIndex(origin + np.arange(wind.shape[0]) * np.timedelta64(1, "h") - np.timedelta64(30, "m"))
    shape = (-1,) + (1,) * (wind.ndim - 1)
    et0 = asce_hourly(
        temperature=between(hours.state("t2m")) - _KELVIN,
        actual_vapour_pressure=saturation_vapour_pressure(between(hours.state("d2m")) - _KELVIN),
        wind_speed=wind_speed_at_two_metres(between(wind)),
        solar_radiation=np.maximum(hours.flux("ssrd"), 0.0),
        latitude=latitude,
        longitude=longitude,
        elevation=elevation,
        day_of_year=centre.dayofyear.to_numpy(dtype=np.float64).reshape(shape),
        utc_hour=(centre.hour + centre.minute / 60.0).to_numpy(dtype=np.float64).reshape(shape),
        pressure=between(hours.state("sp")) / 1e3 if "sp" in hours else None,
    )
    return hours.reduce(et0, "sum", 24)


def _solar_offsets(hourly: xr.Dataset, day: str, longitude: float | None) -> np.ndarray:
    if day not in ("utc", "solar"):
        raise InputError(f"Unknown kind of day {day!r}", remedy="Use 'utc' or 'solar'")
    if day == "utc":
        return np.zeros(1, dtype=int)
    east = _position(hourly, "longitude", longitude)
    if east is None:
        raise InputError("Solar days need a longitude, and the data have none", remedy="Give longitude=")
    return np.atleast_1d(solar_offset(east))


def daily_table(
    hourly: xr.Dataset,
    convention: Convention | Literal["auto"],
    day: Day = "utc",
    *,
    start: Date | None = None,
    end: Date | None = None,
    latitude: float | None = None,
    longitude: float | None = None,
    elevation: npt.ArrayLike | None = None,
    et0: ReferenceMethod = "fao56",
    min_hours: int = 24,
    complete: bool = False,
) -> xr.Dataset:
    """The canonical daily table of hourly ERA5 or ERA5-Land data, for one cell or a grid.

    Parameters
    ----------
    hourly
        Any form that `canonical_hourly` takes, over (time) or (time, latitude, longitude).
    convention
        How accumulated variables are stored: ``era5-land``, ``era5``, ``arco``, ``earthdatahub``; or ``auto`` to tell from the data.
    day
        ``utc``, or ``solar``: days of local mean solar time, to the whole hour.
    start, end
        First and last day, inclusive; by default the days the hours lie in. Hours beyond them close the last day: a sum of day D
        needs D+1 00:00, and solar days up to 12 hours on either side.
    latitude, longitude
        Of the cell, degrees, where the data carry none.
    elevation
        m, broadcasting against the cells; by default from mean surface pressure (standard atmosphere), else sea level.
    et0
        ``fao56``: daily FAO-56; ``asce``: hourly ASCE-EWRI 2005 short reference, summed. Never the model's own ``pev``.
    min_hours
        Valid hours that a mean, minimum or maximum needs; fewer is a gap. A sum always needs the whole day.
    complete
        Add the columns the data cannot give, all missing, so that every source gives the same table.

    Returns
    -------
    Dataset
        float32 over (time[, latitude, longitude]), 00:00 of each day, with ``time_bnds``: ``t2m_mean t2m_min t2m_max d2m_mean`` K,
        ``vpd`` kPa, ``tp e pev et0`` mm, ``ssrd ssr slhf sshf`` MJ m-2, ``sp`` Pa, ``u10 v10 wind_speed`` m s-1, ``swvl1-4`` m3 m-3.
        Sums are amounts of the day. Downward is positive: ``e`` and ``pev`` are negative for evaporation; ``et0`` is positive upward.

    Raises
    ------
    InputError
        As `canonical_hourly`; values that cannot have their unit; data that contradict `convention`.
    """
    if not 1 <= min_hours <= 24:
        raise InputError(f"min_hours is {min_hours}", remedy="Give 1 to 24")
    if et0 not in ("fao56", "asce"):
        raise InputError(f"Unknown method for et0: {et0!r}", remedy="Use 'fao56' or 'asce'")
    tidy = canonical_hourly(hourly)
    chosen: Convention = detect_convention(tidy) if convention == "auto" else convention
    check_convention(tidy, chosen)
    offsets = _solar_offsets(tidy, day, longitude)
    axis = DayAxis.covering(tidy["time"].values, start, end)
    hours = HourBlocks(tidy, chosen, axis, offsets)
    table = _columns(hours, min_hours)
    height, note = _elevation(elevation, table)
    north, east = _position(tidy, "latitude", latitude), _position(tidy, "longitude", longitude)
    if "ssrd" in table and north is not None:
        check_sunshine(table["ssrd"], _outside(axis, table["ssrd"].ndim, north), str(tidy["ssrd"].attrs["source_units"]))
    if {"t2m_min", "d2m_mean", "wind_speed", "ssrd"} <= table.keys() and north is not None:
        if et0 == "fao56":
            table["et0"] = _fao56(axis, table, north, height)
        elif east is not None:
            table["et0"] = _asce(hours, north, east, height)
    absent = [name for name in DAILY if name not in table]
    if complete and table:
        like = next(iter(table.values()))
        table.update({name: np.full(like.shape, np.nan) for name in absent})
    result = daily_dataset(axis, table, tidy, offsets, day)
    return describe(result, tidy, chosen, day, et0, absent, note)


def _elevation(given: npt.ArrayLike | None, table: dict[str, FloatArray]) -> tuple[FloatArray, str]:
    if given is not None:
        return np.asarray(given, dtype=np.float64), "given"
    estimated = _mean_elevation(table)
    if estimated is not None:
        return np.nan_to_num(estimated), "estimated from mean surface pressure, standard atmosphere"
    return np.asarray(0.0), "unknown, sea level assumed"
