"""The rasters hold the truth: digital numbers, directions, clouds, nodata, duplicates, and the layout of their files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rasterio

from cubekit.demo import World
from cubekit.demo._cog import write_cog
from cubekit.demo._place import TILES, pixel_centres

Scenes = dict[str, dict[str, Any]]


def read(world: World, scene: dict[str, Any], key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    asset = scene["assets"][key]
    with rasterio.open(world.root / asset["href"]) as source:
        pixels, epsg = source.read(1), source.crs.to_epsg()
        assert list(source.transform)[:6] == asset["proj:transform"]
        assert list(pixels.shape) == asset["proj:shape"]
    return pixels, *pixel_centres(asset["proj:transform"], pixels.shape), epsg


def test_every_pixel_is_the_observed_truth_but_for_rounding(small: World, scenes: Scenes) -> None:
    for order, (name, scene) in enumerate(scenes.items()):
        band = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")[order % 10]
        numbers, x, y, epsg = read(small, scene, band)
        offset = 1000 if float(scene["properties"]["s2:processing_baseline"]) >= 4 else 0
        observed = small.observed_reflectance(name, [band], x, y, epsg)[0]
        assert np.array_equal(numbers == 0, np.isnan(observed))
        reflectance = (numbers[numbers > 0].astype(float) - offset) * 1e-4
        assert np.abs(reflectance - observed[numbers > 0]).max() < 0.5e-4 + 1e-6


def test_c_factor_gives_nadir_truth_wherever_the_sky_is_clear(small: World, scenes: Scenes) -> None:
    seen = 0
    for name, scene in scenes.items():
        numbers, x, y, epsg = read(small, scene, "B8A")
        clear = (numbers > 0) & ~small.cloud_mask(name, x, y, epsg)
        offset = small.granule(name).offset
        nbar = (numbers.astype(float) - offset) * 1e-4 * small.c_factor(name, ["B8A"], x, y, epsg)[0]
        truth = small.nadir_reflectance(["B8A"], x, y, epsg, scene["properties"]["datetime"][:10])[0]
        if clear.any():
            assert np.abs(nbar - truth)[clear].max() < 0.6e-4
            seen += 1
    assert seen > 10


def test_clear_classes_are_never_touched_by_cloud_or_shadow(small: World, scenes: Scenes) -> None:
    for name, scene in scenes.items():
        classes, *_ = read(small, scene, "SCL")
        numbers, x, y, epsg = read(small, scene, "B02")
        fine = np.kron(classes, np.ones((2, 2), np.uint8))
        touched = small.cloud_mask(name, x, y, epsg)
        assert not touched[np.isin(fine, (4, 5, 6, 11))].any()
        assert np.array_equal(np.unique(fine[numbers == 0]), [0] if (numbers == 0).any() else [])
        x20, y20 = pixel_centres(scene["assets"]["SCL"]["proj:transform"], classes.shape)
        assert np.array_equal(classes, small.scene_classes(name, x20, y20, epsg))


def test_both_offsets_occur_and_do_not_follow_the_date(scenes: Scenes) -> None:
    early = [s["properties"] for s in scenes.values() if s["properties"]["datetime"] < "2022-01-25"]
    assert {p["s2:processing_baseline"] for p in early} >= {"03.00", "03.01", "05.00"}
    assert any(s["properties"]["s2:processing_baseline"] == "04.00" for s in scenes.values())


def test_a_duplicate_differs_by_baseline_and_offset_only(small: World, scenes: Scenes) -> None:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, scene in scenes.items():
        groups.setdefault((scene["properties"]["s2:mgrs_tile"], scene["properties"]["datetime"]), []).append(name)
    (pair,) = (names for names in groups.values() if len(names) > 1)
    old, new = (read(small, scenes[name], "B04")[0].astype(int) for name in pair)
    assert np.array_equal(np.where(old > 0, old + 1000, 0), new)
    assert [small.granule(name).baseline for name in pair][1] == "05.00"


def test_one_datatake_is_delivered_in_two_zones_and_in_overlapping_tiles(scenes: Scenes) -> None:
    tiles: dict[str, set[str]] = {}
    for scene in scenes.values():
        tiles.setdefault(scene["properties"]["datetime"], set()).add(scene["properties"]["s2:mgrs_tile"])
    found = set(map(frozenset, tiles.values()))
    assert {frozenset({"33UTS"}), frozenset({"33UTS", "32UQB"}), frozenset({"33UTS", "33UTT"}), frozenset({"32UQB"})} <= found


def test_the_swath_ends_inside_the_world(world: World) -> None:
    window = TILES["33UTS"].window(world.parameters.size)
    x, y = pixel_centres(window.transform(60), window.shape(60))
    shares = {name: (world.detector(name, x, y, 32633) == 0).mean() for name in world.item_ids}
    assert all(share == 0 for name, share in shares.items() if "_R022_" in name)
    assert 0 < max(share for name, share in shares.items() if "_R065_" in name) < 0.5


def test_truth_does_not_depend_on_the_coordinate_system(small: World) -> None:
    from pyproj import Transformer

    x, y = pixel_centres(TILES["33UTS"].window(96).transform(60), (16, 16))
    lon, lat = Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    east, north = Transformer.from_crs(32633, 32632, always_xy=True).transform(x, y)
    here = small.nadir_reflectance(["B04", "B08"], x, y, 32633, "2021-07-01")
    for other in (
        small.nadir_reflectance(["B04", "B08"], lon, lat, 4326, "2021-07-01"),
        small.nadir_reflectance(["B04", "B08"], east, north, 32632, "2021-07-01"),
    ):
        assert np.abs(here - other).max() < 1e-6


def test_detector_masks_are_the_truth(small: World, scenes: Scenes) -> None:
    for name, scene in list(scenes.items())[:4]:
        for band in ("B02", "B8A"):
            mask, x, y, epsg = read(small, scene, f"MSK_DETFOO_{band}")
            assert np.array_equal(mask, small.detector(name, x, y, epsg))


def test_files_are_cloud_optimised_and_tiled(small: World, scenes: Scenes, world: World) -> None:
    for scene in list(scenes.values())[:3]:
        with rasterio.open(small.root / scene["assets"]["B04"]["href"]) as source:
            assert source.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert source.profile["tiled"]
            assert source.nodata == 0
            assert source.overviews(1) == [4]
            assert source.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "2"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", [(1, 1), (255, 257), (256, 512), (600, 301)])
def test_writer_round_trips_through_gdal(tmp_path: Any, dtype: str, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, shape).astype(dtype)
    size = write_cog(tmp_path / "a.tif", pixels, [20.0, 0.0, 300_000.0, 0.0, -20.0, 5_700_000.0], 32733, nodata=0)
    assert size == (tmp_path / "a.tif").stat().st_size
    with rasterio.open(tmp_path / "a.tif") as source:
        assert np.array_equal(source.read(1), pixels)
        assert source.crs.to_epsg() == 32733
        assert source.dtypes == (dtype,)


def test_point_rasters_lie_where_the_transform_says(tmp_path: Any) -> None:
    transform = [1 / 2400, 0.0, 12 - 0.5 / 2400, 0.0, -1 / 3600, 52 + 0.5 / 3600]
    write_cog(tmp_path / "p.tif", np.ones((4, 5), np.float32), transform, 4326, nodata=None, point=True)
    with rasterio.open(tmp_path / "p.tif") as source:
        assert source.tags()["AREA_OR_POINT"] == "Point"
        assert np.allclose(list(source.transform)[:6], transform, atol=1e-12)
