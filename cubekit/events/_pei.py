"""Water balance and its trailing means (PEI), exact and therefore the same wherever the record begins."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import InputError
from cubekit.events._flags import WINDOWS

__all__ = ["HALO_DAYS", "pei", "pei_all", "water_balance"]

HALO_DAYS = max(WINDOWS) - 1
"""Days of water balance before the first new day that an appended record needs."""

# Sums run on integers of 2**-32 mm/d: integer sums are exact in any order, so no drift and no dependence on the first day.
_UNIT = 2.0**32
_ABSENT = np.int64(-(2**63))
_LIMIT = 1e6


def water_balance(tp: xr.DataArray, et0: xr.DataArray) -> xr.DataArray:
    """Daily water balance w = P - ET0.

    Parameters
    ----------
    tp
        Daily precipitation, mm/d, >= 0.
    et0
        Daily reference evapotranspiration, mm/d, >= 0 (not ECMWF's negative-evaporation sign).

    Returns
    -------
    DataArray of float64, mm/d
        NaN where either is missing.
    """
    balance = tp.astype(np.float64) - et0.astype(np.float64)
    balance.name = "water_balance"
    balance.attrs = {"long_name": "precipitation minus reference evapotranspiration", "units": "mm d-1", "cell_methods": "time: sum"}
    return balance


def pei(w: Any, n: int, *, axis: int = 0) -> Any:
    """PEI_n: mean water balance of the n days that end at each day.

    Parameters
    ----------
    w
        Daily water balance, mm/d: an ndarray with time on ``axis``, or a DataArray with dimension ``time``; days consecutive.
    n
        Number of days, >= 1.
    axis
        Time axis of an ndarray.

    Returns
    -------
    same type and shape, same floating type
        mm/d. NaN until n days exist, and wherever one of the n days is missing (NaN or infinite).

    Raises
    ------
    InputError
        If n < 1, the record is shorter than n days, or a balance exceeds 1e6 mm/d.

    Notes
    -----
    Sums are kept as integers of 2**-32 mm/d (2.3e-10): exact, without drift, and bit-identical for every day that has its n days,
    whatever day the record starts on. A record is appended to by giving the new days with the ``n - 1`` days before them.
    Dheed (Weynants et al. 2025) tapers the window at the record start and restarts it where years are appended.
    """
    if isinstance(w, xr.DataArray):
        result: xr.DataArray = w.copy(data=pei(w.values, n, axis=w.get_axis_num("time")))
        result.name = f"pei_{n}"
        result.attrs = {
            "long_name": f"mean water balance of {n} days",
            "units": "mm d-1",
            "cell_methods": f"time: mean (trailing {n} days)",
        }
        return result
    values = np.asarray(w)
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    _check(values, n, axis)
    series = np.ascontiguousarray(np.moveaxis(values, axis, -1)).astype(np.float64, copy=False)
    out = np.empty(series.shape)
    trailing_means(series.reshape(-1, series.shape[-1]), n, out.reshape(-1, series.shape[-1]))
    return np.moveaxis(out, -1, axis).astype(values.dtype)


def pei_all(w: xr.DataArray) -> xr.Dataset:
    """PEI_30, PEI_90 and PEI_180 of a water balance as one dataset of float32; see :func:`pei`."""
    return xr.Dataset({f"pei_{n}": pei(w, n).astype(np.float32) for n in WINDOWS})


def _check(values: npt.NDArray[Any], n: int, axis: int) -> None:
    if n < 1:
        raise InputError(f"the PEI window is {n} days", remedy="Use at least 1 day.")
    if values.shape[axis] < n:
        raise InputError(
            f"the record has {values.shape[axis]} days, the window needs {n}", remedy="Give a longer record or a shorter window."
        )
    largest = np.nanmax(np.abs(np.where(np.isinf(values), np.nan, values)), initial=0.0)
    if largest > _LIMIT:
        raise InputError(f"a water balance of {largest:g} mm/d cannot be", remedy="Check the units: mm per day.")


@nb.njit(cache=True, nogil=True, inline="always")
def to_units(balance: float) -> Any:
    """Water balance as an integer of 2**-32 mm/d; missing values become a marker."""
    if not np.isfinite(balance):
        return _ABSENT
    return np.int64(np.rint(balance * _UNIT))


@nb.njit(cache=True, nogil=True)
def trailing_mean(units: npt.NDArray[np.int64], n: int, out: npt.NDArray[Any]) -> None:
    """Trailing mean of n days of one series of integers; NaN where one of the n days is absent or does not exist."""
    total = np.int64(0)
    absent = 0
    for t in range(units.size):
        if units[t] == _ABSENT:
            absent += 1
        else:
            total += units[t]
        if t >= n:
            if units[t - n] == _ABSENT:
                absent -= 1
            else:
                total -= units[t - n]
        out[t] = total / (_UNIT * n) if t >= n - 1 and absent == 0 else np.nan


@nb.njit(cache=True, nogil=True)
def trailing_means(series: npt.NDArray[np.float64], n: int, out: npt.NDArray[np.float64]) -> None:
    """Trailing mean of n days of each row, shape (cells, time)."""
    units = np.empty(series.shape[1], np.int64)
    for cell in range(series.shape[0]):
        for t in range(units.size):
            units[t] = to_units(series[cell, t])
        trailing_mean(units, n, out[cell])
