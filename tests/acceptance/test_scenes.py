"""From granules to scenes: datatakes, tiles, zones, baselines, offsets."""

from __future__ import annotations

import copy as copying
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from cubekit.demo import World
from cubekit.errors import NothingFoundError, ScienceWarning
from cubekit.grid import Grid
from tests.acceptance.conftest import BANDS, CLEAR, FILL, GRID, Copy, account

Scenes = Callable[..., Copy]
SOUTH = (288420.0, 5688540.0, 293580.0, GRID.top - 120.0)
NORTH = (288420.0, GRID.top - 160.0, 293580.0, 5693700.0)


def test_granules_of_two_tiles_are_one_step_with_the_pixels_of_the_whole(scenes: Scenes) -> None:
    """The southern part of one tile and the northern of its neighbour, overlapping by two rows of 20 m."""
    copy = scenes(["20210322"], tiles=("33UTS", "33UTT"))
    whole = copy.load(nbar="none")
    assert whole.tile.values.tolist() == ["33UTS"]
    copy.crop(0, SOUTH)
    copy.crop(1, NORTH)
    ds = copy.load(nbar="none")
    assert ds.sizes["time"] == 1
    assert set(str(ds.tile.values[0]).split()) == {"33UTS", "33UTT"}
    assert sorted(str(ds.item_id.values[0]).split()) == sorted(item["id"] for item in copy.items)
    assert account(ds) == account(whole)
    np.testing.assert_array_equal(ds.SCL, whole.SCL)
    for band in BANDS:
        np.testing.assert_allclose(ds[band], whole[band], atol=1)
        assert (ds[band] == whole[band]).mean() > 0.99
    # Each granule has angle nodes of its own.
    np.testing.assert_allclose(copy.load().B04, scenes(["20210322"]).load().B04, atol=2)


@pytest.mark.parametrize("epsg", [32633, 32632])
def test_the_granule_of_the_cubes_own_zone_is_preferred(world: World, scenes: Scenes, epsg: int) -> None:
    copy = scenes(["20210210"], tiles=("33UTS", "32UQB"))
    lon, lat = GRID.center_lonlat
    grid = Grid.around(lat, lon, 32, 10, epsg=epsg)
    ds = copy.load(grid)
    own = {32633: "33UTS", 32632: "32UQB"}[epsg]
    assert ds.tile.values.tolist() == [own]
    one = scenes(["20210210"], tiles=(own,)).load(grid)
    np.testing.assert_array_equal(ds.B04, one.B04)


def test_the_other_zone_fills_what_the_own_zone_lacks(scenes: Scenes) -> None:
    copy = scenes(["20210210"], tiles=("33UTS", "32UQB"))
    whole = copy.load(nbar="none")
    half = GRID.left + 160.0
    own = next(number for number, item in enumerate(copy.items) if "T33UTS" in item["id"])
    copy.crop(own, (288420.0, 5688540.0, half, 5693700.0))
    ds = copy.load(nbar="none")
    assert ds.sizes["time"] == 1
    assert ds.tile.values.tolist() == ["33UTS 32UQB"]
    assert account(ds) == {"valid": GRID.width * GRID.height}
    np.testing.assert_array_equal(ds.B04[0, :, :16], whole.B04[0, :, :16])
    a, b = ds.B04.values[0, :, 16:].astype(float), whole.B04.values[0, :, 16:].astype(float)
    assert not np.array_equal(a, b)
    assert np.median(np.abs(a / b - 1)) < 0.03
    assert abs(np.median(a / b) - 1) < 0.005


def test_another_zone_alone_is_reprojected(world: World, scenes: Scenes) -> None:
    """Bilinear for bands, nearest for classes; against the truth of the world at the pixels."""
    ds = scenes(["20210210"], tiles=("32UQB",)).load(nbar="none")
    x, y = np.meshgrid(GRID.x, GRID.y)
    item = str(ds.item_id.values[0])
    clear = ~world.cloud_mask(item, x, y, 32633)
    truth = world.observed_reflectance(item, ["B04"], x, y, 32633)[0]
    ratio = (ds.B04.values[0] * 1e-4 / truth)[clear]
    assert abs(float(np.median(ratio)) - 1) < 0.005
    classes = world.scene_classes(item, x, y, 32633)
    assert (ds.SCL.values[0] == classes).mean() > 0.9
    assert set(np.unique(ds.SCL)) <= set(range(12))
    nearest = scenes(["20210210"], tiles=("32UQB",)).load(nbar="none", resampling={"other": "nearest"})
    assert not np.array_equal(nearest.B04, ds.B04)


def test_of_one_tile_and_datatake_the_newest_baseline_stays(scenes: Scenes) -> None:
    copy = scenes(["20210304"])
    assert [item["properties"]["s2:processing_baseline"] for item in copy.items] == ["02.14", "05.00"]
    for _ in range(2):
        ds = copy.load()
        assert ds.processing_baseline.values.tolist() == ["05.00"]
        assert ds.boa_offset.values.tolist() == [-1000]
        copy.items.reverse()


def test_acquisitions_of_one_day_are_steps_of_their_own(scenes: Scenes) -> None:
    copy = scenes(CLEAR[:1])
    other = copying.deepcopy(copy.items[0])
    other["id"] = other["id"].replace("S2A", "S2B").replace("T101021", "T111021")
    other["properties"] |= {"datetime": "2021-04-03T11:10:21.024Z", "platform": "Sentinel-2B"}
    other["properties"]["s2:datatake_id"] = other["properties"]["s2:datatake_id"].replace("GS2A", "GS2B").replace("T101021", "T111021")
    copy.items.append(other)
    ds = copy.load()
    assert ds.platform.values.tolist() == ["sentinel-2a", "sentinel-2b"]
    assert np.diff(ds.time.values)[0] == np.timedelta64(1, "h")


def test_offset_by_baseline_makes_both_sides_of_04_00_agree(scenes: Scenes, world: World) -> None:
    """The same reflectance from numbers with and without the offset of -1000; Planetary Computer's and ESA's own rule."""
    copy = scenes(["20210503", "20210513"])
    assert [item["properties"]["s2:processing_baseline"] for item in copy.items] == ["05.00", "03.00"]
    ds = copy.load(nbar="none")
    assert ds.boa_offset.values.tolist() == [-1000, 0]
    assert "by-baseline: processing baseline 05.00" in ds.attrs["sentinel2_offset_policy"]
    x, y = np.meshgrid(GRID.x, GRID.y)
    for step in range(2):
        item = str(ds.item_id.values[step])
        clear = ~world.cloud_mask(item, x, y, 32633)
        truth = world.observed_reflectance(item, ["B04"], x, y, 32633)[0]
        assert np.abs(ds.B04.values[step] * 1e-4 - truth)[clear].max() < 2e-4


def earth_search(copy: Copy, collection: str) -> None:
    """Dress the items as those of Earth Search."""
    names = {"B04": "red", "B8A": "nir08", "SCL": "scl", "granule-metadata": "granule_metadata"}
    for item in copy.items:
        item["collection"] = collection
        item["assets"] = {names[key]: asset for key, asset in item["assets"].items()}
        item["properties"]["earthsearch:boa_offset_applied"] = False
        item["assets"]["red"]["raster:bands"] = [{"offset": -0.1, "scale": 0.0001, "nodata": 0}]


def test_earth_search_has_its_own_offsets(scenes: Scenes) -> None:
    copy = scenes(["20220418"])
    raw = copy.load(nbar="none").B04.values + 1000
    earth_search(copy, "sentinel-2-l2a")
    ds = copy.load(nbar="none", collection="sentinel-2-l2a")
    assert ds.boa_offset.values.tolist() == [0]
    np.testing.assert_array_equal(ds.B04.values, raw)
    assert ds.attrs["sentinel2_offset_policy"].startswith("fixed: profile earth-search/sentinel-2-l2a")
    copy = scenes(["20210403"])
    earth_search(copy, "sentinel-2-c1-l2a")
    with pytest.warns(ScienceWarning, match="1 of 1 scenes have more than 5% of pixels below -0.01 reflectance"):
        assert copy.load(nbar="none", collection="sentinel-2-c1-l2a").boa_offset.values.tolist() == [-1000]


def test_a_wrong_offset_is_told_with_the_share(scenes: Scenes) -> None:
    copy = scenes(["20210403", "20210411"])
    copy.items[0]["properties"]["s2:processing_baseline"] = "04.00"
    with pytest.warns(ScienceWarning, match=rf"1 of 2 scenes .*\(\d+% in {copy.items[0]['id']}\): is the offset right") as caught:
        ds = copy.load()
    assert ds.boa_offset.values.tolist() == [-1000, 0]
    share = float(str(caught[0].message).split("(")[1].split("%")[0]) / 100
    with pytest.warns(ScienceWarning, match="is the offset right"):
        dn = copy.load(nbar="none")
    first = np.stack([dn[band].values[0] for band in BANDS])
    assert share == pytest.approx((first < -100).mean(), abs=0.006)
    assert ds.attrs["sentinel2_negative_share"] == pytest.approx((first < -100).mean() / 2, abs=1e-4)


def test_negative_and_bright_reflectance_is_kept_and_what_cannot_be_stored_is_counted(scenes: Scenes) -> None:
    copy = scenes(["20220418"])
    values = np.array([1, 900, 1000, 11500, 33000, 65535])

    def change(pixels: np.ndarray) -> np.ndarray:
        pixels = pixels.copy()
        row, column = round((5693700 - GRID.top) / 10), round((GRID.left - 288420) / 10)
        pixels[row, column : column + len(values)] = values
        return pixels

    copy.rewrite(0, "B04", change)
    ds = copy.load(nbar="none", bands=["B04"])
    assert ds.B04.values[0, 0, :6].tolist() == [-999, -100, 0, 10500, 32000, 32767]
    assert ds.attrs["sentinel2_clipped_values"] == 1
    floats = copy.load(nbar="none", bands=["B04"], dtype="float32")
    np.testing.assert_allclose(floats.B04.values[0, 0, :6], (values - 1000) * 1e-4, atol=1e-6)
    assert floats.B04.dtype == np.float32
    assert floats.attrs["sentinel2_clipped_values"] == 0


def test_float_reflectance_is_the_packed_one_unrounded(scenes: Scenes) -> None:
    copy = scenes(CLEAR)
    packed, floats = copy.load(), copy.load(dtype="float32")
    for band in BANDS:
        np.testing.assert_allclose(floats[band], packed[band].values * 1e-4, atol=0.5001e-4)
    assert account(floats) == account(packed)


def test_clouds_are_flagged_or_masked_by_the_classes_that_are_asked_for(scenes: Scenes, world: World) -> None:
    copy = scenes(["20210322", "20210918", "20220528"])
    lon, lat = world.sites["centre"]
    grid = Grid.around(lat, lon, 64)
    flagged = copy.load(grid)
    clear = np.isin(flagged.SCL, [4, 5, 6, 7, 11])
    assert 0.05 < clear.mean() < 0.95
    np.testing.assert_array_equal(flagged.cloud_mask, np.where(flagged.SCL == 0, 255, ~clear))
    np.testing.assert_allclose(flagged.clear_fraction, clear.mean(axis=(1, 2)))
    assert (flagged.B04 != FILL).all()
    masked = copy.load(grid, mask="apply")
    np.testing.assert_array_equal(masked.B04, np.where(clear, flagged.B04, FILL))
    assert account(masked) == {"valid": int(clear.sum()), "masked": int((~clear).sum())}
    np.testing.assert_array_equal(masked.clear_fraction, flagged.clear_fraction)
    only = copy.load(grid, mask="apply", clear=(4,))
    np.testing.assert_array_equal(only.B04, np.where(flagged.SCL == 4, flagged.B04, FILL))
    assert only.cloud_mask.attrs["clear_classes"] == [4]


def test_a_cloudy_pixel_without_one_band_does_not_keep_the_others(scenes: Scenes) -> None:
    copy = scenes(["20210821"])
    copy.rewrite(0, "B8A", np.zeros_like)
    ds = copy.load(mask="apply")
    hidden = ds.cloud_mask.values == 1
    assert hidden.any()
    assert (ds.B04.values[hidden] == FILL).all()
    account(ds)


def test_too_many_clouds_by_the_catalogue(scenes: Scenes) -> None:
    copy = scenes(["20210403", "20210702"])
    assert copy.load(max_cloud_cover=40).sizes["time"] == 1
    with pytest.raises(NothingFoundError, match=r"No scene of .* \(1 with more clouds than 10 %\)"):
        scenes(["20210702"]).load(max_cloud_cover=10)


def test_what_is_known_of_every_scene_stands_beside_it(world: World, scenes: Scenes) -> None:
    ds = scenes(CLEAR[:3]).load()
    assert ds.relative_orbit.values.tolist() == [22, 65, 22]
    assert ds.processing_baseline.values.tolist() == ["03.00", "03.00", "05.00"]
    middle = np.array([GRID.x[16]]), np.array([GRID.y[14]])
    for step in range(3):
        sun, _, view, _ = world.angles(str(ds.item_id.values[step]), "B04", *middle, 32633)
        assert float(ds.sun_zenith[step]) == pytest.approx(float(sun[0]), abs=0.02)
        assert float(ds.view_zenith[step]) == pytest.approx(float(view[0]), abs=0.05)


@pytest.mark.filterwarnings("error")
def test_nothing_warns_on_good_scenes(scenes: Scenes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scenes(CLEAR).load()
