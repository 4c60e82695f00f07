"""A committed cube in other people's hands: xarray, rioxarray, NetCDF, and our own validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

import cubekit
from cubekit.demo import World
from cubekit.grid import Grid

pytestmark = pytest.mark.filterwarnings("ignore:.*sun zenith reaches:cubekit.errors.ScienceWarning")


@pytest.fixture(scope="module", params=["without events", pytest.param("all", marks=pytest.mark.slow)])
def path(world: World, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The demo recipe's layers in a small cube; finding events takes thirty years of climate."""
    lon, lat = world.sites["centre"]
    recipe = yaml.safe_load((Path(__file__).resolve().parents[2] / "recipes/demo/recipe.yaml").read_text())
    if request.param != "all":
        recipe["layers"] = [layer for layer in recipe["layers"] if layer["kind"] != "events"]
    out = tmp_path_factory.mktemp("open") / "cube.zarr"
    cubekit.build(lat, lon, "2021-05-01", "2021-08-31", recipe=recipe, edge_size=31, out=out)
    return out


def test_the_cube_has_no_problems(path: Path) -> None:
    assert [str(problem) for problem in cubekit.validate(str(path))] == []


def test_xarray_opens_every_group_without_us(path: Path) -> None:
    tree = xr.open_datatree(path, engine="zarr", decode_coords="all")
    ours = cubekit.open(path)
    assert set(tree.groups) == set(ours.groups) >= {"/", "/climate"}
    for name in tree.groups:
        theirs, own = tree[name].to_dataset(inherit=False).load(), ours[name].to_dataset(inherit=False).load()
        xr.testing.assert_allclose(theirs, own)
        assert theirs.attrs == own.attrs
        for key in own.variables:
            assert set(theirs[key].attrs) == set(own[key].attrs), key
    with xr.open_zarr(path) as root:
        assert root.B04.chunks is not None
        assert root.B04.dims == ("time", "y", "x")


def test_rioxarray_knows_where_it_is(world: World, path: Path) -> None:
    import rioxarray  # noqa: F401

    lon, lat = world.sites["centre"]
    grid = Grid.around(lat, lon, 31)
    ds = cubekit.open(path).to_dataset()
    assert ds.rio.crs.to_epsg() == grid.epsg
    assert ds.rio.bounds() == pytest.approx(grid.bounds)
    assert tuple(ds.rio.transform())[:6] == pytest.approx(tuple(grid.affine)[:6])
    assert ds.B04.rio.crs.to_epsg() == grid.epsg
    west, south, east, north = ds.B04.isel(time=0).rio.reproject("EPSG:4326").rio.bounds()
    assert west < lon < east
    assert south < lat < north


def test_every_group_survives_netcdf(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("netCDF4")
    tree = cubekit.open(path)
    for number, name in enumerate(tree.groups):
        before = tree[name].to_dataset(inherit=False).load()
        file = tmp_path / f"{number}.nc"
        before.to_netcdf(file, engine="netcdf4")
        with xr.open_dataset(file, engine="netcdf4", decode_coords="all") as after:
            after.load()
            assert set(after.variables) == set(before.variables)
            # Packed bands come back in double precision.
            xr.testing.assert_allclose(after, before, rtol=1e-6)
            for variable in ("", *before.variables):
                old, new = (before.attrs, after.attrs) if not variable else (before[variable].attrs, after[variable].attrs)
                # NetCDF has no vector of one element.
                assert set(new) == set(old), f"{name}{variable}"
                for key, value in old.items():
                    np.testing.assert_array_equal(np.squeeze(new[key]), np.squeeze(value), err_msg=f"{name} {variable} {key}")


def test_the_whole_tree_survives_netcdf(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("netCDF4")
    tree = cubekit.open(path).load()
    tree.to_netcdf(tmp_path / "tree.nc")
    with xr.open_datatree(tmp_path / "tree.nc", decode_coords="all") as again:
        for name in tree.groups:
            xr.testing.assert_allclose(again[name].to_dataset(inherit=False).load(), tree[name].to_dataset(inherit=False), rtol=1e-6)
