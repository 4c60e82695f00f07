"""Elevation and land cover: the simulated world's truth, and rasters made to show seams and classes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cubekit.demo import World
from cubekit.errors import HolesError, NothingFoundError
from cubekit.grid import Grid
from cubekit.layers import LayerRequest, Session
from cubekit.layers.static import CCI, WORLDCOVER, Dem, LandCover
from cubekit.pipeline import build_cube
from cubekit.recipe import parse_recipe
from cubekit.site import Site, TimeRange
from cubekit.store import open_cube

Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]


def ask(lat: float, lon: float, pixels: int = 64, resolution: float = 20) -> LayerRequest:
    return LayerRequest(Site(lat, lon, "site"), Grid.around(lat, lon, pixels, resolution), TimeRange("2021-01-01", "2021-12-31"), Session())


def item(
    name: str, collection: str, asset: str, href: Path, transform: Sequence[float], shape: tuple[int, int], when: str, **fields
) -> dict:
    west, north = transform[2], transform[5]
    east, south = west + transform[0] * shape[1], north + transform[4] * shape[0]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]]},
        "properties": {"datetime": when, "proj:epsg": 4326},
        "assets": {asset: {"href": f"./{href.name}", "type": "image/tiff; application=geotiff", "roles": ["data"], **fields}},
        "links": [],
    }


def catalog_of(folder: Path, items: list[dict]) -> str:
    path = folder / "catalog.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return str(path)


def lon_step(south: float) -> float:
    """Copernicus DEM GLO-30 product handbook: 1 arc second, 1.5 from 50 degrees, 2 from 60."""
    return {True: 1.0, abs(south) >= 50: 1.5, abs(south) >= 60: 2.0}[True] / 3600


def dem_tiles(folder: Path, corners: list[tuple[int, int]], surface: Surface, near: tuple[float, float], reach: float = 0.02) -> str:
    """One-degree tiles (west, south), PixelIsPoint, cut to what lies near a point; posts on multiples of the step."""
    items = []
    for west, south in corners:
        dx, dy = lon_step(south), 1 / 3600
        columns, rows = round(1 / dx), 3600
        beyond = (near[0] - west + 180.0) % 360.0 - 180.0
        left, right = max(0, math.floor((beyond - reach) / dx)), min(columns, math.ceil((beyond + reach) / dx))
        top, bottom = max(0, math.floor((south + 1 - near[1] - reach) / dy)), min(rows, math.ceil((south + 1 - near[1] + reach) / dy))
        lon, lat = np.meshgrid(west + np.arange(left, right) * dx, south + 1 - np.arange(top, bottom) * dy)
        values = surface(lon, lat)
        transform = [dx, 0.0, west + (left - 0.5) * dx, 0.0, -dy, south + 1 - (top - 0.5) * dy]
        name = f"Copernicus_DSM_COG_10_N{south:02d}_00_E{west:03d}_00_DEM"
        profile = {
            "driver": "GTiff",
            "dtype": "float64",
            "count": 1,
            "width": values.shape[1],
            "height": values.shape[0],
            "crs": "EPSG:4326",
        }
        with rasterio.open(
            folder / f"{name}.tif", "w", transform=rasterio.Affine(*transform), tiled=True, blockxsize=64, blockysize=64, **profile
        ) as file:
            file.update_tags(AREA_OR_POINT="Point")
            file.write(values, 1)
        items.append(item(name, "cop-dem-glo-30", "data", Path(f"{name}.tif"), transform, values.shape, "2021-04-22T00:00:00Z"))
    return catalog_of(folder, items)


def plane(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Metres; steep enough to show a shift of a hundredth of a post."""
    return 100.0 + 30_000.0 * (lon - 12.0) + 50_000.0 * (lat - 50.0)


@pytest.mark.parametrize(
    ("lat", "lon", "corners"),
    [
        (50.0, 12.5, [(12, 50), (12, 49)]),
        (50.0, 12.0, [(12, 50), (12, 49), (11, 50), (11, 49)]),
        (50.01, 12.0, [(12, 50), (11, 50)]),
        (50.0, 12.5, [(12, 49), (12, 50)]),
    ],
)
def test_a_tilted_plane_is_exact_across_tiles_of_different_steps(
    tmp_path: Path, lat: float, lon: float, corners: list[tuple[int, int]]
) -> None:
    """North of 50 degrees posts are 1.5 arc seconds apart in longitude, south of it 1."""
    request = ask(lat, lon, 40, 30)
    found = Dem(catalog=dem_tiles(tmp_path, corners, plane, (lon, lat))).load(request)["cop_dem"]
    truth = plane(*request.grid.lonlat())
    assert found.dims == ("y", "x")
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, truth, atol=2e-4 + 1e-6 * np.abs(truth).max())


@pytest.mark.parametrize("shift", [-0.00015, -0.0001, 0.0, 0.0001, 0.00015])
def test_a_grid_that_ends_beside_a_seam_gets_the_post_beyond_it(tmp_path: Path, shift: float) -> None:
    """The last post of a tile lies one step before the tile's neighbour: pixels between the two need both tiles."""
    catalog = dem_tiles(tmp_path, [(11, 51), (12, 51)], plane, (12.0, 51.5))
    grid = Grid.around(51.5, 12.0, 2, 10)
    x = grid.left + shift * 69_000 - 20
    found = Dem(catalog=catalog).load(
        LayerRequest(Site(51.5, 12.0), Grid(grid.epsg, 10, x, grid.top, 2, 2), TimeRange("2021", "2021"), Session())
    )
    assert np.isfinite(found["cop_dem"]).all()


@pytest.mark.parametrize("lon", [179.9999, -179.9999, 180.0, 179.9935])
def test_elevation_crosses_the_antimeridian(tmp_path: Path, lon: float) -> None:
    def slope(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        return 500.0 + 20_000.0 * ((lon % 360.0) - 180.0) + 1_000.0 * (lat - 10.0)

    catalog = dem_tiles(tmp_path, [(179, 10), (-180, 10)], slope, (180.0, 10.5))
    request = ask(10.5, lon, 48, 30)
    found = Dem(catalog=catalog).load(request)["cop_dem"]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, slope(*request.grid.lonlat()), atol=2e-3)


def test_open_sea_beside_a_tile_is_missing_not_zero(tmp_path: Path) -> None:
    request = ask(51.5, 12.0, 40, 30)
    found = Dem(catalog=dem_tiles(tmp_path, [(12, 51)], plane, (12.0, 51.5))).load(request)["cop_dem"].values
    lon, _ = request.grid.lonlat()
    assert np.isnan(found[lon < 12.0]).all()
    assert np.isfinite(found[lon > 12.0]).all()


def test_elevation_of_the_world_on_both_sides_of_its_seam(world: World) -> None:
    """The seam of two tiles at 12 E runs through the grid; the error there is that of interpolation, as anywhere."""
    request = ask(51.331, 12.0, 64, 20)
    ds = Dem(catalog=str(world.catalog)).load(request)
    lon, lat = request.grid.lonlat()
    error = np.abs(ds["cop_dem"].values - world.elevation(lon, lat, 4326))
    assert lon.min() < 12.0 < lon.max()
    assert error.max() < 0.3
    beside = np.abs(lon - 12.0) < 1.5 / 3600
    assert error[beside].max() <= 1.2 * error[~beside].max()
    assert ds["cop_dem"].attrs["units"] == "m"
    assert ds["cop_dem"].attrs["standard_name"] == "surface_altitude"
    assert len(ds.attrs["item_hrefs"].split()) == 2


def test_a_tile_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    catalog = dem_tiles(tmp_path, [(12, 50)], plane, (12.5, 50.5))
    next(tmp_path.glob("*.tif")).unlink()
    with pytest.raises(HolesError, match="Copernicus_DSM_COG_10_N50_00_E012_00_DEM DEM: missing"):
        Dem(catalog=catalog).load(ask(50.5, 12.5))


@pytest.mark.parametrize("version", [2020, 2021])
def test_land_cover_is_the_nearest_class_of_the_version(world: World, version: int) -> None:
    request = ask(51.331, 12.0, 64, 20)
    ds = LandCover(catalog=str(world.catalog), version=version).load(request)
    lon, lat = request.grid.lonlat()
    centre = [(np.floor(axis * 12_000) + 0.5) / 12_000 for axis in (lon, lat)]
    # Where a pixel's centre lies on the border of two classes' pixels, rounding decides.
    border = (np.abs(lon * 12_000 - np.round(lon * 12_000)) < 1e-3) | (np.abs(lat * 12_000 - np.round(lat * 12_000)) < 1e-3)
    truth = world.land_cover(*centre, 4326, version)
    np.testing.assert_array_equal(ds["land_cover"].values[~border], truth[~border])
    assert ds["land_cover"].dtype == np.uint8
    assert ds["land_cover"].attrs["flag_values"].tolist() == list(WORLDCOVER)
    assert len(ds["land_cover"].attrs["flag_meanings"].split()) == len(WORLDCOVER)


def test_versions_differ_and_unknown_ones_are_named(world: World) -> None:
    request = ask(51.331, 12.006, 128, 20)
    maps = [LandCover(catalog=str(world.catalog), version=year).load(request)["land_cover"].values for year in (2020, 2021)]
    assert (maps[0] != maps[1]).any()
    with pytest.raises(NothingFoundError, match=r"esa-worldcover has no map of 2019 here \(there are 2020, 2021\)"):
        LandCover(catalog=str(world.catalog), version=2019).load(request)


# ESA CCI LC product user guide v2.0, table of the legend: all codes on the map but 0 (no data).
CODES = (
    10, 11, 12, 20, 30, 40, 50, 60, 61, 62, 70, 71, 72, 80, 81, 82, 90, 100, 110, 120, 121, 122, 130, 140, 150, 151, 152, 153, 160, 170, 180,
    190, 200, 201, 202, 210, 220,
)  # fmt: skip


@pytest.fixture
def cci(tmp_path: Path) -> tuple[str, np.ndarray]:
    """Two years of a map of 1/360 degree whose classes change from pixel to pixel; the first year is all water."""
    height, width = 40, 40
    transform = [1 / 360, 0.0, 11.95, 0.0, -1 / 360, 51.4]
    codes = np.array(CODES, np.uint8)
    classes = codes[(np.arange(height)[:, None] * 7 + np.arange(width)[None, :] * 5) % codes.size]
    items = []
    for year, values in ((2015, np.full_like(classes, 210)), (2016, classes)):
        name = f"ESACCI-LC-L4-LCCS-Map-300m-P1Y-{year}-v2.0.7cds-N45E000"
        path = tmp_path / f"{name}-lccs_class.tif"
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "width": width, "height": height, "crs": "EPSG:4326"}
        with rasterio.open(path, "w", transform=rasterio.Affine(*transform), **profile) as file:
            file.write(values, 1)
        entry = item(name, "esa-cci-lc", "lccs_class", path, transform, (height, width), f"{year}-07-01T00:00:00Z")
        entry["properties"] |= {"datetime": None, "start_datetime": f"{year}-01-01T00:00:00Z", "end_datetime": f"{year}-12-31T23:59:59Z"}
        items.append(entry)
    return catalog_of(tmp_path, items), classes


def test_cci_classes_of_a_year_come_from_a_file_catalogue(cci: tuple[str, np.ndarray]) -> None:
    catalog, classes = cci
    request = ask(51.331, 12.006, 128, 20)
    ds = LandCover(catalog=catalog, collection="esa-cci-lc", version=2016).load(request)
    lon, lat = request.grid.lonlat()
    rows, columns = ((51.4 - lat) * 360).astype(int), ((lon - 11.95) * 360).astype(int)
    np.testing.assert_array_equal(ds["land_cover"], classes[rows, columns])
    assert ds["land_cover"].attrs["flag_values"].tolist() == list(CODES) == list(CCI)
    assert ds["land_cover"].attrs["flag_meanings"].split()[CODES.index(210)] == "water"
    assert ds.attrs["landcover_collection"] == "esa-cci-lc"
    water = LandCover(catalog=catalog, collection="esa-cci-lc", version=2015).load(request)
    assert (water["land_cover"] == 210).all()
    with pytest.raises(NothingFoundError, match=r"no map of 2021 here \(there are 2015, 2016\)"):
        LandCover(catalog=catalog, collection="esa-cci-lc", version=2021).load(request)


def test_missing_layers_are_left_out_and_named_only_where_the_recipe_allows(world: World, tmp_path: Path) -> None:
    empty = catalog_of(tmp_path, [])
    layers = [
        {"kind": "landcover", "catalog": str(world.catalog)},
        {"kind": "dem", "catalog": empty, "missing": "fill"},
        {"kind": "era5land", "missing": "fill", "pei": False, "source": {"path": str(world.climate), "max_distance": 0.001}},
    ]
    content = {"grid": {"edge_size": 16, "resolution": 20}, "time": {"start": "2021-06-01", "end": "2021-06-10"}, "layers": layers}
    build_cube(parse_recipe(content), Site(51.331, 12.006, "s"), str(tmp_path / "cube.zarr"))
    cube = open_cube(tmp_path / "cube.zarr")
    assert cube.attrs["missing_layers"] == "dem era5land"
    assert "cop_dem" not in cube.ds
    assert "climate" not in cube.children
    layers[1]["missing"] = "fail"
    with pytest.raises(NothingFoundError, match="No item of cop-dem-glo-30"):
        build_cube(parse_recipe(content), Site(51.331, 12.006, "s"), str(tmp_path / "other.zarr"))
    assert not (tmp_path / "other.zarr").exists()
