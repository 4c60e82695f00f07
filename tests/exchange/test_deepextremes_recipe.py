"""The DeepExtremeCubes recipe, and its variant on the simulated world: built, exported and looked at as its users would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

import cubekit
from cubekit.climate import bin_daily
from cubekit.demo import World
from cubekit.exchange import import_cube
from cubekit.grid import Grid
from cubekit.layout import group_dataset
from cubekit.recipe import load_recipe
from cubekit_cli._errors import run
from cubekit_cli.main import app

RECIPE = Path(__file__).parents[2] / "recipes" / "deepextremes" / "recipe.yaml"
# The layout as the configuration of the published dataset names it.
BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B8A"]
WEATHER = [f"{name}_{how}" for name in ("e", "pev", "slhf", "sp", "ssr", "sshf", "t2m", "tp") for how in ("max", "mean", "min")]
LAT, LON = 51.331, 12.006


def test_the_recipe_is_the_published_one() -> None:
    recipe = load_recipe(RECIPE)
    layers = {layer.kind: layer for layer in recipe.layers}
    assert (recipe.grid.edge_size, recipe.grid.resolution, recipe.grid.units) == (128, 20, "px")
    assert (str(recipe.time.range.start), recipe.time.end) == ("2016-01-01", "2022-10-10")
    assert list(layers) == ["sentinel2", "era5land", "events", "dem", "landcover"]
    imagery: Any = layers["sentinel2"]
    assert (list(imagery.bands), imagery.period, imagery.nbar.method) == (BANDS, "5D", "c-factor")
    # 2475 days, 495 whole bins, as long as the published axis.
    assert int((recipe.time.range.end - recipe.time.range.start).astype(int)) + 1 == 495 * 5


def on_the_world(world: World) -> dict[str, Any]:
    """The recipe with its sources in the simulated world, which has no map of ESA CCI, for the summer of its event."""
    content: dict[str, Any] = yaml.safe_load(RECIPE.read_text())
    content["time"] = {"start": "2022-06-01", "end": "2022-08-07"}
    for layer in content["layers"]:
        if "catalog" in layer:
            layer["catalog"] = str(world.catalog)
        if "source" in layer:
            layer["source"] = str(world.climate)
        if layer["kind"] == "landcover":
            layer |= {"collection": "esa-worldcover", "version": 2021}
        if layer["kind"] == "events":
            layer["reference"] = [str(day) for day in layer["reference"]]
    return content


@pytest.fixture(scope="module")
def paths(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The cube, and its export by the command line."""
    folder = tmp_path_factory.mktemp("deepextremes")
    cubekit.build(LAT, LON, out=folder / "cube.zarr", recipe=on_the_world(world), site_id="dx")
    assert run(app, ["export", "--layout", "deepextremecubes", str(folder / "cube.zarr"), str(folder / "mc.zarr")]) == 0
    return folder / "cube.zarr", folder / "mc.zarr"


def test_the_cube_is_whole(paths: tuple[Path, Path]) -> None:
    cube = cubekit.open(paths[0])
    assert not [problem for problem in cubekit.validate(paths[0]) if problem.severity == "error"]
    imagery = group_dataset(cube, "/")
    assert dict(imagery.sizes) | {"time": 14, "y": 128, "x": 128} == dict(imagery.sizes)
    assert {*BANDS, "SCL", "cloud_mask", "cop_dem", "land_cover"} <= set(imagery.data_vars)
    assert set(cube.children) == {"climate", "events"}
    # The pixels of the right UTM zone: 12.006 E is in zone 33.
    assert cube.attrs["proj:code"] == "EPSG:32633"
    climate = group_dataset(cube, "climate")
    above = float(climate["cell_elevation"]) - float(imagery["cop_dem"].mean())
    assert float(climate["cell_elevation_difference"]) == pytest.approx(above, abs=1e-3)


def test_the_export_has_the_published_variables(paths: tuple[Path, Path]) -> None:
    ds = xr.open_zarr(paths[1])
    assert {*BANDS, *WEATHER, "SCL", "cloudmask_en", "cop_dem", "events", "event_labels", "land_cover"} <= set(ds.data_vars)
    assert ds["B02"].dims == ("time", "y", "x")
    assert ds.sizes["time"] == 14
    assert ds.sizes["event_time"] == 68


def test_exported_values_are_those_of_the_cube(paths: tuple[Path, Path]) -> None:
    cube, ds = cubekit.open(paths[0]), xr.open_zarr(paths[1])
    imagery = group_dataset(cube, "/")
    for band in BANDS:
        np.testing.assert_allclose(ds[band], imagery[band], atol=1e-6, equal_nan=True)
    assert np.isfinite(ds["B04"]).any()
    for name in ("SCL", "cop_dem", "land_cover"):
        np.testing.assert_array_equal(ds[name], imagery[name])
    binned = bin_daily(group_dataset(cube, "climate")[["tp", "t2m_max"]], imagery["time_bnds"].values)
    np.testing.assert_allclose(ds["tp_sum"], binned["tp"] * 1e-3, rtol=1e-5)
    np.testing.assert_allclose(ds["t2m_max"], binned["t2m_max"], rtol=1e-6)


def test_the_export_shows_the_event_that_was_planted(paths: tuple[Path, Path], world: World) -> None:
    ds = xr.open_zarr(paths[1])
    planted = next(row for row in world.event_table() if row["start"].startswith("2022"))
    hot_and_dry = (ds["events"] & 1).astype(bool) & ((ds["events"] & 14) > 0)
    days = pd.DatetimeIndex(ds["event_time"].values[hot_and_dry.values & (ds["event_labels"].values > 0)])
    assert abs((days[-1] - pd.Timestamp(planted["end"])).days) <= 2
    assert days[0] >= pd.Timestamp(planted["start"]) - pd.Timedelta(days=2)
    rain = ds["tp_sum"].sel(time=slice(planted["dry_start"], planted["end"]))
    assert float(rain.max()) == 0.0


def test_exported_reflectance_is_the_worlds_nadir_reflectance(paths: tuple[Path, Path], world: World) -> None:
    """What nobody can check in the published dataset: clear pixels against the truth that the pixels were made from."""
    ds, taken = xr.open_zarr(paths[1]), group_dataset(cubekit.open(paths[0]), "/")["acquisition_time"].values
    grid = Grid.around(LAT, LON, 128, 20)
    x, y = np.meshgrid(grid.x, grid.y)
    checked = 0
    for step in range(ds.sizes["time"]):
        clear = (ds["cloudmask_en"][step].values == 0) & np.isfinite(ds["B8A"][step].values)
        if clear.mean() < 0.5:
            continue
        truth = world.nadir_reflectance(["B8A"], x, y, grid.epsg, taken[step].astype("datetime64[D]"))[0]
        assert np.median(np.abs(ds["B8A"][step].values - truth)[clear]) < 0.004
        checked += 1
    assert checked >= 3


def test_import_finds_nothing_to_complain_of(paths: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert import_cube(paths[1])[1] == []
    assert run(app, ["import", str(paths[1])]) == 0
    assert capsys.readouterr().out.strip() == "no known defect"


def test_the_command_line_says_what_is_wrong(paths: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["export", str(paths[0]), str(paths[1])]) == 2
    assert "exists" in capsys.readouterr().err
    assert run(app, ["export", "--layout", "mine", str(paths[0]), str(tmp_path / "a")]) == 2
    assert "Layout 'mine' is unknown" in capsys.readouterr().err
    assert run(app, ["import", str(tmp_path / "nowhere")]) == 2
    assert "neither Zarr nor NetCDF" in capsys.readouterr().err
    out = tmp_path / "cube.zarr"
    assert run(app, ["import", str(paths[1]), str(out), "--json"]) == 0
    assert '"defects": []' in capsys.readouterr().out
    assert cubekit.open(out).attrs["import_source"] == "mc.zarr"
