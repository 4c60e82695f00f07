"""Attributes of a cube as a whole: CF, ACDD, the Zarr conventions, provenance."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

import cubekit
from cubekit.cube._attributes import Attribute, flat_attrs
from cubekit.grid import METRES_PER_DEGREE, Grid
from cubekit.layout import canonical_json
from cubekit.redact import unsigned
from cubekit.site import Site

__all__ = ["CONVENTIONS", "PROVENANCE", "global_attrs", "spatial_attrs", "zarr_conventions"]

CONVENTIONS = (
    {
        "schema_url": "https://raw.githubusercontent.com/zarr-conventions/geo-proj/refs/tags/v1/schema.json",
        "spec_url": "https://github.com/zarr-conventions/geo-proj/blob/v1/README.md",
        "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "name": "proj:",
        "description": "Coordinate reference system information for geospatial data",
    },
    {
        "schema_url": "https://raw.githubusercontent.com/zarr-conventions/spatial/refs/tags/v1/schema.json",
        "spec_url": "https://github.com/zarr-conventions/spatial/blob/v1/README.md",
        "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
        "name": "spatial",
        "description": "Spatial coordinate information",
    },
)
"""Registrations of the Zarr conventions in use, as their specifications give them."""

PROVENANCE = ("recipe", "recipe_digest", "software_versions", "item_hrefs")
"""Root attributes that say where a cube comes from; ``item_hrefs`` stand without query, fragment and user information."""

_PACKAGES = ("cubekit", "numpy", "xarray", "zarr", "rasterio", "pyproj", "obstore", "pystac-client", "numcodecs")


@lru_cache(maxsize=1)
def _versions() -> Mapping[str, str]:
    found = {"python": platform.python_version(), "cubekit": cubekit.__version__}
    for name in _PACKAGES[1:]:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def spatial_attrs(grid: Grid) -> dict[str, Attribute]:
    """The ``proj:`` and ``spatial:`` conventions of a grid; their registration as JSON text, since attributes are never nested."""
    return {
        "zarr_conventions": canonical_json(CONVENTIONS),
        "proj:code": f"EPSG:{grid.epsg}",
        "spatial:dimensions": ["y", "x"],
        "spatial:transform_type": "affine",
        "spatial:transform": [float(value) for value in tuple(grid.affine)[:6]],
        "spatial:bbox": [float(value) for value in grid.bounds],
        "spatial:shape": [grid.height, grid.width],
        "spatial:registration": "pixel",
    }


def zarr_conventions(attrs: Mapping[str, Any]) -> list[dict[str, str]]:
    """Registrations of Zarr conventions in the attributes of a group, whether as text or as a list of objects."""
    import json

    declared = attrs.get("zarr_conventions", [])
    return list(json.loads(declared)) if isinstance(declared, str) else [dict(item) for item in declared]


def global_attrs(imagery: xr.Dataset, grid: Grid, site: Site, given: Mapping[str, Any], created: datetime | None) -> dict[str, Attribute]:
    """All root attributes: defaults, overridden by `given`, then what only the grid and the time axis can say."""
    moment = (created or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    lon, lat = site.lon, site.lat
    defaults: dict[str, Any] = {
        "title": f"Earth System Data Cube {site.id}",
        "summary": (
            f"Analysis-ready data cube of {grid.width} x {grid.height} pixels at {grid.resolution:g} m around "
            f"{abs(lat):.4f} {'S' if lat < 0 else 'N'}, {abs(lon):.4f} {'W' if lon < 0 else 'E'}: satellite imagery with its quality, "
            "and, in groups, what else the recipe names."
        ),
        "id": site.id,
        "keywords": "Earth System Data Cube, Sentinel-2, surface reflectance, analysis-ready data, minicube",
        "license": "Contains modified Copernicus data: free, full and open under Regulation (EU) No 377/2014 and (EU) No 1159/2013",
        "creator_name": "cubekit",
        "creator_type": "institution",
        "processing_level": "analysis-ready",
        "source": "satellite observation; see item_hrefs",
        "standard_name_vocabulary": "CF Standard Name Table",
        "cdm_data_type": "Grid",
        "history": f"{moment} cubekit {cubekit.__version__}: built",
        "date_created": moment,
        "software_versions": dict(_versions()),
    }
    fixed: dict[str, Any] = {
        "Conventions": "CF-1.11, ACDD-1.3",
        "site_id": site.id,
        "site_latitude": lat,
        "site_longitude": lon,
    }
    if "item_hrefs" in given:
        hrefs = [given["item_hrefs"]] if isinstance(given["item_hrefs"], str) else given["item_hrefs"]
        fixed["item_hrefs"] = list(dict.fromkeys(unsigned(str(href)) for href in hrefs)) or None
    return flat_attrs({**defaults, **given, **fixed, **_geospatial(grid), **_coverage(imagery), **spatial_attrs(grid)})


def _geospatial(grid: Grid) -> dict[str, Any]:
    boxes = grid.search_boxes()
    west, east = _longitudes(boxes)
    return {
        "geospatial_bounds": _outline(grid),
        "geospatial_bounds_crs": "OGC:CRS84",
        "geospatial_lat_min": min(box[1] for box in boxes),
        "geospatial_lat_max": max(box[3] for box in boxes),
        "geospatial_lat_units": "degrees_north",
        "geospatial_lat_resolution": f"{grid.resolution:g} m",
        "geospatial_lon_min": west,
        "geospatial_lon_max": east,
        "geospatial_lon_units": "degrees_east",
        "geospatial_lon_resolution": f"{grid.resolution:g} m",
    }


def _outline(grid: Grid) -> str:
    from shapely import to_wkt

    # A twentieth of a pixel decides which of the many points along the edges are worth keeping.
    return str(to_wkt(grid.footprint().simplify(grid.resolution / METRES_PER_DEGREE / 20), rounding_precision=8))


def _longitudes(boxes: list[tuple[float, float, float, float]]) -> tuple[float, float]:
    # Across the antimeridian ACDD wants the western edge as the minimum, even where it is the larger number.
    wests, easts = [box[0] for box in boxes], [box[2] for box in boxes]
    if len(boxes) == 2 and max(easts) == 180.0 and min(wests) == -180.0:
        return max(wests), min(easts)
    return min(wests), max(easts)


def _coverage(imagery: xr.Dataset) -> dict[str, Any]:
    if "time" not in imagery.coords or imagery.sizes["time"] == 0:
        return {}
    times = np.asarray(imagery["time"].values).astype("datetime64[s]")
    start, end = times.min(), times.max()
    days = int((end - start) / np.timedelta64(1, "D"))
    coverage = {"time_coverage_start": f"{start}Z", "time_coverage_end": f"{end}Z", "time_coverage_duration": f"P{days}D"}
    if len(times) > 1:
        step = np.median(np.diff(np.sort(times)).astype("timedelta64[s]").astype(np.int64)) / 86400
        coverage["time_coverage_resolution"] = f"P{max(1, round(float(step)))}D"
    return coverage
