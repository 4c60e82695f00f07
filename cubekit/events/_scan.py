"""Codes, thresholds and compound runs of a block of cells: checked arguments around the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from cubekit.errors import InputError
from cubekit.events._flags import WINDOWS, Levels
from cubekit.events._kernels import BLOCK, RUN_COUNTS, RUN_VALUES, scan_cells
from cubekit.events._runs import Runs
from cubekit.events._time import Reference, calendar_slots

__all__ = ["ScanPlan", "ScanResult", "scan"]


@dataclass(frozen=True, slots=True, eq=False)
class ScanPlan:
    """What is done to every cell of a job.

    Parameters
    ----------
    days
        Consecutive days of the input (datetime64[D]), halo included.
    reference
        The sample for ranks; also says how many calendar slots a table has.
    out
        Positions of the days that are put out; the days before them are halo.
    levels
        Rank levels.
    min_duration
        Shortest compound run that counts, days.
    given
        Whether thresholds are given instead of taken from the data.
    keep_pei
        Whether the PEI are put out.
    """

    days: npt.NDArray[np.datetime64]
    reference: Reference
    out: slice
    levels: Levels = field(default_factory=Levels)
    min_duration: int = 3
    given: bool = False
    keep_pei: bool = False

    def __post_init__(self) -> None:
        if self.min_duration < 1:
            raise InputError(f"min_duration is {self.min_duration} days", remedy="Use at least 1.")
        if self.days.size < max(WINDOWS):
            raise InputError(
                f"the record has {self.days.size} days, PEI_{max(WINDOWS)} needs {max(WINDOWS)}", remedy="Give a longer record."
            )

    @property
    def days_out(self) -> int:
        """Number of days that are put out."""
        return int(self.out.stop - self.out.start)

    def kernel_plan(self) -> tuple[Any, ...]:
        """The plan as the kernel wants it."""
        inside = np.flatnonzero(self.reference.mask(self.days)).astype(np.int32)
        slots = calendar_slots(self.days) if self.reference.mode == "doy" else np.zeros(self.days.size, np.int32)
        by_slot = np.argsort(slots[inside], kind="stable").astype(np.int32)
        starts = np.searchsorted(slots[inside][by_slot], np.arange(self.reference.slots + 1)).astype(np.int32)
        low, high = self.levels.normal_low, self.levels.normal_high
        levels = np.array([[self.levels.heat, low, high]] + [[self.levels.drought, low, high]] * 3)
        above = np.array([[True, True, False]] + [[False, True, False]] * 3)
        half, windows = self.reference.window // 2, np.array(WINDOWS, np.int64)
        return (windows, slots, inside, starts, by_slot, half, levels, above, self.given, self.min_duration, self.out.start, self.out.stop)


@dataclass(frozen=True, slots=True, eq=False)
class ScanResult:
    """Codes (days, cells); PEI (3, days or 0, cells); thresholds (4, slots, 3, cells); runs; extremes of the inputs (3, 2)."""

    codes: npt.NDArray[np.uint8]
    peis: npt.NDArray[np.float32]
    tables: npt.NDArray[np.float32]
    runs: Runs
    extent: npt.NDArray[np.float64]


def scan(plan: ScanPlan, inputs: Sequence[Any], land: Any = None, tables: Any = None, *, threads: int = 1) -> ScanResult:
    """Code a block of cells.

    Parameters
    ----------
    plan
        What to do.
    inputs
        Daily maximum temperature (any unit), precipitation and ET0 (mm/d), each (time, cells); taken as float32.
    land
        bool (cells,); default everywhere.
    tables
        Thresholds, float32 (4, slots, 3, cells), needed when ``plan.given``.
    threads
        Number of threads that share the cells.

    Returns
    -------
    ScanResult
    """
    arrays = [np.require(a, np.float32, ["C", "W"]) for a in inputs]
    cells = arrays[0].shape[1]
    here = np.ones(cells, bool) if land is None else np.require(land, bool, ["C", "W"])
    shape = (4, plan.reference.slots, 3, cells)
    thresholds = np.require(tables, np.float32, ["C", "W"]) if plan.given else np.empty(shape, np.float32)
    if thresholds.shape != shape:
        raise InputError(
            f"thresholds have shape {thresholds.shape}, the grid and reference need {shape}",
            remedy="Use the table of the same grid and mode.",
        )
    codes = np.empty((plan.days_out, cells), np.uint8)
    peis = np.empty((3, plan.days_out if plan.keep_pei else 0, cells), np.float32)
    job = (*arrays, plan, here, thresholds, codes, peis)
    blocks = -(-cells // BLOCK)
    edges = [min(cells, BLOCK * (blocks * i // max(threads, 1))) for i in range(max(threads, 1))] + [cells]
    spans = [(a, z) for a, z in pairwise(edges) if z > a]
    if len(spans) <= 1:
        parts = [_scan_span(job, a, z) for a, z in spans]
    else:
        with ThreadPoolExecutor(len(spans)) as pool:
            parts = list(pool.map(lambda span: _scan_span(job, *span), spans))
    extents = np.array([extent for _, extent in parts])
    merged = np.stack([extents[:, :, 0].min(0), extents[:, :, 1].max(0)], axis=1)
    return ScanResult(codes, peis, thresholds, Runs.joined([runs for runs, _ in parts]), merged)


def _scan_span(job: tuple[Any, ...], first: int, last: int) -> tuple[Runs, npt.NDArray[np.float64]]:
    t2m, tp, et0, plan, land, tables, codes, peis = job
    extent = np.array([[np.inf, -np.inf]] * 3)
    room = BLOCK * (plan.days.size // (plan.min_duration + 1) + 1)
    buffer = (np.empty((max(room, 1 << 15), RUN_COUNTS), np.int32), np.empty((max(room, 1 << 15), RUN_VALUES), np.float64))
    kernel_plan, parts = plan.kernel_plan(), []
    while first < last:
        first, used = scan_cells(t2m, tp, et0, first, last, kernel_plan, land, tables, codes, peis, buffer, extent)
        parts.append(Runs(buffer[0][:used].copy(), buffer[1][:used].copy()))
    return Runs.joined(parts), extent
