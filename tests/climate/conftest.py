"""A month of physically consistent hourly data at one cell, in every convention."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

START = np.datetime64("2018-06-01", "ns")


def running_totals(per_hour: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Totals since 00 UTC by plain loop: the hour stamped 01 opens a day, 00 closes it."""
    total, result = 0.0, np.empty_like(per_hour)
    for i, stamp in enumerate(times.astype("datetime64[h]").astype(int) % 24):
        total = per_hour[i] if stamp == 1 else total + per_hour[i]
        result[i] = total
    return result


def make_hours(days: int = 30, seed: int = 0, start: np.datetime64 = START) -> xr.Dataset:
    """Per-hour amounts (stamped at the hour's end) from `start` 00:00 to `days` later 00:00, both included."""
    rng = np.random.default_rng(seed)
    n = days * 24 + 1
    times = start + np.arange(n) * np.timedelta64(1, "h")
    hour = np.arange(n) % 24
    t2m = 288.0 + 6.0 * np.sin((hour - 9) / 24 * 2 * np.pi) + rng.normal(0, 1, n)
    sun = np.clip(np.sin((hour - 4.5) / 16 * np.pi), 0, None) * 2.4e6 * rng.uniform(0.4, 1, n)
    rain = np.where(rng.random(n) < 0.1, rng.exponential(5e-4, n), 0.0)
    series = {
        "t2m": (t2m, "K"),
        "d2m": (t2m - rng.uniform(1, 9, n), "K"),
        "sp": (95_000 + rng.normal(0, 200, n), "Pa"),
        "u10": (rng.normal(2, 1, n), "m s**-1"),
        "v10": (rng.normal(-1, 1, n), "m s**-1"),
        **{f"swvl{i}": (0.3 + 0.01 * rng.random(n), "m**3 m**-3") for i in (1, 2, 3, 4)},
        "tp": (rain, "m"),
        "ssrd": (sun, "J m**-2"),
        "ssr": (0.8 * sun, "J m**-2"),
        "e": (-sun / 2.45e9, "m of water equivalent"),
        "pev": (-sun / 1.2e9, "m"),
        "slhf": (-0.35 * sun, "J m-2"),
        "sshf": (-0.25 * sun + 3e4, "J m-2"),
    }
    variables = {name: ("time", values, {"units": units}) for name, (values, units) in series.items()}
    return xr.Dataset(variables, coords={"time": times, "latitude": 51.0, "longitude": 12.0})


def accumulate(hours: xr.Dataset) -> xr.Dataset:
    """The same as ERA5-Land stores it."""
    result = hours.copy()
    for name in ("tp", "ssrd", "ssr", "e", "pev", "slhf", "sshf"):
        result[name] = hours[name].copy(data=running_totals(hours[name].values, hours["time"].values))
    return result


@pytest.fixture
def hours() -> xr.Dataset:
    return make_hours()


@pytest.fixture
def land(hours: xr.Dataset) -> xr.Dataset:
    return accumulate(hours)
