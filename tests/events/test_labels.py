"""Duration filter, labels and ids against flood fill; whatever the chunking, orientation and longitude convention."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.errors import InputError
from cubekit.events import event_ids, filter_runs, label_events
from tests.events.world import components, oracle_components, oracle_filter


def cube(mask, lat=None, lon=None, start="2003-06-01"):
    nt, ny, nx = mask.shape
    lat = np.linspace(50, 50 - 2 * (ny - 1), ny) if lat is None else lat
    lon = 5.0 + np.arange(nx) if lon is None else lon
    return xr.DataArray(
        mask, dims=("time", "latitude", "longitude"), coords={"time": pd.date_range(start, periods=nt), "latitude": lat, "longitude": lon}
    )


masks = st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 7), st.integers(0, 2**31), st.sampled_from([0.15, 0.3, 0.45])).map(
    lambda p: np.random.default_rng(p[3]).random(p[:3]) < p[4]
)


@given(masks, st.sampled_from([6, 18, 26]), st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_labels_equal_flood_fill_whatever_the_slabs(mask, connectivity, slab_rows):
    labels = label_events(cube(mask), connectivity=connectivity, slab_rows=slab_rows)
    assert components(labels.values) == oracle_components(mask, connectivity, periodic=False)
    np.testing.assert_array_equal(labels.values, label_events(cube(mask), connectivity=connectivity).values)


@given(masks, st.sampled_from([6, 18, 26]), st.integers(1, 6), st.sampled_from([0.0, -180.0, 0.125]))
@settings(max_examples=150, deadline=None)
def test_labels_wrap_round_the_globe(mask, connectivity, slab_rows, west):
    nx = max(mask.shape[2], 3)
    mask = np.resize(mask, (*mask.shape[:2], nx))
    lon = west + np.arange(nx) * 360.0 / nx
    labels = label_events(cube(mask, lon=lon), connectivity=connectivity, slab_rows=slab_rows)
    assert components(labels.values) == oracle_components(mask, connectivity, periodic=True)


def test_only_a_grid_that_goes_round_wraps():
    mask = np.zeros((1, 1, 360), bool)
    mask[:, :, [0, -1]] = True
    assert label_events(cube(mask, lon=np.arange(360.0))).max() == 1
    assert label_events(cube(mask, lon=-179.5 + np.arange(360.0))).max() == 1
    assert label_events(cube(mask[:, :, [0, *range(2, 360)]], lon=np.arange(359.0))).max() == 2


@given(masks, st.sampled_from([6, 18, 26]))
@settings(max_examples=60, deadline=None)
def test_orientation_and_convention_change_no_label(mask, connectivity):
    nx = max(mask.shape[2], 4)
    mask = np.resize(mask, (*mask.shape[:2], nx))
    lon = np.arange(nx) * 360.0 / nx
    base = label_events(cube(mask, lon=lon), connectivity=connectivity)
    upside = label_events(cube(mask, lon=lon).isel(latitude=slice(None, None, -1)), connectivity=connectivity)
    xr.testing.assert_equal(upside.sortby("latitude", ascending=False), base)
    west = cube(mask, lon=(lon + 180) % 360 - 180).sortby("longitude")
    again = label_events(west.transpose("longitude", "latitude", "time"), connectivity=connectivity)
    np.testing.assert_array_equal(again.sel(longitude=(lon + 180) % 360 - 180).values, base.values)


def test_labels_count_by_start_then_north_then_west():
    mask = np.zeros((5, 3, 6), bool)
    mask[2:4, 0, 0] = mask[0:2, 2, 5] = mask[0:3, 2, 1] = mask[2, 0, 4] = True
    labels = label_events(cube(mask)).values
    assert [labels[0, 2, 1], labels[0, 2, 5], labels[2, 0, 0], labels[2, 0, 4]] == [1, 2, 3, 4]
    assert labels.dtype == np.uint32


def test_a_jump_at_180_is_read_as_going_on_eastward():
    mask = np.ones((1, 1, 4), bool)
    labels = label_events(cube(mask, lon=np.array([178.0, 179.0, -180.0, -179.0])))
    assert labels.max() == 1


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_filter_equals_counting(seed, n, days):
    mask = np.random.default_rng(seed).random((days, 2, 2)) < 0.6
    kept = filter_runs(cube(mask), n).values
    for y, x in np.ndindex(2, 2):
        np.testing.assert_array_equal(kept[:, y, x], oracle_filter(mask[:, y, x], n))


def test_dheed_v3_removed_three_day_runs():
    """Dheed v3 used a window of 7 days, which removes runs shorter than 4; a run of min_duration = 3 days stays here."""
    run = np.zeros((12, 1, 1), bool)
    run[2:5] = True
    run[7:9] = True
    dheed = np.array([run[t, 0, 0] and any(run[max(0, t - i) : t - i + 4, 0, 0].sum() == 4 for i in range(4)) for t in range(12)])
    assert not dheed.any()
    kept = filter_runs(cube(run), 3).values[:, 0, 0]
    assert np.flatnonzero(kept).tolist() == [2, 3, 4]


def test_dheed_labels_end_at_seams():
    """Dheed labels periods of years and merges them; here an event that spans New Year or any slab is one event, found at once."""
    mask = np.zeros((10, 4, 4), bool)
    mask[2:9, 1, 1] = mask[6:9, 1:4, 1] = True
    for rows in (1, 2, 3, 4):
        assert np.unique(label_events(cube(mask, start="2003-12-27"), slab_rows=rows)).tolist() == [0, 1]


def test_ids_are_the_same_in_both_conventions_and_for_more_days():
    ids = event_ids(np.array(["2003-08-01", "2010-07-05"], "datetime64[D]"), [357.75, -180.0], [48.5, -0.25])
    assert ids == ["20030801_N48.5000_W002.2500", "20100705_S00.2500_W180.0000"]
    assert event_ids(np.array(["2003-08-01"], "datetime64[D]"), [-2.25], [48.5]) == ids[:1]


@pytest.mark.parametrize("connectivity", [0, 8, 27])
def test_other_connectivities_are_refused(connectivity):
    with pytest.raises(InputError, match=f"connectivity is {connectivity}"):
        label_events(cube(np.ones((1, 1, 3), bool)), connectivity=connectivity)


def test_columns_that_overlap_themselves_are_refused():
    with pytest.raises(InputError, match="do not go east once round the globe"):
        label_events(cube(np.ones((1, 1, 361), bool), lon=np.arange(361.0)))
