"""Who a cube is for: a named point and a range of days."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from cubekit.errors import InputError
from cubekit.grid import check_lonlat

__all__ = ["Site", "TimeRange", "check_site_id", "site_id"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_WINDOWS = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
_ISO_DAY = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


def check_site_id(value: Any) -> str:
    """Return `value` if it is a safe site id (letters, digits, ``. _ + -``; at most 128; no ``..``), else raise `InputError`."""
    if not isinstance(value, str):
        kind = type(value).__name__
        raise InputError(f"Site id {value!r} is a {kind}, not text", remedy="Write it in quotes")
    if not _ID.fullmatch(value) or ".." in value or value.endswith(".") or _WINDOWS.fullmatch(value):
        raise InputError(
            f"Site id {value[:140]!r} is not usable as a name",
            remedy="Use 1 to 128 letters, digits, '.', '_', '+' or '-', starting with a letter or digit and without '..'",
        )
    return value


def site_id(lat: float, lon: float) -> str:
    """Name of a point, unique to 0.1 m: ``+12.370000_+51.340000`` style with hemispheres, such as ``E012.370000_N51.340000``."""
    lat, lon = check_lonlat(lat, lon)
    return f"{'W' if lon < 0 else 'E'}{abs(lon):010.6f}_{'S' if lat < 0 else 'N'}{abs(lat):09.6f}"


@dataclass(frozen=True, slots=True)
class Site:
    """A point on Earth with a name that is safe as a file name.

    Parameters
    ----------
    lat, lon
        Degrees.
    id
        Unique name; made from the coordinates where it is empty.
    """

    lat: float
    lon: float
    id: str = ""

    def __post_init__(self) -> None:
        lat, lon = check_lonlat(self.lat, self.lon)
        object.__setattr__(self, "lat", lat)
        object.__setattr__(self, "lon", lon)
        object.__setattr__(self, "id", check_site_id(self.id) if self.id != "" else site_id(lat, lon))


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Whole UTC days from `start` to `end`, both included.

    Parameters
    ----------
    start, end
        ISO dates (``"2020-01-31"``, or ``"2020-01"`` and ``"2020"`` for the first or last day of that month or year), `datetime.date`
        or `numpy.datetime64`.
    """

    start: np.datetime64
    end: np.datetime64

    def __post_init__(self) -> None:
        start, end = _day(self.start, "start", last=False), _day(self.end, "end", last=True)
        if end < start:
            raise InputError(f"end {end} is before start {start}", remedy="Give start <= end")
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)

    @property
    def days(self) -> int:
        """Number of days, both ends included."""
        return int((self.end - self.start).astype(int)) + 1

    @property
    def interval(self) -> str:
        """RFC 3339 interval for a STAC search."""
        return f"{self.start}T00:00:00Z/{self.end}T23:59:59.999999Z"

    def __str__(self) -> str:
        return f"{self.start}/{self.end}"


def _day(value: Any, name: str, *, last: bool) -> np.datetime64:
    if isinstance(value, datetime):
        value = value.date()
    if isinstance(value, np.datetime64) and not np.isnat(value):
        value = str(value.astype("datetime64[D]"))
    if isinstance(value, date):
        return np.datetime64(value, "D")
    if isinstance(value, str) and _ISO_DAY.fullmatch(value.strip()):
        try:
            day = np.datetime64(value.strip())
            unit: Any = np.datetime_data(day.dtype)[0]
            first: np.datetime64 = day.astype("datetime64[D]")
            following = day + np.timedelta64(1, unit)
            return np.datetime64(following.astype("datetime64[D]") - np.timedelta64(1, "D"), "D") if last else first
        except ValueError:
            pass
    raise InputError(f"{name} {value!r} is not a date", remedy="Write it as YYYY-MM-DD")
