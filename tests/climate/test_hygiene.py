"""Bad input is handled or refused, never silently summed."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cubekit import climate
from cubekit.errors import InputError, ScienceWarning
from tests.climate.conftest import accumulate, make_hours


def relabel(data: xr.Dataset, name: str, values, units: str) -> xr.Dataset:
    return data.assign({name: data[name].copy(data=values).assign_attrs(units=units)})


def test_hours_out_of_order_are_sorted(hours):
    shuffled = hours.isel(time=np.random.default_rng(0).permutation(hours.sizes["time"]))
    xr.testing.assert_identical(climate.daily_table(shuffled, "era5"), climate.daily_table(hours, "era5"))


def test_doubled_hours_that_agree_count_once(hours):
    doubled = xr.concat([hours, hours.isel(time=slice(40, 60))], "time")
    xr.testing.assert_identical(climate.daily_table(doubled, "era5"), climate.daily_table(hours, "era5"))


def test_doubled_hours_that_differ_are_refused(hours):
    with pytest.raises(InputError, match="2018-06-02T16 occurs twice with different values of t2m"):
        climate.canonical_hourly(xr.concat([hours, hours.isel(time=[40]) + 1], "time"))


@pytest.mark.parametrize(
    ("name", "change", "units", "message"),
    [
        ("t2m", lambda v: v - 273.15, "K", r"t2m is labelled 'K' but its values span .* they look like degC"),
        ("t2m", lambda v: v, "degC", r"t2m is labelled 'degC' but its values span .* they look like K"),
        ("d2m", lambda v: v - 273.15, "K", r"d2m is labelled 'K'.*look like degC"),
        ("sp", lambda v: v / 100, "Pa", r"sp is labelled 'Pa'.*look like hPa"),
        ("tp", lambda v: v * 1000, "m", r"tp is labelled 'm'.*look like mm"),
        ("e", lambda v: v * 1000, "m", r"e is labelled 'm'.*look like mm"),
        ("ssrd", lambda v: v, "W m-2", r"ssrd is labelled 'W m-2'.*look like J m-2"),
    ],
)
def test_mislabelled_units_are_refused(hours, name, change, units, message):
    with pytest.raises(InputError, match=message):
        climate.daily_table(relabel(hours, name, change(hours[name].values), units), "era5")


def test_mislabelled_running_total_is_refused(land):
    with pytest.raises(InputError, match=r"tp is labelled 'm'.*look like mm"):
        climate.daily_table(relabel(land, "tp", land["tp"].values * 1000, "m"), "era5-land")


def test_drizzle_in_mm_called_m_is_found_by_its_mean():
    year = make_hours(366)
    drizzle = np.full(year.sizes["time"], 0.01)  # mm in every hour: no single hour is out of range
    with pytest.raises(InputError, match=r"averages 240 mm a day; the values look like mm"):
        climate.daily_table(relabel(year, "tp", drizzle, "m"), "era5")


def test_metres_called_mm_are_warned_of():
    year = make_hours(366)
    with pytest.warns(ScienceWarning, match="drier than any desert, or in metres"):
        climate.daily_table(relabel(year, "tp", year["tp"].values, "mm"), "era5")


def test_watts_called_joules_are_refused():
    half = make_hours(130)
    with pytest.raises(InputError, match=r"the values look like W m-2"):
        climate.daily_table(relabel(half, "ssrd", half["ssrd"].values / 3600, "J m**-2"), "era5")


def test_a_few_days_show_watts_called_joules_where_the_sun_stands(hours):
    few = relabel(hours, "ssrd", hours["ssrd"].values / 3600, "J m**-2")
    with pytest.raises(InputError, match=r"ssrd is labelled 'J m\*\*-2' but only .* the values look like W m-2"):
        climate.daily_table(few, "era5")
    dark = few.assign_coords(latitude=-80.0)
    # In polar night next to no radiation is right.
    assert np.isfinite(climate.daily_table(dark, "era5")["ssrd"]).any()


def test_a_month_shows_metres_called_mm(hours):
    with pytest.warns(ScienceWarning, match="or in metres"):
        climate.daily_table(relabel(hours, "tp", hours["tp"].values, "mm"), "era5")


def test_what_is_canonical_already_keeps_its_count_of_preliminary_hours(hours):
    early = hours.assign_coords(expver=("time", np.where(np.arange(hours.sizes["time"]) < 400, "0001", "0005")))
    once = climate.canonical_hourly(early)
    series = xr.Dataset(dict(once.data_vars.items()), coords=once.coords)
    assert climate.canonical_hourly(series).attrs["expver"] == once.attrs["expver"] == "final (0001): 400 h, preliminary (0005): 321 h"


@pytest.mark.parametrize(
    ("name", "units", "factor", "offset"),
    [("t2m", "degC", 1, -273.15), ("t2m", "°C", 1, -273.15), ("tp", "mm", 1e3, 0), ("tp", "kg m**-2", 1e3, 0), ("sp", "hPa", 0.01, 0),
     ("ssrd", "kJ m^-2", 1e-3, 0), ("ssrd", "W m**-2", 1 / 3600, 0), ("u10", "km/h", 3.6, 0), ("e", "m of water equivalent", 1, 0)],
)  # fmt: skip
def test_rightly_labelled_units_convert(hours, name, units, factor, offset):
    changed = relabel(hours, name, hours[name].values * factor + offset, units)
    xr.testing.assert_allclose(climate.daily_table(changed, "era5"), climate.daily_table(hours, "era5"), rtol=1e-6)


def test_units_of_another_quantity_or_none_are_refused(hours):
    with pytest.raises(InputError, match="t2m is in 'mm', which does not convert to 'K'"):
        climate.canonical_hourly(relabel(hours, "t2m", hours["t2m"].values, "mm"))
    with pytest.raises(InputError, match="t2m has no units attribute"):
        climate.canonical_hourly(hours.assign(t2m=hours["t2m"].drop_attrs()))


def test_mean_rates_become_hourly_amounts(hours):
    rates = hours.drop_vars(["tp", "ssrd"]).assign(
        avg_tprate=("time", hours["tp"].values / 3.6, {"units": "kg m**-2 s**-1"}),
        msdwswrf=("time", hours["ssrd"].values / 3600, {"units": "W m**-2"}),
    )
    xr.testing.assert_allclose(climate.daily_table(rates, "era5"), climate.daily_table(hours, "era5"), rtol=1e-6)


def test_long_names_and_valid_time_and_member_are_understood(hours):
    odd = hours.rename(t2m="2m_temperature", ssrd="surface_solar_radiation_downwards", time="valid_time")
    odd = odd.assign_coords(number=0, surface=0.0).expand_dims("realization")
    xr.testing.assert_allclose(climate.daily_table(odd, "era5"), climate.daily_table(hours, "era5"))


def test_ensemble_is_refused(hours):
    with pytest.raises(InputError, match="2 values along 'number'"):
        climate.canonical_hourly(xr.concat([hours, hours], "number"))


def test_expver_dimension_final_over_preliminary(hours):
    """Old CDS NetCDF: a dimension with values 1 and 5, each NaN where the other speaks."""
    border = np.datetime64("2018-06-20T00")
    final, early = hours.where(hours["time"] < border), (hours + 0.0).where(hours["time"] >= np.datetime64("2018-06-10"))
    early = early.assign(t2m=early["t2m"] + 1)
    mixed = xr.concat([final, early], xr.DataArray([1, 5], dims="expver", name="expver"))
    for name in mixed.data_vars:
        mixed[name].attrs = hours[name].attrs
    table = climate.daily_table(mixed, "era5")
    clean = climate.daily_table(hours, "era5")
    np.testing.assert_allclose(table["t2m_mean"][:19], clean["t2m_mean"][:19])
    np.testing.assert_allclose(table["t2m_mean"][19:], clean["t2m_mean"][19:] + 1, rtol=1e-6)
    assert table["preliminary_hours"].values.tolist() == [0] * 19 + [24] * 11
    assert table.attrs["expver"] == "final (0001): 456 h, preliminary (0005): 265 h"


def test_expver_coordinate_final_over_preliminary_where_doubled(hours):
    """New CDS NetCDF: a string along valid_time; the overlap doubles hours."""
    final = hours.isel(time=slice(0, 400)).assign_coords(expver=("time", np.full(400, "0001")))
    early = hours.isel(time=slice(300, None))
    early = (early + 0.0).assign(t2m=early["t2m"] + 1).assign_coords(expver=("time", np.full(early.sizes["time"], "0005")))
    mixed = xr.concat([early, final], "time").rename(time="valid_time")
    for name in mixed.data_vars:
        mixed[name].attrs = hours[name].attrs
    tidy = climate.canonical_hourly(mixed)
    assert tidy.sizes["time"] == hours.sizes["time"]
    np.testing.assert_array_equal(tidy["t2m"][:400], hours["t2m"][:400])
    np.testing.assert_array_equal(tidy["t2m"][400:], hours["t2m"][400:] + 1)
    assert tidy["preliminary"].values.sum() == hours.sizes["time"] - 400


def test_expver_of_preliminary_only(hours):
    tidy = climate.canonical_hourly(hours.assign_coords(expver="0005"))
    assert tidy["preliminary"].values.all()


def test_grib_runs_and_steps_become_one_axis(hours):
    n = 29 * 24
    base = hours.isel(time=slice(1, n + 1))
    cube = {k: (("time", "step"), v.values.reshape(29, 24), v.attrs) for k, v in base.data_vars.items()}
    runs = base["time"].values[::24] - np.timedelta64(1, "h")
    steps = np.arange(1, 25) * np.timedelta64(3600 * 10**9, "ns")
    grib = xr.Dataset(cube, coords={"time": runs, "step": steps, "latitude": 51.0, "longitude": 12.0})
    grib = grib.assign_coords(valid_time=(("time", "step"), runs[:, None] + steps[None, :]))
    np.testing.assert_array_equal(climate.canonical_hourly(grib)["tp"], base["tp"])


def test_axis_that_is_not_hourly_is_refused(hours):
    with pytest.raises(InputError, match="not on the full hour, such as 2018-06-01T00:30"):
        climate.canonical_hourly(hours.assign_coords(time=hours["time"] + np.timedelta64(30, "m")))
    with pytest.raises(InputError, match="The data are 3-hourly"):
        climate.canonical_hourly(hours.isel(time=slice(None, None, 3)))
    with pytest.raises(InputError, match="No dimension time or valid_time"):
        climate.canonical_hourly(hours.isel(time=0))
    with pytest.raises(InputError, match="not datetime64"):
        climate.canonical_hourly(hours.assign_coords(time=np.arange(hours.sizes["time"])))
    times = hours["time"].values.copy()
    times[3] = np.datetime64("NaT")
    with pytest.raises(InputError, match=r"1 time stamps are missing \(NaT\)"):
        climate.canonical_hourly(hours.assign_coords(time=times))


def test_nothing_known_is_refused(hours):
    with pytest.raises(InputError, match="No ERA5 variable among lai"):
        climate.canonical_hourly(hours[["tp"]].rename(tp="lai"))
    with pytest.raises(InputError, match="Two variables for one: '2m_temperature' and 't2m'"):
        climate.canonical_hourly(hours.assign({"2m_temperature": hours["t2m"]}))


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("eastward", [False, True])
def test_latitude_order_and_longitude_range_do_not_matter(ascending, eastward):
    latitudes, longitudes = np.array([52.0, 51.0, 50.0]), np.array([-1.0, 0.0, 1.0])
    base = accumulate(make_hours(4)).drop_vars(["latitude", "longitude"])
    factors = xr.DataArray(1 + 0.001 * np.arange(9.0).reshape(3, 3), dims=("latitude", "longitude"))
    grid = xr.Dataset({k: (v * factors).assign_attrs(v.attrs) for k, v in base.data_vars.items()})
    grid = grid.assign_coords(latitude=latitudes, longitude=longitudes)
    plain = climate.daily_table(grid, "era5-land", day="solar")
    if eastward:
        grid = grid.assign_coords(longitude=longitudes % 360).sortby("longitude")
    if ascending:
        grid = grid.isel(latitude=slice(None, None, -1))
    cell = climate.nearest_land_cell(51.1, -0.9, grid["t2m"].isel(time=0))
    assert (cell.latitude, cell.longitude) == (51.0, -1.0)
    table = climate.daily_table(grid, "era5-land", day="solar").isel(latitude=cell.row, longitude=cell.column)
    np.testing.assert_allclose(table["tp"], plain["tp"].sel(latitude=51, longitude=-1))
    np.testing.assert_allclose(table["et0"], plain["et0"].sel(latitude=51, longitude=-1))
