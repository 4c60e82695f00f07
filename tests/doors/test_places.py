"""Whole builds where coordinates are awkward: odd edges, the southern hemisphere, the poles, the antimeridian."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import cubekit
from cubekit.cube import validate
from cubekit.grid import Grid, transformer
from cubekit.testing.cogs import unique_pixels, write_cog

MARGIN = 20
WHEN = {"start": "2020-06-01", "end": "2020-06-30"}


def scene(folder: Path, name: str, grid: Grid, day: str) -> tuple[dict[str, Any], np.ndarray]:
    """An item whose raster covers a grid with a margin in the grid's CRS, and the numbers that the grid must get."""
    height, width = (edge + 2 * MARGIN for edge in grid.shape)
    left, top = grid.left - MARGIN * 10, grid.top + MARGIN * 10
    transform = (10.0, 0.0, left, 0.0, -10.0, top)
    numbers = unique_pixels(height, width)[0] % 9000 + 1
    assets = {}
    for asset, image in {"B04": numbers.astype(np.uint16), "SCL": np.full((height, width), 4, np.uint8)}.items():
        path = write_cog(folder / f"{name}_{asset}.tif", image[None], epsg=grid.epsg, transform=transform)
        assets[asset] = {
            "href": f"./{path.name}",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "proj:shape": [height, width],
            "proj:transform": list(transform),
        }
    x, y = np.array(
        [(left, top), (left, top - 10 * height), (left + 10 * width, top - 10 * height), (left + 10 * width, top), (left, top)]
    ).T
    lon, lat = transformer(grid.epsg, 4326).transform(x, y)
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": _geometry(lon, lat),
        "properties": {"datetime": f"{day}T09:30:00Z", "proj:epsg": grid.epsg, "s2:processing_baseline": "03.00"},
        "links": [],
        "assets": assets,
    }
    inner = slice(MARGIN, -MARGIN)
    return item, numbers[inner, inner]


def _geometry(lon: np.ndarray, lat: np.ndarray) -> dict[str, Any]:
    """A polygon; around a pole the whole cap, across the antimeridian two parts, as RFC 7946 wants it."""
    if abs(lat).min() > 84:
        south, north = (lat.min() - 1, 90.0) if lat.min() > 0 else (-90.0, lat.max() + 1)
        return _box(-180.0, south, 180.0, north)
    if np.ptp(lon) < 180:
        return {"type": "Polygon", "coordinates": [np.column_stack([lon, lat]).tolist()]}
    parts = [_box(lon[lon > 0].min(), lat.min(), 180.0, lat.max()), _box(-180.0, lat.min(), lon[lon < 0].max(), lat.max())]
    return {"type": "MultiPolygon", "coordinates": [part["coordinates"] for part in parts]}


def _box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [[[float(x), float(y)] for x, y in ring]]}


def catalogue(folder: Path, items: list[dict[str, Any]]) -> str:
    path = folder / "catalog.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return str(path)


PLACES = {
    "odd": (47.3, 8.5, 32632, 33),
    "one pixel": (47.3, 8.5, 32632, 1),
    "south": (-33.92, 18.43, 32734, 32),
    "just south of the equator": (-0.00001, 33.0, 32736, 31),
    "norway, without MGRS's exception": (60.4, 5.3, 32631, 16),
    "north pole": (88.2, 30.0, 32661, 25),
    "south pole": (-85.0, -120.0, 32761, 24),
    "west of the antimeridian": (-16.8, 179.9995, 32760, 64),
    "east of the antimeridian": (66.5, -179.9995, 32601, 65),
}


@pytest.mark.parametrize("place", PLACES)
def test_pixels_are_copied_wherever_the_place_is(place: str, tmp_path: Path) -> None:
    lat, lon, epsg, edge = PLACES[place]
    grid = Grid.around(lat, lon, edge)
    assert grid.epsg == epsg
    item, numbers = scene(tmp_path, "a", grid, "2020-06-10")
    path = tmp_path / "cube.zarr"
    cube = cubekit.build(lat, lon, **WHEN, bands="B04", edge_size=edge, nbar="none", catalog=catalogue(tmp_path, [item]), out=path)
    ds = cube.to_dataset()
    assert dict(ds.sizes) | {"band": 1} == {"time": 1, "y": edge, "x": edge, "band": 1}
    np.testing.assert_array_equal(np.round(ds.B04.values[0] * 1e4), numbers)
    assert float(ds.clear_fraction[0]) == 1.0
    np.testing.assert_array_equal(ds.x, grid.x)
    np.testing.assert_array_equal(ds.y, grid.y)
    assert [str(problem) for problem in validate(str(path))] == []
    with xr.open_zarr(path, chunks=None) as opened:
        assert opened.rio.crs.to_epsg() == epsg
        assert opened.rio.bounds() == pytest.approx(grid.bounds)


def test_a_cube_across_the_antimeridian_takes_scenes_of_both_zones(tmp_path: Path) -> None:
    lat, lon, edge = -16.8, 179.9995, 32
    here = Grid.around(lat, lon, edge)
    beyond = Grid.around(lat, lon, edge + 16, epsg=32701)
    items = [scene(tmp_path, "a", here, "2020-06-10")[0], scene(tmp_path, "b", beyond, "2020-06-15")[0]]
    ds = cubekit.build(
        lat, lon, **WHEN, bands="B04", edge_size=edge, nbar="none", catalog=catalogue(tmp_path, items), out=tmp_path / "cube.zarr"
    ).to_dataset()
    assert ds.item_id.values.tolist() == ["a", "b"]
    assert ds.clear_fraction.values.tolist() == [1.0, 1.0]
    assert not ds.B04.isnull().any()
