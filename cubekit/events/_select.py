"""Kernels: the values at which a scaled rank crosses a level, found without ranking.

The scaled rank of v in a sample of n is F(v) = (L + E / 2) / n, L values below v and E equal to it. F never falls, so {F > q} is a ray
``v > t`` and {F < q} a ray ``v < t``; t is the sample value at one order statistic, or its float neighbour where the value itself belongs
to the ray. The strict comparison with t is then the same decision as the comparison of ranks, for every float32 value.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

__all__ = ["doy_thresholds", "period_thresholds", "radix_order"]

_BINS = 2048
_NAN = np.float32(np.nan)
_UP = np.float32(np.inf)
_DOWN = np.float32(-np.inf)


@nb.njit(cache=True, nogil=True)
def order_index(n: int, q: float, above: bool) -> int:
    """1-based order statistic that decides: the least k with k / n > q (above) or k / n >= q (below)."""
    k = min(max(int(q * n), 1), n)
    if above:
        while k > 1 and (k - 1) / n > q:
            k -= 1
        while k < n and k / n <= q:
            k += 1
    else:
        while k > 1 and (k - 1) / n >= q:
            k -= 1
        while k < n and k / n < q:
            k += 1
    return k


@nb.njit(cache=True, nogil=True)
def threshold(x: np.float32, below: int, equal: int, n: int, q: float, above: bool) -> np.float32:
    """Bound of the ray, given the deciding sample value and how many lie below it and equal it."""
    rank = (below + 0.5 * equal) / n
    if above:
        return np.nextafter(x, _DOWN) if rank > q else x
    return np.nextafter(x, _UP) if rank < q else x


@nb.njit(cache=True, nogil=True)
def period_thresholds(sample: Any, n: int, levels: Any, above: Any, bins: Any, counts: Any, scratch: Any, out: Any) -> None:
    """Thresholds of the first n values of ``sample`` (float32, finite) at each level; NaN if n is 0.

    Values are counted in equal bins between their extremes (a monotone map, so ties share a bin); only the bin that holds the deciding
    order statistic is sorted.
    """
    if n == 0:
        out[:] = _NAN
        return
    low = high = sample[0]
    for i in range(n):
        low, high = min(low, sample[i]), max(high, sample[i])
    scale = (_BINS - 1) / (np.float64(high) - np.float64(low)) if high > low else 0.0
    counts[:] = 0
    for i in range(n):
        bins[i] = np.uint16((np.float64(sample[i]) - low) * scale)
        counts[bins[i]] += 1
    for j in range(levels.size):
        k = order_index(n, levels[j], above[j])
        before, chosen = 0, 0
        while before + counts[chosen] < k:
            before += counts[chosen]
            chosen += 1
        x, less, equal = _in_bin(sample, n, bins, chosen, k - before, scratch)
        out[j] = threshold(x, before + less, equal, n, levels[j], above[j])


@nb.njit(cache=True, nogil=True)
def _in_bin(sample: Any, n: int, bins: Any, chosen: int, k: int, scratch: Any) -> Any:
    m = 0
    for i in range(n):
        if bins[i] == chosen:
            scratch[m] = sample[i]
            m += 1
    part = scratch[:m]
    part.sort()
    x = part[k - 1]
    first, last = k - 1, k
    while first > 0 and part[first - 1] == x:
        first -= 1
    while last < m and part[last] == x:
        last += 1
    return x, first, last - first


@nb.njit(cache=True, nogil=True)
def radix_order(values: Any, n: int, keys: Any, index: Any, counts: Any) -> None:
    """Sort the first n float32 values by three 11-bit passes; ``index[1, :n]`` receives their order.

    Parameters
    ----------
    values
        float32, finite.
    keys, index, counts
        Work space: uint32 (2, >= n), int32 (2, >= n), int32 (3, 2048).
    """
    counts[:] = 0
    bits = values.view(np.uint32)
    for i in range(n):
        key = bits[i]
        key ^= np.uint32(0xFFFFFFFF) if key & np.uint32(0x80000000) else np.uint32(0x80000000)
        keys[0, i] = key
        index[0, i] = i
        for p in range(3):
            counts[p, (key >> np.uint32(11 * p)) & np.uint32(2047)] += 1
    for p in range(3):
        total = 0
        for b in range(2048):
            count = counts[p, b]
            counts[p, b] = total
            total += count
        a, z = p % 2, 1 - p % 2
        for i in range(n):
            b = (keys[a, i] >> np.uint32(11 * p)) & np.uint32(2047)
            to = counts[p, b]
            counts[p, b] = to + 1
            keys[z, to] = keys[a, i]
            index[z, to] = index[a, i]


@nb.njit(cache=True, nogil=True)
def _toggle(members: Any, per_word: Any, per_block: Any, place: int, step: int) -> None:
    word = place >> 6
    members[word] ^= np.uint64(1) << np.uint64(place & 63)
    per_word[word] += step
    per_block[word >> 4] += step


@nb.njit(cache=True, nogil=True)
def _find(members: Any, per_word: Any, per_block: Any, k: int) -> int:
    """Place of the k-th member (1-based)."""
    block = 0
    while per_block[block] < k:
        k -= per_block[block]
        block += 1
    word = block << 4
    while per_word[word] < k:
        k -= per_word[word]
        word += 1
    bits = members[word]
    for _ in range(k - 1):
        bits &= bits - np.uint64(1)
    place = word << 6
    for width in (32, 16, 8, 4, 2, 1):
        if not bits & ((np.uint64(1) << np.uint64(width)) - np.uint64(1)):
            bits >>= np.uint64(width)
            place += width
    return place


@nb.njit(cache=True, nogil=True)
def _ties(ordered: Any, n: int, members: Any, place: int) -> Any:
    """How many members equal the one at ``place``: before it, and in all."""
    before: Any = 0
    p = place - 1
    while p >= 0 and ordered[p] == ordered[place]:
        before += np.int64((members[p >> 6] >> np.uint64(p & 63)) & np.uint64(1))
        p -= 1
    p = place + 1
    after: Any = 0
    while p < n and ordered[p] == ordered[place]:
        after += np.int64((members[p >> 6] >> np.uint64(p & 63)) & np.uint64(1))
        p += 1
    return before, 1 + before + after


@nb.njit(cache=True, nogil=True)
def doy_thresholds(
    ordered: Any, n: int, places: Any, slot_start: Any, slot_days: Any, half: int, levels: Any, above: Any, sets: Any, out: Any
) -> None:
    """Thresholds of every calendar slot, by sliding a set of members over the year.

    Parameters
    ----------
    ordered
        The n reference values (float32) in ascending order.
    places
        Place in ``ordered`` of each reference day, -1 if missing; int32 (reference days,).
    slot_start, slot_days
        Reference days of slot s: ``slot_days[slot_start[s]:slot_start[s + 1]]``.
    half
        Half width of the window in slots.
    sets
        Work space (members uint64, per word int32, per block of 16 words int32).
    out
        float32 (slots, levels), NaN where a window is empty.
    """
    members, per_word, per_block = sets
    members[:] = 0
    per_word[:] = 0
    per_block[:] = 0
    slots = slot_start.size - 1
    size = 0
    for s in range(-half, half + 1):
        size += _shift(slot_start, slot_days, places, s % slots, members, per_word, per_block, 1)
    for slot in range(slots):
        if slot:
            size -= _shift(slot_start, slot_days, places, (slot - half - 1) % slots, members, per_word, per_block, -1)
            size += _shift(slot_start, slot_days, places, (slot + half) % slots, members, per_word, per_block, 1)
        for j in range(levels.size):
            if size == 0:
                out[slot, j] = _NAN
                continue
            k = order_index(size, levels[j], above[j])
            place = _find(members, per_word, per_block, k)
            before, equal = _ties(ordered, n, members, place)
            out[slot, j] = threshold(ordered[place], k - 1 - before, equal, size, levels[j], above[j])


@nb.njit(cache=True, nogil=True)
def _shift(slot_start: Any, slot_days: Any, places: Any, slot: int, members: Any, per_word: Any, per_block: Any, step: int) -> int:
    moved = 0
    for i in range(slot_start[slot], slot_start[slot + 1]):
        place = places[slot_days[i]]
        if place >= 0:
            _toggle(members, per_word, per_block, place, step)
            moved += 1
    return moved
