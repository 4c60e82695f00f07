"""The hourly climate as a Zarr store in the shape of ERA5-Land."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from zarr.codecs import BloscCodec

from cubekit.demo._hourly import make_hourly
from cubekit.demo._model import Model
from cubekit.demo._weather import CELLS, LATITUDES, LONGITUDES

__all__ = ["VARIABLES", "write_climate"]

VARIABLES: dict[str, tuple[str, str, int, float]] = {
    "t2m": ("2 metre temperature", "K", 167, 2.0**-4),
    "d2m": ("2 metre dewpoint temperature", "K", 168, 2.0**-4),
    "sp": ("Surface pressure", "Pa", 134, 16.0),
    "u10": ("10 metre U wind component", "m s**-1", 165, 2.0**-4),
    "v10": ("10 metre V wind component", "m s**-1", 166, 2.0**-4),
    "swvl1": ("Volumetric soil water layer 1", "m**3 m**-3", 39, 2.0**-10),
    "swvl2": ("Volumetric soil water layer 2", "m**3 m**-3", 40, 2.0**-10),
    "swvl3": ("Volumetric soil water layer 3", "m**3 m**-3", 41, 2.0**-10),
    "swvl4": ("Volumetric soil water layer 4", "m**3 m**-3", 42, 2.0**-10),
    "tp": ("Total precipitation", "m", 228, 2.0**-17),
    "ssrd": ("Surface solar radiation downwards", "J m**-2", 169, 2.0**12),
    "ssr": ("Surface net solar radiation", "J m**-2", 176, 2.0**12),
    "strd": ("Surface thermal radiation downwards", "J m**-2", 175, 2.0**12),
    "str": ("Surface net thermal radiation", "J m**-2", 177, 2.0**11),
    "e": ("Evaporation", "m of water equivalent", 182, 2.0**-17),
    "pev": ("Potential evaporation", "m", 228_251, 2.0**-17),
}
"""Long name, units, GRIB parameter and the step to which values are rounded."""


def _accumulate(increments: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Sums since 00 UTC, stamped at the end of each hour: (day, 24, cell) to (hour, cell), from 01 UTC of the first day on."""
    total = np.cumsum(increments, axis=1, dtype=np.float64)
    return total.reshape(-1, total.shape[2])


def _grid(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """(time, cell) to (time, latitude, longitude), NaN where there is water."""
    out = np.full((values.shape[0], LATITUDES.size, LONGITUDES.size), np.nan, np.float32)
    for number, (row, column) in enumerate(CELLS):
        out[:, row, column] = values[:, number]
    return out


def _attributes(name: str, accumulated: bool) -> dict[str, Any]:
    long_name, units, parameter, _ = VARIABLES[name]
    return {
        "units": units,
        "long_name": long_name,
        "GRIB_paramId": parameter,
        "GRIB_shortName": {"t2m": "2t", "d2m": "2d", "u10": "10u", "v10": "10v"}.get(name, name),
        "GRIB_stepType": "accum" if accumulated else "instant",
        "GRIB_gridType": "regular_ll",
    }


def write_climate(model: Model, path: Path) -> None:
    """Write all hours from 00 UTC of the first day to 00 UTC after the last, with the totals of the last day.

    Accumulated variables hold the sum since 00 UTC, as ERA5-Land does: the value stamped 00 UTC is the total of the day before.
    """
    first, last = model.parameters.climate
    weather = model.weather
    hourly = make_hourly(weather, model.parameters.seed)
    times = np.arange(first.astype("datetime64[h]"), (last + np.timedelta64(1, "D")).astype("datetime64[h]") + np.timedelta64(1, "h"))
    begin = int((first - weather.days[0]).astype(int)) * 24
    variables: dict[str, Any] = {}
    for name, state in hourly.states.items():
        values = state.reshape(-1, state.shape[2])[begin : begin + times.size]
        variables[name] = _variable(name, values, accumulated=False)
    for name, flux in hourly.fluxes.items():
        totals = _accumulate(flux)[begin - 1 : begin - 1 + times.size]
        variables[name] = _variable(name, totals, accumulated=True)
    height = np.full((LATITUDES.size, LONGITUDES.size), np.nan, np.float32)
    for (row, column), elevation in CELLS.items():
        height[row, column] = elevation * 9.80665
    variables["z"] = (("latitude", "longitude"), height, {"units": "m**2 s**-2", "long_name": "Geopotential", "GRIB_paramId": 129})
    coords = {
        "time": ("time", times.astype("datetime64[ns]"), {"long_name": "time", "standard_name": "time"}),
        "latitude": ("latitude", LATITUDES, {"units": "degrees_north", "long_name": "latitude", "standard_name": "latitude"}),
        "longitude": ("longitude", LONGITUDES, {"units": "degrees_east", "long_name": "longitude", "standard_name": "longitude"}),
    }
    attributes = {
        "Conventions": "CF-1.7",
        "institution": "simulated by cubekit.demo",
        "title": "Hourly climate of a simulated world in the form of ERA5-Land",
    }
    dataset = xr.Dataset(variables, coords, attributes)
    chunks = (8784, LATITUDES.size, LONGITUDES.size)
    codec = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
    encoding: dict[str, Any] = {name: {"chunks": chunks, "compressors": (codec,), "dtype": "float32"} for name in VARIABLES}
    encoding["time"] = {"units": "hours since 1900-01-01", "calendar": "proleptic_gregorian", "dtype": "int64", "chunks": (times.size,)}
    dataset.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)


def _variable(
    name: str, values: npt.NDArray[Any], accumulated: bool
) -> tuple[tuple[str, str, str], npt.NDArray[np.float32], dict[str, Any]]:
    step = VARIABLES[name][3]
    return ("time", "latitude", "longitude"), _grid(np.round(values / step) * step), _attributes(name, accumulated)
