"""The daily dataset as the kernels want it: names, units, axes and plausibility, or one clear error."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import InputError, ScienceWarning
from cubekit.events._space import wrap

__all__ = ["DIMS", "INPUTS", "check_extent", "check_units", "land_of", "standard"]

INPUTS: tuple[str, ...] = ("t2m_max", "tp", "et0")
DIMS: tuple[str, ...] = ("time", "latitude", "longitude")

_KELVIN = {"K", "kelvin", "Kelvin", "degK"}
_CELSIUS = {"degC", "C", "°C", "celsius", "Celsius", "deg_C", "degrees_Celsius", "degree_Celsius"}
_MM = {"mm", "mm/d", "mm/day", "mm d-1", "mm day-1", "mm d^-1", "mm day^-1", "kg m-2", "kg m-2 d-1", "kg m-2 day-1", "kg m**-2", "mm/24h"}
_DRY_LIMIT = 0.02


def standard(daily: xr.Dataset) -> xr.Dataset:
    """The three inputs with dimensions time, latitude and longitude (in their own order) and checked units; nothing is loaded.

    Parameters
    ----------
    daily
        ``t2m_max`` (K or degC), ``tp`` and ``et0`` (mm/d) on ``time`` alone or with ``latitude`` and ``longitude`` in any order;
        ``lat`` and ``lon`` are understood. Latitude may go either way, longitude may be -180..180 or 0..360.

    Raises
    ------
    InputError
        If a variable, dimension or unit is missing or not understood.
    """
    missing = [name for name in INPUTS if name not in daily]
    if missing:
        raise InputError(
            f"the daily data lack {', '.join(missing)} (there are {sorted(map(str, daily.data_vars))})", remedy="Give t2m_max, tp and et0."
        )
    names = {old: new for old, new in (("lat", "latitude"), ("lon", "longitude")) if old in daily.variables or old in daily.dims}
    ds = daily[[*INPUTS, *[str(v) for v in daily.data_vars if str(v) in ("land_mask", "lsm")]]].rename(names)
    check_units(ds)
    for name, fallback in (("latitude", 0.0), ("longitude", 0.0)):
        if name not in ds.dims:
            ds = ds.expand_dims({name: [float(ds[name]) if name in ds.coords else fallback]})
    for name in INPUTS:
        if set(ds[name].dims) != set(DIMS):
            raise InputError(f"{name} has dimensions {ds[name].dims}", remedy=f"Give {', '.join(DIMS)}, or time alone for one site.")
    return ds


def check_units(ds: xr.Dataset) -> None:
    """Raise InputError unless each input says a unit that is understood as it stands."""
    for name in INPUTS:
        unit = str(ds[name].attrs.get("units", "")).strip()
        known = _KELVIN | _CELSIUS if name == "t2m_max" else _MM
        if unit not in known:
            what = "no units" if not unit else f"units {unit!r}"
            wanted = "K or degC" if name == "t2m_max" else "mm d-1"
            raise InputError(f"{name} has {what}", remedy=f"Convert it to {wanted} and set attrs['units'].", variable=name)


def is_kelvin(units: str) -> bool:
    """Whether a (checked) temperature unit is K."""
    return units.strip() in _KELVIN


def check_extent(extent: npt.NDArray[np.float64], units: str, days: int) -> None:
    """Raise InputError where extremes of the data contradict their units or signs.

    Parameters
    ----------
    extent
        (3, 2): minimum and maximum of t2m_max, tp, et0; infinite where nothing is valid.
    units
        Unit of t2m_max.
    days
        Length of the record; totals that are too small are judged from a year on.
    """
    (cold, hot), (least, most), (low, high) = extent
    low_limit, high_limit = (150.0, 350.0) if is_kelvin(units) else (-100.0, 75.0)
    if np.isfinite(cold) and (cold < low_limit or hot > high_limit):
        raise InputError(
            f"t2m_max runs from {cold:g} to {hot:g} but says {units}", remedy="Set the right units (K or degC).", variable="t2m_max"
        )
    for name, small, large in (("tp", least, most), ("et0", low, high)):
        limit = -0.05 if name == "tp" else -1.0
        if small < limit:
            raise InputError(
                f"{name} falls to {small:g} mm/d",
                remedy="Precipitation and ET0 are positive: flip the sign or mask the fill value.",
                variable=name,
            )
        ceiling = 3000.0 if name == "tp" else 60.0
        if np.isfinite(large) and large > ceiling:
            raise InputError(f"{name} reaches {large:g} mm/d", remedy="Check the units (mm per day) and the fill value.", variable=name)
    if days >= 365 and 0 < high < _DRY_LIMIT:
        raise InputError(
            f"et0 never exceeds {high:g} mm/d: it looks like metres", remedy="Multiply by 1000 or set the right units.", variable="et0"
        )
    if days >= 365 and 0 < most < _DRY_LIMIT:
        warnings.warn(ScienceWarning(f"tp never exceeds {most:g} mm/d: is it in metres?"), stacklevel=2)


def land_of(ds: xr.Dataset, land: Any = None) -> npt.NDArray[np.bool_]:
    """Where events may be, bool (latitude, longitude): the mask given, else ``land_mask`` or ``lsm`` of the data (> 0.5), else all.

    A mask with coordinates is matched by them, in either orientation and longitude convention; one without by position.
    """
    found = land if land is not None else next((ds[name] for name in ("land_mask", "lsm") if name in ds), None)
    shape = (ds.sizes["latitude"], ds.sizes["longitude"])
    if found is None:
        return np.ones(shape, bool)
    if isinstance(found, xr.DataArray):
        found = _on_grid(found, ds)
    values = np.atleast_2d(np.asarray(found, dtype=np.float64))
    if values.shape != shape:
        raise InputError(f"the land mask has shape {values.shape}, the grid {shape}", remedy="Give it on the grid of the data.")
    return values > 0.5


def _on_grid(land: xr.DataArray, ds: xr.Dataset) -> xr.DataArray:
    land = land.rename({old: new for old, new in (("lat", "latitude"), ("lon", "longitude")) if old in land.dims})
    land = land.isel({dim: 0 for dim in land.dims if dim not in DIMS[1:]})
    if "latitude" in land.indexes and "longitude" in land.indexes:
        land = land.assign_coords(longitude=wrap(land["longitude"].values)).sortby("longitude")
        wanted = {"latitude": ds["latitude"].values, "longitude": wrap(ds["longitude"].values)}
        try:
            land = land.sel(wanted, method="nearest", tolerance=1e-4)
        except KeyError as error:
            raise InputError("the land mask lacks cells of the data", remedy="Give it on the grid of the data.") from error
    return land.transpose(*[dim for dim in DIMS[1:] if dim in land.dims])
