"""The nearest valid cell: brute force on the sphere, the seam at 180, islands and oceans."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from cubekit.climate import great_circle_km, nearest_land_cell, wrap_longitude
from cubekit.errors import InputError, NothingFoundError

SPHERE = Geod(a=6371008.8, b=6371008.8)


def grid(latitudes, longitudes, values=None) -> xr.DataArray:
    shape = (len(latitudes), len(longitudes))
    data = np.ones(shape) if values is None else np.asarray(values)
    return xr.DataArray(data, dims=("latitude", "longitude"), coords={"latitude": latitudes, "longitude": longitudes})


WORLD = np.round(np.arange(0, 360, 10.0), 1)
ROWS = np.arange(85, -86, -10.0)


@given(st.floats(-89, 89), st.floats(-360, 360), st.integers(0, 2**31), st.booleans())
@settings(max_examples=60, deadline=None)
def test_nearest_equals_brute_force(lat, lon, seed, west):
    mask = np.random.default_rng(seed).random((len(ROWS), len(WORLD))) < 0.3
    longitudes = (WORLD + 180) % 360 - 180 if west else WORLD
    cell = nearest_land_cell(lat, lon, grid(ROWS, longitudes, np.where(mask, 1.0, np.nan)), max_distance=1e5)
    best = min(
        SPHERE.inv(lon, lat, longitudes[c], ROWS[r])[2] / 1e3 for r in range(len(ROWS)) for c in range(len(WORLD)) if mask[r, c]
    )  # fmt: skip
    assert mask[cell.row, cell.column]
    assert cell.distance == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize("lon", [179.96, -179.96, 180.0, -180.0])
def test_longitude_wraps_at_180(lon):
    for longitudes in (np.arange(0, 360, 0.1).round(1), np.arange(-180, 180, 0.1).round(1), np.arange(-179.9, 180.05, 0.1).round(1)):
        cell = nearest_land_cell(-16.0, lon, grid([-15.9, -16.0, -16.1], longitudes))
        assert cell.distance < 5
        assert abs(abs(cell.longitude) - 180) < 0.05


def test_coastal_site_takes_the_next_land_cell_and_says_how_far():
    values = np.array([[np.nan, np.nan, 1.0], [np.nan, np.nan, np.nan]])
    cell = nearest_land_cell(50.0, 10.0, grid([50.0, 49.9], [10.0, 10.1, 10.2], values))
    assert (cell.row, cell.column) == (0, 2)
    assert cell.distance == pytest.approx(0.2 * 111.195 * np.cos(np.radians(50)), abs=0.01)


def test_ocean_site_names_the_distance_to_land():
    values = np.full((1, 50), np.nan)
    values[0, -1] = 1.0
    with pytest.raises(
        NothingFoundError, match=r"No land cell within 25 km of latitude 0, longitude 0: the nearest land cell is 544\.9 km away"
    ):
        nearest_land_cell(0.0, 0.0, grid([0.0], np.arange(50) / 10, values))
    with pytest.raises(NothingFoundError, match="the field holds no land cell at all"):
        nearest_land_cell(0.0, 0.0, grid([0.0], [0.0], [[np.nan]]))


def test_mask_and_time_are_accepted():
    mask = grid([1.0, 0.0], [0.0, 1.0], [[False, True], [False, False]])
    assert nearest_land_cell(0.0, 0.0, mask, max_distance=500).column == 1
    field = xr.concat([grid([1.0, 0.0], [0.0, 1.0], [[np.nan, np.nan], [1.0, np.nan]])] * 2, "time").transpose(
        "latitude", "time", "longitude"
    )
    assert nearest_land_cell(0.0, 0.0, field).row == 1


def test_elevation_difference_is_cell_less_site():
    heights = grid([0.0], [0.0, 0.1], [[120.0, 300.0]])
    cell = nearest_land_cell(0.0, 0.09, grid([0.0], [0.0, 0.1]), elevation=heights, site_elevation=500.0)
    assert cell.elevation_difference == -200.0
    assert np.isnan(nearest_land_cell(0.0, 0.0, grid([0.0], [0.0])).elevation_difference)


def test_equal_distances_take_the_first_row_and_column():
    cell = nearest_land_cell(0.05, 0.05, grid([0.1, 0.0], [0.0, 0.1]))
    assert (cell.row, cell.column) == (0, 0)


@pytest.mark.parametrize(("lat", "lon"), [(91, 0), (float("nan"), 0), (0, 400), (0, float("inf"))])
def test_impossible_places_are_refused(lat, lon):
    with pytest.raises(InputError, match="is not within"):
        nearest_land_cell(lat, lon, grid([0.0], [0.0]))


def test_wrap_and_distance():
    assert wrap_longitude([180.0, -180.0, 359.9, -190.0]).round(6).tolist() == [-180.0, -180.0, -0.1, 170.0]
    assert great_circle_km(0, 0, 0, 180) == pytest.approx(np.pi * 6371.0088)
    assert great_circle_km(10, 359.95, 10, -0.05) == pytest.approx(0, abs=1e-6)
