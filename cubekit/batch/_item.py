"""The STAC item of a cube, from what is known when it is built."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cubekit.batch._jobs import Job
from cubekit.recipe import Recipe

if TYPE_CHECKING:
    from cubekit.batch._task import Built

__all__ = ["cube_quality", "stac_item", "with_columns"]

_KNOWN = {"id", "geometry", "bbox", "longitude", "latitude", "epsg", "resolution", "width", "height", "recipe_digest", "software_versions"}

_RESERVED = {
    "datetime",
    "start_datetime",
    "end_datetime",
    "created",
    "updated",
    "id",
    "geometry",
    "bbox",
    "collection",
    "type",
    "links",
    "assets",
}


def cube_quality(path: str) -> dict[str, Any]:
    """QA values of a committed cube: shares of valid and clear pixels per year, first and last acquisition, climate cell, checksum."""
    from cubekit.store import stored_row

    return {key: value for key, value in stored_row(path).items() if key not in _KNOWN}


def stac_item(job: Job, recipe: Recipe, result: Built, found: Mapping[str, Any], software: Mapping[str, str]) -> dict[str, Any]:
    """A STAC 1.1 item without links.

    Parameters
    ----------
    job, recipe, result
        What was asked, the effective recipe, and what came of it.
    found
        QA values; plain ones become properties with the prefix ``cubekit:``.
    software
        Versions.
    """
    grid = recipe.grid.around(job.site)
    # Straight edges are right to a metre for any cube that is not huge.
    footprint = grid.footprint().simplify(1e-5)
    days = recipe.time.range
    properties: dict[str, Any] = {
        "datetime": None,
        "start_datetime": f"{days.start}T00:00:00Z",
        "end_datetime": f"{days.end}T23:59:59Z",
        "proj:code": f"EPSG:{grid.epsg}",
        "proj:shape": list(grid.shape),
        "proj:bbox": list(grid.bounds),
        "gsd": grid.resolution,
        "grid:code": f"MGRS-{job.tile}",
        "cubekit:lon": job.lon,
        "cubekit:lat": job.lat,
        "cubekit:scenes": result.scenes,
        "cubekit:holes": result.holes,
        "cubekit:content_digest": result.digest,
        "cubekit:recipe_digest": recipe.digest,
        "cubekit:job_digest": job.digest,
        "cubekit:software": " ".join(f"{name}={version}" for name, version in software.items()),
    }
    for key, value in found.items():
        if (flat := _flat(value)) is not None:
            properties.setdefault(f"cubekit:{key}", flat)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
            "https://stac-extensions.github.io/grid/v1.1.0/schema.json",
        ],
        "id": job.id,
        "collection": recipe.name,
        "geometry": footprint.__geo_interface__,
        "bbox": _bbox(footprint),
        "properties": properties,
        "links": [],
        "assets": {
            "cube": {
                "href": f"../cubes/{job.id}.zarr",
                "type": "application/vnd.zarr; version=3",
                "title": "Data cube",
                "roles": ["data"],
            }
        },
    }


def with_columns(item: dict[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """The item with the columns of the site table as properties; names that STAC owns get the prefix ``site:``."""
    named = {f"site:{key}" if key in _RESERVED or ":" in key else key: _flat(value) for key, value in columns.items()}
    return {**item, "properties": {**named, **item["properties"]}}


def _bbox(footprint: Any) -> list[float]:
    """West, south, east, north; across the antimeridian west > east, as GeoJSON has it."""
    west, south, east, north = footprint.bounds
    parts = list(getattr(footprint, "geoms", [footprint]))
    if len(parts) > 1 and east - west > 180:
        west = min(part.bounds[0] for part in parts if part.bounds[0] > 0)
        east = max(part.bounds[2] for part in parts if part.bounds[2] < 0)
    return [west, south, east, north]


def _flat(value: Any) -> Any:
    """A value as a STAC property: plain, finite, numpy-free; None where it cannot be."""
    value = value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | bool | int):
        return value
    if isinstance(value, list | tuple):
        return [_flat(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _flat(item) for key, item in value.items()}
    return None if value is None else str(value)
