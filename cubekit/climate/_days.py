"""The regular hourly axis under a table of days: reshaping hours into days of UTC or of local solar time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cubekit.climate._cells import wrap_longitude
from cubekit.errors import InputError
from cubekit.site import TimeRange
from cubekit.typing import FloatArray

__all__ = ["Date", "Day", "DayAxis", "solar_offset"]

Day = Literal["utc", "solar"]
Date = str | date | np.datetime64
"""A day, as `cubekit.site.TimeRange` reads it."""

_HOUR = np.timedelta64(1, "h")


def solar_offset(longitude: npt.ArrayLike) -> np.ndarray:
    """Whole hours that mean solar time at `longitude` (degrees east) is ahead of UTC: -12 to 12."""
    offset: np.ndarray = np.rint(wrap_longitude(longitude) / 15.0).astype(int)
    return offset


@dataclass(frozen=True, slots=True)
class DayAxis:
    """Days `first` to `last` (datetime64[D], inclusive), and how hourly arrays are laid under them."""

    first: np.datetime64
    last: np.datetime64

    @classmethod
    def covering(cls, times: np.ndarray, start: Date | None, end: Date | None) -> DayAxis:
        """The days from `start` to `end`, by default those the stamps lie in; a last stamp at 00:00 only closes the day before."""
        if times.size == 0 and (start is None or end is None):
            raise InputError("No hour in the data and no time range given", remedy="Give start and end")
        first: Any = times[0] if start is None else start
        last: Any = max(times[-1] - _HOUR, times[0]) if end is None else end
        period = TimeRange(first, last)
        return cls(period.start, period.end)

    @property
    def days(self) -> np.ndarray:
        """datetime64[ns], 00:00 of each day."""
        return np.arange(self.first, self.last + np.timedelta64(1, "D")).astype("datetime64[ns]")

    def regular(self, times: np.ndarray, values: FloatArray) -> FloatArray:
        """`values` (time, ...) on all hours from one day before `first` to one day after `last`, 00:00 included; gaps are NaN."""
        length = (len(self.days) + 2) * 24 + 1
        origin = (self.first - np.timedelta64(1, "D")).astype("datetime64[ns]")
        position = (times - origin) // _HOUR
        inside = (position >= 0) & (position < length)
        regular = np.full((length, *values.shape[1:]), np.nan)
        if inside.any():
            where = position[inside]
            if where[-1] - where[0] + 1 == where.size:
                regular[where[0] : where[-1] + 1] = values[inside] if not inside.all() else values
            else:
                regular[where] = values[inside]
        return regular

    def blocks(self, regular: FloatArray, offset: int, *, closing: bool) -> FloatArray:
        """(day, 24, ...) view: the hours stamped 00 to 23 of days `offset` hours ahead of UTC, or 01 to 24 with `closing`."""
        begin = 24 - offset + (1 if closing else 0)
        count = len(self.days)
        return regular[begin : begin + 24 * count].reshape(count, 24, *regular.shape[1:])
