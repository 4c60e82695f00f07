"""What a cube is, in a few lines."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from cubekit.layout import DIGEST, is_band
from cubekit.reflectance import PixelStatus

__all__ = ["describe"]


def describe(tree: xr.DataTree) -> dict[str, Any]:
    """Describe a cube for people and programs.

    Returns
    -------
    dict
        Text, numbers and lists of text by topic: place, grid, time, variables by group, shares of pixels, provenance. Topics that a cube
        has nothing to say about are left out.
    """
    attrs, ds = tree.attrs, tree.to_dataset(inherit=False)
    content: dict[str, Any] = {
        "title": attrs.get("title"),
        "site": attrs.get("site_id"),
        "latitude": attrs.get("site_latitude"),
        "longitude": attrs.get("site_longitude"),
        "crs": attrs.get("proj:code"),
        **_grid(ds, attrs),
        **_time(ds),
        **_variables(tree),
        **_pixels(ds),
        "recipe_digest": attrs.get("recipe_digest"),
        "content_digest": attrs.get(DIGEST),
        "created": attrs.get("date_created"),
        "software": _versions(attrs),
        "bytes_in_memory": int(sum(node.to_dataset(inherit=False).nbytes for node in tree.subtree)),
    }
    return {key: value for key, value in content.items() if value not in (None, "", [])}


def _grid(ds: xr.Dataset, attrs: Any) -> dict[str, Any]:
    if not {"x", "y"} <= set(ds.sizes):
        return {}
    transform = list(attrs.get("spatial:transform", []))
    edge = f" at {transform[0]:g} m" if transform else ""
    return {"pixels": f"{ds.sizes['x']} x {ds.sizes['y']}{edge}", "bounds": [float(value) for value in attrs.get("spatial:bbox", [])]}


def _time(ds: xr.Dataset) -> dict[str, Any]:
    if ds.sizes.get("time", 0) == 0:
        return {"time_steps": ds.sizes.get("time", 0)}
    days = np.datetime_as_string(ds["time"].values[[0, -1]], "D")
    found: dict[str, Any] = {"first": str(days[0]), "last": str(days[1]), "time_steps": ds.sizes["time"]}
    for name in ("platform", "processing_baseline"):
        if name in ds.variables:
            found[f"{name}s"] = sorted({str(value) for value in ds[name].values} - {""})
    return found


def _variables(tree: xr.DataTree) -> dict[str, Any]:
    found = {}
    for node in tree.subtree:
        ds = node.to_dataset(inherit=False)
        sizes = ", ".join(f"{dim}: {size}" for dim, size in ds.sizes.items())
        if ds.data_vars:
            found["variables" if node.path == "/" else f"group {node.path} ({sizes})"] = [str(name) for name in ds.data_vars]
    return found


def _pixels(ds: xr.Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {"bands": [str(name) for name, variable in ds.data_vars.items() if is_band(variable)]}
    if "pixel_status" in ds:
        counts = np.bincount(np.asarray(ds["pixel_status"].values).ravel(), minlength=len(PixelStatus))
        total = max(int(counts.sum()), 1)
        found["pixel_status"] = [f"{status.name.lower()} {counts[status] / total:.1%}" for status in PixelStatus if counts[status]]
    if "clear_fraction" in ds.variables:
        stated = np.asarray(ds["clear_fraction"].values, dtype=float)
        if np.isfinite(stated).any():
            found["clear_fraction"] = round(float(np.nanmean(stated)), 4)
    return found


def _versions(attrs: Any) -> list[str]:
    try:
        versions = json.loads(attrs.get("software_versions", "{}"))
    except ValueError:
        return []
    return [f"{name} {version}" for name, version in versions.items()]
