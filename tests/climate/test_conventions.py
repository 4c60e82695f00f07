"""The three accumulation conventions, each against a plain loop, and what contradicts them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit import climate
from cubekit.errors import InputError
from tests.climate.conftest import START, accumulate, make_hours, running_totals


def series(values: np.ndarray, start: np.datetime64 = START) -> xr.DataArray:
    times = start + np.arange(len(values)) * np.timedelta64(1, "h")
    return xr.DataArray(values, dims="time", coords={"time": times}, name="tp")


def test_era5_land_running_totals_become_hourly_increments():
    hours = make_hours(5)["tp"]
    land = series(running_totals(hours.values, hours["time"].values))
    back = climate.hourly_from_accumulated(land)
    assert np.isnan(back.values[0])  # 00:00 of the first day needs 23:00 of the day before
    np.testing.assert_allclose(back.values[1:], hours.values[1:], atol=1e-12)


def test_first_hour_of_the_day_is_the_total_itself():
    land = series(np.array([30.0, 2.0, 5.0]))  # stamped 00, 01, 02
    assert climate.hourly_from_accumulated(land).values[1:].tolist() == [2.0, 3.0]


def test_daily_total_of_a_day_is_the_value_stamped_at_the_next_midnight():
    land = series(np.arange(49.0))
    total = climate.daily_total_from_accumulated(land)
    assert total["time"].values.astype("datetime64[D]").astype(str).tolist() == ["2018-05-31", "2018-06-01", "2018-06-02"]
    assert total.values.tolist() == [0.0, 24.0, 48.0]


def test_missing_hour_makes_a_gap_not_a_doubled_increment():
    land = series(running_totals(np.ones(30), (START + np.arange(30) * np.timedelta64(1, "h"))))
    holed = land.isel(time=[i for i in range(30) if i != 10])
    back = climate.hourly_from_accumulated(holed)
    assert np.isnan(back.sel(time=START + np.timedelta64(11, "h")).item())
    assert back.sel(time=START + np.timedelta64(12, "h")).item() == 1.0


@pytest.mark.parametrize("function", [climate.hourly_from_era5, climate.hourly_from_deaccumulated])
def test_per_hour_conventions_pass_values_unchanged(function):
    hours = make_hours(2)["ssrd"]
    np.testing.assert_array_equal(function(hours).values, hours.values)


def test_earthdatahub_accumulates_over_the_stamps_01_to_00():
    hours = make_hours(3)["ssrd"]
    stored = series(running_totals(hours.values, hours["time"].values)).rename("ssrd")
    np.testing.assert_allclose(climate.hourly_from_earthdatahub(stored).values[1:], hours.values[1:], atol=1e-6)
    np.testing.assert_array_equal(climate.to_hourly(stored, "earthdatahub"), climate.hourly_from_earthdatahub(stored))


@given(st.lists(st.floats(0, 10), min_size=25, max_size=100))
@settings(max_examples=30, deadline=None)
def test_increments_of_a_day_sum_to_its_total(amounts):
    stored = series(running_totals(np.asarray(amounts), START + np.arange(len(amounts)) * np.timedelta64(1, "h")))
    increments = climate.hourly_from_accumulated(stored).values[1:25]
    assert np.isclose(increments.sum(), climate.daily_total_from_accumulated(stored).values[1])


def test_unsorted_time_is_refused():
    with pytest.raises(InputError, match="do not increase"):
        climate.hourly_from_accumulated(series(np.arange(3.0)).isel(time=[0, 2, 1]))


def test_unknown_convention_is_refused(hours):
    with pytest.raises(InputError, match="Unknown accumulation convention 'cds'"):
        climate.daily_table(hours, "cds")


def test_auto_tells_running_totals_from_hourly_amounts(hours, land):
    assert climate.detect_convention(climate.canonical_hourly(hours)) == "era5"
    assert climate.detect_convention(climate.canonical_hourly(land)) == "era5-land"


def test_auto_decides_by_rain_alone_or_says_that_it_cannot():
    wet = make_hours(60)[["tp"]]
    wet["tp"] = wet["tp"] + 1e-5 * np.random.default_rng(1).random(wet["tp"].size)
    assert climate.detect_convention(climate.canonical_hourly(wet)) == "era5"
    assert climate.detect_convention(climate.canonical_hourly(accumulate_one(wet))) == "era5-land"
    dry = wet * 0.0
    dry["tp"].attrs = wet["tp"].attrs
    with pytest.raises(InputError, match="cannot be told from the data"):
        climate.detect_convention(climate.canonical_hourly(dry))


def test_packing_noise_of_polar_night_contradicts_nothing():
    """Old CDS files pack running totals into 16 bits: days without sun hold nothing but noise."""
    rng = np.random.default_rng(4)
    land = accumulate(make_hours(60))
    dark = xr.where(land["time"].dt.day > 4, 0.0, 1.0)
    values = np.where(dark.values > 0, land["ssrd"].values, 0.0)
    step = values.max() / 65000
    packed = (values / step + rng.uniform(-1, 1, values.size)).round() * step
    noisy = land.assign(ssrd=land["ssrd"].copy(data=packed))
    assert climate.detect_convention(climate.canonical_hourly(noisy)) == "era5-land"
    climate.daily_table(noisy[["ssrd", "t2m"]], "era5-land")


def accumulate_one(data: xr.Dataset) -> xr.Dataset:
    return data.assign(tp=data["tp"].copy(data=running_totals(data["tp"].values, data["time"].values)))


def test_wrong_convention_is_refused_not_summed(hours, land):
    with pytest.raises(InputError, match="ssrd falls within nearly every day: it holds amounts per hour"):
        climate.daily_table(hours, "era5-land")
    with pytest.raises(InputError, match="ssrd grows through nearly every day: it is a running total"):
        climate.daily_table(land, "era5")
    with pytest.raises(InputError, match="tp grows through nearly every day"):
        climate.daily_table(accumulate(make_hours(60))[["tp"]], "arco")
