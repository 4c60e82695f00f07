"""Dheed cubes as a source, and events at one site."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cubekit.errors import InputError, ScienceWarning
from cubekit.event_cube import open_events, read_event_table
from cubekit.events import (
    DHEED_DEFECTS,
    FLAGS,
    Levels,
    cell_events,
    detect,
    dheed_defects,
    event_table,
    events_touching,
    read_dheed,
    site_events,
)
from tests.events.world import daily_world

LOOSE = Levels(0.9, 0.1, 0.2, 0.8)


def dheed_like(days=400, masked=False):
    """A cube in Dheed's layout: (longitude, latitude, time), 0-360, south to north allowed, no missing code, 3-day runs unlabelled."""
    lon, lat = np.arange(0.0, 360.0, 30.0), np.array([-10.0, 20.0, 50.0])
    codes = np.full((12, 3, days), 16, np.uint8)
    codes[0, 2, 200:206] = codes[11, 2, 203:208] = 1 | 2
    codes[5, 1, 300:303] = 1 | 8
    codes[3, 0, 20:25] = 4
    labels = np.zeros(codes.shape, np.int64)
    labels[0, 2, 200:206] = labels[11, 2, 203:208] = 77
    coords = {"longitude": lon, "latitude": lat, "time": pd.date_range("2000-01-01", periods=days)}
    layer = codes.astype("f4") if masked else codes
    if masked:
        layer[7] = np.nan
    dims = ("longitude", "latitude", "time")
    return xr.Dataset({"layer": (dims, layer)}, coords=coords), xr.Dataset({"labels": (dims, labels)}, coords=coords)


def read(*args):
    with pytest.warns(ScienceWarning, match="a Dheed cube: .*constants .* swapped"):
        return read_dheed(*args)


def test_dheed_is_read_in_our_terms():
    ds = read(*dheed_like())
    assert ds["events"].dims == ds["event_labels"].dims == ("time", "latitude", "longitude")
    assert (ds["events"].dtype, ds["event_labels"].dtype) == (np.uint8, np.uint32)
    assert ds["latitude"].values.tolist() == [50, 20, -10]
    assert ds["longitude"].values.tolist() == list(range(-180, 180, 30))
    assert ds["events"].attrs["flag_meanings"].split() == list(FLAGS)
    day = ds.sel(time="2000-07-24")
    np.testing.assert_array_equal(day["events"].sel(latitude=50, longitude=[-60, -30, 0, 30]), [16, 3, 3, 16])
    np.testing.assert_array_equal(day["event_labels"].sel(latitude=50, longitude=[-60, -30, 0, 30]), [0, 77, 77, 0])


def test_dheed_events_get_our_statistics_across_0_degrees():
    ds = read(*dheed_like())
    table = event_table(ds["event_labels"], ds["events"], xr.Dataset()).events
    assert table[["label", "duration", "lon_west", "lon_east", "lon_extent"]].values.tolist() == [[77, 8, -45, 15, 60]]
    assert np.isnan(table["t2m_max_mean"].iloc[0])
    assert table["share_dry_30"].iloc[0] == pytest.approx(1)


def test_dheed_masked_values_are_missing():
    ds = read(dheed_like(masked=True)[0])
    assert (ds["events"].sel(longitude=-150) == FLAGS["missing"]).all()
    assert (ds["events"].sel(longitude=0) != FLAGS["missing"]).all()


def test_dheed_defects_are_reported():
    """What the data show: drought codes before the windows are full, no missing code, and no label on any 3-day run."""
    ds = read(*dheed_like())
    assert dheed_defects(ds) == ["pei_taper", "no_missing", "min_run_4"]
    for key in ("pet_constants", "pei_taper", "window_restart", "ties", "no_missing"):
        assert DHEED_DEFECTS[key] in ds.attrs["known_defects"]


def test_our_own_cubes_show_no_dheed_defect():
    found = detect(daily_world(days=900, seed=2), levels=LOOSE)
    assert found.cube["event_labels"].max() > 0
    assert dheed_defects(found.cube) == []


def test_label_cube_of_fewer_days_is_aligned_by_label():
    layer, labels = dheed_like()
    ds = read(layer, labels.isel(time=slice(150, 350), latitude=slice(1, 3)))
    whole = read(layer, labels)
    xr.testing.assert_equal(ds, whole)
    with pytest.raises(InputError, match="label cube has 50 values of time that the event cube lacks"):
        read_dheed(layer.isel(time=slice(0, 350)), labels)


def test_dheed_stores_open_as_event_cubes(tmp_path):
    layer, labels = dheed_like()
    layer.to_zarr(tmp_path / "l.zarr", zarr_format=2, consolidated=True)
    labels.to_zarr(tmp_path / "n.zarr", zarr_format=2, consolidated=True)
    with pytest.warns(ScienceWarning):
        ds = open_events(tmp_path / "l.zarr", tmp_path / "n.zarr")
    assert ds["events"].chunks is not None
    xr.testing.assert_equal(ds.compute(), read(layer, labels))
    with pytest.warns(ScienceWarning):
        assert len(read_event_table(tmp_path / "l.zarr", tmp_path / "n.zarr").events) == 1
    with pytest.warns(ScienceWarning), pytest.raises(InputError, match="has no event labels"):
        read_event_table(tmp_path / "l.zarr")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.rename(layer="x"), "neither 'layer' nor 'labels'"),
        (lambda d: d.assign(layer=d.layer + 64), "unknown bits"),
    ],
)
def test_no_dheed_cube(change, message):
    with pytest.raises(InputError, match=message):
        read_dheed(change(dheed_like()[0]))


@pytest.fixture(scope="module")
def region():
    return daily_world(days=1100, lat=np.linspace(60, 40, 5), lon=np.arange(0, 360, 60.0), seed=5)


def test_a_site_has_the_codes_and_pei_of_its_cell(region):
    cube = detect(region, levels=LOOSE).cube
    cell = region.isel(latitude=2, longitude=1)
    site = site_events(cell, levels=LOOSE)
    assert set(site.dims) == {"time"}
    for name in ("events", "pei_30", "pei_90", "pei_180"):
        np.testing.assert_array_equal(site[name], cube[name][:, 2, 1])
    np.testing.assert_array_equal(site["event_labels"] > 0, cube["event_labels"][:, 2, 1] > 0)
    starts = np.flatnonzero((site["event_labels"].values[1:] > 0) & (site["event_labels"].values[:-1] == 0))
    assert site["event_labels"].max() == starts.size
    assert float(site["latitude"]) == 50
    bare = site_events(cell.drop_vars(["latitude", "longitude"]), levels=LOOSE)
    np.testing.assert_array_equal(bare["events"], site["events"])
    xr.testing.assert_identical(site_events(region.isel(latitude=[2], longitude=[1]), levels=LOOSE), site)


def test_a_site_is_coded_by_the_table_of_its_cell(region):
    found = detect(region, levels=LOOSE)
    site = site_events(region.isel(latitude=[2], longitude=[1]), thresholds=found.thresholds.isel(latitude=[2], longitude=[1]))
    np.testing.assert_array_equal(site["events"], found.cube["events"][:, 2, 1])


def test_events_that_touch_a_site(region):
    found = detect(region, levels=LOOSE)
    site = cell_events(found.cube, lon=-61, lat=51)
    assert (float(site["latitude"]), float(site["longitude"])) == (50, 300)
    rows = events_touching(site, found.tables.events)
    labels = site["event_labels"].values
    assert rows["label"].tolist() == sorted(set(labels[labels > 0].tolist()))
    assert len(rows) > 2
    assert rows["site_days"].sum() == (labels > 0).sum()
    for _, row in rows.iterrows():
        assert row["start"] <= row["site_start"] <= row["site_end"] <= row["end"]
        at = site["time"].values[labels == row["label"]]
        assert (row["site_start"], row["site_end"]) == (at[0], at[-1])


def test_a_site_without_events_touches_none(region):
    found = detect(region)
    site = cell_events(found.cube, lon=0, lat=50)
    quiet = site.assign(event_labels=site["event_labels"] * 0)
    assert events_touching(quiet, found.tables.events).empty


def test_bad_sites(region):
    found = detect(region)
    with pytest.raises(InputError, match="a site has one cell"):
        site_events(region)
    with pytest.raises(InputError, match=r"the point \(0, -80\) is outside the grid"):
        cell_events(found.cube.isel(longitude=slice(0, 3)), lon=0, lat=-80)
    with pytest.raises(InputError, match="dimension time alone"):
        events_touching(found.cube, found.tables.events)
    site = cell_events(found.cube, lon=0, lat=50)
    with pytest.raises(InputError, match=r"labels \[999\] of the site are not in the table"):
        events_touching(site.assign(event_labels=site["event_labels"] * 0 + 999), found.tables.events)
