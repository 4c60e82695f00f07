"""Ranks, quantile tables and codes against counting."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.errors import InputError, ScienceWarning
from cubekit.events import FLAGS, Levels, code_days, compound, detect, pei_all, quantile_table, ranks, water_balance
from tests.events.world import daily_world, oracle_codes, oracle_ranks


def series(values, start="2001-01-01"):
    return xr.DataArray(np.asarray(values, float), dims="time", coords={"time": pd.date_range(start, periods=len(values))}, name="x")


def oracle_cube(ds, mode, reference):
    """Codes of a small cube from its float32 PEIs by the counting oracle."""
    peis = pei_all(water_balance(ds["tp"], ds["et0"]))
    time = ds["time"].to_index()
    inside = (time >= reference[0]) & (time <= reference[1])
    out = np.zeros(ds["t2m_max"].shape, np.uint8)
    for y, x in np.ndindex(out.shape[1:]):
        cell = {"latitude": y, "longitude": x}
        four = [oracle_ranks(a.isel(cell).values, time, inside, mode) for a in (ds["t2m_max"], *peis.values())]
        out[:, y, x] = oracle_codes(four[0], four[1:])
    return out


@given(st.integers(0, 2**31), st.integers(5, 200), st.integers(0, 2), st.floats(0, 0.5))
@settings(max_examples=50, deadline=None)
def test_period_ranks_equal_counting(seed, n, decimals, share):
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(0, 2, n), decimals)
    values[rng.random(n) < share] = np.nan
    x = series(values)
    inside = np.arange(n) < max(1, n // 2)
    reference = (str(x.time.values[0])[:10], str(x.time.values[max(1, n // 2) - 1])[:10])
    np.testing.assert_array_equal(ranks(x, reference=reference).values, oracle_ranks(values, x["time"].to_index(), inside, "period"))


@pytest.mark.parametrize("window", [1, 31, 365])
def test_doy_ranks_equal_counting(window):
    rng = np.random.default_rng(5)
    values = np.round(rng.normal(0, 2, 1600), 1)
    values[rng.random(1600) < 0.1] = np.nan
    x = series(values, "2003-06-01")
    time = x["time"].to_index()
    inside = (time >= "2004-01-01") & (time <= "2006-12-31")
    ours = ranks(x, mode="doy", reference=("2004", "2006"), window=window)
    np.testing.assert_array_equal(ours.values, oracle_ranks(values, time, inside, "doy", window))


def test_ranks_lie_inside_0_1_and_ties_share_their_mean():
    r = ranks(series([3.0, 1.0, 3.0, np.nan, 2.0])).values
    np.testing.assert_array_equal(r, [0.75, 0.125, 0.75, np.nan, 0.375])


def test_dheed_ties_are_broken_by_position():
    """Dheed ranks by sort order, so equal days get different ranks; here they share one."""
    values = np.zeros(1000)
    by_position = (np.argsort(np.argsort(values, kind="stable"), kind="stable") + 1) / 1000
    assert (by_position < 0.01).sum() == 9
    r = ranks(series(values)).values
    assert (r == 0.5).all()


def test_leap_day_shares_the_slot_of_28_february():
    x = series(np.arange(4 * 365 + 1.0), "2001-01-01")
    r = ranks(x, mode="doy", reference=("2001", "2004"), window=1)
    feb = r.sel(time=["2004-02-28", "2004-02-29"]).values
    np.testing.assert_array_equal(feb, [3.5 / 5, 4.5 / 5])
    assert float(r.sel(time="2004-03-01")) == 3.5 / 4


@pytest.mark.parametrize("decimals", [None, 1, 0])
@pytest.mark.parametrize(
    ("mode", "reference"),
    [("period", ("2001-01-01", "2004-04-14")), ("period", ("2001-09-03", "2003-02-01")), ("doy", ("2001-01-01", "2004-12-31"))],
)
def test_codes_from_tables_equal_codes_from_ranks(mode, reference, decimals):
    """Inside and outside the reference, with ties and holes: the stored thresholds decide exactly as brute-force ranks do."""
    ds = daily_world(days=1580, lat=(48.0, 47.0), lon=(5.0, 6.0), decimals=decimals, holes=0.0005, seed=11)
    found = detect(ds, mode=mode, reference=reference)
    np.testing.assert_array_equal(found.cube["events"].values, oracle_cube(ds, mode, reference))
    again = code_days(ds, found.thresholds)
    xr.testing.assert_identical(again["events"], found.cube["events"])


@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(0, 1))
@settings(max_examples=40, deadline=None)
def test_thresholds_decide_as_ranks_for_values_never_seen(seed, n, decimals):
    """A threshold found on a sample splits any float32 line exactly where the scaled rank crosses the level."""
    from cubekit.events._select import doy_thresholds, period_thresholds, radix_order

    rng = np.random.default_rng(seed)
    sample = np.round(rng.standard_t(2, n) * 3, decimals).astype(np.float32)
    levels, above = np.array([0.99, 0.1, 0.9, 0.01, 0.5]), np.array([True, True, False, False, True])
    out = np.empty(5, np.float32)
    period_thresholds(sample, n, levels, above, np.empty(n, np.uint16), np.empty(2048, np.int32), np.empty(n, np.float32), out)
    keys, order, counts = np.empty((2, n), np.uint32), np.empty((2, n), np.int32), np.empty((3, 2048), np.int32)
    radix_order(sample, n, keys, order, counts)
    np.testing.assert_array_equal(sample[order[1]], np.sort(sample))
    places = np.empty(n, np.int32)
    places[order[1]] = np.arange(n)
    sets = (np.zeros(n // 64 + 1, np.uint64), np.zeros(n // 64 + 1, np.int32), np.zeros(n // 1024 + 1, np.int32))
    slid = np.empty((1, 5), np.float32)
    doy_thresholds(np.sort(sample), n, places, np.array([0, n], np.int32), np.arange(n, dtype=np.int32), 0, levels, above, sets, slid)
    np.testing.assert_array_equal(slid[0], out)
    probes = np.concatenate([sample, np.nextafter(sample, np.float32(np.inf)), np.nextafter(sample, np.float32(-np.inf)), [-1e30, 0, 1e30]])
    for v in probes.astype(np.float32):
        rank = (np.sum(sample < v) + 0.5 * np.sum(sample == v)) / n
        for t, q, up in zip(out, levels, above, strict=True):
            assert (v > t) == (rank > q) if up else (v < t) == (rank < q)


def test_later_days_need_no_ranking_and_only_the_halo():
    ds = daily_world(days=1500, seed=4)
    reference = ("2001-01-01", "2003-12-31")
    whole = detect(ds, reference=reference)
    table = quantile_table(ds.isel(time=slice(0, 1200)), reference=reference)
    xr.testing.assert_identical(table, whole.thresholds)
    tail = ds.isel(time=slice(1200 - 179 - 2, None))
    start = str(ds["time"].values[1200])[:10]
    later = code_days(tail, table, period=(start, str(ds["time"].values[-1])[:10]))
    xr.testing.assert_equal(later.drop_vars("event_labels"), whole.cube.drop_vars("event_labels").isel(time=slice(1200, None)))
    np.testing.assert_array_equal(later["event_labels"] > 0, whole.cube["event_labels"].isel(time=slice(1200, None)) > 0)


def test_missing_bit_and_undefined_start():
    """Dheed has no code for missing; here days without all four indicators carry bit 7 and are never normal."""
    ds = daily_world(days=600)
    ds["t2m_max"][400, 0, 0] = np.nan
    ds["tp"][450, 0, 1] = np.nan
    codes = detect(ds).cube["events"].values
    assert ((codes[:179] & 128) > 0).all()
    assert ((codes[179:, 1:] & 128) == 0).all()
    assert codes[400, 0, 0] & 128
    assert ((codes[450:600, 0, 1] & 128) > 0).all()
    assert not ((codes & 128 > 0) & (codes & 16 > 0)).any()


def test_ocean_cells_are_missing_and_have_no_events():
    ds = daily_world(days=800)
    for name in ds:
        ds[name][:, 0, 0] = np.nan
    found = detect(ds)
    assert (found.cube["events"][:, 0, 0] == 128).all()
    assert (found.cube["event_labels"][:, 0, 0] == 0).all()


def test_cf_flags_say_what_the_bits_are():
    attrs = detect(daily_world(days=400)).cube["events"].attrs
    assert attrs["flag_masks"].dtype == np.uint8
    assert dict(zip(attrs["flag_meanings"].split(), attrs["flag_masks"].tolist(), strict=True)) == FLAGS
    assert FLAGS == {"heat": 1, "dry_30": 2, "dry_90": 4, "dry_180": 8, "normal": 16, "missing": 128}


def test_compound_is_heat_and_any_drought():
    codes = np.arange(256, dtype=np.uint8)
    expected = [bool(c % 2) and (c // 2) % 8 > 0 for c in range(256)]
    assert compound(codes).tolist() == expected


def test_threads_do_not_change_anything():
    ds = daily_world(days=500, lat=np.linspace(50, 40, 7), lon=np.arange(7.0), holes=0.001)
    one, two = detect(ds, threads=1), detect(ds, threads=3)
    xr.testing.assert_identical(one.cube, two.cube)
    pd.testing.assert_frame_equal(one.tables.events, two.tables.events)


def test_celsius_and_kelvin_give_the_same_codes_and_table():
    celsius = daily_world(days=900)
    celsius["t2m_max"] = (celsius["t2m_max"] - 273.15).astype(float).round(1).assign_attrs(units="degC")
    kelvin = celsius.assign(t2m_max=(celsius["t2m_max"] + 273.15).assign_attrs(units="K"))
    a, b = detect(kelvin), detect(celsius)
    xr.testing.assert_equal(a.cube, b.cube)
    pd.testing.assert_frame_equal(a.tables.events, b.tables.events, rtol=1e-5)
    with pytest.raises(InputError, match=r"table is for t2m_max in K, the data are in degC"):
        code_days(celsius, a.thresholds)


def test_levels_are_checked_and_used():
    with pytest.raises(InputError, match="out of order"):
        Levels(heat=0.5)
    ds = daily_world(days=700)
    loose = detect(ds, levels=Levels(heat=0.95, drought=0.05)).cube["events"].values
    strict = detect(ds).cube["events"].values
    assert ((strict & 15) & ~loose == 0).all()
    assert (loose & 1).sum() > 3 * (strict & 1).sum()


def test_a_small_sample_is_told():
    ds = daily_world(days=760)
    with pytest.warns(ScienceWarning, match="62 reference days per sample"):
        detect(ds, mode="doy", reference=("2001", "2002"))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda d: d.isel(time=slice(0, 100)), {}, "record has 100 days, PEI_180 needs 180"),
        (lambda d: d, {"mode": "doy"}, r"does not cover the reference period \(1991-01-01 to 2020-12-31\)"),
        (lambda d: d, {"mode": "season"}, "rank mode is 'season'"),
        (lambda d: d, {"mode": "doy", "reference": ("2001", "2001"), "window": 30}, "window is 30 days"),
        (lambda d: d, {"reference": ("2002", "2001")}, "ends .* before it starts"),
        (lambda d: d, {"reference": ("soon", "2001")}, "not a pair of dates"),
        (lambda d: d, {"period": ("1990", "1991")}, "does not cover the period"),
        (lambda d: d, {"min_duration": 0}, "min_duration is 0"),
        (lambda d: d, {"connectivity": 8}, "connectivity is 8"),
        (lambda d: d.drop_vars("tp"), {}, "lack tp"),
        (lambda d: d.drop_isel(time=[300]), {}, "2001-10-27 is followed by a gap of 1 days"),
        (lambda d: xr.concat([d.isel(time=slice(0, 300)), d.isel(time=slice(299, None))], "time"), {}, "is followed by itself"),
        (lambda d: d.isel(time=slice(None, None, -1)), {}, "is followed by an earlier day"),
        (lambda d: d.assign(t2m_max=(d.t2m_max - 273.15).assign_attrs(units="K")), {}, "t2m_max runs from .* but says K"),
        (lambda d: d.assign(t2m_max=d.t2m_max.assign_attrs(units="degC")), {}, "t2m_max runs from .* but says degC"),
        (lambda d: d.assign(t2m_max=d.t2m_max.assign_attrs(units="")), {}, "t2m_max has no units"),
        (lambda d: d.assign(tp=d.tp.assign_attrs(units="m")), {}, "tp has units 'm'"),
        (lambda d: d.assign(et0=(d.et0 / 1000).assign_attrs(units="mm d-1")), {}, "et0 never exceeds .* looks like metres"),
        (lambda d: d.assign(et0=(-d.et0).assign_attrs(units="mm d-1")), {}, "et0 falls to"),
        (lambda d: d.assign(tp=(d.tp * 1000).assign_attrs(units="mm d-1")), {}, "tp reaches"),
        (lambda d: d.assign(tp=(d.tp - 999).assign_attrs(units="mm d-1")), {}, "tp falls to"),
        (lambda d: d.isel(latitude=[0, 2, 1]), {}, "latitudes are not monotonic"),
        (lambda d: d.isel(longitude=[0, 2, 1]), {}, "longitudes do not go east"),
        (lambda d: d.assign_coords(latitude=[480.0, 470.0, 460.0]), {}, "latitudes must be a vector within -90..90"),
    ],
)
def test_bad_input_is_one_clear_error(change, options, message):
    with pytest.raises(InputError, match=message):
        detect(change(daily_world(days=760)), **options)


def test_precipitation_in_metres_is_doubted():
    ds = daily_world(days=760)
    ds["tp"] = (ds["tp"] / 1e4).assign_attrs(units="mm d-1")
    with pytest.warns(ScienceWarning, match="tp never exceeds"):
        detect(ds)


def test_nan_tail_is_missing_not_normal_and_changes_nothing_before():
    ds = daily_world(days=900)
    tail = ds.copy(deep=True)
    for name in tail:
        tail[name][850:] = np.nan
    reference = ("2001-01-01", "2003-04-30")
    a, b = detect(ds, reference=reference).cube, detect(tail, reference=reference).cube
    assert (b["events"][850:] == 128).all()
    np.testing.assert_array_equal(a["events"][:850], b["events"][:850])
