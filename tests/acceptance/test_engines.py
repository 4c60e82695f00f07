"""The same cube from every engine, bit for bit: copied, coarser, finer and reprojected bands."""

from __future__ import annotations

from pathlib import Path

import pytest

import cubekit
from cubekit.demo import World
from cubekit.layers import Session
from cubekit.pipeline import build_cube
from cubekit.read import forget_headers
from cubekit.recipe import parse_recipe
from cubekit.site import Site

GRIDS = {
    "10 m: copied, and 20 m onto 10 m": {"edge_size": 36},
    "20 m: copied, and 10 m onto 20 m": {"edge_size": 27, "resolution": 20},
    "60 m": {"edge_size": 16, "resolution": 60},
    "another zone": {"edge_size": 30, "epsg": 32632},
    "off phase": {"edge_size": 30, "phase": [5.0, 3.0]},
    "15 m": {"edge_size": 22, "resolution": 15},
}


@pytest.mark.parametrize("name", GRIDS)
def test_engines_build_the_same_cube(world: World, tmp_path: Path, name: str) -> None:
    lon, lat = world.sites["centre"]
    recipe = {
        "time": {"start": "2021-09-01", "end": "2021-12-31"},
        "grid": GRIDS[name],
        "layers": [{"kind": "sentinel2", "catalog": str(world.catalog), "bands": ["B04", "B8A"], "nbar": "none"}],
    }
    found = {}
    for engine in ("window", "odc", "stackstac", "rasterio"):
        forget_headers()
        out = tmp_path / f"{engine}.zarr"
        result = build_cube(parse_recipe(recipe), Site(lat, lon), str(out), session=Session(engine=engine))
        assert result.holes == 0
        cube = cubekit.open(out)
        assert float(cube["B04"].notnull().mean()) > 0.5
        found[engine] = result.digest
    assert len(set(found.values())) == 1, found


def test_a_plan_says_for_which_engine_it_counts(world: World) -> None:
    lon, lat = world.sites["centre"]
    options = {"catalog": str(world.catalog), "bands": ["B04"], "edge_size": 24, "nbar": "none"}
    for engine in ("window", "odc"):
        (plan,) = cubekit.plan(lat, lon, "2021-04-01", "2021-04-30", session=Session(engine=engine), **options)
        assert any("engine window; under odc" in note for note in plan.notes) == (engine == "odc")
