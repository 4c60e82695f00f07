"""Locks: the same cube again bit for bit, or a refusal that names what changed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import rasterio

from cubekit.api import make_recipe, run_build, run_locked
from cubekit.demo import World
from cubekit.errors import InputError, UpstreamChangedError
from cubekit.locking import lock_cube, open_lock
from cubekit.read import forget_headers
from cubekit.site import Site

pytestmark = pytest.mark.filterwarnings("ignore:.*sun zenith reaches:cubekit.errors.ScienceWarning")


@pytest.fixture
def copy(world: World, tmp_path: Path) -> Path:
    """Three scenes of the simulated world that a test may change."""
    content = json.loads(world.catalog.read_text())
    items = [item for item in content["features"] if item["collection"] == "sentinel-2-l2a" and "33UTS" in item["id"]][10:13]
    for item in items:
        for asset in item["assets"].values():
            source = world.root / asset["href"]
            target = tmp_path / asset["href"]
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy2(source, target)
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps({**content, "features": items}))
    return path


def make(world: World, catalog: Path) -> tuple[object, Site]:
    lon, lat = world.sites["centre"]
    when = {"start": world.parameters.start, "end": world.parameters.end}
    return make_recipe(catalog=str(catalog), bands=["B04", "B8A"], edge_size=32, **when), Site(lat, lon)


def test_a_locked_build_is_identical_even_if_the_catalogue_grew(world: World, copy: Path, tmp_path: Path) -> None:
    recipe, site = make(world, copy)
    content = lock_cube(recipe, site, tmp_path / "a.lock.json")  # type: ignore[arg-type]
    assert len(content["searches"][0]["items"]) == 3
    assert len(content["files"]) == 3 * 4
    first = run_locked(tmp_path / "a.lock.json", out=tmp_path / "a.zarr")
    grown = json.loads(copy.read_text())
    twin = json.loads(json.dumps(grown["features"][0]))
    twin["id"], twin["properties"]["datetime"] = "another", "2021-08-01T10:00:00Z"
    twin["properties"].pop("s2:datatake_id", None)
    copy.write_text(json.dumps({**grown, "features": [*grown["features"], twin]}))
    again = run_locked(tmp_path / "a.lock.json", out=tmp_path / "b.zarr")
    assert again.digest == first.digest
    assert again.scenes == 3


def test_a_file_that_changed_upstream_is_named(world: World, copy: Path, tmp_path: Path) -> None:
    recipe, site = make(world, copy)
    lock_cube(recipe, site, tmp_path / "a.lock.json")  # type: ignore[arg-type]
    victim = next(path for path in sorted(copy.parent.rglob("*B04*.tif")))
    with rasterio.open(victim, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        pixels = file.read(1)
        pixels[pixels > 0] += 1
        file.write(pixels, 1)
    os.utime(victim, (1, 1))
    forget_headers()
    with pytest.raises(UpstreamChangedError, match=rf"1 files changed upstream and 0 are new: .*{victim.name}.* became"):
        run_locked(tmp_path / "a.lock.json", out=tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()


def test_metadata_that_changed_upstream_is_named(world: World, copy: Path, tmp_path: Path) -> None:
    recipe, site = make(world, copy)
    lock_cube(recipe, site, tmp_path / "a.lock.json")  # type: ignore[arg-type]
    victim = next(iter(sorted(copy.parent.rglob("*.xml"))))
    victim.write_bytes(victim.read_bytes() + b"\n")
    with pytest.raises(UpstreamChangedError, match=victim.name):
        run_locked(tmp_path / "a.lock.json", out=tmp_path / "a.zarr")


def test_without_a_lock_the_same_recipe_gives_the_same_digest(world: World, copy: Path, tmp_path: Path) -> None:
    recipe, site = make(world, copy)
    results = [run_build(recipe, site, out=tmp_path / name) for name in ("a.zarr", "b.zarr")]  # type: ignore[arg-type]
    assert results[0].digest == results[1].digest


def test_what_is_no_lock(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_lock(tmp_path / "absent.json")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match="no lock of version 1"):
        open_lock(tmp_path / "x.json")
    with pytest.raises(InputError, match="--lat was given too"):
        run_locked(tmp_path / "x.json", {"--lat": 1.0})
