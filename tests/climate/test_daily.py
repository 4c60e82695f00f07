"""Hours to days: against pandas, real files, every convention, gaps, solar days, grids."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cubekit import climate
from cubekit.errors import InputError
from cubekit.testing import shared_data
from tests.climate.conftest import accumulate, make_hours


def by_pandas(hours: xr.Dataset, name: str, how: str) -> pd.Series:
    """An independent day: states by date, fluxes by the date of the hour they end in."""
    shift = pd.Timedelta("1ns") if how == "sum" else pd.Timedelta(0)
    frame = pd.Series(hours[name].values, index=pd.DatetimeIndex(hours["time"].values) - shift)
    return getattr(frame.groupby(frame.index.floor("D")), how)()


def test_columns_units_and_cell_methods(land):
    table = climate.daily_table(land, "era5-land")
    assert list(table.data_vars) == list(climate.DAILY)
    units = {
        "t2m_mean": "K", "vpd": "kPa", "tp": "mm", "e": "mm", "pev": "mm", "et0": "mm", "ssrd": "MJ m-2", "ssr": "MJ m-2", "sp": "Pa",
        "wind_speed": "m s-1", "swvl1": "m3 m-3",
    }  # fmt: skip
    assert {name: table[name].attrs["units"] for name in units} == units
    assert table["t2m_max"].attrs["cell_methods"] == "time: maximum (interval: 1 hour)"
    assert table["tp"].attrs["cell_methods"] == "time: sum (interval: 1 hour)"
    assert table["e"].attrs["positive"] == "down"
    assert (table["e"] < 0).all()
    assert table["time"].attrs["bounds"] == "time_bnds"
    assert (table["time_bnds"].diff("bnds") == np.timedelta64(1, "D")).all()


def test_days_equal_pandas(hours, land):
    table = climate.daily_table(land, "era5-land")
    assert table.sizes["time"] == 30
    days = pd.DatetimeIndex(table["time"].values)
    for name, source, how, factor in (
        ("t2m_mean", "t2m", "mean", 1), ("t2m_min", "t2m", "min", 1), ("t2m_max", "t2m", "max", 1), ("swvl3", "swvl3", "mean", 1),
        ("tp", "tp", "sum", 1e3), ("e", "e", "sum", 1e3), ("ssrd", "ssrd", "sum", 1e-6), ("ssr", "ssr", "sum", 1e-6), ("slhf", "slhf", "sum", 1e-6),
    ):  # fmt: skip
        np.testing.assert_allclose(table[name], factor * by_pandas(hours, source, how)[days], rtol=2e-7, err_msg=name)
    assert table["wind_speed"].values == pytest.approx(
        by_pandas(hours.assign(w=np.hypot(hours["u10"], hours["v10"])), "w", "mean")[days].to_numpy(), rel=1e-6
    )


def test_vpd_is_the_mean_of_hourly_deficits(hours, land):
    es = climate.saturation_vapour_pressure(hours["t2m"] - 273.15) - climate.saturation_vapour_pressure(hours["d2m"] - 273.15)
    expected = np.asarray(es)[:720].reshape(30, 24).mean(axis=1)
    np.testing.assert_allclose(climate.daily_table(land, "era5-land")["vpd"], expected, rtol=1e-6)


def test_every_convention_gives_the_same_table(hours, land):
    reference = climate.daily_table(land, "era5-land")
    for convention, data in (("era5", hours), ("arco", hours), ("earthdatahub", land), ("auto", land), ("auto", hours)):
        table = climate.daily_table(data, convention)
        xr.testing.assert_allclose(table, reference, rtol=1e-6)


def test_deepextremecubes_took_means_of_running_totals_ours_are_sums(hours, land):
    """DeepExtremeCubes stored mean, min and max of ERA5-Land's running totals since 00 UTC."""
    table = climate.daily_table(land, "era5-land")
    running_mean = by_pandas(land, "tp", "mean").to_numpy()[:30] * 1e3
    true = by_pandas(hours, "tp", "sum")[pd.DatetimeIndex(table["time"].values)].to_numpy() * 1e3
    np.testing.assert_allclose(table["tp"], true, rtol=1e-6)
    wet = true > 1
    assert (np.abs(running_mean[wet] / true[wet] - 1) > 0.05).any()
    assert all(table[name].attrs["cell_methods"].startswith("time: sum") for name in ("tp", "ssrd", "ssr", "e", "pev"))


@pytest.mark.parametrize("missing", [0, 5, 23])
def test_day_lacking_an_hour_is_a_gap_never_a_partial_sum(hours, missing):
    holed = hours.isel(time=[i for i in range(hours.sizes["time"]) if i != 48 + missing])
    table = climate.daily_table(holed, "era5")
    assert np.isnan(table["t2m_mean"].values[2])
    assert np.isnan(table["t2m_max"].values[2])
    flux_day = 2 if missing else 1  # the hour stamped 00:00 belongs to the day before
    assert np.flatnonzero(np.isnan(table["tp"])).tolist() == [flux_day]
    assert np.isfinite(np.delete(table["t2m_mean"].values, 2)).all()


def test_running_totals_need_only_the_closing_stamp(hours, land):
    holed = land.isel(time=[i for i in range(land.sizes["time"]) if i not in (30, 31)])
    np.testing.assert_allclose(climate.daily_table(holed, "era5-land")["tp"], climate.daily_table(hours, "era5")["tp"], rtol=1e-6)
    closed = land.isel(time=[i for i in range(land.sizes["time"]) if i != 48])
    assert np.flatnonzero(np.isnan(climate.daily_table(closed, "era5-land")["tp"])).tolist() == [1]


def test_min_hours_loosens_states_only(hours):
    holed = hours.isel(time=[i for i in range(hours.sizes["time"]) if i not in (50, 51)])
    table = climate.daily_table(holed, "era5", min_hours=20)
    expected = holed["t2m"].sel(time=slice("2018-06-03T00", "2018-06-03T23"))
    assert table["t2m_mean"].values[2] == pytest.approx(float(expected.mean()), rel=1e-6)
    assert table["t2m_min"].values[2] == pytest.approx(float(expected.min()), rel=1e-6)
    assert np.isnan(table["tp"].values[2])
    with pytest.raises(InputError, match="min_hours is 0"):
        climate.daily_table(hours, "era5", min_hours=0)


def test_whole_missing_days_stay_on_the_axis_as_gaps(hours):
    kept = hours.isel(time=[i for i in range(hours.sizes["time"]) if not 240 <= i < 312])
    table = climate.daily_table(kept, "era5")
    assert table.sizes["time"] == 30
    assert np.flatnonzero(np.isnan(table["t2m_mean"])).tolist() == [10, 11, 12]


def test_nan_tail_is_kept_as_gaps(land):
    tail = land.where(land["time"] < np.datetime64("2018-06-26"))
    for name in tail.data_vars:
        tail[name].attrs = land[name].attrs
    table = climate.daily_table(tail, "era5-land")
    assert np.isnan(table["t2m_mean"].values[25:]).all()
    assert np.isfinite(table["t2m_mean"].values[:25]).all()
    assert np.isnan(table["tp"].values[24:]).all()  # day 25 closes on the 26th at 00:00
    assert np.isfinite(table["tp"].values[:24]).all()


def test_start_and_end_cut_and_extend(land):
    table = climate.daily_table(land, "era5-land", start="2018-05-30", end="2018-06-05")
    assert table["time"].values[[0, -1]].astype("datetime64[D]").astype(str).tolist() == ["2018-05-30", "2018-06-05"]
    assert np.isnan(table["t2m_mean"].values[:2]).all()
    assert np.isfinite(table["tp"].values[2:]).all()
    with pytest.raises(InputError, match="is before start"):
        climate.daily_table(land, "era5-land", start="2018-06-05", end="2018-06-01")
    with pytest.raises(InputError, match="start 'June' is not a date"):
        climate.daily_table(land, "era5-land", start="June")


@pytest.mark.parametrize(("longitude", "offset"), [(12.0, 1), (-74.0, -5), (179.9, 12), (-179.9, -12), (287.0, -5)])
def test_solar_days_are_days_of_local_mean_solar_time(hours, longitude, offset):
    there = hours.assign_coords(longitude=longitude)
    table = climate.daily_table(there, "era5", day="solar", start="2018-06-10", end="2018-06-12")
    begin = np.datetime64("2018-06-10T00", "ns") - np.timedelta64(offset, "h")
    block = there.sel(time=slice(begin, begin + np.timedelta64(23, "h")))
    closing = there.sel(time=slice(begin + np.timedelta64(1, "h"), begin + np.timedelta64(24, "h")))
    assert table["solar_offset"].item() == offset
    assert table["t2m_mean"].values[0] == pytest.approx(float(block["t2m"].mean()), rel=1e-6)
    assert table["tp"].values[0] == pytest.approx(float(closing["tp"].sum() * 1e3), rel=1e-5)
    assert table["time_bnds"].values[0, 0] == begin
    running = climate.daily_table(accumulate(there), "era5-land", day="solar", start="2018-06-10", end="2018-06-12")
    xr.testing.assert_allclose(running, table, rtol=1e-5)


def test_grid_equals_its_cells_one_by_one():
    members = [make_hours(6, seed) for seed in range(6)]
    for i, m in enumerate(members):
        members[i] = accumulate(m).drop_vars(["latitude", "longitude"])
    rows = [xr.concat(members[3 * r : 3 * r + 3], "longitude") for r in range(2)]
    grid = xr.concat(rows, "latitude").transpose("time", "latitude", "longitude")
    grid = grid.assign_coords(latitude=[40.0, 51.0], longitude=[-80.0, 0.0, 100.0])
    for options in ({}, {"day": "solar"}, {"et0": "asce"}, {"day": "solar", "et0": "asce"}):
        table = climate.daily_table(grid, "era5-land", **options)
        for row in range(2):
            for column in range(3):
                one = climate.daily_table(grid.isel(latitude=row, longitude=column), "era5-land", **options)
                cell = table.isel(latitude=row, longitude=column)
                for name in one.data_vars:
                    np.testing.assert_allclose(cell[name], one[name], rtol=1e-6, err_msg=f"{name} {options}")


def test_complete_adds_the_columns_a_source_cannot_give(hours):
    table = climate.daily_table(hours.drop_vars(["pev", "ssr", "e", "slhf", "sshf"]), "arco", complete=True)
    assert list(table.data_vars) == list(climate.DAILY)
    assert np.isnan(table["pev"]).all()
    assert table["pev"].attrs["comment"] == "not offered by the source"
    assert table.attrs["absent_variables"] == "ssr e pev slhf sshf"
    assert "pev" not in climate.daily_table(hours.drop_vars("pev"), "arco")


def test_pev_is_never_the_reference_evapotranspiration(land):
    """ERA5-Land's pev is an open-water estimate, about twice ET0; ET0 comes from the weather and does not change with it."""
    table = climate.daily_table(land, "era5-land")
    doubled = land.assign(pev=(2 * land["pev"]).assign_attrs(land["pev"].attrs))
    np.testing.assert_array_equal(climate.daily_table(doubled, "era5-land")["et0"], table["et0"])
    without = land.drop_vars(["d2m"])
    assert "et0" not in climate.daily_table(without, "era5-land")
    assert "open water" in table["pev"].attrs["long_name"]


def test_daily_and_hourly_reference_agree_within_a_fifth(land):
    daily = climate.daily_table(land, "era5-land")["et0"].mean()
    hourly = climate.daily_table(land, "era5-land", et0="asce")["et0"].mean()
    assert float(hourly / daily) == pytest.approx(1, abs=0.2)
    with pytest.raises(InputError, match="Unknown method for et0: 'makkink'"):
        climate.daily_table(land, "era5-land", et0="makkink")


def test_table_survives_netcdf_and_zarr(land, tmp_path):
    table = climate.daily_table(land, "era5-land")
    table.to_netcdf(tmp_path / "t.nc")
    table.to_zarr(tmp_path / "t.zarr", zarr_format=3, consolidated=False)
    xr.testing.assert_identical(xr.open_dataset(tmp_path / "t.nc").load()["tp"].drop_attrs(), table["tp"].drop_attrs())
    with xr.open_zarr(tmp_path / "t.zarr", consolidated=False) as back:
        np.testing.assert_array_equal(back["time_bnds"].values, table["time_bnds"].values)


# Real files


def test_berlin_2017_equals_an_independent_computation():
    path = shared_data("d_era5/era5_hourly_berlin_2017.nc")
    with xr.open_dataset(path) as data:
        table = climate.daily_table(data, "auto")
        cell = data.isel(latitude=1, longitude=2)
        frame = cell[["t2m", "sp", "ssrd", "u10", "v10"]].to_dataframe()
    assert table.attrs["accumulation_convention"] == "era5"
    assert table.sizes["time"] == 365
    by_day = frame.groupby(frame.index.date)
    ours = table.isel(latitude=1, longitude=2)
    np.testing.assert_allclose(ours["t2m_mean"], by_day["t2m"].mean(), rtol=1e-6)
    np.testing.assert_allclose(ours["t2m_min"], by_day["t2m"].min(), rtol=1e-6)
    np.testing.assert_allclose(ours["t2m_max"], by_day["t2m"].max(), rtol=1e-6)
    np.testing.assert_allclose(ours["sp"], by_day["sp"].mean(), rtol=1e-6)
    sun = frame["ssrd"].iloc[1:].to_numpy()  # 01:00 of 1 January to 23:00 of 31 December
    np.testing.assert_allclose(ours["ssrd"].values[:364], sun[: 364 * 24].reshape(364, 24).sum(axis=1) / 1e6, rtol=1e-6)
    assert np.isnan(ours["ssrd"].values[364])  # closes on 1 January 2018


def test_finse_2018_month_edge_joins_and_each_month_alone_leaves_a_gap():
    october = xr.open_dataset(shared_data("d_era5/era5_hourly_finse_201810.nc"))
    november = xr.open_dataset(shared_data("d_era5/era5_hourly_finse_201811.nc"))
    with october, november:
        both = climate.daily_table(xr.concat([october, november], "time"), "era5")
        alone = climate.daily_table(october, "era5")
        edge = october["tp"].isel(time=slice(-23, None)).sum("time") + november["tp"].isel(time=0)
    assert both.sizes["time"] == 61
    assert np.isnan(alone["tp"].isel(time=-1)).all()
    np.testing.assert_allclose(both["tp"].sel(time="2018-10-31").squeeze(), edge * 1e3, rtol=1e-5)
    np.testing.assert_array_equal(both["tp"].isel(time=slice(0, 30)), alone["tp"].isel(time=slice(0, 30)))
    assert np.isfinite(both["t2m_mean"]).all()


@pytest.mark.parametrize("name", ["total_precipitation", "air_temperature", "dewpoint_temperature"])
def test_new_cds_netcdf_opens(name):
    kind = "era5_new_cds" if name == "total_precipitation" else "era5land_new_cds"
    with xr.open_dataset(shared_data(f"d_era5/{kind}_{name}.nc")) as data:
        tidy = climate.canonical_hourly(data)
        raw = data["mtpr"].values if "mtpr" in data else None
    assert tidy["time"].values[0] == np.datetime64("2020-01-01")
    assert tidy.attrs["expver"] == "final (0001): 4 h, preliminary (0005): 0 h"
    assert not {"number", "expver", "valid_time"} & set(tidy.variables)
    if raw is not None:
        np.testing.assert_allclose(tidy["tp"], raw * 3.6)  # kg m-2 s-1 over an hour, in m
        assert tidy["tp"].attrs["units"] == "m"
