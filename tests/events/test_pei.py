"""Water balance and PEI: exact windows, no drift, appending."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.errors import InputError
from cubekit.events import HALO_DAYS, pei, pei_all, water_balance
from tests.events.world import daily_world, oracle_pei


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(40, 300), st.floats(0, 0.1))
@settings(max_examples=60, deadline=None)
def test_pei_is_the_mean_of_exactly_n_days(seed, n, days, share):
    rng = np.random.default_rng(seed)
    w = rng.gamma(0.3, 20, days) - 5 * rng.random(days)
    w[rng.random(days) < share] = np.nan
    np.testing.assert_allclose(pei(w, n), oracle_pei(w, n), rtol=0, atol=2.4e-10)


@given(st.integers(0, 2**31), st.integers(1, 700), st.sampled_from([np.float32, np.float64]))
@settings(max_examples=40, deadline=None)
def test_pei_appended_with_halo_is_bit_identical(seed, cut, dtype):
    rng = np.random.default_rng(seed)
    w = (rng.gamma(0.2, 1000, 1100) - 7 * rng.random(1100)).astype(dtype)
    w[rng.random(1100) < 0.002] = np.nan
    cut += HALO_DAYS
    for n in (30, 90, 180):
        whole, part = pei(w, n), pei(w[cut - HALO_DAYS :], n)
        np.testing.assert_array_equal(part[HALO_DAYS:], whole[cut:])
        assert part.dtype == dtype


def test_pei_does_not_drift_after_a_deluge():
    w = np.full(40_000, 0.1)
    w[10] = 9.9e5
    assert (pei(w, 30)[41:] == pei(w, 30)[-1]).all()
    assert abs(pei(w, 30)[-1] - 0.1) < 2.4e-10


def test_dheed_pei_taper_at_record_start():
    """Dheed averages what there is of a window at the record start; here it is undefined until n days exist."""
    w = np.arange(200.0)
    tapered = np.array([w[max(0, t - 29) : t + 1].mean() for t in range(200)])
    ours = pei(w, 30)
    assert np.isnan(ours[:29]).all()
    assert np.isfinite(tapered[:29]).all()
    np.testing.assert_allclose(ours[29:], tapered[29:])


def test_dheed_window_restart_at_seams():
    """Dheed computes appended years alone, so the window starts again at the seam; with the 179-day halo it goes through."""
    rng = np.random.default_rng(3)
    w = rng.normal(0, 5, 1000)
    seam = 600
    restarted = np.array([w[max(seam, t - 179) : t + 1].mean() for t in range(seam, 1000)])
    whole, appended = pei(w, 180)[seam:], pei(w[seam - HALO_DAYS :], 180)[HALO_DAYS:]
    np.testing.assert_array_equal(appended, whole)
    assert np.abs(restarted[:179] - whole[:179]).max() > 1


def test_missing_and_infinite_days_blank_exactly_their_windows():
    w = np.ones(100)
    w[40], w[60] = np.nan, np.inf
    out = pei(w, 5)
    blank = np.flatnonzero(np.isnan(out))
    assert blank.tolist() == [0, 1, 2, 3, *range(40, 45), *range(60, 65)]


def test_balance_and_pei_of_data_arrays_keep_axes_and_say_units():
    ds = daily_world(days=250)
    w = water_balance(ds["tp"], ds["et0"])
    assert w.dtype == np.float64
    assert w.attrs["units"] == "mm d-1"
    moved = pei(w.transpose("latitude", "longitude", "time"), 30)
    assert moved.dims == ("latitude", "longitude", "time")
    xr.testing.assert_equal(moved.transpose(*w.dims), pei(w, 30))
    assert list(pei_all(w)) == ["pei_30", "pei_90", "pei_180"]
    np.testing.assert_allclose(w[5, 1, 2], float(ds["tp"][5, 1, 2]) - float(ds["et0"][5, 1, 2]))


@pytest.mark.parametrize(
    ("w", "n", "message"),
    [
        (np.ones(20), 30, "record has 20 days, the window needs 30"),
        (np.ones(20), 0, "window is 0 days"),
        (np.full(40, 2e6), 30, "water balance of 2e"),
    ],
)
def test_bad_input_to_pei(w, n, message):
    with pytest.raises(InputError, match=message):
        pei(w, n)
