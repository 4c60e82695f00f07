"""The fused pass: rows of digital numbers to reflectance, c held for the columns of one row.

Between two rows of nodes c is bilinear in each cell, so each column has ``level + tilt * b``, b being the distance from the upper nodes.
Both change only where a row of nodes is passed or a detector seam moves on, which it does by a fraction of a pixel from row to row: a few
rows are done together as if the seams stood still, and the pixels that a seam passes among them are done one by one.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from cubekit.nbar._convert import TOGETHER, convert_rows
from cubekit.nbar._field import MARGIN
from cubekit.nbar._pixels import HALF
from cubekit.nbar._scan import NODES

__all__ = ["with_nodes", "with_pixels"]


@njit(cache=True)
def _lose(dn, start, stop, nodata, out, fill):  # type: ignore[no-untyped-def]
    """Fill a run that has no c; returns how many valid pixels it had."""
    lost = 0
    source, target = dn[start:stop], out[start:stop]
    for j in range(stop - start):
        lost += source[j] != nodata
        target[j] = fill
    return lost


@njit(cache=True)
def _limit(offset, largest, fill):  # type: ignore[no-untyped-def]
    """Largest number, if it is not negative, that a c up to ``largest`` cannot bring beyond what int16 stores; -1 if there is none."""
    if fill != fill or largest <= 0.0:
        return 65535
    bound = 32767.0 / largest
    return -1 if offset < -bound else int(max(-1.0, min(bound - offset, 32767.0)))


@njit(cache=True)
def _columns_within(u0, du, width):  # type: ignore[no-untyped-def]
    """Half-open range of the columns that lie on the granule."""
    first, last = 0, width
    limit = NODES - 1 + MARGIN
    if du <= 0.0:
        return (0, width) if u0 >= -MARGIN and u0 <= limit else (0, 0)
    if u0 < -MARGIN:
        first = min(width, math.ceil((-MARGIN - u0) / du))
    if u0 + du * (width - 1) > limit:
        last = min(width, math.floor((limit - u0) / du) + 1)
    return first, max(first, last)


@njit(cache=True)
def _cells(u0, du, corner, first, last, stops):  # type: ignore[no-untyped-def]
    """Column where each cell of the window ends, into ``stops``; the outermost cells reach beyond their nodes."""
    for cell in range(stops.shape[0]):
        stops[cell] = last
        if cell < stops.shape[0] - 1 and du > 0.0:
            stops[cell] = min(last, max(first, math.ceil((cell + 1 + corner - u0) / du)))
        elif cell < stops.shape[0] - 1 and u0 >= cell + 1 + corner:
            stops[cell] = first


@njit(cache=True)
def _lines(nodes, r0, detectors, geometry, lines):  # type: ignore[no-untyped-def]
    """c of each detector and cell below node row ``r0`` as (p, q, r, s) of ``p + q * b + (r + s * b) * column``.

    b is the distance from the node row in nodes, so that values do not depend on where a block of rows begins.
    """
    u0, du = geometry[1], geometry[3]
    for d in range(detectors):
        for cell in range(nodes.shape[2] - 1):
            a0 = u0 - (cell + int(geometry[5]))
            here, east = nodes[d, r0, cell], nodes[d, r0, cell + 1]
            south = nodes[d, r0 + 1, cell] - here
            rise, twist = east - here, nodes[d, r0 + 1, cell + 1] - east - south
            lines[d, cell, 0] = here + rise * a0
            lines[d, cell, 1] = south + twist * a0
            lines[d, cell, 2] = rise * du
            lines[d, cell, 3] = twist * du


@njit(cache=True)
def _follow_seams(seams, u0, du, v, first, last, crossing):  # type: ignore[no-untyped-def]
    """Move ``crossing``, the first column east of each seam, to the row at ``v``: looks grow eastwards, and rows differ by little."""
    b = v / HALF - 1.0
    for s in range(seams.shape[0]):
        c0 = seams[s, 0] + b * (seams[s, 2] + b * seams[s, 5])
        c1 = seams[s, 1] + b * seams[s, 4]
        c2 = seams[s, 3]
        low, high, reach = first, last, 1
        guess = min(max(crossing[s], first), last)
        while low < high:
            middle = min(max(guess, low), high - 1)
            a = (u0 + du * middle) / HALF - 1.0
            if c0 + a * (c1 + a * c2) > 0.0:
                high = middle
                guess = middle - reach
            else:
                low = middle + 1
                guess = middle + reach
            reach *= 2
        crossing[s] = low


@njit(cache=True)
def _node_row(v, corner, rows):  # type: ignore[no-untyped-def]
    """Row of nodes above the pixels at ``v`` within a window of ``rows`` that begins at ``corner``; -1 where they are off the granule."""
    if not (v >= -MARGIN and v <= NODES - 1 + MARGIN):
        return -1
    return min(max(math.floor(v) - corner, 0), rows - 2) + corner


@njit(cache=True)
def _last_row(v0, dv, begin, end, node, corner, rows):  # type: ignore[no-untyped-def]
    """First row after ``begin``, up to ``end``, that does not lie below row ``node`` of the nodes."""
    low, high = begin + 1, end
    while low < high:
        middle = (low + high) // 2
        if _node_row(v0 + dv * middle, corner, rows) == node:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _real_seams(seams):  # type: ignore[no-untyped-def]
    """How many seams come before those that only pad the array: constants that are never crossed."""
    count = 0
    for s in range(seams.shape[0]):
        constant = seams[s, 1] == 0.0 and seams[s, 2] == 0.0 and seams[s, 3] == 0.0 and seams[s, 4] == 0.0
        if not (constant and seams[s, 5] == 0.0 and seams[s, 0] == -1.0):
            count = s + 1
    return count


@njit(cache=True, nogil=True)
def with_nodes(dn, shape, offset, factor, which, nodes, seams, geometry, active, nodata, fill, out, counts, first, last):  # type: ignore[no-untyped-def]
    """Some rows of a stack of ``shape``; ``dn``, ``out`` are flat; ``counts`` (time * band, chunk, 2) gets clipped and uncorrected.

    ``which`` (time,) patch of each time, of no meaning where no band is active; ``nodes`` (patch, band, detector, row, column), ``seams``
    (patch, band, seam, 6), ``geometry`` (patch, 6): origin, pitch and corner of `CPatch`. The unit of work is a chunk of rows of one band
    and time; those from ``first`` to ``last`` are done.
    """
    bands, height, width = shape[1], shape[2], shape[3]
    chunks = counts.shape[1]
    lines, stops = np.empty((nodes.shape[2], nodes.shape[4] - 1, 4)), np.empty(nodes.shape[4] - 1, dtype=np.int64)
    columns, level, tilt = np.empty((2, width), dtype=np.float32), np.full(width, np.float32(factor)), np.zeros(width, dtype=np.float32)
    for unit in range(first, last):
        plane, chunk = unit // chunks, unit % chunks
        t, k = plane // bands, plane % bands
        begin, end = chunk * height // chunks, (chunk + 1) * height // chunks
        add, base = np.float32(offset[t, k]), plane * height * width
        if active[t, k]:
            known, view, place = nodes[which[t], k], seams[which[t], k], geometry[which[t]]
            done = _plane(dn, base, begin, end, width, add, factor, known, view, place, lines, stops, columns, nodata, fill, out)
        else:
            start, limit = base + begin * width, _limit(add, factor, fill)
            done = convert_rows(dn, start, end - begin, width, 0.0, 0.0, add, level, tilt, limit, True, nodata, fill, out)
        counts[plane, chunk, 0] = done[0]
        counts[plane, chunk, 1] = done[1]


@njit(cache=True)
def _all_known(nodes, detectors):  # type: ignore[no-untyped-def]
    """Whether c is a number at all nodes of the first detectors of a band."""
    for d in range(detectors):
        for r in range(nodes.shape[1]):
            for c in range(nodes.shape[2]):
                if math.isnan(nodes[d, r, c]):
                    return False
    return True


@njit(cache=True, error_model="numpy")
def _spread(lines, stops, crossing, first, begin, end, factor, level, tilt):  # type: ignore[no-untyped-def]
    """``factor * c`` at the node row, and its change to the next, of columns ``begin`` to ``end`` into ``level`` and ``tilt``.

    Returns the largest c between the two rows of nodes.
    """
    d, cell, j, largest = 0, 0, begin, np.float32(0.0)
    while j < end:
        while d < crossing.shape[0] and crossing[d] <= j:
            d += 1
        while stops[cell] <= j:
            cell += 1
        stop = min(end, stops[cell], crossing[d]) if d < crossing.shape[0] else min(end, stops[cell])
        p, q, r, s = lines[d, cell, 0], lines[d, cell, 1], lines[d, cell, 2], lines[d, cell, 3]
        here, change = level[j - first : stop - first], tilt[j - first : stop - first]
        for m in range(stop - j):  # from 0 on, so that the index cannot be negative and several columns are done at a time
            here[m] = factor * (p + r * (j + m))
            change[m] = factor * (q + s * (j + m))
        for m in (0, stop - j - 1):  # bilinear: the corners are the extremes; continued a little beyond the tile
            largest = max(largest, here[m] - np.float32(0.1) * change[m], here[m] + np.float32(1.1) * change[m])
        j = stop
    return largest


@njit(cache=True, error_model="numpy")
def _pixel(number, b, add, level, tilt, nodata, fill):  # type: ignore[no-untyped-def]
    """(result, clipped, uncorrected) of one pixel, as `convert_rows` has them."""
    value = (np.float32(number) + add) * (level + tilt * b)
    if number == nodata:
        return np.float32(fill), 0, 0
    if math.isnan(value):
        return np.float32(fill), 0, 1
    if fill != fill:
        return value, 0, 0
    return min(max(np.rint(value), np.float32(-32767.0)), np.float32(32767.0)), int(abs(value) >= np.float32(32767.5)), 0


@njit(cache=True)
def _detector(crossing, j):  # type: ignore[no-untyped-def]
    """Which detector sees column ``j``."""
    d = 0
    while d < crossing.shape[0] and crossing[d] <= j:
        d += 1
    return d


@njit(cache=True, error_model="numpy")
def _passed(dn, start, rows, width, b, dv, add, factor, lines, stops, crossings, nodata, fill, where, results):  # type: ignore[no-untyped-def]
    """Pixels of some rows that another detector sees than in the first row, into ``where`` (place in ``dn``) and ``results``.

    Returns how many there are, -1 if there is no room for them, and by how much they change the counts (clipped, uncorrected) of rows that
    are converted as if they had the first row's detectors.
    """
    found, clipped, lost, cell = 0, 0, 0, 0
    for s in range(crossings.shape[1]):
        for row in range(1, rows):
            for j in range(min(crossings[0, s], crossings[row, s]), max(crossings[0, s], crossings[row, s])):
                place, known = start + row * width + j, False
                for n in range(found):
                    known |= where[n] == place
                if known:  # between two seams that meet
                    continue
                if found == where.shape[0]:
                    return -1, 0, 0
                while cell > 0 and stops[cell - 1] > j:
                    cell -= 1
                while stops[cell] <= j:
                    cell += 1
                for sign, crossing in ((-1, crossings[0]), (1, crossings[row])):
                    line = lines[_detector(crossing, j), cell]
                    level, tilt = np.float32(factor * (line[0] + line[2] * j)), np.float32(factor * (line[1] + line[3] * j))
                    value, over, gone = _pixel(dn[place], np.float32(b + dv * row), add, level, tilt, nodata, fill)
                    results[found] = value
                    clipped += sign * over
                    lost += sign * gone
                where[found] = place
                found += 1
    return found, clipped, lost


@njit(cache=True, error_model="numpy")
def _plane(dn, base, begin, end, width, add, factor, nodes, seams, geometry, lines, stops, columns, nodata, fill, out):  # type: ignore[no-untyped-def]
    """Rows ``begin`` to ``end`` of one band and time, whose first pixel is ``base``; returns (clipped, uncorrected).

    ``nodes`` (detector, row, column), ``seams`` (seam, 6) and ``geometry`` (6,) of one patch and band; ``lines``, ``stops`` and ``columns``
    are scratch.
    """
    v0, u0, dv, du, corner, real = geometry[0], geometry[1], geometry[2], geometry[3], int(geometry[4]), _real_seams(seams)
    first, last = _columns_within(u0, du, width)
    seams, complete = seams[:real], _all_known(nodes, real + 1)
    crossings, before = np.full((TOGETHER, real), (first + last) // 2), np.empty(real, dtype=np.int64)
    where, results = np.empty(16 * TOGETHER, dtype=np.int64), np.empty(16 * TOGETHER, dtype=np.float32)
    level, tilt = columns[0, : last - first], columns[1, : last - first]
    _cells(u0, du, int(geometry[5]), first, last, stops)
    clipped, lost, i, known, largest, rows = 0, 0, begin, -1, np.float32(0.0), 1
    while i < end:
        node = _node_row(v0 + dv * i, corner, nodes.shape[1])
        if node < 0:
            row = base + i * width
            lost += _lose(dn, row, row + width, nodata, out, fill)
            i += 1
            continue
        stop = _last_row(v0, dv, i, end, node, corner, nodes.shape[1])
        fresh = node != known
        if fresh:
            _lines(nodes, node - corner, real + 1, geometry, lines)
            known = node
        while i < stop:
            for s in range(real):
                before[s] = crossings[0, s]
                crossings[0, s] = crossings[min(rows, TOGETHER) - 1, s]  # where the seams were last seen
            b, rows, start, found = v0 + dv * i - node, stop - i, base + i * width, 0
            if real > 0:
                rows = min(rows, TOGETHER)
                for row in range(rows):
                    for s in range(real if row > 0 else 0):
                        crossings[row, s] = crossings[row - 1, s]
                    _follow_seams(seams, u0, du, v0 + dv * (i + row), first, last, crossings[row])
                found, over, gone = _passed(
                    dn, start, rows, width, b, dv, add, factor, lines, stops, crossings, nodata, fill, where, results
                )
                if found < 0:
                    rows, found = 1, 0
                clipped += over
                lost += gone
            if fresh:
                largest, fresh = _spread(lines, stops, crossings[0], first, first, last, factor, level, tilt), False
            else:
                for s in range(real):  # only what a seam passed has another detector
                    low, high = min(before[s], crossings[0, s]), max(before[s], crossings[0, s])
                    largest = max(largest, _spread(lines, stops, crossings[0], first, low, high, factor, level, tilt))
            limit = _limit(add, largest, fill)
            done = convert_rows(dn, start + first, rows, width, b, dv, add, level, tilt, limit, complete, nodata, fill, out)
            clipped += done[0]
            lost += done[1]
            for n in range(found):
                out[where[n]] = results[n]
            if last - first < width:
                for row in range(start, start + rows * width, width):
                    lost += _lose(dn, row, row + first, nodata, out, fill) + _lose(dn, row + last, row + width, nodata, out, fill)
            i += rows
    return clipped, lost


@njit(cache=True, nogil=True)
def with_pixels(dn, shape, offset, factor, c, active, nodata, fill, out, counts, first, last):  # type: ignore[no-untyped-def]
    """As `with_nodes`, with c given per pixel, (time or 1, band, y, x)."""
    bands, height, width = shape[1], shape[2], shape[3]
    chunks = counts.shape[1]
    level, none = np.empty(width, dtype=np.float32), np.zeros(width, dtype=np.float32)
    for unit in range(first, last):
        plane, chunk = unit // chunks, unit % chunks
        t, k = plane // bands, plane % bands
        known, add = c[min(t, c.shape[0] - 1), k], np.float32(offset[t, k])
        clipped, lost = 0, 0
        for i in range(chunk * height // chunks, (chunk + 1) * height // chunks):
            largest = np.float32(0.0)
            for j in range(width):
                level[j] = factor * known[i, j] if active[t, k] else factor
                largest = max(largest, level[j])
            start, limit, complete = (plane * height + i) * width, _limit(add, largest, fill), not active[t, k]
            done = convert_rows(dn, start, 1, width, 0.0, 0.0, add, level, none, limit, complete, nodata, fill, out)
            clipped += done[0]
            lost += done[1]
        counts[plane, chunk, 0] = clipped
        counts[plane, chunk, 1] = lost
