"""Days to bins of any length, joined by label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.climate._table import TIME_ENCODING
from cubekit.errors import InputError

__all__ = ["bin_daily"]

_REDUCERS: Final[dict[str, np.ufunc]] = {"sum": np.add, "mean": np.add, "minimum": np.minimum, "maximum": np.maximum}


def _bounds(edges: npt.ArrayLike) -> np.ndarray:
    """(n, 2) datetime64[D], checked, from n+1 edges or n pairs."""
    given = np.asarray(edges, dtype="datetime64[ns]")
    bounds = np.stack([given[:-1], given[1:]], axis=1) if given.ndim == 1 else given
    if bounds.ndim != 2 or bounds.shape[1:] != (2,) or bounds.shape[0] == 0:
        raise InputError(f"Edges of shape {given.shape} make no bin", remedy="Give n + 1 increasing dates, or n pairs (start, end)")
    days = bounds.astype("datetime64[D]")
    if (days.astype("datetime64[ns]") != bounds).any():
        odd = bounds[days.astype("datetime64[ns]") != bounds][0]
        raise InputError(f"The bin edge {odd} is not at 00:00", remedy="Bins are of whole days")
    if (days[:, 1] <= days[:, 0]).any() or (days[1:, 0] < days[:-1, 1]).any():
        raise InputError("The bins overlap, are empty or do not increase", remedy="Give increasing edges")
    return days


def _method(array: xr.DataArray) -> str:
    """How the daily values were made: sum, mean, minimum or maximum."""
    methods = str(array.attrs.get("cell_methods", ""))
    for how in _REDUCERS:
        if methods.startswith(f"time: {how}"):
            return how
    raise InputError(
        f"{array.name} has cell_methods {methods!r}: whether it is a sum, a mean or an extreme is unknown",
        remedy="Use a table of daily_table, or set cell_methods to 'time: sum', 'time: mean', ...",
        variable=str(array.name),
    )


def _reducer(daily: np.ndarray, bounds: np.ndarray) -> Callable[[npt.NDArray[Any], str], npt.NDArray[Any]]:
    """A function (values, how) -> one value per bin; days absent from the table count as missing."""
    first, last = min(bounds[0, 0], daily.min()), max(bounds[-1, 1], daily.max() + np.timedelta64(1, "D"))
    total = int((last - first).astype(int))
    position = (daily - first).astype(int)
    # One padding day lets the last bin end where the axis ends.
    index = (bounds - first).astype(int).ravel()

    def reduce(values: npt.NDArray[Any], how: str) -> npt.NDArray[Any]:
        dense = np.full((total + 1, *values.shape[1:]), np.nan)
        dense[position] = values
        reduced: npt.NDArray[Any] = _REDUCERS[how].reduceat(dense, index, axis=0)[::2]
        if how == "mean":
            reduced = reduced / (index[1::2] - index[::2]).reshape((-1,) + (1,) * (values.ndim - 1))
        return reduced

    return reduce


def bin_daily(table: xr.Dataset, edges: npt.ArrayLike, *, extremes: bool = False) -> xr.Dataset:
    """Aggregate a daily table to bins, joined by label, never by position.

    Parameters
    ----------
    table
        Daily data over ``time`` (00:00 of each day) whose ``cell_methods`` say what each variable is; in any order, with gaps.
    edges
        n + 1 increasing dates, bin i being [edges[i], edges[i+1]); or (n, 2) start and end (exclusive) of each bin. Whole days.
    extremes
        Add ``<name>_min`` and ``<name>_max`` (``_mean`` dropped from the name), the least and the greatest daily value of the bin, for
        all sums and means except ``t2m_mean`` (for which the table has ``t2m_min`` and ``t2m_max``).

    Returns
    -------
    Dataset
        Sums are summed, means averaged, minima and maxima taken of minima and maxima; labelled by the first day of each bin, with
        ``time_bnds``. A bin with a missing day is missing.

    Raises
    ------
    InputError
        Edges not at 00:00, overlapping or decreasing; a table with a doubled day or without ``cell_methods``.
    """
    bounds = _bounds(edges)
    daily = table["time"].values.astype("datetime64[D]")
    if daily.size == 0:
        raise InputError("The table holds no day", remedy="Give a table with at least one day")
    if np.unique(daily).size != daily.size:
        raise InputError("The table holds a day twice", remedy="Drop the double")
    reduce = _reducer(daily, bounds)
    spatial = {name: coord for name, coord in table.coords.items() if "time" not in coord.dims}
    result = xr.Dataset(coords=spatial, attrs=table.attrs)
    labels = bounds[:, 0].astype("datetime64[ns]")
    attrs = {**table["time"].attrs, "long_name": "first day of the bin", "bounds": "time_bnds"}
    result = result.assign_coords(time=("time", labels, attrs))
    result = result.assign_coords(time_bnds=(("time", "bnds"), bounds.astype("datetime64[ns]")))
    result["time"].encoding, result["time_bnds"].encoding = dict(TIME_ENCODING), dict(TIME_ENCODING)
    for name, array in table.data_vars.items():
        if "time" not in array.dims:
            result[name] = array
            continue
        _add(result, str(name), array.transpose("time", ...), reduce, extremes)
    return result


def _add(
    result: xr.Dataset, name: str, array: xr.DataArray, reduce: Callable[[npt.NDArray[Any], str], npt.NDArray[Any]], extremes: bool
) -> None:
    """One variable and, if asked, its extremes."""
    how = _method(array)
    values = np.asarray(array.values, dtype=np.float64)
    long_name = str(array.attrs.get("long_name", name)).replace("daily ", "")

    def put(target: str, method: str, cell_methods: str, label: str) -> None:
        attrs = {**array.attrs, "cell_methods": cell_methods, "long_name": label}
        result[target] = (array.dims, reduce(values, method).astype(array.dtype), attrs)

    put(name, how, f"time: {how}", long_name)
    if extremes and how in ("sum", "mean") and name != "t2m_mean":
        daily, base = f"time: {how} within days", name.removesuffix("_mean")
        put(f"{base}_min", "minimum", f"{daily} time: minimum over days", f"{long_name}, least daily value")
        put(f"{base}_max", "maximum", f"{daily} time: maximum over days", f"{long_name}, greatest daily value")
