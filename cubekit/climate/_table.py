"""The daily table as a CF dataset: coordinates, bounds, attributes, and how it was made."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import pandas as pd
import xarray as xr

from cubekit.climate._days import Day, DayAxis
from cubekit.climate._variables import DAILY
from cubekit.typing import FloatArray

__all__ = ["TIME_ENCODING", "ReferenceMethod", "daily_dataset", "describe"]

ReferenceMethod = Literal["fao56", "asce"]

TIME_ENCODING: Final = {"units": "hours since 1970-01-01", "calendar": "proleptic_gregorian", "dtype": "int64"}

_METHODS: Final = {
    "fao56": "FAO-56 Penman-Monteith, daily (Allen et al. 1998, eq. 6)",
    "asce": "ASCE-EWRI 2005 short reference, hourly, summed",
}


def daily_dataset(axis: DayAxis, table: dict[str, FloatArray], hourly: xr.Dataset, offsets: np.ndarray, day: Day) -> xr.Dataset:
    """The columns of `table` in canonical order, with coordinates; bounds in UTC where all cells share a day."""
    space = tuple(d for d in ("latitude", "longitude") if d in hourly.dims)
    days = axis.days
    result = xr.Dataset(coords={name: hourly[name] for name in ("latitude", "longitude") if name in hourly.coords})
    shift = np.timedelta64(0, "h") if offsets.size != 1 else np.timedelta64(int(offsets.ravel()[0]), "h")
    bounds = np.stack([days, days + np.timedelta64(1, "D")], axis=1) - shift
    attrs = {"standard_name": "time", "long_name": f"day of {'UTC' if day == 'utc' else 'local mean solar time'}", "axis": "T"}
    result = result.assign_coords(time=("time", days, {**attrs, "bounds": "time_bnds"}))
    result = result.assign_coords(
        time_bnds=(
            ("time", "bnds"),
            bounds,
            {"long_name": "bounds of the day" + (" in UTC" if offsets.size == 1 else "")},
        )
    )
    result["time"].encoding, result["time_bnds"].encoding = dict(TIME_ENCODING), dict(TIME_ENCODING)
    for name in DAILY:
        if name in table:
            result[name] = (("time", *space), table[name].astype(np.float32), _attributes(name))
    if day == "solar":
        dims = ("longitude",) if "longitude" in hourly.dims else ()
        note = {"units": "h", "long_name": "local mean solar time ahead of UTC, whole hours"}
        result = result.assign_coords(solar_offset=(dims, offsets if dims else offsets.reshape(()), note))
    return result


def _attributes(name: str) -> dict[str, str]:
    column = DAILY[name]
    attrs = {"units": column.units, "long_name": column.long_name, "cell_methods": f"time: {column.how} (interval: 1 hour)"}
    if column.standard_name:
        attrs["standard_name"] = column.standard_name
    if column.positive:
        attrs["positive"] = column.positive
    return attrs


def describe(result: xr.Dataset, tidy: xr.Dataset, convention: str, day: str, et0: str, absent: list[str], elevation: str) -> xr.Dataset:
    """Say how the table was made; count the preliminary hours of each day."""
    result.attrs = {"accumulation_convention": convention, "day": day}
    if absent:
        result.attrs["absent_variables"] = " ".join(absent)
        for name in absent:
            if name in result:
                result[name].attrs["comment"] = "not offered by the source"
    if "et0" in result and "et0" not in absent:
        result["et0"].attrs["method"] = _METHODS[et0]
        result["et0"].attrs["comment"] = f"wind at 2 m by the logarithmic profile (FAO-56 eq. 47); elevation {elevation}"
    if "preliminary" in tidy.coords:
        result.attrs["expver"] = tidy.attrs.get("expver", "")
        labels = tidy["time"].values.astype("datetime64[D]").astype("datetime64[ns]")
        counts = pd.Series(tidy["preliminary"].values.astype(int)).groupby(labels).sum()
        hours = counts.reindex(result["time"].values, fill_value=0).to_numpy(dtype=np.int8)
        note = {"long_name": "hours of the UTC day from ERA5T, not yet final", "units": "h"}
        result = result.assign_coords(preliminary_hours=("time", hours, note))
    return result
