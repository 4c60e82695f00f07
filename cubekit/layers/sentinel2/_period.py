"""From acquisitions to a regular time axis."""

from __future__ import annotations

import re

import numpy as np
import xarray as xr

from cubekit.errors import InputError
from cubekit.reflectance import PixelStatus
from cubekit.site import TimeRange

__all__ = ["period_days", "to_period"]

_PERIOD = re.compile(r"([1-9]\d{0,2})D")
_FILL = {"SCL": 0, "cloud_mask": 255, "pixel_status": int(PixelStatus.NO_ACQUISITION)}


def period_days(period: str) -> int:
    """Days of a period such as ``"5D"``."""
    match = _PERIOD.fullmatch(period)
    if match is None:
        raise InputError(f"period {period!r} is not understood", remedy="Write a number of days, such as 5D")
    return int(match[1])


def to_period(ds: xr.Dataset, time: TimeRange, period: str) -> xr.Dataset:
    """Put scenes onto bins of equal length that start with the first day.

    A bin takes the scene with the largest clear fraction, the earliest of equals; a bin without one is empty with the status
    `no_acquisition`. The label is the bin's first day, `time_bnds` has both ends (the second excluded), and `acquisition_time` tells
    when the scene was taken.
    """
    days = period_days(period)
    starts = np.arange(time.start, time.end + np.timedelta64(1, "D"), np.timedelta64(days, "D"))
    day = ds.time.values.astype("datetime64[D]")
    bins = np.searchsorted(starts, day, side="right") - 1
    clear = np.nan_to_num(ds.clear_fraction.values, nan=-1.0)
    chosen = np.full(len(starts), -1)
    for number in np.lexsort((ds.time.values, -clear)):
        if chosen[bins[number]] < 0:
            chosen[bins[number]] = number
    found = chosen >= 0
    seconds = (ds.time.values - np.datetime64("1970-01-01")) / np.timedelta64(1, "s")
    taken = ("time", seconds, {"long_name": "acquisition", "units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"})
    picked = ds.assign_coords(acquisition_time=taken).isel(time=np.maximum(chosen, 0))
    result = picked.assign_coords(
        time=("time", starts.astype("datetime64[ns]"), {**ds.time.attrs, "long_name": "first day of the bin", "bounds": "time_bnds"})
    )
    for name, variable in result.variables.items():
        if "time" in variable.dims and name != "time":
            _blank(variable, str(name), ~found)
    bounds = np.stack([starts, np.minimum(starts + np.timedelta64(days, "D"), time.end + np.timedelta64(1, "D"))], axis=1).astype(
        "datetime64[ns]"
    )
    result["time_bnds"] = (("time", "nv"), bounds)
    result.attrs = {**ds.attrs, "sentinel2_period": period}
    return result


def _blank(variable: xr.Variable, name: str, empty: np.ndarray) -> None:
    """Set the steps without a scene to what stands for absence in that variable."""
    values = np.array(variable.values)
    kind = values.dtype.kind
    if name in _FILL:
        values[empty] = _FILL[name]
    elif name in ("nbar_status", "read_status"):
        values[empty] = 5 if name == "nbar_status" else 1
    elif kind == "f":
        values[empty] = np.nan
    elif kind == "M":
        values[empty] = np.datetime64("NaT")
    elif kind == "U":
        values[empty] = ""
    elif values.ndim == 3:
        values[empty] = -32768
    else:
        values[empty] = 0
    variable.values = values
