"""Compound runs: what a cell has of an event, as start and stop in time; the sparse form of every mask and label cube."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import InputError
from cubekit.events._kernels import RUN_COUNTS, RUN_VALUES, _describe_run

__all__ = ["Runs", "filter_runs", "paint", "runs_of_labels", "runs_of_mask"]


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Runs of consecutive compound days, one row each.

    Parameters
    ----------
    counts
        int32 (k, 10): cell, start, stop (exclusive), days with each drought bit (3), with each PEI (3), with Tmax.
    values
        float64 (k, 8): sums over the run of Tmax, PEI_30, PEI_90, PEI_180; then the maximum of Tmax and the minima of the PEIs.
    """

    counts: npt.NDArray[np.int32]
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.counts.shape[0])

    @property
    def cell(self) -> npt.NDArray[np.int32]:
        """Flat index of the cell."""
        return self.counts[:, 0]

    @property
    def start(self) -> npt.NDArray[np.int32]:
        """First day."""
        return self.counts[:, 1]

    @property
    def stop(self) -> npt.NDArray[np.int32]:
        """Day after the last."""
        return self.counts[:, 2]

    @classmethod
    def joined(cls, parts: list[Runs]) -> Runs:
        """All runs of the parts, in their order."""
        if not parts:
            return cls(np.empty((0, RUN_COUNTS), np.int32), np.empty((0, RUN_VALUES)))
        return cls(np.concatenate([p.counts for p in parts]), np.concatenate([p.values for p in parts]))

    def at_cells(self, cells: npt.NDArray[Any]) -> Runs:
        """The same runs with cell ``i`` renamed ``cells[i]``."""
        counts = self.counts.copy()
        counts[:, 0] = cells[self.cell]
        return Runs(counts, self.values)

    def ordered(self) -> Runs:
        """Sorted by cell, then start: the order in which sums are taken, whatever the chunking."""
        order = np.lexsort((self.start, self.cell))
        return Runs(self.counts[order], self.values[order])


def filter_runs(mask: xr.DataArray, min_duration: int = 3) -> xr.DataArray:
    """Remove runs of fewer than ``min_duration`` consecutive days.

    Parameters
    ----------
    mask
        bool, with dimension ``time`` and any others.
    min_duration
        Shortest run that is kept, days; a run of exactly this length stays (Dheed v3 removed runs of 3 days as well).

    Returns
    -------
    DataArray of bool, same shape
    """
    if min_duration < 1:
        raise InputError(f"min_duration is {min_duration} days", remedy="Use at least 1.")
    axis = mask.get_axis_num("time")
    data = np.ascontiguousarray(np.moveaxis(mask.values.astype(bool), axis, 0))
    runs = runs_of_mask(data.reshape(data.shape[0], -1), min_duration)
    kept = paint(runs, np.ones(len(runs), np.uint32), data.reshape(data.shape[0], -1).shape).astype(bool)
    return mask.copy(data=np.moveaxis(kept.reshape(data.shape), 0, axis))


def runs_of_mask(mask: npt.NDArray[np.bool_], min_duration: int = 1) -> Runs:
    """Runs of at least ``min_duration`` days of a mask (time, cells); their values are unset (NaN)."""
    runs, _ = _list_equal(np.ascontiguousarray(mask).astype(np.uint32), min_duration)
    return runs


def runs_of_labels(
    labels: npt.NDArray[Any], codes: npt.NDArray[np.uint8], indicators: npt.NDArray[np.float32]
) -> tuple[Runs, npt.NDArray[np.uint32]]:
    """Runs of equal non-zero labels, described by codes and indicators.

    Parameters
    ----------
    labels, codes
        (time, cells).
    indicators
        float32 (4, time, cells), NaN where missing.

    Returns
    -------
    (Runs, label of each run)
    """
    runs, found = _list_equal(np.ascontiguousarray(labels).astype(np.uint32), 1)
    _describe_all(np.require(indicators, np.float32, ["C", "W"]), np.require(codes, np.uint8, ["C", "W"]), runs.counts, runs.values)
    return runs, found


def paint(runs: Runs, labels: npt.NDArray[np.uint32], shape: tuple[int, int]) -> npt.NDArray[np.uint32]:
    """Label cube (time, cells) with each run's label on its days, 0 elsewhere."""
    out = np.zeros(shape, np.uint32)
    _paint(runs.counts, labels, out)
    return out


def _list_equal(values: npt.NDArray[np.uint32], min_duration: int) -> tuple[Runs, npt.NDArray[np.uint32]]:
    n = _count_equal(values, min_duration, np.empty((0, RUN_COUNTS), np.int32), np.empty(0, np.uint32))
    counts, labels = np.zeros((n, RUN_COUNTS), np.int32), np.empty(n, np.uint32)
    _count_equal(values, min_duration, counts, labels)
    return Runs(counts, np.full((n, RUN_VALUES), np.nan)), labels


@nb.njit(cache=True, nogil=True)
def _count_equal(values: Any, min_duration: int, counts: Any, labels: Any) -> int:
    used = 0
    for cell in range(values.shape[1]):
        t = 0
        while t < values.shape[0]:
            label, start = values[t, cell], t
            while t < values.shape[0] and values[t, cell] == label:
                t += 1
            if label and t - start >= min_duration:
                if used < labels.size:
                    counts[used, 0], counts[used, 1], counts[used, 2] = cell, start, t
                    labels[used] = label
                used += 1
    return used


@nb.njit(cache=True, nogil=True)
def _describe_all(indicators: Any, codes: Any, counts: Any, values: Any) -> None:
    series, code = np.empty((4, codes.shape[0]), np.float32), np.empty(codes.shape[0], np.uint8)
    for i in range(counts.shape[0]):
        cell, start, stop = counts[i, 0], counts[i, 1], counts[i, 2]
        for t in range(start, stop):
            code[t] = codes[t, cell]
            for v in range(4):
                series[v, t] = indicators[v, t, cell]
        _describe_run(series, code, cell, start, stop, 0, counts[i], values[i])


@nb.njit(cache=True, nogil=True)
def _paint(counts: Any, labels: Any, out: Any) -> None:
    for i in range(counts.shape[0]):
        for t in range(counts[i, 1], counts[i, 2]):
            out[t, counts[i, 0]] = labels[i]
