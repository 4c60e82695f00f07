"""The grid: zones, snapping, exact sizes, odd edges, units, poles and the antimeridian."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cubekit.errors import InputError
from cubekit.grid import Grid, edge_in_pixels, transformer, utm_epsg

LATS = st.floats(-90, 90)
LONS = st.floats(-180, 180)


@given(lat=LATS, lon=LONS, edge=st.integers(1, 600), resolution=st.sampled_from([10, 20, 30, 60, 2.5, 100]))
@settings(deadline=None, max_examples=300)
def test_size_is_exact_and_edges_are_multiples_of_the_resolution(lat: float, lon: float, edge: int, resolution: float) -> None:
    grid = Grid.around(lat, lon, edge, resolution)
    west, south, east, north = grid.bounds
    assert grid.shape == (edge, edge) == (grid.y.size, grid.x.size)
    assert east - west == pytest.approx(edge * resolution, abs=1e-6)
    assert np.allclose(np.array(grid.bounds) % resolution, 0, atol=1e-6)
    assert (np.diff(grid.x) > 0).all()
    assert (np.diff(grid.y) < 0).all()
    x, y = transformer(4326, grid.epsg).transform(lon, lat)
    assert abs((west + east) / 2 - x) <= resolution / 2 + 1e-6
    assert abs((south + north) / 2 - y) <= resolution / 2 + 1e-6


@given(lat=st.floats(-79.99, 83.99), lon=st.floats(-179.9, 179.9), half=st.integers(1, 200), resolution=st.sampled_from([10, 20, 60, 100]))
@settings(deadline=None, max_examples=200)
def test_even_grids_equal_cubo(lat: float, lon: float, half: int, resolution: int) -> None:
    from cubo.utils import _central_pixel_bbox

    assume(abs((lon + 180) / 6 - round((lon + 180) / 6)) > 1e-6)  # on a border cubo takes either zone
    assume(abs(lat) > 1e-6)
    polygon, _, _, epsg = _central_pixel_bbox(lat, lon, 2 * half, resolution)
    (west, south), _, (east, north), *_ = polygon["coordinates"][0]
    grid = Grid.around(lat, lon, 2 * half, resolution)
    assert (grid.epsg, grid.bounds) == (epsg, (west, south, east, north))


@given(lat=st.floats(-80, 84), lon=LONS, edge=st.integers(0, 100).map(lambda n: 2 * n + 1))
@settings(deadline=None, max_examples=200)
def test_odd_edges_have_the_point_in_the_central_pixel(lat: float, lon: float, edge: int) -> None:
    grid = Grid.around(lat, lon, edge, 10)
    x, y = transformer(4326, grid.epsg).transform(lon, lat)
    assert abs(grid.x[edge // 2] - x) <= 5 + 1e-6
    assert abs(grid.y[edge // 2] - y) <= 5 + 1e-6


@example(lat=89.9375, lon=0.0, edge=1000)
@example(lat=-89.98, lon=10.0, edge=1000)
@given(lat=LATS, lon=LONS, edge=st.sampled_from([16, 128, 1000]))
@settings(deadline=None, max_examples=200)
def test_search_geometry_stays_on_the_globe_and_covers_the_pixels(lat: float, lon: float, edge: int) -> None:
    grid = Grid.around(lat, lon, edge, 10)
    footprint = grid.footprint()
    assert footprint.is_valid
    boxes = grid.search_boxes()
    assert all(-180 <= west < east <= 180 and -90 <= south < north <= 90 for west, south, east, north in boxes)
    if abs(lat) < 80:
        assert sum(east - west for west, _, east, _ in boxes) < 2 * edge * 10 / (111_000 * math.cos(math.radians(lat))) + 0.01
    lon_, lat_ = grid.lonlat()
    outline = footprint.buffer(1e-6)
    shapely.prepare(outline)
    assert shapely.intersects_xy(outline, lon_, lat_).all()


@pytest.mark.parametrize(("lon", "epsg"), [(179.9999, 32660), (-179.9999, 32601), (180.0, 32601), (-180.0, 32601)])
def test_the_antimeridian_splits_the_search(lon: float, epsg: int) -> None:
    grid = Grid.around(10.0, lon)
    assert grid.epsg == epsg
    boxes = grid.search_boxes()
    assert len(boxes) == 2
    assert {round(boxes[0][0]), round(boxes[1][2])} == {-180, 180}
    assert sum(east - west for west, _, east, _ in boxes) < 0.02


@pytest.mark.parametrize(
    ("lat", "lon", "epsg"),
    [
        (84.0, 0.0, 32631),
        (84.0001, 0.0, 32661),
        (90.0, 0.0, 32661),
        (-80.0, 0.0, 32731),
        (-80.0001, 0.0, 32761),
        (0.0, 0.0, 32631),
        (-1e-9, 0.0, 32731),
        (60.39, 5.32, 32631),
        (51.34, 12.0, 32633),
    ],
)
def test_zone(lat: float, lon: float, epsg: int) -> None:
    assert utm_epsg(lat, lon) == Grid.around(lat, lon).epsg == epsg


def test_a_grid_over_the_pole_contains_it() -> None:
    (box,) = Grid.around(90.0, 0.0).search_boxes()
    assert box[0] == -180
    assert box[2:] == (180, 90)


@pytest.mark.parametrize(
    ("edge", "resolution", "units", "pixels"),
    [
        (128, 10, "px", 128),
        (1280, 10, "m", 128),
        (2.56, 20, "km", 128),
        (1, 10, "mile", 161),
        (1000, 10, "foot", 30),
        (1, 60, "nautical_mile", 31),
    ],
)
def test_units(edge: float, resolution: float, units: str, pixels: int) -> None:
    assert edge_in_pixels(edge, resolution, units) == pixels


def test_units_are_those_of_scipy() -> None:
    from scipy import constants

    for unit in ["inch", "yard", "survey_foot", "nautical_mile", "mile"]:
        assert edge_in_pixels(100_000 / getattr(constants, unit), 10, unit) == 10_000


@pytest.mark.parametrize(("px", "py"), [(0.0, 40.0), (15.0, 15.0), (7.5, 0.0)])
def test_phase(px: float, py: float) -> None:
    grid = Grid.around(-33.9, 18.4, 64, 60, phase=(px, py))
    assert grid.left % 60 == px
    assert grid.top % 60 == py


def test_distance_is_zero_at_the_centre_and_oriented_y_x() -> None:
    grid = Grid(32633, 10, 300_000, 5_700_000, 7, 5)
    lon, lat = transformer(32633, 4326).transform(300_005, 5_699_995)
    distance = grid.distance_from(lat, lon)
    assert distance.shape == (5, 7)
    assert distance[0, 0] == pytest.approx(0, abs=1e-6)
    assert distance[0, 6] == pytest.approx(60, abs=1e-6)
    assert distance[4, 0] == pytest.approx(40, abs=1e-6)


def test_at_resolution() -> None:
    grid = Grid.around(51, 12, 128, 10)
    assert grid.at_resolution(20).bounds == grid.bounds
    assert grid.at_resolution(20).shape == (64, 64)
    with pytest.raises(InputError, match="60 m"):
        grid.at_resolution(60)


def test_geobox_is_the_same_grid() -> None:
    grid = Grid.around(51, 12, 64, 20)
    box = grid.geobox
    assert box.shape == (64, 64)
    assert tuple(box.boundingbox)[:4] == grid.bounds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lat": 91, "lon": 0}, r"Latitude 91 is outside \[-90, 90\]"),
        ({"lat": 120, "lon": 50}, "swapped"),
        ({"lat": 0, "lon": 200}, r"Longitude 200 is outside.*did you mean -160"),
        ({"lat": math.nan, "lon": 0}, "Latitude nan"),
        ({"lat": "north", "lon": 0}, "must be numbers.*'north'"),
        ({"lat": 0, "lon": 0, "resolution": 0}, "resolution must be a positive number of metres, got 0"),
        ({"lat": 0, "lon": 0, "resolution": -10}, "got -10"),
        ({"lat": 0, "lon": 0, "edge_size": 0}, "edge_size must be a positive number, got 0"),
        ({"lat": 0, "lon": 0, "edge_size": 12.5}, "12.5 is not a whole number"),
        ({"lat": 0, "lon": 0, "edge_size": 1e9}, "between 1 and 32768"),
        ({"lat": 0, "lon": 0, "edge_size": 1, "units": "m"}, "0.1 px"),
        ({"lat": 0, "lon": 0, "units": "furlong"}, "Unknown unit of length 'furlong'.*nautical_mile"),
        ({"lat": 0, "lon": 0, "epsg": 4326}, "not projected in metres"),
        ({"lat": 0, "lon": 0, "epsg": 99999}, "EPSG:99999 is not known"),
    ],
)
def test_bad_input_is_told(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Grid.around(**arguments)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("lat", [-78.0, -16.8, 0.3, 65.0, 82.0])
def test_a_grid_around_the_antimeridian_is_two_polygons_wherever_it_is_cut(lat: float) -> None:
    """The cut may touch the outline at corners and along its edges."""
    for metres in np.linspace(-400, 400, 41):
        lon = 180.0 + metres / (111_320 * np.cos(np.radians(lat)))
        grid = Grid.around(lat, lon - 360.0 if lon > 180 else lon, 40)
        parts = getattr(grid.footprint(), "geoms", [grid.footprint()])
        assert all(part.geom_type == "Polygon" and part.is_valid for part in parts)
        boxes = grid.search_boxes()
        assert all(-180 <= west <= east <= 180 and east - west < 0.2 for west, _, east, _ in boxes)
        if abs(metres) < 100:
            assert {round(box[0]) for box in boxes} == {-180, 180}
