"""A cube as one flat dataset in the layout of DeepExtremeCubes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

import cubekit
from cubekit.bands import SENTINEL2
from cubekit.cube import spatial_ref
from cubekit.errors import InputError
from cubekit.exchange._climate import five_day_climate
from cubekit.exchange._names import BANDS, CLOUD_CLASSES, COARSE, FILL, PERIOD_DAYS
from cubekit.grid import Grid
from cubekit.layout import CLIMATE, EVENTS, SCALE, decoded, group_dataset

__all__ = ["deepextremecubes"]

SPACE_TIME = ("time", "y", "x")
_HALF = np.timedelta64(12 * PERIOD_DAYS, "h")
_REBUILD = "Build the cube with recipes/deepextremes/recipe.yaml"


def deepextremecubes(tree: xr.DataTree) -> xr.Dataset:
    """The flat dataset of a cube.

    Raises
    ------
    InputError
        For a cube without the seven bands, SCL or five-day axis.
    """
    imagery = group_dataset(decoded(tree), "/")
    if missing := [name for name in (*BANDS, "SCL", "cloud_mask") if name not in imagery]:
        raise InputError(f"The cube has no {', '.join(missing)}, which the layout holds", remedy=_REBUILD)
    bounds = _bounds(imagery)
    grid = _grid(tree.attrs)
    starts = bounds[:, 0].astype("datetime64[ns]")
    data: dict[str, Any] = {name: _band(imagery[name]) for name in BANDS}
    data["SCL"] = (SPACE_TIME, imagery["SCL"].values.astype(np.uint8), _flags(imagery["SCL"]))
    data["cloudmask_en"] = _cloud_mask(imagery)
    coords: dict[str, Any] = {
        "time": ("time", starts + _HALF, {"standard_name": "time", "long_name": "middle of the five days", "bounds": "time_bnds"}),
        "time_bnds": (("time", "bnds"), bounds.astype("datetime64[ns]")),
        "y": ("y", grid.y, {"standard_name": "projection_y_coordinate", "units": "m"}),
        "x": ("x", grid.x, {"standard_name": "projection_x_coordinate", "units": "m"}),
        "crs": spatial_ref(grid),
    }
    if "cop_dem" in imagery:
        attrs = {key: value for key, value in imagery["cop_dem"].attrs.items() if key != "grid_mapping"}
        data["cop_dem"] = (("y", "x"), imagery["cop_dem"].values.astype(np.float32), {**attrs, "grid_mapping": "crs"})
    if "land_cover" in imagery:
        _add_land_cover(data, coords, imagery["land_cover"], grid, str(tree.attrs.get("landcover_collection", "")))
    if CLIMATE in tree.children:
        data |= five_day_climate(group_dataset(tree, CLIMATE), bounds)
    if EVENTS in tree.children:
        _add_events(data, coords, group_dataset(tree, EVENTS))
    return xr.Dataset(data, coords=coords, attrs=_attributes(tree, grid, bounds))


def _bounds(imagery: xr.Dataset) -> npt.NDArray[np.datetime64]:
    """(step, 2) days of the axis, which must be of five days; only the last bin may be shorter."""
    if "time_bnds" not in imagery.variables:
        raise InputError("The cube has acquisitions at their own times, the layout a step every five days", remedy=_REBUILD)
    bounds: npt.NDArray[np.datetime64] = imagery["time_bnds"].values.astype("datetime64[D]")
    steps = np.diff(bounds[:, 0]).astype(np.int64)
    if (steps != PERIOD_DAYS).any() or (np.diff(bounds, axis=1).astype(np.int64) > PERIOD_DAYS).any():
        raise InputError(
            f"The cube has a step every {int(steps[0]) if steps.size else '?'} days, the layout every {PERIOD_DAYS}", remedy=_REBUILD
        )
    return bounds


def _grid(attrs: dict[Any, Any]) -> Grid:
    step, _, left, _, _, top = (float(value) for value in attrs["spatial:transform"])
    height, width = (int(value) for value in attrs["spatial:shape"])
    return Grid(int(str(attrs["proj:code"]).rpartition(":")[2]), step, left, top, width, height)


def _band(band: xr.DataArray) -> xr.Variable:
    """Packed as published: int16 of scale 1e-4, fill -9999; what does not fit is clipped and counted."""
    name = str(band.name)
    values = np.asarray(band.values, np.float64)
    scaled = np.rint(values / SCALE)
    packed = np.clip(np.nan_to_num(scaled, nan=0.0), -32767, 32767)
    packed = np.where(packed == FILL, FILL + 1, packed)
    changed = int(np.count_nonzero(np.isfinite(scaled) & (packed != scaled)))
    known = SENTINEL2[name]
    attrs = {
        "long_name": str(band.attrs.get("long_name", f"Reflectance in band {name}")),
        "units": "1",
        "wavelength": round(known.wavelength * 1000, 2),
        "bandwidth": round(known.width * 1000, 2),
        "wavelength_units": "nm",
        "grid_mapping": "crs",
        "scale_factor": SCALE,
        "_FillValue": np.int16(FILL),
    }
    if "nbar_parameters" in band.attrs:
        attrs["nbar_parameters"] = band.attrs["nbar_parameters"]
    clipped = changed + int(band.attrs.get("clipped_values", 0))
    if clipped:
        attrs["clipped_values"] = clipped
    return xr.Variable(SPACE_TIME, np.where(np.isnan(scaled), FILL, packed).astype(np.int16), attrs)


def _flags(classes: xr.DataArray) -> dict[str, Any]:
    attrs = {key: classes.attrs[key] for key in ("long_name", "flag_values", "flag_meanings", "comment") if key in classes.attrs}
    return {**attrs, "grid_mapping": "crs"}


def _cloud_mask(imagery: xr.Dataset) -> tuple[tuple[str, ...], npt.NDArray[np.uint8], dict[str, Any]]:
    scl, clear = imagery["SCL"].values, imagery["cloud_mask"].values == 0
    mask = np.where(clear, 0, 4).astype(np.uint8)
    for code, classes in ((1, (8, 9, 10)), (2, (3,)), (3, (11,))):
        mask[np.isin(scl, classes)] = code
    attrs = {
        "long_name": "cloud mask",
        "flag_values": np.array(list(CLOUD_CLASSES), np.uint8),
        "flag_meanings": " ".join(CLOUD_CLASSES.values()),
        "comment": "made of SCL in the published classes; not the deep-learning mask of the published dataset",
        "grid_mapping": "crs",
    }
    return SPACE_TIME, mask, attrs


def _add_land_cover(data: dict[str, Any], coords: dict[str, Any], cover: xr.DataArray, grid: Grid, collection: str) -> None:
    """ESA CCI as published, on pixels of 300 m; classes of another map keep their own name, since the codes mean something else."""
    if collection != "esa-cci-lc":
        data["land_cover"] = (("y", "x"), cover.values, _flags(cover))
        return
    offsets = np.arange(COARSE / 2, grid.width * grid.resolution, COARSE)
    drops = np.arange(COARSE / 2, grid.height * grid.resolution, COARSE)
    rows, columns = (drops / grid.resolution).astype(int), (offsets / grid.resolution).astype(int)
    coarse = Grid(grid.epsg, float(COARSE), grid.left, grid.top, columns.size, rows.size)
    for dim, values in (("y", coarse.y), ("x", coarse.x)):
        coords[f"{dim}_{COARSE}"] = (f"{dim}_{COARSE}", values, {"standard_name": f"projection_{dim}_coordinate", "units": "m"})
    coords[f"crs_{COARSE}"] = spatial_ref(coarse)
    attrs = {**_flags(cover), "grid_mapping": f"crs_{COARSE}"}
    data["lccs_class"] = ((f"y_{COARSE}", f"x_{COARSE}"), cover.values[np.ix_(rows, columns)], attrs)


def _add_events(data: dict[str, Any], coords: dict[str, Any], events: xr.Dataset) -> None:
    coords["event_time"] = ("event_time", events["time"].values, {"standard_name": "time", "long_name": "day"})
    for name in ("events", "event_labels"):
        values = events[name].values
        small = np.uint8 if name == "events" else np.uint16
        if values.max(initial=0) <= np.iinfo(small).max:
            values = values.astype(small)
        data[name] = ("event_time", values, dict(events[name].attrs))


def _attributes(tree: xr.DataTree, grid: Grid, bounds: npt.NDArray[np.datetime64]) -> dict[str, Any]:
    """The published attributes, flat; where the cube comes from; and what differs from the published dataset."""
    given = tree.attrs
    lon, lat = float(given.get("site_longitude", grid.center_lonlat[0])), float(given.get("site_latitude", grid.center_lonlat[1]))
    last = bounds[-1, 1] - np.timedelta64(1, "D")
    kept = (
        "license history date_created recipe recipe_digest content_digest software_versions item_hrefs missing_layers requested_start "
        "requested_end geospatial_lat_min geospatial_lat_max geospatial_lon_min geospatial_lon_max"
    ).split()
    return {
        "title": f"Minicube at {lon:.2f} {lat:.2f}",
        "data_id": str(given.get("site_id", "")),
        "location_id": f"{lon:.2f}_{lat:.2f}",
        "version": f"cubekit {cubekit.__version__}",
        "description": f"The minicube covering the area around {lon:.2f} and {lat:.2f}",
        "Conventions": "CF-1.11, ACDD-1.3",
        "time_range": [str(bounds[0, 0]), str(last)],
        "time_period": f"{PERIOD_DAYS}D",
        "spatial_ref": f"EPSG:{grid.epsg}",
        "spatial_bbox": [float(value) for value in grid.bounds],
        "spatial_res": int(grid.resolution) if float(grid.resolution).is_integer() else grid.resolution,
        "geospatial_center_lon": lon,
        "geospatial_center_lat": lat,
        "temporal_coverage_start": f"{bounds[0, 0]} 00:00:00",
        "temporal_coverage_end": f"{last} 23:59:59",
        "layout": "deepextremecubes",
        **{key: given[key] for key in kept if key in given},
    }
