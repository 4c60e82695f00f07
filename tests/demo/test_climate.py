"""The climate is ERA5-Land in form, plausible in every hour, and holds exactly the events that were planted."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage
from scipy.stats import rankdata

from cubekit.demo import World
from cubekit.demo._hourly import Hourly, make_hourly
from cubekit.demo._model import Model, Parameters, model

ACCUMULATED = ("tp", "ssrd", "ssr", "strd", "str", "e", "pev")
STATES = ("t2m", "d2m", "sp", "u10", "v10", "swvl1", "swvl2", "swvl3", "swvl4")


@pytest.fixture(scope="module")
def store(small: World) -> xr.Dataset:
    return xr.open_zarr(small.climate, consolidated=False).load()


def increments(ds: xr.Dataset, name: str) -> np.ndarray:
    """(day, 24, lat, lon): what fell in each hour, from sums that start anew after 00 UTC."""
    values = ds[name].values[1:].astype(float)
    days = values.reshape(-1, 24, *values.shape[1:])
    return np.diff(np.concatenate([np.zeros_like(days[:, :1]), days], axis=1), axis=1)


def test_store_has_the_form_of_era5_land(store: xr.Dataset) -> None:
    assert dict(store.sizes) == {"time": 365 * 24 + 365 * 24 + 1, "latitude": 3, "longitude": 3}
    assert set(store.data_vars) == {*ACCUMULATED, *STATES, "z"}
    assert (np.diff(store.time.values) == np.timedelta64(1, "h")).all()
    assert store.time.values[0] == np.datetime64("2021-01-01T00")
    assert store.time.values[-1] == np.datetime64("2023-01-01T00")
    assert (np.diff(store.latitude.values) < 0).all()
    for name in ACCUMULATED + STATES:
        assert store[name].dtype == np.float32
        assert store[name].dims == ("time", "latitude", "longitude")
        assert store[name].attrs["GRIB_stepType"] == ("accum" if name in ACCUMULATED else "instant")
        assert {"units", "long_name", "GRIB_paramId"} <= set(store[name].attrs)


def test_the_water_cell_has_no_data_and_all_others_do(store: xr.Dataset) -> None:
    empty = np.isnan(store.t2m.values).all(axis=0)
    assert np.argwhere(empty).tolist() == [[2, 2]]
    for name in ACCUMULATED + STATES:
        assert np.array_equal(np.isnan(store[name].values), np.broadcast_to(empty, store[name].shape))


def test_sums_start_anew_each_day_and_have_their_sign(store: xr.Dataset) -> None:
    land = ~np.isnan(store.z.values)
    for name, sign in (("tp", 1), ("ssrd", 1), ("ssr", 1), ("strd", 1), ("e", -1), ("pev", -1)):
        hours = increments(store, name)[:, :, land] * sign
        assert hours.min() >= 0, name
        assert hours.max() > 0
    assert (increments(store, "ssr")[:, :, land].sum(1) <= increments(store, "ssrd")[:, :, land].sum(1)).all()
    assert (increments(store, "e")[:, :, land].sum(1) >= increments(store, "pev")[:, :, land].sum(1)).all()


def test_hours_are_physical(store: xr.Dataset) -> None:
    land = ~np.isnan(store.z.values)
    t2m, d2m = store.t2m.values[:, land], store.d2m.values[:, land]
    assert (d2m <= t2m).all()
    assert 250 < t2m.min() < 275
    assert 300 < t2m.max() < 315
    shortwave = increments(store, "ssrd")[:, :, land] / 3600
    assert shortwave.max() < 1000
    assert shortwave[:, :2].max() == 0  # night, 00 to 02 UTC
    afternoon, dawn = store.t2m.values[13::24][:, land], store.t2m.values[3::24][:, land]
    assert (afternoon.mean(axis=0) > dawn.mean(axis=0) + 3).all()
    for layer in range(1, 5):
        assert store[f"swvl{layer}"].values[:, land].min() > 0.05
        assert store[f"swvl{layer}"].values[:, land].max() < 0.46
    assert 500 < increments(store, "tp")[:365, :, 1, 1].sum() * 1000 < 1100
    heights = store.z.values[land] / 9.80665
    assert np.corrcoef(heights, store.sp.values[:, land].mean(axis=0))[0, 1] < -0.99


@pytest.fixture(scope="module", params=[6, 21])
def decades(request: pytest.FixtureRequest) -> tuple[Model, Hourly]:
    one = model(Parameters(seed=request.param))
    return one, make_hourly(one.weather, request.param)


def test_a_naive_search_finds_exactly_the_planted_events(decades: tuple[Model, Hourly]) -> None:
    """Heat: daily maximum in its top percent; drought: any mean water balance over 30, 90, 180 days in its lowest percent."""
    one, hourly = decades
    inside = (one.weather.days >= one.parameters.climate[0]) & (one.weather.days <= one.parameters.climate[1])
    days = one.weather.days[inside]
    hottest = hourly.states["t2m"].max(axis=1)[inside]
    balance = (hourly.fluxes["tp"].sum(axis=1) + hourly.fluxes["pev"].sum(axis=1) / 2)[inside].astype(float)
    heat = np.stack([rankdata(cell) / days.size > 0.99 for cell in hottest.T], axis=1)
    drought = np.zeros_like(heat)
    for length in (30, 90, 180):
        total = np.vstack([np.zeros((1, balance.shape[1])), balance.cumsum(axis=0)])
        mean = (total[length:] - total[:-length]) / length
        for cell in range(mean.shape[1]):
            drought[length - 1 :, cell] |= rankdata(mean[:, cell]) / mean.shape[0] < 0.01
    runs, _ = ndimage.label((heat & drought).any(axis=1))
    found = [(days[part.start], days[part.stop - 1]) for (part,) in ndimage.find_objects(runs) if part.stop - part.start >= 3]
    assert len(found) == len(one.events) == 6
    for (start, end), event in zip(found, one.events, strict=True):
        assert event.start - 2 <= start <= event.start + 6
        assert abs((end - event.end).astype(int)) <= 2
        touched = (heat & drought)[(days >= start) & (days <= end)].any(axis=0).sum()
        assert touched == len(event.cells)


def test_the_vegetation_answers_the_event_in_the_imagery_and_recovers(small: World) -> None:
    from cubekit.demo import open_world  # the event lies after the small world's imagery; truth needs no rasters

    assert open_world(small.root) == small
    one = World(small.root, Parameters())
    lon, lat = one.sites["fields"]
    x, y = np.meshgrid(lon + np.linspace(-0.01, 0.01, 60), lat + np.linspace(-0.006, 0.006, 60))
    meadow = one.land_cover(x, y, 4326) == 30

    def index(day: str) -> float:
        red, nir = one.nadir_reflectance(["B04", "B08"], x, y, 4326, day)
        return float(((nir - red) / (nir + red))[meadow].mean())

    assert meadow.sum() > 100
    assert index("2022-07-26") < index("2021-07-26") - 0.25
    assert index("2022-07-26") < index("2022-08-26") < index("2022-09-26")
    assert one.stress("2022-05-01") < 1e-6
    assert 0.5 < one.stress("2022-07-27") <= 1
    assert one.stress("2022-10-30") < 0.5 * one.stress("2022-07-27")
