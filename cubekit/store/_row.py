"""One row of a registry: what is worth knowing of a cube without opening it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from xarray.conventions import decode_cf_variable

from cubekit.layout import CLIMATE, DIGEST, group_dataset
from cubekit.location import Location
from cubekit.reflectance import PixelStatus
from cubekit.store._local import restore_interrupted
from cubekit.store._objects import read_array

__all__ = ["qa_row", "stored_row"]


def qa_row(tree: xr.DataTree) -> dict[str, Any]:
    """Summarise a committed cube for the registry.

    Parameters
    ----------
    tree
        What `open_cube` returns; only flags and small tables are read, no bands.

    Returns
    -------
    dict
        ``id``; ``geometry`` (GeoJSON, lon/lat) and ``bbox`` (west, south, east, north); ``epsg``, ``resolution``, ``width``, ``height``;
        ``datetime_first``, ``datetime_last``, ``steps``; ``years`` with ``valid_fraction_by_year`` and ``clear_fraction_by_year`` in the
        same order, and both over all years (shares of pixels, None where nothing was acquired); ``holes`` (asset reads that failed, or
        else steps with a failed read); ``climate_cell_distance_km``; ``checksum``, ``recipe_digest``, ``software_versions``.
    """
    attrs = tree.attrs
    return {
        "id": attrs.get("site_id"),
        **_place(attrs),
        **_shares(tree.to_dataset(inherit=False)),
        "holes": _holes(tree),
        "climate_cell_distance_km": _climate_distance(tree),
        "checksum": attrs.get(DIGEST),
        "recipe_digest": attrs.get("recipe_digest"),
        "software_versions": attrs.get("software_versions"),
    }


def stored_row(target: str | os.PathLike[str]) -> dict[str, Any]:
    """`qa_row` of a cube at a path or URL; reads flags and times, and opens nothing else.

    Raises
    ------
    CommitError
        For a cube that was not committed, or that cubekit did not write.
    """
    location = Location.parse(target)
    if location.local:
        restore_interrupted(location)
    root = location.committed_root()
    documents = root["consolidated_metadata"]["metadata"]

    def read(paths: Iterable[str]) -> dict[str, xr.Variable]:
        return {path.rpartition("/")[2]: read_array(location, path, documents[path]) for path in paths if path in documents}

    imagery = read(("time", "pixel_status", "cloud_mask"))
    if "time" in imagery:
        imagery["time"] = decode_cf_variable("time", imagery["time"])
    tree = {"/": xr.Dataset(imagery, attrs=root["attributes"])}
    if CLIMATE in documents:
        single = (path for path, entry in documents.items() if path.startswith(f"{CLIMATE}/") and entry.get("shape") == [])
        distances = read(path for path in single if "distance" in path)
        tree[f"/{CLIMATE}"] = xr.Dataset(distances, attrs=documents[CLIMATE]["attributes"])
    return qa_row(xr.DataTree.from_dict(tree))


def _place(attrs: Any) -> dict[str, Any]:
    from shapely import from_wkt
    from shapely.geometry import mapping

    geometry = from_wkt(attrs["geospatial_bounds"])
    transform = list(attrs["spatial:transform"])
    height, width = (int(size) for size in attrs["spatial:shape"])
    corners = ("geospatial_lon_min", "geospatial_lat_min", "geospatial_lon_max", "geospatial_lat_max")
    return {
        "longitude": float(attrs["site_longitude"]),
        "latitude": float(attrs["site_latitude"]),
        "geometry": mapping(geometry),
        "bbox": [float(attrs[key]) for key in corners],
        "epsg": int(str(attrs["proj:code"]).rpartition(":")[2]),
        "resolution": float(transform[0]),
        "width": width,
        "height": height,
    }


def _shares(ds: xr.Dataset) -> dict[str, Any]:
    steps = ds.sizes.get("time", 0)
    row: dict[str, Any] = {"steps": steps, "datetime_first": None, "datetime_last": None}
    if steps:
        first, last = np.datetime_as_string(ds["time"].values[[0, -1]].astype("datetime64[s]"))
        row |= {"datetime_first": f"{first}Z", "datetime_last": f"{last}Z"}
    valid, clear = (np.full(steps, np.nan) for _ in range(2))
    if steps and "pixel_status" in ds:
        flags = np.asarray(ds["pixel_status"].values) == PixelStatus.VALID
        valid = flags.mean(axis=(1, 2))
        if "cloud_mask" in ds:
            clear = (flags & (np.asarray(ds["cloud_mask"].values) == 0)).mean(axis=(1, 2))
    years = ds["time"].values.astype("datetime64[Y]").astype(int) + 1970 if steps else np.array([], int)
    names = [int(year) for year in np.unique(years)]
    row["years"] = names
    for key, shares in (("valid_fraction", valid), ("clear_fraction", clear)):
        row[key] = _mean(shares)
        row[f"{key}_by_year"] = [_mean(shares[years == year]) for year in names]
    return row


def _mean(shares: np.ndarray) -> float | None:
    known = shares[np.isfinite(shares)]
    return round(float(known.mean()), 6) if known.size else None


def _holes(tree: xr.DataTree) -> int:
    counted = [int(value) for key, value in tree.attrs.items() if str(key).endswith("_holes")]
    if counted or "pixel_status" not in tree:
        return sum(counted)
    failed = np.asarray(tree["pixel_status"].values) == PixelStatus.READ_FAILED
    return int(failed.any(axis=(1, 2)).sum())


def _climate_distance(tree: xr.DataTree) -> float | None:
    if CLIMATE not in tree.children:
        return None
    ds = group_dataset(tree, CLIMATE)
    known = {**ds.attrs, **{str(name): variable.values for name, variable in ds.variables.items() if variable.ndim == 0}}
    for name, value in known.items():
        if "distance" in str(name):
            return float(np.asarray(value))
    return None
