"""Event statistics against plain sums over cell-days, also across 0 and 180 degrees."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.errors import InputError
from cubekit.events import INDICATORS, TABLE_UNITS, Levels, compound, detect, event_table, filter_runs, label_events
from tests.events.world import RADIUS, cell_area, daily_world


def random_cube(seed, lat, lon, days=6, share=0.4):
    rng = np.random.default_rng(seed)
    shape = (days, len(lat), len(lon))
    coords = {"time": pd.date_range("2003-07-30", periods=days), "latitude": lat, "longitude": lon}
    mask = xr.DataArray(rng.random(shape) < share, dims=("time", "latitude", "longitude"), coords=coords)
    codes = mask.copy(data=np.where(mask, 1 + 2 * rng.integers(1, 8, shape), 0).astype(np.uint8))
    fields = {name: mask.copy(data=rng.normal(0 if i else 300, 3, shape).astype("f4")) for i, name in enumerate(INDICATORS)}
    for name in ("pei_180", "t2m_max"):
        fields[name] = fields[name].where(rng.random(shape) < 0.8)
    return label_events(mask), codes, xr.Dataset(fields).assign(t2m_max=fields["t2m_max"].assign_attrs(units="K"))


def shortest_arc(lons, step):
    """Width of the shortest arc over cells of width ``step``, by trying every start."""
    if len({round(x % 360, 6) for x in lons}) * step >= 360 - 1e-6:
        return 360.0
    return min(max((x - start) % 360 for x in lons) + step for start in lons)


def expected(points, step, codes, fields):
    """Statistics of one event from its list of (day, lat, lon)."""
    area = {p: cell_area(p[1], step[0], step[1]) for p in points}
    days = sorted({p[0] for p in points})
    pick = {p: {"time": p[0], "latitude": p[1], "longitude": p[2]} for p in points}
    daily = [sum(a for p, a in area.items() if p[0] == day) for day in days]
    volume = sum(area.values())
    vector = np.sum([a * np.array(unit(p[2], p[1])) for p, a in area.items()], axis=0)
    row = {
        "start": days[0],
        "end": days[-1],
        "duration": len(days),
        "cell_days": len(points),
        "n_cells": len({p[1:] for p in points}),
        "area_mean": volume / len(days),
        "area_max": max(daily),
        "area_union": sum({p[1:]: a for p, a in area.items()}.values()),
        "volume": volume,
        "lon_extent": shortest_arc([p[2] for p in points], step[1]),
        "lat_south": min(p[1] for p in points) - step[0] / 2,
        "lat_north": max(p[1] for p in points) + step[0] / 2,
        "centroid_lon": math.degrees(math.atan2(vector[1], vector[0])),
        "centroid_lat": math.degrees(math.atan2(vector[2], math.hypot(vector[0], vector[1]))),
        "share_heat": 1.0,
    }
    for i, name in enumerate(INDICATORS):
        values = {p: float(fields[name].loc[pick[p]]) for p in points}
        good = {p: v for p, v in values.items() if not math.isnan(v)}
        shift = 273.15 if i == 0 else 0
        weight = sum(area[p] for p in good)
        row[f"{name}_mean"] = sum(area[p] * v for p, v in good.items()) / weight - shift if good else np.nan
        row[f"{name}_peak"] = ((min if i else max)(good.values()) - shift) if good else np.nan
        if i:
            dry = [p for p in points if int(codes.loc[pick[p]]) & (1 << i)]
            row[f"share_dry_{name[4:]}"] = sum(area[p] for p in dry) / volume
    return row


def unit(lon, lat):
    lon, lat = math.radians(lon), math.radians(lat)
    return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)


GRIDS = {
    "regional": (np.array([52.0, 51.5, 51.0]), np.array([5.0, 5.5, 6.0, 6.5])),
    "ascending": (np.array([-1.0, 0.0, 1.0]), np.array([100.0, 102.0, 104.0])),
    "across 0, 0-360": (np.array([60.0, 45.0]), np.arange(0, 360, 40.0)),
    "across 180, -180..180": (np.array([80.0, 60.0, 40.0]), np.arange(-180, 180, 45.0)),
    "regional across 180": (np.array([10.0, 8.0]), np.array([176.0, 178.0, -180.0, -178.0])),
}


@pytest.mark.parametrize("grid", list(GRIDS))
@given(seed=st.integers(0, 2**31))
@settings(max_examples=6, deadline=None)
def test_statistics_equal_plain_sums(grid, seed):
    lat, lon = GRIDS[grid]
    labels, codes, fields = random_cube(seed, lat, lon)
    tables = event_table(labels, codes, fields)
    step = (abs(lat[1] - lat[0]), lon[1] - lon[0])
    stacked = labels.stack(p=("time", "latitude", "longitude"))
    for _, row in tables.events.iterrows():
        points = [tuple(p) for p in stacked["p"].values[stacked.values == row["label"]]]
        for name, value in expected(points, step, codes, fields).items():
            if name in ("start", "end"):
                assert row[name] == value, name
            elif name == "centroid_lon":
                assert (row[name] - value + 180) % 360 == pytest.approx(180, abs=1e-5)
            else:
                assert row[name] == pytest.approx(value, rel=1e-6, abs=1e-5, nan_ok=True), name
    assert sorted(tables.events["label"]) == sorted(set(labels.values[labels.values > 0].tolist()))


def test_cells_of_the_whole_globe_sum_to_the_sphere():
    lat, lon = np.linspace(90, -90, 19), np.arange(0, 360, 20.0)
    labels, codes, fields = random_cube(1, lat, lon, days=2, share=2)
    table = event_table(labels, codes, fields).events
    assert len(table) == 1
    row = table.iloc[0]
    assert row["area_union"] == pytest.approx(4 * math.pi * RADIUS**2, rel=1e-12)
    assert (row["lon_west"], row["lon_extent"], row["lat_north"], row["lat_south"]) == (-180, 360, 90, -90)


@pytest.mark.parametrize(("lon", "west", "east"), [(np.arange(0, 360, 10.0), -15, 25), (np.arange(-180, 180, 10.0), -15, 25)])
def test_an_event_across_0_degrees_has_a_short_extent(lon, west, east):
    row, track = one_event(lon, [350, 0, 10, 20])
    assert (row["lon_west"], row["lon_east"], row["lon_extent"]) == (west, east, 40)
    assert row["centroid_lon"] == pytest.approx(5)
    assert track["lon"].tolist() == pytest.approx([5, 5])


@pytest.mark.parametrize("lon", [np.arange(0, 360, 10.0), np.arange(-180, 180, 10.0)])
def test_an_event_across_180_degrees_has_a_short_extent(lon):
    row, track = one_event(lon, [170, 180, 190])
    assert (row["lon_west"], row["lon_east"], row["lon_extent"]) == (165, -165, 30)
    assert abs(row["centroid_lon"]) == pytest.approx(180)
    assert np.abs(track["lon"]).tolist() == pytest.approx([180, 180])


def one_event(lon, columns):
    mask = np.zeros((2, 1, lon.size), bool)
    mask[:, :, np.isin(np.round(lon) % 360, columns)] = True
    coords = {"time": pd.date_range("2003-07-30", periods=2), "latitude": [0.0], "longitude": lon}
    da = xr.DataArray(mask, dims=("time", "latitude", "longitude"), coords=coords)
    tables = event_table(label_events(da), da.astype(np.uint8) * 3, xr.Dataset())
    assert len(tables.events) == 1
    return tables.events.iloc[0], tables.track


def test_the_track_moves_with_the_event():
    mask = np.zeros((3, 1, 5), bool)
    mask[0, 0, 0:2] = mask[1, 0, 1:3] = mask[2, 0, 2:5] = True
    coords = {"time": pd.date_range("2003-07-30", periods=3), "latitude": [0.0], "longitude": np.arange(5.0)}
    da = xr.DataArray(mask, dims=("time", "latitude", "longitude"), coords=coords)
    tables = event_table(label_events(da), da.astype(np.uint8) * 3, xr.Dataset())
    assert tables.track["lon"].tolist() == pytest.approx([0.5, 1.5, 3.0])
    area = cell_area(0.0, 1.0, 1.0)
    assert tables.track["area"].tolist() == pytest.approx([2 * area, 2 * area, 3 * area])
    assert tables.events["area_max"].iloc[0] == pytest.approx(3 * area)


def test_detect_gives_the_table_of_its_own_cube():
    """Two ways to the same numbers: sums over runs while scanning, and from the finished label cube."""
    ds = daily_world(days=1100, lat=np.linspace(55, 35, 8), lon=np.linspace(-10, 20, 10), seed=8)
    found = detect(ds)
    cube = found.cube
    mask = filter_runs(compound(cube["events"]), 3)
    assert found.tables.events["volume"].gt(0).sum() > 3
    xr.testing.assert_equal(label_events(mask), cube["event_labels"])
    again = event_table(cube["event_labels"], cube["events"], cube.assign(t2m_max=ds["t2m_max"]))
    pd.testing.assert_frame_equal(again.events, found.tables.events, check_dtype=False)
    pd.testing.assert_frame_equal(again.track, found.tables.track, check_dtype=False)
    assert list(found.tables.events.columns) == list(TABLE_UNITS)
    assert found.tables.events.index.is_unique


def test_land_mask_keeps_events_off_the_sea():
    ds = daily_world(days=1100, lat=np.linspace(55, 35, 4), lon=np.linspace(-10, 20, 5), seed=8)
    land = xr.DataArray(np.ones((4, 5)), dims=("latitude", "longitude"))
    land[:, 2:] = 0.5
    levels = Levels(0.9, 0.1, 0.2, 0.8)
    assert detect(ds, levels=levels).cube["event_labels"][:, :, 2:].any()
    for data, mask in ((ds, land), (ds.assign(land_mask=land), None), (ds.assign(lsm=land), None)):
        found = detect(data, land=mask, levels=levels)
        assert found.cube["event_labels"].max() > 0
        assert not found.cube["event_labels"][:, :, 2:].any()
        assert found.tables.events["lon_east"].max() < 5


def test_a_land_mask_is_matched_by_its_coordinates():
    ds = daily_world(days=800, lat=np.linspace(55, 35, 4), lon=np.arange(0, 360, 40.0), seed=8)
    land = ds["t2m_max"][0].drop_vars("time").copy(data=np.arange(36).reshape(4, 9) % 7 < 4)
    straight = detect(ds, land=land, levels=Levels(0.9, 0.1, 0.2, 0.8))
    turned = land.assign_coords(longitude=(land["longitude"] + 180) % 360 - 180).sortby("longitude").isel(latitude=slice(None, None, -1))
    again = detect(ds, land=turned.T.rename(latitude="lat", longitude="lon"), levels=Levels(0.9, 0.1, 0.2, 0.8))
    xr.testing.assert_identical(again.cube, straight.cube)
    assert straight.cube["event_labels"].any()
    assert not straight.cube["event_labels"].where(~land, 0).any()
    with pytest.raises(InputError, match="lacks cells of the data"):
        detect(ds, land=land.isel(longitude=slice(1, None)))
    with pytest.raises(InputError, match=r"land mask has shape \(2, 2\)"):
        detect(ds, land=xr.DataArray(np.ones((2, 2)), dims=("latitude", "longitude")))


def test_a_quiet_record_has_an_empty_table_with_all_columns():
    ds = daily_world(days=400)
    found = detect(ds, min_duration=300)
    assert found.tables.events.empty
    assert found.tables.track.empty
    assert list(found.tables.events.columns) == list(TABLE_UNITS)
