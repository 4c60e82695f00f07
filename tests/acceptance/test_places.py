"""Grids in odd places, from a few scenes made for each: both hemispheres, the equator, the poles, the antimeridian, odd edges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import cubekit
from cubekit.cube import validate
from cubekit.grid import Grid, transformer
from cubekit.testing.cogs import write_cog

TIMES = ("2021-06-01T10:00:00Z", "2021-06-06T10:00:00Z")

PLACES = {
    "southern hemisphere": (-33.93, 18.42, 32734),
    "just south of the equator": (-0.0004, 37.0, 32737),
    "just north of the equator": (0.0004, 37.0, 32637),
    "north pole": (89.9999, 10.0, 32661),
    "UPS north": (84.7, -120.0, 32661),
    "UPS south": (-86.2, 45.0, 32761),
    "Svalbard's own zone is not used": (78.2, 15.6, 32633),
    "west of the antimeridian": (-16.8, 179.9995, 32760),
    "east of the antimeridian": (-16.8, -179.9995, 32701),
    "antimeridian in the north": (65.0, -179.9999, 32601),
}


def field(x: np.ndarray, y: np.ndarray, epsg: int) -> np.ndarray:
    """Digital numbers that vary slowly with place, the same in any CRS."""
    lon, lat = transformer(epsg, 4326).transform(x, y)
    ex, ey, ez = (
        np.cos(np.radians(lat)) * np.cos(np.radians(lon)),
        np.cos(np.radians(lat)) * np.sin(np.radians(lon)),
        np.sin(np.radians(lat)),
    )
    wave = sum(np.sin(part * 6_371_000 / length) for part, length in ((ex, 130.0), (ey, 170.0), (ez, 150.0)))
    return np.rint(3000 + 700 * wave).astype(np.uint16)


def scene(folder: Path, name: str, time: str, epsg: int, centre: tuple[float, float], metres: float = 1600.0) -> dict[str, Any]:
    """An item and its files: bands of 10 and 20 m and classes, around a point."""
    x, y = transformer(4326, epsg).transform(*centre)
    left, top = np.floor((x - metres / 2) / 60) * 60, np.ceil((y + metres / 2) / 60) * 60
    assets = {}
    for band, step in (("B04", 10), ("B8A", 20), ("SCL", 20)):
        count = int(metres // 60 + 1) * 60 // step
        columns, rows = np.meshgrid(left + step * (np.arange(count) + 0.5), top - step * (np.arange(count) + 0.5))
        pixels = np.full((count, count), 4, np.uint8) if band == "SCL" else field(columns, rows, epsg)
        transform = (float(step), 0.0, left, 0.0, -float(step), top)
        write_cog(folder / f"{name}_{band}.tif", pixels[None], epsg=epsg, transform=transform, tile=64)
        assets[band] = {
            "href": f"./{name}_{band}.tif",
            "type": "image/tiff; application=geotiff",
            "proj:shape": [count, count],
            "proj:transform": list(transform),
        }
    edge = np.linspace(0, count * 20, 9)
    ring_x = np.concatenate([left + edge, np.full(9, left + edge[-1]), left + edge[::-1], np.full(9, left)])
    ring_y = np.concatenate([np.full(9, top), top - edge, np.full(9, top - edge[-1]), top - edge[::-1]])
    geometry, bbox = outline(ring_x, ring_y, epsg)
    properties = {
        "datetime": time,
        "platform": "sentinel-2a",
        "proj:epsg": epsg,
        "s2:processing_baseline": "03.00",
        "s2:mgrs_tile": name[-5:],
    }
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": f"S2A_{name}", "collection": "sentinel-2-l2a", "links": [],
        "geometry": geometry, "bbox": bbox, "properties": properties, "assets": assets,
    }  # fmt: skip


def outline(x: np.ndarray, y: np.ndarray, epsg: int) -> tuple[dict[str, Any], list[float]]:
    """Footprint as catalogues write it: cut at the antimeridian; around a pole a cap."""
    lon, lat = transformer(epsg, 4326).transform(x, y)
    if epsg in (32661, 32761) and abs(np.hypot(x - 2e6, y - 2e6).min()) < 2000:
        south, north = (float(lat.min()), 90.0) if epsg == 32661 else (-90.0, float(lat.max()))
        ring = [[-180.0, south], [180.0, south], [180.0, north], [-180.0, north], [-180.0, south]]
        return {"type": "Polygon", "coordinates": [ring]}, [-180.0, south, 180.0, north]
    if np.ptp(lon) < 180:
        ring = [[float(a), float(b)] for a, b in zip(lon, lat, strict=True)]
        return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}, [
            float(lon.min()),
            float(lat.min()),
            float(lon.max()),
            float(lat.max()),
        ]
    import shapely
    from shapely.geometry import Polygon, box, mapping

    whole = Polygon(np.column_stack([lon % 360, lat]))
    west, east = whole.intersection(box(0, -90, 180, 90)), whole.intersection(box(180, -90, 360, 90))
    parts = [west, shapely.affinity.translate(east, -360)]
    return mapping(shapely.MultiPolygon(parts)), [west.bounds[0], whole.bounds[1], parts[1].bounds[2], whole.bounds[3]]


def build(folder: Path, items: Sequence[dict[str, Any]], lat: float, lon: float, edge: float, **grid: Any) -> xr.DataTree:
    catalog = folder / "catalog.json"
    catalog.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    layer = {"kind": "sentinel2", "catalog": str(catalog), "bands": ["B04", "B8A"], "nbar": "none"}
    recipe = {"time": {"start": "2021-06-01", "end": "2021-06-30"}, "grid": {"edge_size": edge, **grid}, "layers": [layer]}
    out = folder / "cube.zarr"
    cube = cubekit.build(lat, lon, recipe=recipe, out=out)
    assert [str(problem) for problem in validate(str(out))] == []
    return cube


@pytest.mark.parametrize("edge", [32, 33])
@pytest.mark.parametrize("place", PLACES)
def test_pixels_are_copied_wherever_the_grid_lies(tmp_path: Path, place: str, edge: int) -> None:
    lat, lon, epsg = PLACES[place]
    grid = Grid.around(lat, lon, edge)
    assert grid.epsg == epsg
    items = [scene(tmp_path, f"{number}_00XXX", time, epsg, (lon, lat)) for number, time in enumerate(TIMES)]
    cube = build(tmp_path, items, lat, lon, edge)
    assert cube.sizes["time"] == 2
    assert (cube["B04"].shape[1:], cube["B8A"].shape[1:]) == ((edge, edge), (edge, edge))
    x, y = np.meshgrid(grid.x, grid.y)
    expected = field(x, y, epsg) * 1e-4
    for step in range(2):
        np.testing.assert_allclose(cube["B04"].values[step], expected, atol=1e-6)
    assert (cube["pixel_status"].values == 0).all()
    assert (cube["SCL"].values == 4).all()
    np.testing.assert_array_equal(cube.x, grid.x)
    np.testing.assert_array_equal(cube.y, grid.y)
    assert cube.attrs["proj:code"] == f"EPSG:{epsg}"
    assert -180 <= cube.attrs["geospatial_lon_min"] <= 180
    assert cube.attrs["geospatial_lat_min"] <= lat <= cube.attrs["geospatial_lat_max"]


@pytest.mark.parametrize(
    ("lat", "lon", "other"),
    [(-16.8, 179.9995, 32701), (-16.8, -179.9995, 32760), (0.0004, 37.0, 32737), (-0.0004, 37.0, 32637), (83.99, 6.001, 32631)],
)
def test_granules_of_the_neighbouring_zone_come_where_they_belong(tmp_path: Path, lat: float, lon: float, other: int) -> None:
    """Also beyond the antimeridian and the equator, where coordinates jump."""
    grid = Grid.around(lat, lon, 31)
    assert grid.epsg != other
    items = [scene(tmp_path, "1_00XXX", TIMES[0], other, (lon, lat))]
    cube = build(tmp_path, items, lat, lon, 31)
    x, y = np.meshgrid(grid.x, grid.y)
    assert (cube["pixel_status"].values == 0).all()
    np.testing.assert_allclose(cube["B04"].values[0], field(x, y, grid.epsg) * 1e-4, atol=0.006)


def test_two_zones_meet_in_one_scene_at_the_antimeridian(tmp_path: Path) -> None:
    lat, lon = -16.8, 179.9999
    grid = Grid.around(lat, lon, 40)
    west = scene(tmp_path, "1_60KXX", TIMES[0], 32760, (179.9935, lat), 1300.0)
    east = scene(tmp_path, "2_01KXX", TIMES[0], 32701, (-179.9945, lat), 1300.0)
    cube = build(tmp_path, [west, east], lat, lon, 40)
    assert cube.sizes["time"] == 1
    assert set(str(cube["tile"].values[0]).split()) == {"60KXX", "01KXX"}
    x, y = np.meshgrid(grid.x, grid.y)
    valid = cube["pixel_status"].values[0] == 0
    assert valid.mean() > 0.95
    assert np.abs(cube["B04"].values[0] - field(x, y, grid.epsg) * 1e-4)[valid].max() < 0.006


@pytest.mark.parametrize(("resolution", "edge"), [(20, 21), (60, 9), (15, 17)])
def test_other_resolutions_in_the_south(tmp_path: Path, resolution: float, edge: int) -> None:
    lat, lon, epsg = PLACES["southern hemisphere"]
    grid = Grid.around(lat, lon, edge, resolution)
    cube = build(tmp_path, [scene(tmp_path, "1_34HBH", TIMES[0], epsg, (lon, lat))], lat, lon, edge, resolution=resolution)
    fine = 5
    left, top = grid.left, grid.top
    steps = int(edge * resolution / fine)
    x, y = np.meshgrid(left + fine * (np.arange(steps) + 0.5), top - fine * (np.arange(steps) + 0.5))
    factor = int(resolution / fine)
    expected = field(x, y, epsg).reshape(edge, factor, edge, factor).mean(axis=(1, 3)) * 1e-4
    np.testing.assert_allclose(cube["B04"].values[0], expected, atol=0.012)
