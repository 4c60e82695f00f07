"""How the layer runs changes no pixel: engines, memory, shared sessions; NBAR that is missing; angles and factors that are kept."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import cubekit
from cubekit.api import make_recipe, run_build
from cubekit.cube import validate
from cubekit.demo import World
from cubekit.errors import CommitError, NothingFoundError, ReadError, ScienceWarning
from cubekit.layers import Session
from cubekit.layers.sentinel2 import Nbar, Sentinel2
from cubekit.nbar import NbarStatus
from cubekit.read import forget_headers
from cubekit.recipe import Recipe
from cubekit.site import Site
from cubekit.testing.stacserver import StacServer
from tests.layers.conftest import Copy, load, request

Cut = Callable[..., Copy]
SCENES = ("33UTS 20210403T101021", "33UTS 20210411T102029", "33UTS 20220317T102029")


def made(recipe: dict[str, Any]) -> Recipe:
    return make_recipe(recipe, start="2021-04-01", end="2022-04-01")


def unsettled(copy: Copy) -> None:
    copy.file("granule-metadata", 1).unlink()


def test_missing_metadata_is_flagged_dropped_or_fails(cut: Cut) -> None:
    copy = cut(*SCENES)
    whole, raw = copy.load(), copy.load(nbar="none")
    unsettled(copy)
    with pytest.warns(ScienceWarning, match=f"No NBAR for {copy.items[1]['id']}"):
        flagged = copy.load(nbar=Nbar(missing="flag"))
    assert flagged.nbar_status.sel(band="B04").values.tolist() == [NbarStatus.applied, NbarStatus.no_metadata, NbarStatus.applied]
    np.testing.assert_array_equal(flagged.B04.values[1], raw.B04.values[1])
    np.testing.assert_array_equal(flagged.B04.values[[0, 2]], whole.B04.values[[0, 2]])
    with pytest.warns(ScienceWarning, match="No NBAR"):
        dropped = copy.load(nbar=Nbar(missing="drop"))
    assert dropped.attrs["sentinel2_scenes_without_nbar"] == copy.items[1]["id"]
    np.testing.assert_array_equal(dropped.B04.values, whole.B04.values[[0, 2]])
    assert dropped.time.values.tolist() == whole.time.values[[0, 2]].tolist()
    with pytest.warns(ScienceWarning), pytest.raises(ReadError, match=f"Item {copy.items[1]['id']} has no usable granule metadata"):
        copy.load(nbar=Nbar(missing="fail"))


def test_metadata_without_angles_fails_too(cut: Cut) -> None:
    """The file is there, but a band has no view angles."""
    copy = cut(*SCENES)
    path = copy.file("granule-metadata", 1)
    text = path.read_text().replace('bandId="3"', 'bandId="12"')
    assert text != path.read_text()
    path.write_text(text)
    flagged = copy.load()
    assert flagged.nbar_status.sel(band="B04").values.tolist() == [0, NbarStatus.no_angles, 0]
    assert copy.load(nbar=Nbar(missing="drop")).sizes["time"] == 2
    with pytest.raises(ReadError, match=rf"1 of 3 scenes cannot be adjusted to nadir: {copy.items[1]['id']} \(no_angles\)"):
        copy.load(nbar=Nbar(missing="fail"))


def test_all_dropped_is_nothing_found(cut: Cut) -> None:
    copy = cut(SCENES[0])
    copy.file("granule-metadata").unlink()
    with pytest.warns(ScienceWarning), pytest.raises(NothingFoundError, match="None of the 1 scenes"):
        copy.load(nbar=Nbar(missing="drop"))


def pixels(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(ds.x, ds.y)
    return x, y


@pytest.mark.parametrize(("part", "epsg"), [("33UTS 20210403T101021", 32633), ("32UQB 20210521T102029", 32633)], ids=["own", "other"])
def test_factors_and_angles_are_those_of_the_world(cut: Cut, world: World, part: str, epsg: int) -> None:
    copy = cut(part)
    ds = copy.load(epsg=epsg, nbar=Nbar(factors=True, angles=True))
    x, y = pixels(ds)
    c = world.c_factor(copy.ids[0], ["B04", "B8A"], x, y, epsg)
    for number, band in enumerate(("B04", "B8A")):
        assert np.abs(ds[f"{band}_c"].values[0] - c[number]).max() < 1e-4
    sun, saa, view, vaa = world.angles(copy.ids[0], "B04", x, y, epsg)
    assert np.abs(ds.sun_zenith_angle.values[0] - sun).max() < 0.02
    assert np.abs(ds.view_zenith_angle.values[0] - view).max() < 0.02
    turn = (ds.relative_azimuth_angle.values[0] - (saa - vaa) + 180) % 360 - 180
    assert np.abs(turn * np.sin(np.radians(view))).max() < 0.02
    for name in ("sun_zenith_angle", "view_zenith_angle", "relative_azimuth_angle"):
        assert ds[name].dims == ("time", "y", "x")
        assert ds[name].dtype == np.float32
        assert ds[name].attrs["units"] == "degree"
    assert ds.view_zenith_angle.attrs["standard_name"] == "sensor_zenith_angle"
    np.testing.assert_allclose(ds.sun_zenith.values[0], ds.sun_zenith_angle.values[0].mean(), atol=0.01)


def test_angles_without_adjustment(cut: Cut) -> None:
    copy = cut(*SCENES)
    plain, ds = copy.load(nbar="none"), copy.load(nbar=Nbar(method="none", angles=True))
    assert np.isfinite(ds.view_zenith_angle.values).all()
    np.testing.assert_array_equal(ds.B04.values, plain.B04.values)
    assert (ds.nbar_status.sel(band="B04") == NbarStatus.not_requested).all()
    only = copy.load(nbar=Nbar(angles=True), bands=("B04",))
    np.testing.assert_allclose(only.view_zenith_angle.values, ds.view_zenith_angle.values, rtol=0, atol=1e-5)
    unsettled(copy)
    with pytest.warns(ScienceWarning):
        lost = copy.load(nbar=Nbar(method="none", angles=True, missing="fail"))
    assert np.isnan(lost.view_zenith_angle.values).all(axis=(1, 2)).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="factors: there are none with method: none"):
        Nbar(method="none", factors=True)


def test_a_cube_with_everything_kept_is_valid(cut: Cut, tmp_path: Path) -> None:
    copy = cut(*SCENES)
    layer = {"kind": "sentinel2", "catalog": str(copy.catalog), "bands": ["B04", "B8A"], "period": "30D"}
    recipe = {"name": "x", "grid": {"edge_size": 16}, "layers": [{**layer, "nbar": {"factors": True, "angles": True}}]}
    lon, lat = copy.world.sites["centre"]
    result = run_build(made(recipe), Site(lat, lon), out=tmp_path / "cube.zarr")
    assert [problem for problem in validate(result.path) if problem.severity == "error"] == []


@pytest.mark.parametrize(
    ("site", "where"),
    [("centre", {}), ("centre", {"resolution": 20}), ("centre", {"epsg": 32632}), ("zone32", {"epsg": 32633, "resolution": 20})],
    ids=["10 m", "20 m", "other zone", "other zone, 20 m"],
)
@pytest.mark.parametrize("engine", ["odc", "stackstac", "rasterio"])
def test_engines_give_the_same_cube(cut: Cut, world: World, engine: str, site: str, where: dict[str, int]) -> None:
    copy = cut("20210521T102029", "33UTS 20210403T101021")
    expected = load(world, copy.catalog, site, edge=24, **where)
    found = load(world, copy.catalog, site, edge=24, session=Session(engine=engine, threads=1), **where)
    xr.testing.assert_identical(found, expected)
    assert (expected.pixel_status == 0).any()


@pytest.mark.parametrize("options", [{}, {"dtype": "float32", "nbar": {"factors": True, "angles": True}}, {"period": "10D"}], ids=str)
def test_little_memory_gives_the_same_cube(cut: Cut, tmp_path: Path, options: dict[str, object]) -> None:
    copy = cut(*SCENES, "20210521T102029")
    unsettled(copy)
    layer = {"kind": "sentinel2", "catalog": str(copy.catalog), "bands": ["B04", "B8A"], **options}
    layer["nbar"] = {**options.get("nbar", {}), "missing": "drop"}  # type: ignore[dict-item]
    recipe = {"name": "x", "grid": {"edge_size": 64}, "layers": [layer]}
    lon, lat = copy.world.sites["centre"]
    digests = set()
    for memory in (2 << 30, 1_000):
        with pytest.warns(ScienceWarning, match="No NBAR"):
            result = run_build(made(recipe), Site(lat, lon), out=tmp_path / f"{memory}.zarr", session=Session(memory=memory))
        digests.add(result.digest)
    assert len(digests) == 1


def test_the_stack_lies_where_the_session_says(cut: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    """No array of all scenes is made beside those that the session allocates."""
    copy = cut(*SCENES)
    sizes: dict[tuple[int, ...], int] = {}
    allocate = Session.allocate

    def noting(self: Session, shape: tuple[int, ...], dtype: object) -> np.ndarray:
        sizes[shape] = sizes.get(shape, 0) + 1
        return allocate(self, shape, dtype)

    monkeypatch.setattr(Session, "allocate", noting)
    ds = copy.load()
    whole = (3, 2, 32, 32)
    assert sizes[whole] == 1, "reflectance takes the place of the digital numbers"
    assert np.shares_memory(ds.B04.values, ds.B04.values.base)
    assert ds.B04.values.base.nbytes >= 3 * 2 * 32 * 32 * 2


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(CommitError, match=r"The pixels take 1000000\.0 GB, and .* GB free\. Ask for fewer days") as caught:
        Session(memory=0).allocate((10**6, 10**9), np.uint8)
    assert caught.value.exit_code == 3

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(CommitError, match=r"set TMPDIR to a larger disk"):
        Session(memory=0).allocate((1000,), np.uint8)
    assert list(tmp_path.iterdir()) == []


def test_a_cube_tells_no_folder_of_its_catalogue(cut: Cut, tmp_path: Path) -> None:
    copy = cut(SCENES[0])
    recipe = make_recipe(catalog=str(copy.catalog), bands=["B04"], edge_size=16, start="2021-04-01", end="2021-05-01")
    lon, lat = copy.world.sites["centre"]
    first = run_build(recipe, Site(lat, lon), out=tmp_path / "a.zarr")
    attrs = cubekit.open(first.path).attrs
    assert attrs["sentinel2_catalog"] == "catalog.json"
    assert json.loads(attrs["recipe"])["layers"][0]["catalog"] == ["catalog.json"]
    assert attrs["recipe_digest"] == hashlib.sha256(attrs["recipe"].encode()).hexdigest() == recipe.digest
    for file in (tmp_path / "a.zarr").rglob("zarr.json"):
        assert str(tmp_path) not in file.read_text()
    shutil.copytree(copy.root, tmp_path / "moved")
    moved = make_recipe(recipe, catalog=str(tmp_path / "moved" / "catalog.json"))
    assert run_build(moved, Site(lat, lon), out=tmp_path / "b.zarr").digest == first.digest


def test_neighbours_in_one_session_share_headers_and_metadata(cut: Cut, world: World, tmp_path: Path) -> None:
    copy = cut(*SCENES)
    recipe = make_recipe(catalog=str(copy.catalog), bands=["B04", "B8A"], edge_size=32, start="2021-04-01", end="2022-04-01")
    lon, lat = world.sites["centre"]

    def build(name: str, session: Session, shift: float) -> tuple[int, str]:
        result = run_build(recipe, Site(lat + shift, lon), out=tmp_path / name, session=session)
        return result.requests, result.digest

    forget_headers()
    session = Session()
    first, _ = build("a", session, 0.0)
    second, digest = build("b", session, 0.004)
    assets = 3 * 3
    assert first >= 2 * assets + 3
    assert second <= first - assets - 3, "a header per asset and the metadata per granule are not asked for again"
    forget_headers()
    alone, same = build("c", Session(), 0.004)
    assert alone > second
    assert same == digest


def test_a_catalogue_is_asked_once_for_a_tile(cut: Cut, world: World, tmp_path: Path) -> None:
    """With a cache sites of a tile share the search; what they find is what they would have found alone."""
    copy = cut(*SCENES)
    for item in copy.items:
        item["links"] = []
    found, asked = [], []
    for cache in (tmp_path / "cache", None):
        with StacServer(copy.items) as server:
            session = Session(threads=1, cache_dir=cache)
            layer = Sentinel2(catalog=(server.url,), bands=("B04",))
            scenes = [layer._scenes(request(world, site, session=session))[1] for site in world.sites]
            found.append([[item.id for scene in several for item in scene.items] for several in scenes])
            asked.append(len(server.searches))
    assert found[0] == found[1]
    assert all(found[0])
    # Two squares of 100 km meet at the zone border, which runs between the sites.
    assert asked[0] / asked[1] == 2 / len(world.sites)


RSS = """
import sys, threading, time
from cubekit.api import make_recipe, run_build
from cubekit.demo import ensure_world
from cubekit.layers import Session
from cubekit.site import Site
import warnings; warnings.simplefilter("ignore")
world = ensure_world(); lon, lat = world.sites["centre"]
def now(kind):
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(kind)) / 1024
recipe = {"name": "x", "grid": {"edge_size": 64}, "layers": [{"kind": "sentinel2", "catalog": str(world.catalog)}]}
when = {"start": world.parameters.start, "end": world.parameters.end}
run_build(make_recipe(recipe, **when), Site(lat, lon), out=sys.argv[1] + "/warm.zarr")
recipe["grid"]["edge_size"] = 512
base, peak, done = now("RssAnon"), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, now("RssAnon")); time.sleep(0.01)
thread = threading.Thread(target=watch); thread.start()
result = run_build(make_recipe(recipe, **when), Site(lat, lon), out=sys.argv[1] + "/cube.zarr", session=Session(memory=int(sys.argv[2])))
done = True; thread.join()
print(result.digest, round(base), round(peak))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory(tmp_path: Path) -> None:
    """61 scenes of 10 bands at 512 px are 320 MB of reflectance, once; with little memory they are not in it."""
    found = []
    for memory in (2 << 30, 1_000_000):
        folder = tmp_path / str(memory)
        folder.mkdir()
        done = subprocess.run([sys.executable, "-c", RSS, str(folder), str(memory)], capture_output=True, text=True, check=True)
        digest, base, peak = done.stdout.split()
        found.append((digest, int(peak) - int(base)))
        print(f"memory={memory}: anonymous memory {base} MB before, {peak} MB at the peak")
    assert found[0][0] == found[1][0]
    assert found[1][1] < found[0][1] - 250
    assert found[0][1] < 2.2 * 320
