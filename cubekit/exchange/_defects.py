"""Known defects of published minicubes, each told from the data where the data can tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.exchange._names import FLUXES
from cubekit.exchange._parts import bands_of, centre_of, epsg_of, grid_of
from cubekit.grid import utm_epsg

__all__ = ["find_defects"]

_STEPS = 64
"""Time steps looked at together."""
_NEAR_ZERO = 0.0005
"""A band whose least value is above this was hardly cut at 0."""


def find_defects(ds: xr.Dataset) -> list[str]:
    """One sentence per defect, starting with its name; nothing is changed."""
    checks: tuple[Callable[[xr.Dataset], str | None], ...] = (_zone, _padding, _running_totals, _attributes)
    found = [check(ds) for check in checks]
    return [text for text in [*found[:3], *_reflectance(ds), found[3]] if text]


def _zone(ds: xr.Dataset) -> str | None:
    epsg = epsg_of(ds)
    if epsg is None or not (32601 <= epsg <= 32660 or 32701 <= epsg <= 32760):
        return None
    lon, lat = centre_of(ds, grid_of(ds))
    right = utm_epsg(lat, lon)
    apart = (epsg % 100 - right % 100 + 30) % 60 - 30
    if not 32601 <= right <= 32760 or apart == 0:
        return None
    scale = _scale_error(epsg, lon, lat)
    where = "west" if apart < 0 else "east"
    return (
        f"zone_off_by_one: the grid is in EPSG:{epsg}, {abs(apart)} UTM zone{'s' if abs(apart) > 1 else ''} {where} of the site's "
        f"EPSG:{right}; lengths are {100 * scale:.2f} % off there and Sentinel-2 pixels were rotated and resampled"
    )


def _scale_error(epsg: int, lon: float, lat: float) -> float:
    from pyproj import Proj

    return float(abs(Proj(epsg).get_factors(lon, lat).meridional_scale - 1.0))


def _padding(ds: xr.Dataset) -> str | None:
    bands = bands_of(ds)
    count = 0
    for first in range(0, ds.sizes["time"], _STEPS):
        window = ds[bands].isel(time=slice(first, first + _STEPS))
        empty = np.logical_and.reduce([_blank(array) for array in window.data_vars.values()])
        count += int(empty.size if empty.all() else np.argmin(empty))
        if not empty.all():
            break
    # A few empty steps are clouds or missed passes; more than a month before the first image is none of them.
    if count < 7 or not _regular(ds):
        return None
    times = ds["time"].values.astype("datetime64[D]")
    text = f"padded_start: the first {count} of {times.size} time steps ({times[0]} to {times[count - 1]}) hold no image"
    mask = "cloudmask_en"
    if mask in ds and "time" in ds[mask].dims and bool((ds[mask].isel(time=slice(0, count)) == 0).all()):
        text += f"; {mask} calls them free_sky there"
    return text


def _regular(ds: xr.Dataset) -> bool:
    steps = np.diff(ds["time"].values)
    return bool(steps.size and (steps == steps[0]).all() and steps[0] > np.timedelta64(1, "D"))


def _blank(array: xr.DataArray) -> npt.NDArray[np.bool_]:
    """Whether a step has no value at all."""
    return np.asarray(array.isnull().all([dim for dim in array.dims if dim != "time"]).values)


def _running_totals(ds: xr.Dataset) -> str | None:
    suspects = [name for name in FLUXES if {f"{name}_mean", f"{name}_min", f"{name}_max"} <= set(map(str, ds.data_vars))]
    suspects = [name for name in suspects if "sum" not in str(ds[f"{name}_mean"].attrs.get("cell_methods", ""))]
    suspects = [name for name in suspects if bool(ds[f"{name}_mean"].notnull().any())]
    if not suspects:
        return None
    evidence = ""
    ratio = _smallest_share(ds, suspects)
    if ratio is not None and ratio >= 0.05:
        names = ", ".join(suspects)
        return f"running_totals: whether {names} are of daily sums or of running totals is not said (smallest over largest {ratio:.2f})"
    if ratio is not None:
        evidence = f"; the smallest value of a bin is {100 * ratio:.1f} % of the largest in the median"
    return (
        f"running_totals: {', '.join(suspects)} are mean, least and greatest of the running total since 00 UTC, not of sums: "
        f"_mean is about half of a day's sum and _max nearly a day's sum{evidence}"
    )


def _smallest_share(ds: xr.Dataset, names: list[str]) -> float | None:
    """Median of least over greatest magnitude in a bin, of radiation if it is there: every day has some."""
    name = "ssr" if "ssr" in names else names[0]
    low, high = np.abs(ds[f"{name}_min"].values.astype(float)), np.abs(ds[f"{name}_max"].values.astype(float))
    small, large = np.fmin(low, high), np.fmax(low, high)
    lit = np.isfinite(small) & (large > 0)
    return float(np.median(small[lit] / large[lit])) if lit.any() else None


def _reflectance(ds: xr.Dataset) -> list[str]:
    """`positive_only` and `overflow`, in one pass over the bands."""
    bands = bands_of(ds)
    least, lost, wrapped = np.full(len(bands), np.inf), np.zeros(len(bands), np.int64), 0
    for first in range(0, ds.sizes["time"], _STEPS):
        window = ds[bands].isel(time=slice(first, first + _STEPS))
        values = np.stack([array.values for array in window.data_vars.values()])
        missing = np.isnan(values)
        lost += (missing & ~missing.all(axis=0)).sum(axis=(1, 2, 3))
        wrapped += int((values < -1.0).sum())
        least = np.fmin(least, np.min(values, axis=(1, 2, 3), initial=np.inf, where=values >= -1.0))
    found = []
    if (least > 0).all():
        found += [text for text in [_positive_only(ds, bands, least, lost)] if text]
    if wrapped:
        found.append(
            f"overflow: {wrapped} values are below -1: reflectance above 3.2767 went round the end of int16 (true value: 6.5536 more)"
        )
    return found


def _positive_only(ds: xr.Dataset, bands: list[str], least: npt.NDArray[np.float64], lost: npt.NDArray[np.int64]) -> str | None:
    """Told by the recorded steps, or by bands that reach down to 0 and are missing where others are not."""
    cut = (lost > 0) & (least <= _NEAR_ZERO)
    if not cut.any() and "Set values below and equal to nan" not in _steps(ds, bands):
        return None
    where = f"; {int(lost[cut].sum())} values are missing where another band of the same pixel and time is there" if cut.any() else ""
    return f"positive_only: reflectance of 0 and below was made missing, the least value is {least.min():.4f}{where}"


def _steps(ds: xr.Dataset, bands: list[str]) -> str:
    return " ".join(str(ds[name].attrs.get("sources", "")) for name in bands)


def _attributes(ds: xr.Dataset) -> str | None:
    def nested(attrs: Mapping[Any, Any]) -> list[str]:
        return [
            str(key)
            for key, value in attrs.items()
            if isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value))
        ]

    names = nested(ds.attrs) + [f"{name}@{key}" for name, variable in ds.variables.items() for key in nested(variable.attrs)]
    if not names:
        return None
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"nested_attributes: {len(names)} attributes ({some}) are nested, which NetCDF cannot hold; they are flat or JSON text here"
