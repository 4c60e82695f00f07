"""Climate and events beside the imagery, against the simulated world's store and what was planted in it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cubekit.demo import World
from cubekit.errors import InputError, NothingFoundError, ReadError
from cubekit.events import detect, site_events
from cubekit.grid import Grid
from cubekit.layers import LayerRequest, Session
from cubekit.layers.climate import Era5Land, Events
from cubekit.site import Site, TimeRange

CELLS = [(51.4, 11.9), (51.4, 12.1), (51.3, 12.0), (51.2, 11.9)]
SESSION = Session()


def ask(lat: float, lon: float, start: str, end: str, session: Session | None = None) -> LayerRequest:
    return LayerRequest(Site(lat, lon, "site"), Grid.around(lat, lon, 16, 20), TimeRange(start, end), session or SESSION)


@pytest.fixture(scope="module")
def store(world: World) -> xr.Dataset:
    return xr.open_zarr(world.climate, consolidated=False)


@pytest.fixture(scope="module")
def source(world: World) -> str:
    return str(world.climate)


def hours(store: xr.Dataset, name: str, lat: float, lon: float) -> pd.Series:
    """Hourly states as stored, or hourly amounts out of running totals since 00 UTC."""
    series = store[name].sel(latitude=lat, longitude=lon).to_series().astype(float)
    if store[name].attrs["GRIB_stepType"] == "instant":
        return series
    before = series.shift(1)
    before[series.index.hour == 1] = 0.0
    return series - before


@pytest.mark.parametrize(("lat", "lon"), CELLS)
@pytest.mark.parametrize("day", ["utc", "solar"])
def test_daily_table_is_that_of_the_nearest_cell(store: xr.Dataset, source: str, day: str, lat: float, lon: float) -> None:
    # A little off the cell's centre; local mean solar time is 48 minutes, so a whole hour, ahead of UTC here.
    table = Era5Land(source=source, day=day, pei=False).load(ask(lat + 0.012, lon - 0.02, "2021-06-10", "2021-07-20"))
    ahead = pd.Timedelta(hours=1 if day == "solar" else 0)
    t2m, tp = hours(store, "t2m", lat, lon), hours(store, "tp", lat, lon) * 1e3
    states = t2m.groupby((t2m.index + ahead).floor("D"))
    ends = tp.groupby((tp.index + ahead - pd.Timedelta(hours=1)).floor("D"))
    days = pd.DatetimeIndex(table["time"].values)
    assert (days[0], days[-1], days.size) == (pd.Timestamp("2021-06-10"), pd.Timestamp("2021-07-20"), 41)
    np.testing.assert_allclose(table["t2m_max"], states.max().reindex(days), rtol=1e-6)
    np.testing.assert_allclose(table["t2m_min"], states.min().reindex(days), rtol=1e-6)
    np.testing.assert_allclose(table["t2m_mean"], states.mean().reindex(days), rtol=1e-6)
    np.testing.assert_allclose(table["tp"], ends.sum().reindex(days), atol=2e-3)
    assert (float(table["cell_latitude"]), float(table["cell_longitude"])) == pytest.approx((lat, lon))
    assert 1.5 < float(table["cell_distance"]) < 2.5
    assert table.attrs["era5land_day"] == day


def test_pei_of_a_few_weeks_is_that_of_the_whole_record(source: str) -> None:
    """The 179 days before the first are read too, so nothing is undefined and nothing tapers."""
    short = Era5Land(source=source).load(ask(51.3, 12.0, "2022-06-01", "2022-08-15"))
    whole = Era5Land(source=source, pei=False).load(ask(51.3, 12.0, "1991-01-01", "2022-08-15"))
    balance = (whole["tp"].astype(float) - whole["et0"].astype(float)).to_series()
    for n in (30, 90, 180):
        truth = balance.rolling(n).mean()[short["time"].values]
        assert np.isfinite(short[f"pei_{n}"]).all()
        np.testing.assert_allclose(short[f"pei_{n}"], truth, atol=2e-4)


def test_pei_is_undefined_until_its_days_exist(source: str) -> None:
    table = Era5Land(source=source).load(ask(51.3, 12.0, "1991-01-01", "1991-12-31"))
    for n in (30, 90, 180):
        assert np.flatnonzero(np.isfinite(table[f"pei_{n}"].values))[0] == n - 1


@pytest.mark.parametrize(("lat", "lon"), CELLS)
def test_codes_and_labels_are_those_of_the_whole_record(source: str, lat: float, lon: float) -> None:
    found = Events(source=source).load(ask(lat, lon, "2021-03-01", "2022-10-31"))
    daily = Era5Land(source=source, pei=False).load(ask(lat, lon, "1991-01-01", "2022-10-31"))[["t2m_max", "tp", "et0"]]
    truth = site_events(daily.drop_vars([n for n in daily.coords if n != "time"]), reference=("1991-01-01", "2020-12-31"))
    truth = truth.sel(time=found["time"])
    np.testing.assert_array_equal(found["events"], truth["events"])
    np.testing.assert_array_equal(found["event_labels"], truth["event_labels"])
    np.testing.assert_allclose(found["pei_90"], truth["pei_90"])
    assert found["events"].dtype == np.uint8
    assert found["events"].attrs["flag_meanings"].split()[:2] == ["heat", "dry_30"]
    assert found.attrs["events_reference_period"] == "1991-01-01/2020-12-31"


@pytest.mark.parametrize(("lat", "lon"), CELLS)
def test_every_planted_event_is_found_where_it_was_planted(world: World, source: str, lat: float, lon: float) -> None:
    found = Events(source=source).load(ask(lat, lon, "1991-07-01", "2022-12-31"))
    rows = pd.DataFrame({"start": found["event_start"].values, "end": found["event_end"].values})
    planted = [row for row in world.event_table() if (lat, lon) in [tuple(np.round(cell, 6)) for cell in row["cells"]]]
    assert len(planted) >= 4
    for event in planted:
        start, end = pd.Timestamp(event["start"]), pd.Timestamp(event["end"])
        hits = rows[(rows["start"] <= end) & (rows["end"] >= start)]
        assert len(hits) >= 1, event
        assert hits["start"].min() >= start - pd.Timedelta(days=2)
        assert abs((hits["end"].max() - end).days) <= 2
    elsewhere = [row for row in world.event_table() if row not in planted]
    for event in elsewhere:
        inside = found["event_labels"].sel(time=slice(event["start"], event["end"]))
        assert int((inside > 0).sum()) == 0, event


def test_the_event_of_2022_has_its_row_and_only_columns_a_site_can_know(source: str) -> None:
    found = Events(source=source).load(ask(51.331, 12.006, "2021-01-01", "2022-12-31"))
    assert found.sizes["event"] == 1
    assert found["event"].values[0] == "20220712_N51.3000_E012.0000"
    labelled = found["time"].values[found["event_labels"].values == found["event_label"].values[0]]
    assert found["event_start"].values[0] == labelled[0]
    assert found["event_end"].values[0] == labelled[-1]
    assert found["event_duration"].values[0] == labelled.size
    peak = found["event_t2m_max_peak"]
    assert (float(peak[0]), peak.attrs["units"]) == (pytest.approx(37.5, abs=1.0), "degC")
    assert not [name for name in found.variables if "area" in str(name) or "centroid" in str(name) or "volume" in str(name)]


def test_an_ocean_site_has_no_climate(source: str) -> None:
    near = {"path": source, "name": "path", "max_distance": 5.0}
    for layer in (Era5Land(source=near), Events(source=near)):
        with pytest.raises(NothingFoundError, match=r"No land cell within 5 km of latitude 51.2, longitude 12.1"):
            layer.load(ask(51.2, 12.1, "2021-01-01", "2021-03-01"))
    far = Era5Land(source=source, pei=False).load(ask(51.2, 12.1, "2021-01-01", "2021-01-10"))
    assert float(far["cell_longitude"]) == 12.0 or float(far["cell_latitude"]) == 51.3


def test_days_beyond_the_record_are_missing_or_an_error(source: str) -> None:
    table = Era5Land(source=source, pei=False).load(ask(51.3, 12.0, "2022-12-25", "2023-01-05"))
    assert table.sizes["time"] == 12
    assert np.isnan(table["t2m_max"].sel(time=slice("2023-01-02", None))).all()
    with pytest.raises(NothingFoundError, match="holds no hour of 2030-01-01"):
        Era5Land(source=source, pei=False).load(ask(51.3, 12.0, "2030-01-01", "2030-02-01"))


def test_sites_of_a_session_share_the_opened_store(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cubekit.read.climate import _store

    opened = []
    real = _store.open_era5
    monkeypatch.setattr(_store, "open_era5", lambda *args: opened.append(args[0]) or real(*args))
    session = Session()
    for number in range(12):
        for layer in (Era5Land(source=source, pei=False), Events(source=source, reference=["2021-01-01", "2021-12-31"])):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                layer.load(ask(51.3 + 0.001 * number, 12.0, "2021-01-01", "2021-12-31", session))
    assert len(opened) == 1


def test_events_come_from_a_cube_when_one_is_named(world: World, source: str, store: xr.Dataset, tmp_path: Path) -> None:
    """A cube of two cells, detected together, gives its codes and labels at the nearest cell, whatever its longitudes are."""
    parts = [
        Era5Land(source=source, pei=False)
        .load(ask(51.3, lon, "1991-01-01", "2022-12-31"))[["t2m_max", "tp", "et0"]]
        .drop_vars(["cell_latitude", "cell_longitude", "cell_distance", "cell_elevation", "cell_elevation_difference"])
        for lon in (11.9, 12.0)
    ]
    daily = xr.concat(parts, xr.DataArray([11.9, 12.0], dims="longitude", name="longitude")).expand_dims(latitude=[51.3])
    cube = detect(daily.transpose("time", "latitude", "longitude"), reference=("1991-01-01", "2020-12-31")).cube
    path = tmp_path / "events.zarr"
    cube.to_zarr(path, consolidated=False)
    layer = Events(cube=str(path))
    found = layer.load(ask(51.31, 12.03, "2022-06-01", "2022-08-31"))
    truth = cube.sel(latitude=51.3, longitude=12.0, time=slice("2022-06-01", "2022-08-31"))
    np.testing.assert_array_equal(found["events"], truth["events"])
    np.testing.assert_array_equal(found["event_labels"], truth["event_labels"])
    assert found.attrs["events_cell_longitude"] == 12.0
    with pytest.raises(InputError, match="outside the grid"):
        layer.load(ask(51.31, 14.0, "2022-06-01", "2022-08-31"))
    with pytest.raises(NothingFoundError, match="No day of 2030"):
        layer.load(ask(51.31, 12.03, "2030-06-01", "2030-08-31"))
    with pytest.raises(ReadError, match=r"nowhere\.zarr"):
        Events(cube=str(tmp_path / "nowhere.zarr")).load(ask(51.31, 12.03, "2022-06-01", "2022-08-31"))


def test_options_are_checked_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="a path was given, but the source is 'demo'"):
        Era5Land(source={"name": "demo", "path": "x.zarr"})
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Events(min_duration=0)
    assert Era5Land(source="some/where.zarr").source.path == "some/where.zarr"
