"""Kernels: from daily values of many cells to codes, thresholds and compound runs, in one pass over memory.

Arrays are (time, cells) in C order. Sixteen cells (one cache line of float32) are turned into series at a time, so that work space does not
grow with the grid.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from cubekit.events._pei import to_units, trailing_mean
from cubekit.events._select import doy_thresholds, period_thresholds, radix_order

__all__ = ["BLOCK", "RUN_COUNTS", "RUN_VALUES", "scan_cells"]

BLOCK = 16
RUN_COUNTS = 10
"""Integers of a run: cell, start, stop (exclusive), days with each drought bit (3), with each PEI (3), with Tmax."""
RUN_VALUES = 8
"""Reals of a run: sums of the four indicators, their extremes (maximum of Tmax, minima of the PEIs)."""
_NAN = np.float32(np.nan)


@nb.njit(cache=True, nogil=True)
def scan_cells(
    t2m: Any, tp: Any, et0: Any, first: int, last: int, plan: Any, land: Any, tables: Any, codes: Any, peis: Any, runs: Any, extent: Any
) -> Any:
    """Code cells ``first`` to ``last`` and list their compound runs; stops early when the run buffer is full.

    Parameters
    ----------
    t2m, tp, et0
        float32 (time, cells).
    plan
        (windows int64[3], slots int32[time], reference days int32[m], slot_start int32[s + 1], slot_days int32[m], half,
        levels float64[4, 3], above bool[4, 3], given, min_duration, first day out, last day out).
    land
        bool (cells,): where compound runs may be.
    tables
        float32 (4, slots, 3, cells): thresholds; read if ``given``, else written.
    codes, peis
        Output for the days out: uint8 (days, cells); float32 (3, days, cells) or with 0 days.
    runs
        (int32 (capacity, 10), float64 (capacity, 8)).
    extent
        float64 (3, 2): running minimum and maximum of the three inputs, updated.

    Returns
    -------
    (next cell, runs listed)
    """
    windows, slots, ref_days, slot_start, slot_days, half, levels, above, given, min_duration, out0, out1 = plan
    days = t2m.shape[0]
    work = _workspace(days, ref_days.size)
    block = (np.empty((BLOCK, 4, days), np.float32), np.empty((BLOCK, days), np.int64), np.empty((BLOCK, days), np.uint8))
    thresholds = np.empty((4, tables.shape[1], 3), np.float32)
    used, cell = 0, first
    room = BLOCK * (days // (min_duration + 1) + 1)
    while cell < last and used + room <= runs[0].shape[0]:
        width = min(BLOCK, last - cell)
        _gather(t2m, tp, et0, cell, width, block, extent)
        for b in range(width):
            series, code = block[0][b], block[2][b]
            for i in range(3):
                trailing_mean(block[1][b], windows[i], series[i + 1])
            if given:
                thresholds[:] = tables[:, :, :, cell + b]
            else:
                _thresholds(series, ref_days, slot_start, slot_days, half, levels, above, work, thresholds)
                tables[:, :, :, cell + b] = thresholds
            _code(series, slots, thresholds, code)
            if land[cell + b]:
                used = _list_runs(series, code, cell + b, min_duration, out0, out1, used, runs)
        _scatter(block, cell, width, out0, out1, codes, peis)
        cell += width
    return cell, used


@nb.njit(cache=True, nogil=True)
def _workspace(days: int, n: int) -> Any:
    n = max(n, 1)
    words = (n >> 6) + 1
    sets = (np.zeros(words, np.uint64), np.zeros(words, np.int32), np.zeros((words >> 4) + 1, np.int32))
    return (
        np.empty(n, np.float32),  # sample
        np.empty(n, np.float32),  # scratch, ordered sample
        np.empty(n, np.uint16),  # bins
        np.empty((3, 2048), np.int32),  # counts
        np.empty((2, n), np.uint32),  # keys
        np.empty((2, n), np.int32),  # order
        np.empty(n, np.int32),  # places
        sets,
    )


@nb.njit(cache=True, nogil=True)
def _gather(t2m: Any, tp: Any, et0: Any, cell: int, width: int, block: Any, extent: Any) -> None:
    series, units = block[0], block[1]
    for t in range(t2m.shape[0]):
        for b in range(width):
            x, p, e = t2m[t, cell + b], tp[t, cell + b], et0[t, cell + b]
            series[b, 0, t] = x if np.isfinite(x) else _NAN
            units[b, t] = to_units(np.float64(p) - np.float64(e))
            _extend(extent[0], x)
            _extend(extent[1], p)
            _extend(extent[2], e)


@nb.njit(cache=True, nogil=True, inline="always")
def _extend(extent: Any, x: np.float32) -> None:
    if np.isfinite(x):
        if x < extent[0]:
            extent[0] = x
        if x > extent[1]:
            extent[1] = x


@nb.njit(cache=True, nogil=True)
def _scatter(block: Any, cell: int, width: int, out0: int, out1: int, codes: Any, peis: Any) -> None:
    for t in range(out0, out1):
        for b in range(width):
            codes[t - out0, cell + b] = block[2][b, t]
    if peis.shape[1]:
        for i in range(3):
            for t in range(out0, out1):
                for b in range(width):
                    peis[i, t - out0, cell + b] = block[0][b, i + 1, t]


@nb.njit(cache=True, nogil=True)
def _thresholds(
    series: Any, ref_days: Any, slot_start: Any, slot_days: Any, half: int, levels: Any, above: Any, work: Any, out: Any
) -> None:
    sample, scratch, bins, counts, keys, order, places, sets = work
    for v in range(4):
        n = 0
        for i in range(ref_days.size):
            x = series[v, ref_days[i]]
            places[i] = n
            if np.isnan(x):
                places[i] = -1
            else:
                sample[n] = x
                n += 1
        if out.shape[1] == 1:
            period_thresholds(sample, n, levels[v], above[v], bins, counts[0], scratch, out[v, 0])
            continue
        radix_order(sample, n, keys, order, counts)
        for i in range(n):
            scratch[i] = sample[order[1, i]]
            order[0, order[1, i]] = i
        for i in range(ref_days.size):
            if places[i] >= 0:
                places[i] = order[0, places[i]]
        doy_thresholds(scratch, n, places, slot_start, slot_days, half, levels[v], above[v], sets, out[v])


@nb.njit(cache=True, nogil=True)
def _code(series: Any, slots: Any, thresholds: Any, codes: Any) -> None:
    for t in range(codes.size):
        slot = slots[t]
        normal, missing = True, False
        code: Any = 0
        for v in range(4):
            x, extreme = series[v, t], thresholds[v, slot, 0]
            if np.isnan(x) or np.isnan(extreme):
                missing = True
            else:
                code |= np.int64(x > extreme if v == 0 else x < extreme) << v
                normal &= (x > thresholds[v, slot, 1]) & (x < thresholds[v, slot, 2])
        codes[t] = code | (128 if missing else 16 if normal else 0)


@nb.njit(cache=True, nogil=True)
def _list_runs(series: Any, codes: Any, cell: int, min_duration: int, out0: int, out1: int, used: int, runs: Any) -> int:
    t, days = 0, codes.size
    while t < days:
        if not (codes[t] & 1 and codes[t] & 14):
            t += 1
            continue
        start = t
        while t < days and codes[t] & 1 and codes[t] & 14:
            t += 1
        a, z = max(start, out0), min(t, out1)
        if t - start >= min_duration and a < z:
            _describe_run(series, codes, cell, a, z, out0, runs[0][used], runs[1][used])
            used += 1
    return used


@nb.njit(cache=True, nogil=True)
def _describe_run(series: Any, codes: Any, cell: int, a: int, z: int, out0: int, counts: Any, values: Any) -> None:
    counts[:] = 0
    counts[0], counts[1], counts[2] = cell, a - out0, z - out0
    for v in range(4):
        total, extreme = 0.0, np.nan
        for t in range(a, z):
            x = np.float64(series[v, t])
            if np.isnan(x):
                continue
            total += x
            if np.isnan(extreme) or (x > extreme if v == 0 else x < extreme):
                extreme = x
            counts[5 + v if v else 9] += 1
        values[v], values[4 + v] = total, extreme
        if v:
            for t in range(a, z):
                counts[2 + v] += (codes[t] >> v) & 1
