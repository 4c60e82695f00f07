"""Hourly variables laid under days and reduced over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import xarray as xr

from cubekit.climate._conventions import RUNNING, Convention
from cubekit.climate._days import DayAxis
from cubekit.climate._ranges import check_range
from cubekit.climate._variables import HOURLY
from cubekit.typing import FloatArray

__all__ = ["HourBlocks"]

_SCALE: Final = {"m": 1e3, "J m-2": 1e-6}
"""Hourly ERA5 units to mm and MJ m-2."""

_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {"mean": np.mean, "minimum": np.min, "maximum": np.max}


class HourBlocks:
    """The hourly dataset laid on the regular axis, one variable at a time; keeps the few that several columns need."""

    def __init__(self, hourly: xr.Dataset, convention: Convention, axis: DayAxis, offsets: np.ndarray) -> None:
        self.hourly, self.convention, self.axis = hourly, convention, axis
        self.times = hourly["time"].values
        self.space = tuple(d for d in ("latitude", "longitude") if d in hourly.dims)
        self.offsets = offsets

    def __contains__(self, name: str) -> bool:
        return name in self.hourly

    def state(self, name: str) -> FloatArray:
        """(regular hour, ...) of an instantaneous variable, checked against its unit."""
        return self._load(name, hours=1.0)

    def flux(self, name: str) -> FloatArray:
        """(regular hour, ...) of amounts per hour, stamped at the hour's end, in mm or MJ m-2."""
        if self._running(name):
            return self._increments(self.total(name))
        return self._load(name, hours=1.0) * _SCALE[HOURLY[name].units]

    def total(self, name: str) -> FloatArray:
        """(regular hour, ...) of running totals since 00 UTC, in mm or MJ m-2."""
        return self._load(name, hours=24.0) * _SCALE[HOURLY[name].units]

    def _running(self, name: str) -> bool:
        return self.convention in RUNNING and self.hourly[name].attrs.get("cell_amount") != "hour"

    def _load(self, name: str, hours: float) -> FloatArray:
        array = self.hourly[name].transpose("time", *self.space)
        values = np.asarray(array.values, dtype=np.float64)
        check_range(name, values, str(array.attrs["source_units"]), hours)
        return self.axis.regular(self.times, values)

    @staticmethod
    def _increments(totals: FloatArray) -> FloatArray:
        """As `hourly_from_accumulated`, on the regular axis, whose first hour is 00."""
        increments = np.full_like(totals, np.nan)
        increments[1:] = totals[1:] - totals[:-1]
        increments[1::24] = totals[1::24]
        return increments

    def reduce(self, regular: FloatArray, how: str, min_hours: int) -> FloatArray:
        """(day, ...) from (regular hour, ...); a day with fewer than `min_hours` valid hours is NaN, a sum always needs all 24."""
        unique = np.unique(self.offsets)
        if unique.size == 1:
            return _reduce(self.axis.blocks(regular, int(unique[0]), closing=how == "sum"), how, min_hours)
        result = np.empty((len(self.axis.days), *regular.shape[1:]))
        for offset in unique:
            columns = self.offsets == offset
            block = self.axis.blocks(np.ascontiguousarray(regular[..., columns]), int(offset), closing=how == "sum")
            result[..., columns] = _reduce(block, how, min_hours)
        return result

    def sum(self, name: str) -> FloatArray:
        """(day, ...) sums of a flux; running totals give UTC days by the value stamped D+1 00:00."""
        if self._running(name) and not self.offsets.any():
            return self.total(name)[48 : 24 * (len(self.axis.days) + 2) : 24]
        return self.reduce(self.flux(name), "sum", 24)


def _reduce(blocks: FloatArray, how: str, min_hours: int) -> FloatArray:
    if how == "sum":
        return np.asarray(blocks.sum(axis=1))
    if min_hours == 24:
        # NaN carries through: a day lacking an hour is a gap.
        return np.asarray(_FUNCTIONS[how](blocks, axis=1))
    valid = np.isfinite(blocks)
    count = valid.sum(axis=1)
    if how == "mean":
        reduced = np.where(valid, blocks, 0.0).sum(axis=1) / np.maximum(count, 1)
    else:
        empty = np.inf if how == "minimum" else -np.inf
        reduced = _FUNCTIONS[how](np.where(valid, blocks, empty), axis=1)
    return np.where(count >= min_hours, reduced, np.nan)
