"""`cubekit.create` keeps cubo's promises: the files' numbers, cubo's names and attributes, nothing read before it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from pyproj import Transformer

import cubekit
from cubekit.demo import World
from cubekit.errors import InputError, NothingFoundError
from cubekit.testing.rangeserver import RangeServer
from cubekit.testing.stacserver import real_server

S2, COVER = "sentinel-2-l2a", "esa-worldcover"
DAYS = ("2021-06-01", "2021-07-15")


def features(world: World, collection: str = S2) -> list[dict[str, Any]]:
    return [item for item in json.loads(world.catalog.read_text())["features"] if item["collection"] == collection]


def create(world: World, site: str = "centre", *, collection: Any = S2, days: tuple[str, str] = DAYS, **options: Any) -> Any:
    lon, lat = world.sites[site]
    given = {"bands": ["B04", "B8A"], "edge_size": 32, "stac": str(world.catalog), **options}
    return cubekit.create(lat, lon, collection, *days, **given)


def pixels(world: World, item_id: str, asset: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The file's numbers at points of its own CRS, 0 outside."""
    (item,) = (item for item in features(world) if item["id"] == item_id)
    with rasterio.open(world.root / item["assets"][asset]["href"]) as source:
        image, inverse = source.read(1), ~source.transform
    column, row = (np.floor(index).astype(int) for index in inverse * tuple(np.meshgrid(x, y)))
    inside = (row >= 0) & (row < image.shape[0]) & (column >= 0) & (column < image.shape[1])
    return np.where(inside, image[np.clip(row, 0, image.shape[0] - 1), np.clip(column, 0, image.shape[1] - 1)], 0)


def test_values_are_the_numbers_in_the_files(world: World) -> None:
    cube = create(world, edge_size=40).compute()
    assert cube.dims == ("time", "band", "y", "x")
    assert cube.dtype == np.float32
    seen = 0
    for step in range(cube.sizes["time"]):
        one = cube[step]
        if str(one["proj:code"].values) != f"EPSG:{cube.attrs['epsg']}":
            continue
        for band in ("B04", "B8A"):
            expected = pixels(world, str(one.id.values), band, cube.x.values, cube.y.values).astype(np.float32)
            np.testing.assert_array_equal(one.sel(band=band), np.where(expected == 0, np.nan, expected))
            seen += int((expected > 0).sum())
    assert seen > 10_000


def test_public_names_stay_functions_whatever_is_imported() -> None:
    """A module of the same name would take a function's place once it is imported."""
    from pkgutil import iter_modules

    assert not set(cubekit.__all__) & {module.name for module in iter_modules(cubekit.__path__)}


def test_there_is_one_step_per_item_in_order_of_time(world: World) -> None:
    cube = create(world)
    ids = sorted(
        (item["properties"]["datetime"], item["id"])
        for item in features(world)
        if DAYS[0] <= item["properties"]["datetime"][:10] <= DAYS[1]
    )
    assert set(cube.id.values.tolist()) <= {name for _, name in ids}
    assert (np.diff(cube.time.values) >= np.timedelta64(0)).all()
    for step, name in enumerate(cube.id.values.tolist()):
        when = next(time for time, item_id in ids if item_id == name)
        assert str(cube.time.values[step])[:19] == when[:19]


def test_attributes_names_and_coordinates_are_those_of_cubo(world: World) -> None:
    lon, lat = world.sites["centre"]
    cube = create(world, edge_size=33)
    x, y = Transformer.from_crs(4326, 32633, always_xy=True).transform(lon, lat)
    assert cube.name == S2
    assert cube.attrs == {
        "collection": S2,
        "stac": str(world.catalog),
        "epsg": 32633,
        "resolution": 10,
        "edge_size": 33,
        "edge_size_m": 330,
        "central_lat": lat,
        "central_lon": lon,
        "central_y": pytest.approx(y),
        "central_x": pytest.approx(x),
        "time_coverage_start": DAYS[0],
        "time_coverage_end": DAYS[1],
    }
    assert cube.band.values.tolist() == ["B04", "B8A"]
    assert int(cube.epsg) == 32633
    np.testing.assert_array_equal(np.diff(cube.x), 10.0)
    np.testing.assert_array_equal(np.diff(cube.y), -10.0)
    assert abs(float(cube.x.mean()) - x) <= 5
    assert abs(float(cube.y.mean()) - y) <= 5


@pytest.mark.parametrize("edge", [7, 8])
def test_the_distance_is_that_of_each_pixel_centre_from_the_point(world: World, edge: int) -> None:
    lon, lat = world.sites["centre"][0] + 0.00007, world.sites["centre"][1] - 0.00003
    for place in ("center", "topleft"):
        cube = cubekit.create(lat, lon, S2, *DAYS, bands="B04", edge_size=edge, stac=str(world.catalog), xy_coords=place)
        distance = cube["cubo:distance_from_center"]
        assert distance.dims == ("y", "x")
        half = 5.0 if place == "topleft" else 0.0
        expected = np.hypot(cube.y.values[:, None] - half - cube.attrs["central_y"], cube.x.values[None] + half - cube.attrs["central_x"])
        np.testing.assert_allclose(distance, expected, atol=1e-6)
        assert not np.allclose(expected, expected.T), "the point must lie off the diagonal for this test to tell y from x"


def test_topleft_moves_the_coordinates_only(world: World) -> None:
    centre, corner = create(world), create(world, xy_coords="topleft")
    np.testing.assert_array_equal(corner.x, centre.x - 5)
    np.testing.assert_array_equal(corner.y, centre.y + 5)
    np.testing.assert_array_equal(corner.values, centre.values)


@pytest.mark.parametrize(("edge", "units", "pixels"), [(320, "m", 32), (0.32, "km", 32), (25, "px", 25), (250, "m", 25), (1, "px", 1)])
def test_edges_are_exactly_what_is_asked_for(world: World, edge: float, units: str, pixels: int) -> None:
    cube = create(world, edge_size=edge, units=units)
    assert (cube.sizes["y"], cube.sizes["x"], cube.attrs["edge_size"]) == (pixels, pixels, pixels)


def test_resolution_is_honoured(world: World) -> None:
    cube = create(world, resolution=20, edge_size=16, bands=["B8A"]).compute()
    np.testing.assert_array_equal(np.diff(cube.x), 20.0)
    one = next(step for step in cube if str(step["proj:code"].values) == "EPSG:32633")
    expected = pixels(world, str(one.id.values), "B8A", cube.x.values, cube.y.values).astype(np.float32)
    np.testing.assert_array_equal(one[0], np.where(expected == 0, np.nan, expected))


def test_nothing_is_read_before_it_is_asked_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import cubekit.read._lazy as lazy

    calls: list[int] = []
    original = lazy.read_assets

    def counted(reads: Any, *rest: Any, **options: Any) -> Any:
        calls.append(len(reads))
        return original(reads, *rest, **options)

    monkeypatch.setattr(lazy, "read_assets", counted)
    cube = create(world)
    assert cube.chunks is not None
    subset = cube.isel(time=slice(0, 1))
    assert calls == []
    subset.compute()
    assert subset.sizes["band"] <= sum(calls) <= cube.chunks[0][0] * subset.sizes["band"]
    calls.clear()
    cube.compute()
    assert sum(calls) == cube.sizes["time"] * cube.sizes["band"]


@pytest.mark.parametrize("engine", ["odc", "stackstac", "rasterio"])
def test_engines_give_the_same_cube(world: World, engine: str) -> None:
    days = ("2021-06-01", "2021-06-12")
    xr.testing.assert_identical(create(world, engine=engine, days=days).compute(), create(world, days=days).compute())


def test_stackstac_options_need_their_engine_and_are_honoured(world: World) -> None:
    with pytest.raises(InputError, match=r"stackstac_kw \['dtype'\] without engine='stackstac'"):
        create(world, stackstac_kw={"dtype": "uint16"})
    cube = create(world, engine="stackstac", stackstac_kw={"dtype": "uint16", "fill_value": 0}, days=("2021-06-01", "2021-06-12"))
    assert cube.dtype == np.uint16
    plain = create(world, days=("2021-06-01", "2021-06-12"))
    np.testing.assert_array_equal(cube, plain.fillna(0).astype(np.uint16))


def both(world: World, **options: Any) -> Any:
    bands = {S2: ["B04", "B8A"], COVER: "map"}
    return create(world, collection=[S2, COVER], bands=bands, days=("2021-01-01", "2021-06-30"), **options)


def test_collections_are_merged_along_band(world: World) -> None:
    cube = both(world)
    alone = create(world, days=("2021-01-01", "2021-06-30"))
    cover = create(world, collection=COVER, bands="map", days=("2021-01-01", "2021-06-30"))
    assert cube.dims == ("time", "band", "y", "x")
    assert cube.band.values.tolist() == ["B04", "B8A", "map"]
    assert cube.collection.values.tolist() == [S2, S2, COVER]
    assert cube.attrs["collection"] == [S2, COVER]
    assert cube.sizes["time"] == alone.sizes["time"] + cover.sizes["time"]
    assert set(np.unique(cover.compute().values)) <= {10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100}
    loaded = cube.compute()
    np.testing.assert_array_equal(loaded.sel(band=["B04", "B8A"]).dropna("time", how="all").values, alone.dropna("time", how="all").values)
    np.testing.assert_array_equal(loaded.sel(band="map").dropna("time", how="all").values[0], cover.values[0, 0])


def test_collections_as_a_tree_keep_their_own_times(world: World) -> None:
    tree = both(world, datatree=True)
    assert isinstance(tree, xr.DataTree)
    assert set(tree.children) == {S2, COVER}
    assert tree[S2]["data"].dims == ("time", "band", "y", "x")
    assert tree[S2].sizes["time"] > tree[COVER].sizes["time"]
    split = both(world, datatree=True, dataset=True)
    assert set(split[S2].data_vars) == {"B04", "B8A"}
    assert set(split[COVER].data_vars) == {"map"}


def test_a_dataset_has_one_variable_per_band(world: World) -> None:
    array, ds = create(world), create(world, dataset=True)
    assert isinstance(ds, xr.Dataset)
    assert set(ds.data_vars) == {"B04", "B8A"}
    assert ds.attrs == array.attrs
    np.testing.assert_array_equal(ds.B8A, array.sel(band="B8A"))


def test_catalogues_by_collection(world: World) -> None:
    cube = both(world, stac={str(world.catalog): [S2, COVER]}, dataset=True)
    assert set(cube.data_vars) == {"B04", "B8A", "map"}
    with pytest.raises(InputError, match="Map each collection once"):
        both(world, stac={str(world.catalog): [S2]})


def test_the_demo_catalogue_goes_by_its_name(world: World) -> None:
    cube = create(world, stac="demo")
    assert cube.attrs["stac"] == "demo"
    np.testing.assert_array_equal(cube, create(world))


def test_all_rasters_by_default(world: World) -> None:
    assert {"B02", "B8A", "SCL"} <= set(create(world, bands=None, edge_size=4, days=("2021-06-01", "2021-06-12")).band.values.tolist())


def test_searches_take_query_and_max_items(world: World) -> None:
    clear = create(world, query={"eo:cloud_cover": {"lt": 1}})
    assert clear.sizes["time"] < create(world).sizes["time"]
    assert (clear["eo:cloud_cover"] < 1).all()
    assert create(world, max_items=2).sizes["time"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gee": True}, "gee=True is not supported"),
        ({"xy_coords": "middle"}, "xy_coords 'middle' is unknown"),
        ({"sortby": "id"}, "Unknown argument 'sortby'"),
        ({"bands": ["B99"]}, "No item has a band 'B99'"),
        ({"bands": []}, "list of bands is empty"),
        ({"bands": ["B04", "B04"]}, "Band 'B04' is asked for twice"),
        ({"bands": {"other": ["B04"]}}, "bands names 'other', which is not among the collections"),
        ({"collection": []}, r"collection \[\] is not a name"),
        ({"collection": [S2, S2]}, "is not a name or distinct names"),
        ({"collection": [S2, COVER], "bands": ["B04"]}, "Several collections share one list of bands"),
        ({"edge_size": 0}, "edge_size"),
        ({"edge_size": 10.5}, "10.5 is not a whole number of pixels"),
        ({"resolution": 0}, "resolution"),
        ({"units": "cubits"}, "Unknown unit of length 'cubits'"),
        ({"engine": "warp9"}, "engine 'warp9' is unknown"),
        ({"days": ("2021-06-30", "2021-06-01")}, "end 2021-06-01 is before start 2021-06-30"),
        ({"stac": "no/such/file.json"}, "There is no catalogue 'no/such/file.json'"),
    ],
)
def test_arguments_that_cannot_be_meant(world: World, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create(world, **options)


def test_nothing_found_says_where_and_when(world: World) -> None:
    with pytest.raises(NothingFoundError, match=r"No items of sentinel-2-l2a at .* in 2030-01-01/2030-02-01"):
        create(world, days=("2030-01-01", "2030-02-01"))


@pytest.fixture(scope="module")
def api(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A STAC API over a few items of the world, their files served over HTTP."""
    folder = tmp_path_factory.mktemp("api")
    with RangeServer(world.root) as files:
        chosen = [item for item in features(world) if "2021-06-01" <= item["properties"]["datetime"][:10] <= "2021-06-20"]
        for item in chosen:
            for asset in item["assets"].values():
                asset["href"] = f"{files.url}/{asset['href'].removeprefix('./')}"
        path: Path = folder / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": chosen}))
        with real_server(path) as url:
            yield url


@pytest.mark.parametrize("xy_coords", ["topleft", "center"])
def test_the_cube_is_cubos(world: World, api: str, xy_coords: str) -> None:
    cubo = pytest.importorskip("cubo")
    lon, lat = world.sites["centre"]
    call = {"bands": ["B04", "B8A"], "edge_size": 32, "stac": api, "xy_coords": xy_coords}
    theirs = cubo.create(lat, lon, S2, "2021-06-01", "2021-06-20", **call)
    ours = cubekit.create(lat, lon, S2, "2021-06-01", "2021-06-20", **call)
    for key, value in theirs.attrs.items():
        assert ours.attrs[key] == pytest.approx(value) if isinstance(value, float) else ours.attrs[key] == value, key
    assert set(ours.attrs) == set(theirs.attrs)
    assert ours.name == theirs.name
    assert ours.dims == theirs.dims
    for name in ("x", "y", "band", "cubo:distance_from_center"):
        np.testing.assert_allclose(ours[name].values, theirs[name].values, atol=1e-6) if name != "band" else None
    assert ours.band.values.tolist() == theirs.band.values.tolist()
    assert sorted(ours.id.values.tolist()) == sorted(theirs.id.values.tolist())
    same_zone = ours.isel(time=(ours["proj:code"] == "EPSG:32633").values).compute()
    assert same_zone.sizes["time"] >= 2
    reference = theirs.isel(time=[theirs.id.values.tolist().index(name) for name in same_zone.id.values.tolist()]).compute()
    # cubo reads nodata 0 as a number where the item does not declare it.
    np.testing.assert_array_equal(same_zone.fillna(0).values, np.nan_to_num(reference.values))
