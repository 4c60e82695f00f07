"""What the parts of a published minicube are, and what CF calls them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from cubekit.bands import SENTINEL2
from cubekit.errors import InputError
from cubekit.events import FLAGS
from cubekit.exchange._names import CLIMATE, CLOUD_CLASSES
from cubekit.grid import Grid, transformer
from cubekit.layers.static import CCI
from cubekit.reflectance import SCL

__all__ = ["bands_of", "canonical_names", "centre_of", "describe_parts", "epsg_of", "grid_of"]

_RENAMES: Final = {
    "s2_SCL": "SCL",
    "s2_dlmask": "cloudmask_en",
    "s2_avail": "available",
    "esawc_lc": "land_cover",
    "lccs_class": "lccs_class",
}
_CLASSES: Final = {"SCL": SCL, "cloudmask_en": CLOUD_CLASSES}
_LONG_NAMES: Final = {
    "SCL": "scene classification", "cloudmask_en": "cloud mask of EarthNet", "events": "dry-hot event code",
    "event_labels": "label of the event", "lccs_class": "land cover class, ESA CCI", "cop_dem": "elevation, Copernicus DEM GLO-30",
    "t2m": "air temperature at 2 m", "sp": "surface pressure", "tp": "total precipitation", "e": "evaporation",
    "pev": "potential evaporation", "ssr": "surface net solar radiation", "slhf": "surface latent heat flux",
    "sshf": "surface sensible heat flux",
}  # fmt: skip
_STATISTICS: Final = {"mean": "mean", "min": "minimum", "max": "maximum", "sum": "sum"}
_ABSENT: Final = {"SCL": 0, "cloudmask_en": 255}
_TECHNICAL: Final = ("encoding", "dtype", "dims", "grid_mapping", "fill_value")
_CLIMATE: Final = re.compile(rf"(?:{'|'.join(entry.name for entry in CLIMATE)})_(?:mean|min|max|sum)|(?:eobs|era5)_\w+")
_UNITS: Final = {
    "n.a.": "1", "m of water equivalent": "m", "meter": "m", "metre": "m", "J m**-2": "J m-2", "Celsius": "degC", "m/s": "m s-1",
    "W/m2": "W m-2", "%": "percent",
}  # fmt: skip


def canonical_names(ds: xr.Dataset) -> xr.Dataset:
    """Bands under their product names, whatever tool wrote them.

    Raises
    ------
    InputError
        If there is no band over time and space.
    """
    renames = {name: new for name, new in _RENAMES.items() if name in ds and name != new}
    renames |= {f"s2_{band}": band for band in SENTINEL2 if f"s2_{band}" in ds}
    ds = ds.rename(renames)
    if not bands_of(ds):
        some = ", ".join(sorted(map(str, ds.data_vars))[:8]) or "nothing"
        raise InputError(f"There is no band of Sentinel-2 over time, y and x (there are {some})", remedy="Give a minicube")
    y, x = space_of(ds)
    order = ("time", y, x)
    return ds.transpose(*order, ...) if all(dim in ds.dims for dim in order) else ds


def space_of(ds: xr.Dataset) -> tuple[str, str]:
    """Names of the two spatial dimensions of the bands."""
    return ("y", "x") if {"y", "x"} <= set(ds.dims) else ("lat", "lon")


def bands_of(ds: xr.Dataset) -> list[str]:
    """Names of the bands, in the order of wavelengths."""
    y, x = space_of(ds)
    return [name for name in SENTINEL2 if name in ds and {"time", y, x} == set(ds[name].dims)]


def epsg_of(ds: xr.Dataset) -> int | None:
    """EPSG code of a projected grid; None for one in degrees."""
    if space_of(ds) != ("y", "x"):
        return None
    stated = re.search(r"EPSG:(\d+)", str(ds.attrs.get("spatial_ref", "")))
    if stated:
        return int(stated[1])
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    for name in ("crs", "spatial_ref"):
        if name in ds.variables:
            try:
                return CRS.from_cf(dict(ds[name].attrs)).to_epsg()
            except (CRSError, KeyError):
                continue
    raise InputError("The minicube does not say its CRS", remedy="Set the attribute spatial_ref to an EPSG code, such as EPSG:32633")


def grid_of(ds: xr.Dataset) -> Grid | None:
    """The grid of a projected minicube; None for one in degrees.

    Raises
    ------
    InputError
        If the pixels are not square or not evenly spaced.
    """
    epsg = epsg_of(ds)
    if epsg is None:
        return None
    x, y = ds["x"].values.astype(np.float64), ds["y"].values.astype(np.float64)
    step = float(x[-1] - x[0]) / (x.size - 1)
    rows = float(y[-1] - y[0]) / (y.size - 1)
    if step <= 0 or abs(abs(rows) - step) > 1e-6 * step or np.ptp(np.diff(x)) > 1e-3 * step or np.ptp(np.diff(y)) > 1e-3 * step:
        raise InputError(f"The pixels are {step:g} by {abs(rows):g} m or unevenly spaced", remedy="Give a minicube on a regular grid")
    return Grid(epsg, round(step, 9), float(x[0]) - step / 2, float(max(y[0], y[-1])) + step / 2, x.size, y.size)


def centre_of(ds: xr.Dataset, grid: Grid | None) -> tuple[float, float]:
    """(lon, lat) of the middle."""
    if grid is not None:
        west, south, east, north = grid.bounds
        lon, lat = transformer(grid.epsg, 4326).transform((west + east) / 2, (south + north) / 2)
        return float(lon), float(lat)
    return float(ds["lon"].values[[0, -1]].mean()), float(ds["lat"].values[[0, -1]].mean())


def describe_parts(ds: xr.Dataset) -> dict[str, xr.Dataset]:
    """Groups of a tree with CF attributes: ``/``, and where there is any ``climate``, ``events`` and ``land_cover_300m``."""
    y, _ = space_of(ds)
    ds = ds.drop_vars([name for name in ("crs", "crs_300", "spatial_ref") if name in ds.variables])
    if y == "y" and ds.sizes["y"] > 1 and ds["y"].values[0] < ds["y"].values[-1]:
        ds = ds.isel(y=slice(None, None, -1))
    groups: dict[str, list[str]] = {"/": [], "climate": [], "events": [], "land_cover_300m": []}
    for name in map(str, ds.data_vars):
        dims = set(map(str, ds[name].dims))
        if "event_time" in dims:
            groups["events"].append(name)
        elif any(dim.endswith("_300") for dim in dims):
            groups["land_cover_300m"].append(name)
        elif _CLIMATE.fullmatch(name):
            groups["climate"].append(name)
        else:
            groups["/"].append(name)
    parts = {group: _part(ds, names) for group, names in groups.items() if names}
    return parts


def _part(ds: xr.Dataset, names: list[str]) -> xr.Dataset:
    part = ds[names].drop_attrs()
    part = part.assign({name: _variable(ds[name]) for name in names})
    part = part.rename({old: new for old, new in (("event_time", "time"), ("y_300", "y"), ("x_300", "x")) if old in part.dims})
    for name in part.coords:
        part[name].attrs = {key: value for key, value in ds[name].attrs.items() if key == "bounds"} if name in ds.variables else {}
    for name, attrs in _AXES.items():
        if name in part.coords:
            part[name].attrs |= attrs
    return part


_AXES: Final[dict[str, dict[str, str]]] = {
    "time": {"standard_name": "time", "axis": "T"},
    "lat": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "lon": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
    "y": {"standard_name": "projection_y_coordinate", "units": "m", "axis": "Y"},
    "x": {"standard_name": "projection_x_coordinate", "units": "m", "axis": "X"},
}


def _variable(array: xr.DataArray) -> xr.Variable:
    """A variable as it is, with attributes that CF understands; classes as integers, in which 0 or 255 stands for missing."""
    name = str(array.name)
    attrs = _plain_attrs(array)
    values: Any = array.variable.data
    encoding: dict[str, Any] = {}
    if name in _CLASSES:
        values = np.nan_to_num(np.asarray(array.values, np.float64), nan=_ABSENT[name]).astype(np.uint8)
        attrs |= _flags(_CLASSES[name])
        attrs.pop("classes", None)
    elif name in SENTINEL2:
        attrs |= {"units": "1", "standard_name": "surface_bidirectional_reflectance"}
        if array.encoding.get("dtype") != np.int16 or not _fits(array):
            encoding["dtype"] = str(array.dtype)
    elif name == "events":
        masks = {meaning: mask for meaning, mask in FLAGS.items() if meaning != "missing"}
        attrs |= {"flag_masks": np.array(list(masks.values()), array.dtype), "flag_meanings": " ".join(masks)}
    elif name == "lccs_class":
        attrs |= {"flag_values": np.array(list(CCI), array.dtype), "flag_meanings": " ".join(CCI.values())}
    elif (parts := name.rpartition("_"))[2] in _STATISTICS and parts[0] in _LONG_NAMES:
        attrs.setdefault("cell_methods", f"time: {_STATISTICS[parts[2]]}")
        attrs.setdefault("long_name", f"{_LONG_NAMES[parts[0]]}, {_STATISTICS[parts[2]]} of the bin")
    attrs.setdefault("long_name", _LONG_NAMES.get(name, name))
    attrs.setdefault("units", "1")
    return xr.Variable(array.dims, values, attrs, encoding)


def _plain_attrs(array: xr.DataArray) -> dict[str, Any]:
    """Attributes but technical ones, with a long name and a unit that UDUNITS knows."""
    attrs: dict[str, Any] = {key: value for key, value in array.attrs.items() if key not in _TECHNICAL}
    if "description" in attrs:
        attrs.setdefault("long_name", str(attrs.pop("description")))
    if "units" in attrs:
        units = str(attrs["units"])
        attrs["units"] = _UNITS.get(units, units) or "1"
    return attrs


def _flags(classes: Mapping[int, str]) -> dict[str, Any]:
    return {"flag_values": np.array(list(classes), np.uint8), "flag_meanings": " ".join(classes.values())}


def _fits(array: xr.DataArray) -> bool:
    """Whether int16 of scale 1e-4 with fill -32768 holds the values as they are."""
    return array.encoding.get("scale_factor") == 1e-4 and float(np.nanmax(np.abs(array.values), initial=0.0)) <= 3.27675
