"""From whatever ERA5(-Land) comes as to one hourly form: names, dimensions, units, one value per hour, in order."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr

from cubekit.climate._variables import ALIASES, HOURLY, RATES, conversion
from cubekit.errors import InputError

__all__ = ["canonical_hourly", "canonical_names"]

_DIMENSIONS: Final = {"valid_time": "time", "lat": "latitude", "lon": "longitude", "y": "latitude", "x": "longitude"}
_SCALARS: Final = ("number", "step", "surface", "depthBelowLandLayer", "heightAboveGround", "meanSea", "realization")
_PRELIMINARY: Final = 5
"""``expver`` of ERA5T; 1 is final. Old files number them, new ones write 0001 and 0005."""


def canonical_names(data: xr.Dataset) -> xr.Dataset:
    """Give dimensions and variables their ERA5 short names: ``time``, ``latitude``, ``longitude``, ``t2m`` ...

    Mean rates (``mtpr``, ``avg_sdswrf`` ...) take the name of the hourly amount that `canonical_hourly` makes of them; variables
    that the climate room does not know are dropped. Raises InputError where two variables claim one name.
    """
    data = _flatten_forecast(data)
    data = data.rename({old: new for old, new in _DIMENSIONS.items() if old in data.dims and new not in data.dims and new not in data})
    data = data.rename({o: n for o, n in _DIMENSIONS.items() if o in data.coords and o not in data.dims and n not in data.variables})
    names: dict[str, str] = {}
    for name in map(str, data.data_vars):
        short = name if name in HOURLY else ALIASES.get(name) or RATES.get(name)
        if short is not None:
            names.setdefault(short, name)
    clash = [name for name in map(str, data.data_vars) if ALIASES.get(name) in names and names[ALIASES[name]] != name]
    if clash:
        raise InputError(f"Two variables for one: {clash[0]!r} and {names[ALIASES[clash[0]]]!r}", remedy="Drop one of them")
    kept = data[list(names.values())].rename({old: new for new, old in names.items() if old != new})
    for scalar in _SCALARS:
        kept = _drop_member(kept, scalar)
    return kept


def _flatten_forecast(data: xr.Dataset) -> xr.Dataset:
    """GRIB files read by cfgrib have (time, step) with a two-dimensional valid_time: make that one axis."""
    if "time" not in data.dims or "step" not in data.dims or data.get("valid_time") is None or data["valid_time"].ndim != 2:
        return data
    stacked = data.stack(_hour=("time", "step"))
    times = stacked["valid_time"].values
    flat = stacked.drop_vars(["_hour", "time", "step", "valid_time"], errors="ignore").rename(_hour="time")
    flat = flat.assign_coords(time=("time", times)).transpose("time", ...)
    # Runs leave steps that never happened (step 0 of an accumulation) wholly empty.
    return flat.dropna("time", how="all")


def _drop_member(data: xr.Dataset, name: str) -> xr.Dataset:
    if name in data.dims:
        if data.sizes[name] > 1:
            raise InputError(
                f"{data.sizes[name]} values along {name!r}: an ensemble or several forecasts",
                remedy=f"Choose one, such as data.isel({name}=0)",
            )
        data = data.isel({name: 0})
    return data.drop_vars(name, errors="ignore")


def _resolve_expver(data: xr.Dataset) -> xr.Dataset:
    """Final over preliminary; which hours are preliminary is kept in the coordinate ``preliminary``."""
    if "expver" not in data.variables:
        return data
    if "expver" in data.dims:
        labels = [int(v) for v in data["expver"].values]
        final = [data.isel(expver=i, drop=True) for i in np.argsort(labels)]
        merged, taken = final[0], _any_valid(final[0])
        for later in final[1:]:
            merged = merged.combine_first(later)
        preliminary = (
            ~taken & _any_valid(merged) if min(labels) == 1 and len(labels) > 1 else np.full(taken.shape, labels[0] >= _PRELIMINARY)
        )
        return _record_expver(merged, preliminary)
    codes = data["expver"].values
    numbers = np.asarray([int(str(v)) for v in np.atleast_1d(codes)])
    data = data.drop_vars("expver")
    if numbers.size == 1 and data["time"].ndim == 1:
        numbers = np.full(data.sizes["time"], numbers[0])
    preliminary = numbers >= _PRELIMINARY
    times = data["time"].values
    order = np.lexsort((preliminary, times))
    keep = order[np.concatenate([[True], times[order][1:] != times[order][:-1]])] if times.size else order
    # Only doubles that differ in expver are resolved here; doubles of one expver are for the general rule.
    same = [i for i in order if preliminary[i] == preliminary[keep[np.searchsorted(times[keep], times[i])]]]
    return _record_expver(data.isel(time=np.asarray(same, dtype=int)), preliminary[same])


def _any_valid(data: xr.Dataset) -> np.ndarray:
    valid = np.zeros(data.sizes["time"], dtype=bool)
    for array in data.data_vars.values():
        others = [d for d in array.dims if d != "time"]
        valid |= array.notnull().any(others).values if others else array.notnull().values
    return valid


def _record_expver(data: xr.Dataset, preliminary: np.ndarray) -> xr.Dataset:
    count = int(preliminary.sum())
    data = data.assign_coords(preliminary=("time", preliminary.astype(np.int8), {"long_name": "hour from ERA5T, not yet final"}))
    data.attrs["expver"] = f"final (0001): {preliminary.size - count} h, preliminary (0005): {count} h"
    return data


def _order_time(data: xr.Dataset) -> xr.Dataset:
    """Sorted, without doubles; doubled hours must agree."""
    if "time" not in data.dims:
        raise InputError(
            f"No dimension time or valid_time: {tuple(data.dims)}", remedy="Give hourly data with a time axis", dims=str(data.dims)
        )
    if not np.issubdtype(data["time"].dtype, np.datetime64):
        raise InputError(f"The time axis is {data['time'].dtype}, not datetime64", remedy="Open with decode_times=True, standard calendar")
    times = data["time"].values.astype("datetime64[ns]")
    if np.isnat(times).any():
        raise InputError(f"{int(np.isnat(times).sum())} time stamps are missing (NaT)", remedy="Drop them")
    odd = times[times != times.astype("datetime64[h]")]
    if odd.size:
        raise InputError(
            f"{odd.size} time stamps are not on the full hour, such as {odd[0]}", remedy="Give hourly data stamped on the hour"
        )
    if times.size > 1 and not (times[1:] > times[:-1]).all():
        order = np.argsort(times, kind="stable")
        data, times = data.isel(time=order), times[order]
        double = np.flatnonzero(times[1:] == times[:-1])
        if double.size:
            _require_equal(data.isel(time=double), data.isel(time=double + 1))
            data = data.isel(time=np.concatenate([[0], 1 + np.flatnonzero(times[1:] != times[:-1])]))
    if data["time"].dtype != np.dtype("datetime64[ns]"):
        data = data.assign_coords(time=data["time"].values.astype("datetime64[ns]"))
    if data.sizes["time"] > 24:
        step = np.median(np.diff(data["time"].values)) / np.timedelta64(1, "h")
        if step > 1:
            raise InputError(f"The data are {step:g}-hourly", remedy="Give hourly data: sums and extremes of a day need its 24 hours")
    return data


def _require_equal(one: xr.Dataset, other: xr.Dataset) -> None:
    for name in one.data_vars:
        a, b = one[name].values, other[name].values
        differ = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        if differ.any():
            when = one["time"].values[np.flatnonzero(differ.reshape(differ.shape[0], -1).any(axis=1))[0]]
            raise InputError(
                f"{np.datetime_as_string(when, unit='h')} occurs twice with different values of {name}",
                remedy="Decide which record holds, and drop the other",
                variable=str(name),
            )


def _convert(name: str, array: xr.DataArray, rates: dict[str, str]) -> xr.DataArray:
    variable = HOURLY[name]
    stated = str(array.attrs.get("units", array.attrs.get("GRIB_units", "")))
    if not stated:
        raise InputError(f"{name} has no units attribute", remedy=f"Set it: ERA5 gives {variable.units!r}", variable=name)
    factors = conversion(stated, variable.units)
    if factors is None:
        raise InputError(
            f"{name} is in {stated!r}, which does not convert to {variable.units!r}", remedy="Check the variable", variable=name
        )
    scale, offset = factors
    converted = array if (scale, offset) == (1.0, 0.0) else array.astype(np.float64) * scale + offset
    attrs: dict[str, Any] = {"units": variable.units, "source_units": array.attrs.get("source_units", stated)}
    if name in rates or array.attrs.get("cell_amount") == "hour" or _is_rate(stated):
        attrs["cell_amount"] = "hour"
    converted.attrs = attrs
    return converted


def _is_rate(units: str) -> bool:
    return units.replace("**", "").replace("^", "").replace("/", " ").strip().lower() in {
        "w m-2",
        "w m2",
        "kg m-2 s-1",
        "mm s-1",
        "mm h-1",
    }


def canonical_hourly(data: xr.Dataset) -> xr.Dataset:
    """Bring ERA5 or ERA5-Land data of any common form into the one the climate room works on.

    Parameters
    ----------
    data
        With ERA5 names, short (``t2m``) or long (``2m_temperature``), over time and optionally latitude and longitude; from CDS
        NetCDF (old or new form), cfgrib or Zarr: ``valid_time``, ``number``, ``expver`` as dimension or coordinate, ``step``.

    Returns
    -------
    Dataset
        ERA5 short names and units (K, Pa, m s-1, m3 m-3, m, J m-2); ``time`` increasing without doubles, hours still missing where they
        were. Accumulated values stay as they are, mean rates become amounts per hour (attribute ``cell_amount``). Where the input has
        ``expver``, the coordinate ``preliminary`` and the attribute ``expver`` say what is final. Lazy arrays stay lazy.

    Raises
    ------
    InputError
        Nothing known in it; no time axis, or not hourly; a doubled hour with differing values; several ensemble members; units missing
        or of another quantity.
    """
    rates = {RATES[str(name)]: str(name) for name in data.data_vars if str(name) in RATES}
    named = canonical_names(data)
    if not named.data_vars:
        raise InputError(
            f"No ERA5 variable among {', '.join(sorted(map(str, data.data_vars))) or 'nothing'}",
            remedy=f"Expected some of {', '.join(HOURLY)}",
        )
    ordered = _order_time(_resolve_expver(named) if "time" in named.dims else named)
    variables = {str(name): _convert(str(name), array, rates) for name, array in ordered.data_vars.items()}
    if "preliminary" in ordered.coords:
        ordered = _record_expver(ordered, ordered["preliminary"].values != 0)
    attrs = {key: ordered.attrs[key] for key in ("expver",) if key in ordered.attrs}
    return xr.Dataset(variables, coords=ordered.coords, attrs=attrs)
