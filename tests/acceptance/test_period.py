"""A regular time axis: bins by label, the clearest scene in each, empty ones empty."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import cubekit
from cubekit.demo import World
from cubekit.layers.sentinel2 import Sentinel2
from tests.acceptance.conftest import BANDS, FILL, GRID, Copy, request

Scenes = Callable[..., Copy]
DAYS = ["20210403", "20210411", "20210413", "20210423"]


def binned(copy: Copy, start: str, end: str, period: str = "5D", **options: object) -> xr.Dataset:
    return Sentinel2(catalog=copy.save(), bands=BANDS, period=period, **options).load(request(start=start, end=end))  # type: ignore[arg-type]


def test_bins_have_bounds_and_empty_ones_say_so(scenes: Scenes) -> None:
    ds = binned(scenes(DAYS), "2021-04-01", "2021-04-23", nbar={"factors": True, "angles": True})
    days = ds.time.values.astype("datetime64[D]").astype(str).tolist()
    assert days == ["2021-04-01", "2021-04-06", "2021-04-11", "2021-04-16", "2021-04-21"]
    bounds = ds.time_bnds.values.astype("datetime64[D]").astype(str)
    assert bounds[:, 0].tolist() == days
    assert bounds[:, 1].tolist() == [*days[1:], "2021-04-24"]
    assert ds.time.attrs["bounds"] == "time_bnds"
    filled = np.array([True, False, True, False, True])
    assert ((ds.pixel_status == 5).all(("y", "x")).values == ~filled).all()
    for band in BANDS:
        assert ((ds[band] == FILL).all(("y", "x")).values == ~filled).all()
    assert ds.clear_fraction.isnull().values.tolist() == (~filled).tolist()
    for name in ("B04_c", "sun_zenith_angle", "view_zenith_angle", "relative_azimuth_angle"):
        assert (ds[name].isnull().all(("y", "x")).values == ~filled).all()
    assert (ds.cloud_mask.values[~filled] == 255).all()
    assert (ds.SCL.values[~filled] == 0).all()
    assert (ds.item_id.values == "").tolist() == (~filled).tolist()
    assert (ds.nbar_status.values[~filled, :2] == 5).all()


def test_a_bin_takes_its_clearest_scene_and_the_earliest_of_equals(scenes: Scenes, world: World) -> None:
    copy = scenes(DAYS)
    native = copy.load()
    ds = binned(copy, "2021-04-01", "2021-04-30", "30D")
    best = int(native.clear_fraction.argmax())
    assert ds.sizes["time"] == 1
    np.testing.assert_array_equal(ds.B04[0], native.B04[best])
    assert float(ds.clear_fraction[0]) == float(native.clear_fraction[best])
    same = [step for step in range(4) if native.clear_fraction[step] == native.clear_fraction[best]]
    assert best == same[0]
    copy.rewrite(best, "SCL", lambda pixels: np.full_like(pixels, 9))
    second = binned(copy, "2021-04-01", "2021-04-30", "30D")
    assert str(second.item_id.values[0]) != str(ds.item_id.values[0])


def test_a_scene_without_known_clouds_is_the_last_choice(scenes: Scenes) -> None:
    copy = scenes(DAYS[:2])
    copy.file(0, "SCL").unlink()
    ds = binned(copy, "2021-04-01", "2021-04-30", "30D", max_holes=1.0)
    assert str(ds.item_id.values[0]) == copy.items[1]["id"]


def test_the_last_day_and_the_last_short_bin(scenes: Scenes) -> None:
    ds = binned(scenes(DAYS), "2021-04-03", "2021-04-23", "20D")
    bounds = ds.time_bnds.values.astype("datetime64[D]").astype(str).tolist()
    assert bounds == [["2021-04-03", "2021-04-23"], ["2021-04-23", "2021-04-24"]]
    assert (ds.item_id.values != "").all()


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_committed_cube_with_a_period(scenes: Scenes, tmp_path: Path, dtype: str) -> None:
    from cubekit.cube import validate

    lon, lat = GRID.center_lonlat
    layer = {"kind": "sentinel2", "catalog": scenes(DAYS).save(), "bands": list(BANDS), "period": "5D", "dtype": dtype}
    recipe = {"time": {"start": "2021-04-01", "end": "2021-04-30"}, "grid": {"edge_size": 24}, "layers": [layer]}
    cube = cubekit.build(lat, lon, recipe=recipe, out=tmp_path / "cube.zarr")
    assert [str(problem) for problem in validate(str(tmp_path / "cube.zarr"))] == []
    assert cube.sizes["time"] == 6
    empty = np.array([False, True, False, True, False, True])
    assert np.isnat(cube["acquisition_time"].values).tolist() == empty.tolist()
    taken = cube["acquisition_time"].values[~empty].astype("datetime64[s]").astype(str).tolist()
    assert taken == ["2021-04-03T10:10:21", "2021-04-11T10:20:29", "2021-04-23T10:10:21"]
    assert cube["B04"].isnull().all(("y", "x")).values.tolist() == empty.tolist()
    assert cube["B04"].dtype == np.float32
    assert cube["B04"].encoding["dtype"] == np.dtype(dtype)
