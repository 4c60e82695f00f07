"""Accumulated variables: three conventions, one function each, and the check that the data follow the one they are said to."""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
import xarray as xr

from cubekit.errors import InputError
from cubekit.typing import FloatArray

__all__ = [
    "Convention",
    "daily_total_from_accumulated",
    "detect_convention",
    "hourly_from_accumulated",
    "hourly_from_deaccumulated",
    "hourly_from_earthdatahub",
    "hourly_from_era5",
    "is_running_total",
    "require_convention",
    "to_hourly",
]

Convention = Literal["era5-land", "era5", "arco", "earthdatahub"]
"""``era5-land``: accumulated since 00 UTC. ``era5``: per hour, stamped at its end. ``arco``: ERA5-Land already de-accumulated.
``earthdatahub``: accumulated over the stamps 01 to 00 UTC."""

RUNNING: Final = ("era5-land", "earthdatahub")
_HOUR = np.timedelta64(1, "h")
_SUN: Final = ("ssrd", "ssr")
_PROBE: Final = (*_SUN, "tp", "e", "pev")


def _stamps(data: xr.DataArray) -> np.ndarray:
    times: np.ndarray = data["time"].values.astype("datetime64[ns]")
    if times.size > 1 and not (times[1:] > times[:-1]).all():
        raise InputError(f"The time stamps of {data.name!r} do not increase", remedy="Sort them and drop doubles, as canonical_hourly does")
    return times


def _hour_of_day(times: np.ndarray) -> np.ndarray:
    hours: np.ndarray = (times - times.astype("datetime64[D]")) // _HOUR
    return hours


def hourly_from_accumulated(data: xr.DataArray) -> xr.DataArray:
    """Hourly increments of ERA5-Land's running totals since 00 UTC.

    Parameters
    ----------
    data
        Running totals with increasing stamps `time`; the total of day D stands at D+1 00:00.

    Returns
    -------
    DataArray
        A(h) - A(h-1), and A(1) for h = 1, stamped at the hour's end as before; NaN where the hour before is missing.

    Notes
    -----
    ERA5-Land documentation, ECMWF Confluence: "accumulations are from 00 UTC of the day to the hour of the stamp".
    """
    times = _stamps(data)
    axis = data.get_axis_num("time")
    values = np.moveaxis(np.asarray(data.values, dtype=np.float64), axis, 0)
    increments = np.full_like(values, np.nan)
    increments[1:] = values[1:] - values[:-1]
    gap = np.concatenate([[True], np.diff(times) != _HOUR])
    increments[gap] = np.nan
    first = _hour_of_day(times) == 1
    increments[first] = values[first]
    return data.copy(data=np.moveaxis(increments, 0, axis))


def hourly_from_earthdatahub(data: xr.DataArray) -> xr.DataArray:
    """Hourly increments of DestinE's Earth Data Hub: totals over the stamps 01 to 00 UTC, so 01 opens a day and 00 closes it.

    The arithmetic is ERA5-Land's own; the day's total at 00:00 belongs to the day before.
    """
    return hourly_from_accumulated(data)


def hourly_from_era5(data: xr.DataArray) -> xr.DataArray:
    """Hourly amounts of ERA5 (not Land): already per hour, stamped at the hour's end; returned as float64."""
    _stamps(data)
    return data.astype(np.float64)


def hourly_from_deaccumulated(data: xr.DataArray) -> xr.DataArray:
    """Hourly amounts of ECMWF's ARCO Zarr: A(h) - A(h-1) was taken by the producer and stamped at h; returned as float64."""
    _stamps(data)
    return data.astype(np.float64)


_TO_HOURLY: Final = {
    "era5-land": hourly_from_accumulated,
    "era5": hourly_from_era5,
    "arco": hourly_from_deaccumulated,
    "earthdatahub": hourly_from_earthdatahub,
}


def to_hourly(data: xr.DataArray, convention: Convention) -> xr.DataArray:
    """Amounts per hour, stamped at the hour's end, from `data` of any `convention`."""
    require_convention(convention)
    return _TO_HOURLY[convention](data)


def require_convention(convention: str) -> None:
    """Raise InputError unless `convention` is one of the four."""
    if convention not in get_args(Convention):
        raise InputError(
            f"Unknown accumulation convention {convention!r}", remedy=f"Use one of {', '.join(get_args(Convention))}, or 'auto'"
        )


def daily_total_from_accumulated(data: xr.DataArray) -> xr.DataArray:
    """Daily totals of running totals since 00 UTC: the value stamped D+1 00:00, labelled D.

    Days whose closing stamp is missing are absent.
    """
    times = _stamps(data)
    closing = data.isel(time=np.flatnonzero(_hour_of_day(times) == 0))
    return closing.assign_coords(time=closing["time"].values.astype("datetime64[ns]") - np.timedelta64(1, "D"))


def is_running_total(days: FloatArray, least: int = 1) -> bool | None:
    """Whether blocks of one day look like running totals.

    Parameters
    ----------
    days
        (day, 24, cell): the values stamped 01:00 to 24:00 of each day.
    least
        Complete days with anything in them that a verdict needs.

    Returns
    -------
    bool or None
        True: they grow (in amount) through nearly every day. False: they fall within nearly every day, as hourly values do.
        None: too few complete days with anything in them, or neither.
    """
    amount = np.abs(days)
    size = np.max(amount, axis=1, keepdims=True, initial=0.0)
    # A constant day may be either; of a day with little in it (polar night, a trace of rain) 16-bit packing leaves noise.
    whole = np.isfinite(amount).all(axis=1)
    largest = np.max(size[:, 0], where=whole, initial=0.0)
    complete = whole & (np.ptp(amount, axis=1) > 0) & (size[:, 0] > 0.05 * largest)
    if complete.sum() < least:
        return None
    # A thousandth of the day's total is GRIB packing.
    grows = (np.diff(days * np.sign(days[:, -1:, :] + (days[:, -1:, :] == 0)), axis=1) >= -1e-3 * size).all(axis=1)
    share = float(grows[complete].mean())
    return True if share >= 0.9 else False if share <= 0.1 else None


def _sample(data: xr.DataArray, limit: int = 60) -> FloatArray:
    """Up to `limit` days, spread over the record, of up to 16 cells as (day, 24, cell), stamps 01:00 to 24:00."""
    times = _stamps(data)
    if times.size == 0:
        return np.empty((0, 24, 1))
    start = times[0].astype("datetime64[D]").astype("datetime64[ns]")
    opening = np.flatnonzero(_hour_of_day(times) == 1)
    opening = opening[opening + 23 < times.size]
    opening = opening[times[opening + 23] - times[opening] == 23 * _HOUR]
    if opening.size == 0 or times[0] < start:
        return np.empty((0, 24, 1))
    chosen = opening[np.unique(np.linspace(0, opening.size - 1, min(limit, opening.size)).astype(int))]
    space = [d for d in data.dims if d != "time"]
    thin = data.isel({d: np.unique(np.linspace(0, data.sizes[d] - 1, min(4, data.sizes[d])).astype(int)) for d in space})
    index = (chosen[:, None] + np.arange(24)[None, :]).ravel()
    values = np.asarray(thin.isel(time=index).transpose("time", ...).values, dtype=np.float64)
    return values.reshape(chosen.size, 24, -1)


def _verdict(hourly: xr.Dataset, name: str) -> bool | None:
    # Radiation rises and falls every day; rain may fall in one hour only and dew may turn evaporation round, so they need more days.
    return is_running_total(_sample(hourly[name]), least=1 if name in _SUN else 10)


def detect_convention(hourly: xr.Dataset) -> Convention:
    """Tell running totals (``era5-land``) from hourly amounts (``era5``) by looking at how the variables grow within days.

    Parameters
    ----------
    hourly
        As `canonical_hourly` gives it. Solar radiation decides; without it, precipitation and evaporation, if they agree.

    Raises
    ------
    InputError
        Where the variables disagree or nothing in them decides.
    """
    verdicts = {name: _verdict(hourly, name) for name in _PROBE if name in hourly and hourly[name].attrs.get("cell_amount") != "hour"}
    if not verdicts:
        # Only mean rates, or nothing accumulated at all.
        return "era5"
    for name in _SUN:
        if verdicts.get(name) is not None:
            return "era5-land" if verdicts[name] else "era5"
    found = {verdict for verdict in verdicts.values() if verdict is not None}
    if len(found) == 1:
        return "era5-land" if found.pop() else "era5"
    raise InputError(
        f"The accumulation convention cannot be told from the data ({', '.join(verdicts)})",
        remedy="Name it: convention='era5-land' (running totals since 00 UTC), 'era5' or 'arco' (amounts per hour)",
    )


def check_convention(hourly: xr.Dataset, convention: Convention) -> None:
    """Raise InputError where a variable clearly contradicts `convention`: a wrong one would give silently wrong sums."""
    require_convention(convention)
    for name in _PROBE:
        if name not in hourly or hourly[name].attrs.get("cell_amount") == "hour":
            continue
        verdict = _verdict(hourly, name)
        if convention in RUNNING and verdict is False and name in (*_SUN, "tp"):
            raise InputError(
                f"{name} falls within nearly every day: it holds amounts per hour, not the running totals of convention {convention!r}",
                remedy="Use convention='era5' (ERA5) or 'arco' (de-accumulated ERA5-Land)",
                variable=name,
            )
        if convention not in RUNNING and verdict is True:
            raise InputError(
                f"{name} grows through nearly every day: it is a running total since 00 UTC, not an amount per hour as in {convention!r}",
                remedy="Use convention='era5-land'",
                variable=name,
            )
