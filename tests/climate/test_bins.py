"""Bins by label: against a plain loop, with gaps, shuffles and bounds."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit import climate
from cubekit.errors import InputError
from tests.climate.conftest import accumulate, make_hours


@pytest.fixture(scope="module")
def table() -> xr.Dataset:
    return climate.daily_table(accumulate(make_hours(30)), "era5-land")


def edges(start: str, days: int, step: int = 5) -> np.ndarray:
    return np.datetime64(start, "D") + np.arange(0, days + 1, step)


def test_fluxes_sum_states_average_extremes_of_extremes(table):
    bins = climate.bin_daily(table, edges("2018-06-01", 30))
    assert bins.sizes["time"] == 6
    five = {name: table[name].values[5:10] for name in table.data_vars}
    assert bins["tp"].values[1] == pytest.approx(five["tp"].sum(), rel=1e-6)
    assert bins["et0"].values[1] == pytest.approx(five["et0"].sum(), rel=1e-6)
    assert bins["t2m_mean"].values[1] == pytest.approx(five["t2m_mean"].mean(), rel=1e-6)
    assert bins["t2m_min"].values[1] == five["t2m_min"].min()
    assert bins["t2m_max"].values[1] == five["t2m_max"].max()
    assert bins["tp"].attrs["cell_methods"] == "time: sum"
    assert bins["t2m_max"].attrs["cell_methods"] == "time: maximum"
    assert bins["time_bnds"].values[1].astype("datetime64[D]").astype(str).tolist() == ["2018-06-06", "2018-06-11"]
    assert bins["tp"].attrs["units"] == "mm"


def test_extremes_of_daily_values_on_request(table):
    bins = climate.bin_daily(table, edges("2018-06-01", 30), extremes=True)
    assert bins["tp_max"].values[0] == table["tp"].values[:5].max()
    assert bins["d2m_min"].values[0] == table["d2m_mean"].values[:5].min()
    assert bins["d2m_min"].attrs["cell_methods"] == "time: mean within days time: minimum over days"
    assert "t2m_max_max" not in bins


def test_bins_join_by_label_not_position(table):
    """A table that starts late or is shuffled moves no value into another bin."""
    reference = climate.bin_daily(table, edges("2018-06-01", 30))
    late = climate.bin_daily(table.isel(time=slice(3, None)), edges("2018-06-01", 30))
    np.testing.assert_array_equal(late["tp"][1:], reference["tp"][1:])
    assert np.isnan(late["tp"][0])
    order = np.random.default_rng(0).permutation(30)
    xr.testing.assert_allclose(climate.bin_daily(table.isel(time=order), edges("2018-06-01", 30)), reference)


def test_missing_day_makes_a_missing_bin(table):
    holed = table.isel(time=[i for i in range(30) if i != 7])
    bins = climate.bin_daily(holed, edges("2018-06-01", 30))
    assert np.flatnonzero(np.isnan(bins["tp"])).tolist() == [1]
    assert np.flatnonzero(np.isnan(bins["t2m_max"])).tolist() == [1]


def test_bins_beyond_the_record_are_missing(table):
    bins = climate.bin_daily(table, edges("2018-05-20", 60))
    assert np.isfinite(bins["tp"]).sum() == 5  # from 4 June on the edges fall on 4, 9, 14, ...
    assert bins["time"].values[0] == np.datetime64("2018-05-20")


@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(-8, 20), st.booleans())
@settings(max_examples=50, deadline=None)
def test_any_bins_equal_a_plain_loop(table, lengths, shift, pairs):
    starts = np.datetime64("2018-06-01", "D") + shift + np.concatenate([[0], np.cumsum(lengths)])
    given_edges = np.stack([starts[:-1], starts[1:]], axis=1)[::2] if pairs else starts
    bins = climate.bin_daily(table, given_edges)
    bounds = given_edges if pairs else np.stack([starts[:-1], starts[1:]], axis=1)
    days = table["time"].values.astype("datetime64[D]")
    for i, (a, b) in enumerate(bounds):
        inside = (days >= a) & (days < b)
        whole = inside.sum() == (b - a).astype(int)
        for name, reduce in (("tp", np.sum), ("sp", np.mean), ("t2m_min", np.min), ("t2m_max", np.max)):
            expected = reduce(table[name].values[inside].astype(float)) if whole else np.nan
            np.testing.assert_allclose(bins[name].values[i], expected, rtol=1e-6)


def test_grids_bin_cell_by_cell(table):
    grid = xr.concat([table, table * 2], xr.DataArray([10.0, 11.0], dims="longitude", name="longitude"), data_vars="all")
    for name in table.data_vars:
        grid[name].attrs = table[name].attrs
    bins = climate.bin_daily(grid, edges("2018-06-01", 30))
    np.testing.assert_allclose(bins["tp"].sel(longitude=11), 2 * climate.bin_daily(table, edges("2018-06-01", 30))["tp"])


def test_bad_edges_are_refused(table):
    with pytest.raises(InputError, match="not at 00:00"):
        climate.bin_daily(table, np.array(["2018-06-01T06", "2018-06-02T06"], dtype="datetime64[h]"))
    with pytest.raises(InputError, match="overlap, are empty or do not increase"):
        climate.bin_daily(table, np.array(["2018-06-05", "2018-06-01"], dtype="datetime64[D]"))
    with pytest.raises(InputError, match="make no bin"):
        climate.bin_daily(table, np.array(["2018-06-05"], dtype="datetime64[D]"))


def test_doubled_day_and_unknown_method_are_refused(table):
    with pytest.raises(InputError, match="a day twice"):
        climate.bin_daily(table.isel(time=[0, 0, 1]), edges("2018-06-01", 5))
    with pytest.raises(InputError, match="tp has cell_methods ''"):
        climate.bin_daily(table[["tp"]].assign(tp=table["tp"].drop_attrs()), edges("2018-06-01", 5))
