"""The daily axis: checked days, calendar slots, reference period."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from cubekit.errors import InputError

__all__ = ["DOY_REFERENCE", "SLOTS", "Mode", "Period", "Reference", "calendar_slots", "checked_days", "period_slice", "resolve_reference"]

Mode: TypeAlias = Literal["period", "doy"]
Period: TypeAlias = tuple[str, str]

DOY_REFERENCE: Period = ("1991-01-01", "2020-12-31")
SLOTS = 365
_FEB_28 = 58


@dataclass(frozen=True, slots=True)
class Reference:
    """Which days form the sample that later days are ranked against.

    Parameters
    ----------
    mode
        ``"period"``: all reference days are one sample. ``"doy"``: one sample per calendar slot.
    start, end
        First and last reference day (ISO dates, inclusive).
    window
        Width in days of the circular calendar window of ``"doy"`` (odd).
    """

    mode: Mode
    start: str
    end: str
    window: int = 31

    def __post_init__(self) -> None:
        if self.mode not in ("period", "doy"):
            raise InputError(f"rank mode is {self.mode!r}", remedy="Use mode='period' or mode='doy'.")
        if self.window % 2 == 0 or not 1 <= self.window <= SLOTS:
            raise InputError(f"day-of-year window is {self.window} days", remedy="Use an odd number of days from 1 to 365, such as 31.")

    @property
    def slots(self) -> int:
        """Number of calendar slots in a table of this reference: 1 or 365."""
        return SLOTS if self.mode == "doy" else 1

    def mask(self, days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.bool_]:
        """Which of these days belong to the reference period, shape (time,)."""
        return (days >= np.datetime64(self.start, "D")) & (days <= np.datetime64(self.end, "D"))


def checked_days(time: Any) -> npt.NDArray[np.datetime64]:
    """The time coordinate as consecutive days.

    Parameters
    ----------
    time
        Time stamps, one per day; the hour is ignored.

    Returns
    -------
    ndarray of datetime64[D], shape (time,)

    Raises
    ------
    InputError
        If stamps are no dates, out of order, doubled, or if days are left out.
    """
    values = np.asarray(time)
    if values.ndim != 1 or values.size == 0 or not np.issubdtype(values.dtype, np.datetime64):
        raise InputError(
            f"time has shape {values.shape} and type {values.dtype}",
            remedy="Give one standard-calendar date per day (datetime64) on a dimension 'time'.",
        )
    days = values.astype("datetime64[D]")
    if np.isnat(days).any():
        raise InputError(f"time holds {int(np.isnat(days).sum())} undefined stamps (NaT)", remedy="Drop them.")
    steps = np.diff(days).astype(np.int64)
    wrong = np.flatnonzero(steps != 1)
    if wrong.size:
        at, step = int(wrong[0]), int(steps[wrong[0]])
        what = (
            "is followed by itself"
            if step == 0
            else "is followed by an earlier day"
            if step < 0
            else f"is followed by a gap of {step - 1} days"
        )
        remedy = "Fill left-out days with NaN: ds.resample(time='1D').asfreq()." if step > 1 else "Sort by time and drop duplicates."
        raise InputError(f"days must be consecutive: {days[at]} {what} ({wrong.size} such places)", remedy=remedy)
    return days


def calendar_slots(days: npt.NDArray[np.datetime64]) -> npt.NDArray[np.int32]:
    """Calendar slot 0-364 of each day; 29 February shares the slot of 28 February.

    Every date keeps its slot in all years, and a window of 31 slots is 31 days long in a common year.
    """
    stamps = pd.DatetimeIndex(days.astype("datetime64[ns]"))
    slot = np.asarray(stamps.dayofyear) - 1
    late = np.asarray(stamps.is_leap_year) & (slot > _FEB_28)
    return np.where(late, slot - 1, slot).astype(np.int32)


def resolve_reference(days: npt.NDArray[np.datetime64], mode: Mode, reference: Period | None, window: int) -> Reference:
    """The reference period on this axis; defaults: the whole record (``period``), 1991-2020 (``doy``).

    Raises
    ------
    InputError
        If the record does not cover the reference period.
    """
    if mode not in ("period", "doy"):
        raise InputError(f"rank mode is {mode!r}", remedy="Use mode='period' or mode='doy'.")
    whole = (str(days[0]), str(days[-1]))
    start, end = reference or (whole if mode == "period" else DOY_REFERENCE)
    first, last = _bounds(start, end)
    if first < days[0] or last > days[-1]:
        raise InputError(
            f"the record ({whole[0]} to {whole[1]}) does not cover the reference period ({first} to {last})",
            remedy="Give a reference inside the record, or the quantile table of an earlier run.",
        )
    return Reference(mode, str(first), str(last), window)


def period_slice(days: npt.NDArray[np.datetime64], period: Period | None) -> slice:
    """Positions of an inclusive period on this axis; None is everything."""
    if period is None:
        return slice(0, days.size)
    first, last = _bounds(*period)
    if first < days[0] or last > days[-1]:
        raise InputError(
            f"the record ({days[0]} to {days[-1]}) does not cover the period {first} to {last}", remedy="Ask for days inside the record."
        )
    return slice(int((first - days[0]).astype(int)), int((last - days[0]).astype(int)) + 1)


def _bounds(start: str, end: str) -> tuple[np.datetime64, np.datetime64]:
    try:
        first, last = pd.Period(start, freq=None), pd.Period(end, freq=None)
    except ValueError as error:
        raise InputError(
            f"the period {start!r} to {end!r} is not a pair of dates", remedy="Write dates as 1991-01-01 or years as 1991."
        ) from error
    days = np.datetime64(first.start_time.date(), "D"), np.datetime64(last.end_time.date(), "D")
    if days[1] < days[0]:
        raise InputError(f"the period ends ({end}) before it starts ({start})", remedy="Swap the two dates.")
    return days
