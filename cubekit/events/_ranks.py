"""Ranks of daily values against a reference sample, scaled to (0, 1)."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.events._time import SLOTS, Mode, Period, Reference, calendar_slots, checked_days, resolve_reference

__all__ = ["ranks"]


def ranks(x: xr.DataArray, *, mode: Mode = "period", reference: Period | None = None, window: int = 31) -> xr.DataArray:
    """Scaled rank of every day of every cell in its reference sample.

    Parameters
    ----------
    x
        Daily values with dimension ``time`` (consecutive days) and any others.
    mode
        ``"period"``: the sample is the whole reference period, all seasons (as Dheed). ``"doy"``: the sample of a day is the reference
        days whose calendar slot is within ``window // 2`` of its own, round the year.
    reference
        First and last day of the reference period (``("1991", "2020")`` works too); default: the whole record for ``"period"``,
        1991-2020 for ``"doy"``.
    window
        Width of the calendar window of ``"doy"`` in days, odd.

    Returns
    -------
    DataArray of float64, same shape
        ``(r - 0.5) / n`` with r the rank 1..n in the sample of n values, ties sharing their mean rank (Hazen's plotting position): inside
        (0, 1) for reference days. Equivalently ``(L + E / 2) / n`` with L sample values below and E equal to the value, which is also
        how days outside the reference are ranked (0 and 1 are then possible). Missing values have no rank (NaN) and count nowhere.

    Raises
    ------
    InputError
        If days are not consecutive or the record does not cover the reference period.

    Notes
    -----
    29 February shares the calendar slot of 28 February, so a table has 365 slots and a leap day belongs to every window
    that holds 28 February.
    """
    days = checked_days(x["time"].values)
    ref = resolve_reference(days, mode, reference, window)
    axis = x.get_axis_num("time")
    series = np.ascontiguousarray(np.moveaxis(np.asarray(x.values, dtype=np.float64), axis, -1))
    flat = series.reshape(-1, days.size)
    slots, inside = calendar_slots(days), ref.mask(days)
    out = np.full(flat.shape, np.nan)
    for cell in range(flat.shape[0]):
        values, scaled = flat[cell], out[cell]
        good = np.isfinite(values)
        if ref.mode == "period":
            _rank_in(np.sort(values[inside & good]), values, good, scaled)
        else:
            _rank_by_slot(values, good, inside & good, slots, ref, scaled)
    result = x.copy(data=np.moveaxis(out.reshape(series.shape), -1, axis))
    result.attrs = {"long_name": f"scaled rank of {x.name or 'value'}", "units": "1", "comment": describe(ref)}
    return result


def describe(ref: Reference) -> str:
    """One sentence: which sample, which formula."""
    sample = "all days" if ref.mode == "period" else f"days within a {ref.window}-day calendar window (29 February counts as 28 February)"
    return f"(r - 0.5) / n, ties sharing their mean rank, among {sample} of {ref.start} to {ref.end}"


def _rank_by_slot(values: Any, good: Any, sample: Any, slots: Any, ref: Reference, out: npt.NDArray[np.float64]) -> None:
    half = ref.window // 2
    for slot in np.unique(slots):
        distance = np.abs(slots - slot)
        near = np.minimum(distance, SLOTS - distance) <= half
        _rank_in(np.sort(values[sample & near]), values, good & (slots == slot), out)


@nb.njit(cache=True, nogil=True)
def _rank_in(ordered: Any, values: Any, chosen: Any, out: npt.NDArray[np.float64]) -> None:
    n = ordered.size
    if n == 0:
        return
    for t in range(values.size):
        if chosen[t]:
            below = np.searchsorted(ordered, values[t], side="left")
            upto = np.searchsorted(ordered, values[t], side="right")
            out[t] = (below + 0.5 * (upto - below)) / n
