"""Five-day climate under the names of DeepExtremeCubes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.climate import bin_daily
from cubekit.exchange._names import CLIMATE, ClimateName

__all__ = ["five_day_climate"]

SUMS_NOTE = (
    "sums of whole days; the published dataset took mean, minimum and maximum of the running total since 00 UTC, "
    "about half of the daily sum, nearly zero, and nearly the daily sum"
)


def five_day_climate(
    table: xr.Dataset, bounds: npt.NDArray[np.datetime64]
) -> dict[str, tuple[str, npt.NDArray[np.float32], dict[str, str]]]:
    """Mean, least and greatest daily value of every bin, joined by label; of fluxes also the sum.

    Parameters
    ----------
    table
        Daily table over ``time``, see `cubekit.climate.daily_table`.
    bounds
        (bin, 2) first day and day after the last of each bin.

    Returns
    -------
    dict
        By published name: ``("time", values, attrs)``. Downward is positive; a bin with a missing day is missing. A variable the table
        lacks is missing throughout and says so, since loaders ask for all of them.
    """
    columns = sorted({column for entry in CLIMATE for column in entry.columns if column in table})
    binned = bin_daily(table[columns], bounds, extremes=True) if columns else xr.Dataset()
    days = (bounds[:, 1] - bounds[:, 0]) / np.timedelta64(1, "D")
    result = {}
    for entry in CLIMATE:
        for how in ("mean", "min", "max", *(["sum"] if entry.flux else [])):
            result[f"{entry.name}_{how}"] = _variable(entry, how, table, binned, days)
    return result


def _variable(
    entry: ClimateName, how: str, table: xr.Dataset, binned: xr.Dataset, days: npt.NDArray[np.float64]
) -> tuple[str, npt.NDArray[np.float32], dict[str, str]]:
    column = entry.columns[("mean", "min", "max", "sum").index(how) % 3]
    if column not in table:
        comment = "not in the cube's daily table"
        return "time", np.full(days.size, np.nan, np.float32), {"units": entry.units, "comment": comment}
    extreme = f"{column}_{how}"
    source = binned[extreme] if how in ("min", "max") and extreme in binned else binned[column]
    values = source.values.astype(np.float64) * entry.factor
    attrs = {
        key: str(source.attrs[key]) for key in ("long_name", "standard_name", "positive", "cell_methods", "comment") if key in source.attrs
    }
    attrs["units"] = entry.units
    if entry.flux:
        if how == "mean":
            values = values / days
            attrs["cell_methods"] = "time: sum within days time: mean over days"
            attrs["long_name"] += ", mean daily sum"
        attrs["comment"] = f"{attrs['comment']}; {SUMS_NOTE}" if "comment" in attrs else SUMS_NOTE
    return "time", values.astype(np.float32), attrs
