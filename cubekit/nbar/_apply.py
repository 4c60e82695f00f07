"""Offset, scale and c in one pass over a stack of scenes. Order: offset, then c, then rounding; nodata stays nodata."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import get_num_threads, int16, njit, prange
from numba.extending import overload

from cubekit.errors import InputError
from cubekit.nbar._field import Int8Array
from cubekit.nbar._jit import serial_and_parallel
from cubekit.nbar._patch import CPatch, runs
from cubekit.nbar._status import NbarStatus
from cubekit.typing import FloatArray

__all__ = ["FILL", "SCALE", "Harmonised", "apply_c", "harmonise"]

FILL = -32768
SCALE = 1e-4
MAX_RUNS = 64  # 22 cells, 11 seams and two ends in a row, with room


@dataclass(frozen=True, slots=True, eq=False)
class Harmonised:
    """Result of `harmonise`.

    Attributes
    ----------
    values
        (time, band, y, x) int16 (scale 1e-4, fill -32768) or float32 reflectance (fill NaN).
    status
        (time, band) `NbarStatus`.
    clipped
        Values that int16 cannot store and were clipped to +-32767.
    uncorrected
        Valid pixels of adjusted bands that lie outside the granule and became fill.
    """

    values: npt.NDArray[np.generic]
    status: Int8Array
    clipped: int
    uncorrected: int


@njit(cache=True)
def _lose(dn, start, stop, nodata, out, fill):  # type: ignore[no-untyped-def]
    """Fill a run that has no c; returns how many valid pixels it had."""
    lost = 0
    for j in range(start, stop):
        lost += dn[j] != nodata
        out[j] = fill
    return lost


@njit(cache=True)
def _count_clipped(dn, start, stop, offset, first, step, nodata):  # type: ignore[no-untyped-def]
    count = 0
    for j in range(start, stop):
        value = (np.float32(dn[j]) + offset) * (first + step * np.float32(j - start))
        count += (dn[j] != nodata) & (abs(value) >= np.float32(32767.5))
    return count


@njit(cache=True, error_model="numpy")
def _run_int16(dn, start, stop, offset, first, step, nodata, out):  # type: ignore[no-untyped-def]
    """One run of a row to int16, rounded half to even; returns how many values were clipped.

    The addition of 1.5 * 2**23 rounds a float32 within +-2**22 to an integer, and vectorises where a call of rint does not. The union
    of all bits bounds the largest value, so that clipped values are looked for only where there may be some.
    """
    n = np.int32(stop - start)
    source = dn[start:stop]
    target = out[start:stop]
    magic = np.float32(12582912.0)
    bits = source.dtype.type(0)
    for j in range(n):
        value = (np.float32(source[j]) + offset) * (first + step * np.float32(np.int32(j)))
        value = min(max(value, np.float32(-32767.0)), np.float32(32767.0))
        rounded = np.int16(np.int32((value + magic) - magic))
        target[j] = rounded if source[j] != nodata else np.int16(FILL)
        bits = source.dtype.type(bits | source[j])
    bound = np.float32(32767.0) / max(first, first + step * np.float32(n - 1))
    if bits >= 0 and np.float32(bits) + offset <= bound and offset >= -bound:
        return 0
    return _count_clipped(dn, start, stop, offset, first, step, nodata)


@njit(cache=True, error_model="numpy")
def _run_float32(dn, start, stop, offset, first, step, nodata, out):  # type: ignore[no-untyped-def]
    """One run of a row to float32; nothing is clipped."""
    n = np.int32(stop - start)
    source = dn[start:stop]
    target = out[start:stop]
    for j in range(n):
        value = (np.float32(source[j]) + offset) * (first + step * np.float32(np.int32(j)))
        target[j] = value if source[j] != nodata else np.float32(np.nan)
    return 0


def _run(dn: Any, start: Any, stop: Any, offset: Any, first: Any, step: Any, nodata: Any, out: Any) -> Any:
    """One run of a row, in the output's type."""
    kernel = _run_int16 if out.dtype == np.int16 else _run_float32
    return kernel(dn, start, stop, offset, first, step, nodata, out)


@overload(_run)
def _typed_run(dn, start, stop, offset, first, step, nodata, out):  # type: ignore[no-untyped-def]
    kernel = _run_int16 if out.dtype == int16 else _run_float32

    def run(dn, start, stop, offset, first, step, nodata, out):  # type: ignore[no-untyped-def]
        return kernel(dn, start, stop, offset, first, step, nodata, out)

    return run


def _stack(dn, shape, offset, factor, nodes, seams, geometry, active, nodata, fill, out, counts):  # type: ignore[no-untyped-def]
    """All rows of a stack of ``shape``; ``dn``, ``out`` are flat; ``counts`` (time * band, chunk, 2) gets clipped and uncorrected.

    The unit of work is a chunk of rows of one band and time.
    """
    bands, height, width = shape[1], shape[2], shape[3]
    chunks = counts.shape[1]
    for unit in prange(counts.shape[0] * chunks):
        stops = np.empty(MAX_RUNS, dtype=np.int64)
        gains = np.empty(MAX_RUNS)
        slopes = np.empty(MAX_RUNS)
        plane, chunk = unit // chunks, unit % chunks
        t, k = plane // bands, plane % bands
        add = np.float32(offset[t, k])
        adjusted = active[t, k]
        clipped = 0
        lost = 0
        n = 1
        stops[0], gains[0], slopes[0] = width, 1.0, 0.0
        for i in range(chunk * height // chunks, (chunk + 1) * height // chunks):
            base = (plane * height + i) * width
            if adjusted:
                n = runs(nodes, seams, geometry, t, k, i, width, stops, gains, slopes)
            start = 0
            for r in range(n):
                if math.isnan(gains[r]):
                    lost += _lose(dn, base + start, base + stops[r], nodata, out, fill)
                else:
                    first = np.float32(factor * (gains[r] + slopes[r] * start))
                    step = np.float32(factor * slopes[r])
                    clipped += _run(dn, base + start, base + stops[r], add, first, step, nodata, out)
                start = stops[r]
        counts[plane, chunk, 0] = clipped
        counts[plane, chunk, 1] = lost


def _stack_c(dn, shape, offset, factor, c, active, nodata, fill, out, counts):  # type: ignore[no-untyped-def]
    """As `_stack`, with c given per pixel, (time or 1, band, y, x)."""
    bands, height, width = shape[1], shape[2], shape[3]
    chunks = counts.shape[1]
    for unit in prange(counts.shape[0] * chunks):
        plane, chunk = unit // chunks, unit % chunks
        t, k = plane // bands, plane % bands
        source = min(t, c.shape[0] - 1)
        add = np.float32(offset[t, k])
        clipped = 0
        lost = 0
        for i in range(chunk * height // chunks, (chunk + 1) * height // chunks):
            base = (plane * height + i) * width
            if not active[t, k]:
                clipped += _run(dn, base, base + width, add, np.float32(factor), np.float32(0.0), nodata, out)
                continue
            for j in range(width):
                here = c[source, k, i, j]
                if math.isnan(here):
                    lost += _lose(dn, base + j, base + j + 1, nodata, out, fill)
                else:
                    clipped += _run(dn, base + j, base + j + 1, add, np.float32(factor * here), np.float32(0.0), nodata, out)
        counts[plane, chunk, 0] = clipped
        counts[plane, chunk, 1] = lost


_NODES = serial_and_parallel(_stack)
_PIXELS = serial_and_parallel(_stack_c)


def harmonise(
    dn: npt.NDArray[np.integer],
    patches: Sequence[CPatch | NbarStatus],
    offset: npt.ArrayLike = 0.0,
    *,
    scale: float = SCALE,
    nodata: int = 0,
    dtype: str = "int16",
    parallel: bool = False,
    out: npt.NDArray[Any] | None = None,
) -> Harmonised:
    """Digital numbers to nadir-adjusted reflectance, ``c * (dn + offset) * scale``, in one pass.

    Parameters
    ----------
    dn
        (time, band, y, x), uint16 or int16.
    patches
        Per time step the granule's `CPatch`, or why there is none (`NbarStatus.no_metadata`, `NbarStatus.not_requested`).
    offset
        Added to ``dn`` first: a number, (time,) or (time, band).
    scale
        Reflectance per digital number.
    nodata
        Value of ``dn`` that stays nodata.
    dtype
        ``"int16"``: reflectance / 1e-4, rounded half to even, fill -32768; ``"float32"``: reflectance, fill NaN.
    parallel
        Use numba's threads. Leave it False inside dask workers.
    out
        Where to write, C-contiguous, of the shape of ``dn`` and the type asked for; may be ``dn`` itself when both are int16.

    Returns
    -------
    Harmonised
        Bands that are not adjusted (status other than ``applied``) get offset and scale only.

    Raises
    ------
    InputError
        Shapes, types or lengths that do not fit.
    """
    out, offset = _check(dn, offset, dtype, out)
    if len(patches) != dn.shape[0]:
        raise InputError(f"{len(patches)} patches for {dn.shape[0]} time steps", remedy="Give one patch or status per time step.")
    status = _statuses(patches, dn.shape[1])
    real = [p if isinstance(p, CPatch) else None for p in patches]
    depth = max((p.nodes.shape[1] for p in real if p is not None), default=1)
    rows = max((p.nodes.shape[2] for p in real if p is not None), default=2)
    columns = max((p.nodes.shape[3] for p in real if p is not None), default=2)
    nodes = np.full((len(patches), dn.shape[1], depth, rows, columns), np.nan)
    seams = np.zeros((len(patches), dn.shape[1], depth - 1, 6))
    seams[..., 0] = -1.0
    geometry = np.zeros((len(patches), 6))
    for t, p in enumerate(real):
        if p is not None:
            nodes[t, :, : p.nodes.shape[1], : p.nodes.shape[2], : p.nodes.shape[3]] = p.nodes
            seams[t, :, : p.seams.shape[1]] = p.seams
            geometry[t] = (*p.origin, *p.pitch, *p.corner)
    counts = _counts(dn, parallel)
    factor = scale / SCALE if out.dtype == np.int16 else scale
    loop, flat = _NODES[parallel], dn.reshape(-1)
    empty = _fill_of(out)
    loop(flat, dn.shape, offset, factor, nodes, seams, geometry, status == 0, dn.dtype.type(nodata), empty, out.reshape(-1), counts)
    return Harmonised(out, status, int(counts[..., 0].sum()), int(counts[..., 1].sum()))


def apply_c(
    dn: npt.NDArray[np.integer],
    c: FloatArray,
    status: npt.ArrayLike,
    offset: npt.ArrayLike = 0.0,
    *,
    scale: float = SCALE,
    nodata: int = 0,
    dtype: str = "int16",
    parallel: bool = False,
    out: npt.NDArray[Any] | None = None,
) -> Harmonised:
    """`harmonise` with c given per pixel: for cubes in another zone than the granule, or detectors from MSK_DETFOO.

    Parameters
    ----------
    c
        (band, y, x) for all time steps, or (time, band, y, x), as `CField.c` returns it.
    status
        `NbarStatus`, (band,) or (time, band); c is used where it is ``applied``.
    dn, offset, scale, nodata, dtype, parallel, out
        See `harmonise`.
    """
    out, offset = _check(dn, offset, dtype, out)
    c = np.asarray(c, dtype=np.float32)
    c = c[None] if c.ndim == 3 else c
    if c.shape[1:] != dn.shape[1:] or c.shape[0] not in (1, dn.shape[0]):
        raise InputError(f"c of shape {c.shape} for pixels of shape {dn.shape}", remedy="Give c as (band, y, x) or (time, band, y, x).")
    states = np.ascontiguousarray(np.broadcast_to(np.asarray(status, dtype=np.int8), dn.shape[:2]))
    counts = _counts(dn, parallel)
    factor = scale / SCALE if out.dtype == np.int16 else scale
    loop, flat = _PIXELS[parallel], dn.reshape(-1)
    loop(flat, dn.shape, offset, factor, c, states == 0, dn.dtype.type(nodata), _fill_of(out), out.reshape(-1), counts)
    return Harmonised(out, states, int(counts[..., 0].sum()), int(counts[..., 1].sum()))


def _check(dn: npt.NDArray[Any], offset: npt.ArrayLike, dtype: str, out: npt.NDArray[Any] | None) -> tuple[npt.NDArray[Any], FloatArray]:
    if not isinstance(dn, np.ndarray) or dn.ndim != 4 or dn.dtype not in (np.uint16, np.int16):
        found = f"{dn.dtype} of shape {dn.shape}" if isinstance(dn, np.ndarray) else type(dn).__name__
        raise InputError(f"digital numbers are {found}", remedy="Give uint16 or int16 (time, band, y, x).")
    if dtype not in ("int16", "float32"):
        raise InputError(f"dtype={dtype!r}", remedy="Use 'int16' or 'float32'.")
    if out is None:
        out = np.empty(dn.shape, dtype=dtype)
    if out.shape != dn.shape or out.dtype != np.dtype(dtype) or not out.flags.c_contiguous:
        raise InputError(f"out is {out.dtype} of shape {out.shape}", remedy=f"Give C-contiguous {dtype} of shape {dn.shape}.")
    try:
        given = np.asarray(offset, dtype=np.float64)
        spread = np.broadcast_to(given[:, None] if given.ndim == 1 else given, dn.shape[:2])
    except ValueError:
        spread = np.empty(0)
    if (not spread.size and dn.size) or not np.isfinite(spread).all():
        raise InputError(
            f"offset of shape {np.shape(offset)}", remedy=f"Give one finite number, or (time,) or (time, band) = {dn.shape[:2]}."
        )
    return out, np.ascontiguousarray(spread)


def _statuses(patches: Sequence[CPatch | NbarStatus], bands: int) -> Int8Array:
    status = np.empty((len(patches), bands), dtype=np.int8)
    for t, item in enumerate(patches):
        if isinstance(item, CPatch):
            if len(item.status) != bands:
                raise InputError(
                    f"patch {t} has {len(item.status)} bands, the stack {bands}", remedy="Make the patch with the stack's bands."
                )
            status[t] = item.status
        elif item == NbarStatus.applied:
            raise InputError(f"patch {t} is the status 'applied'", remedy="Give the CPatch, or why there is none.")
        else:
            status[t] = int(item)
    return status


def _fill_of(out: npt.NDArray[Any]) -> np.generic:
    return np.int16(FILL) if out.dtype == np.int16 else np.float32(np.nan)


def _counts(dn: npt.NDArray[Any], parallel: bool) -> npt.NDArray[np.int64]:
    """Room for the counts, one per unit of work: bands and times, cut into chunks of rows where they are fewer than the threads want."""
    planes, height = dn.shape[0] * dn.shape[1], dn.shape[2]
    wanted = 8 * get_num_threads() if parallel else 1
    chunks = min(height, -(-wanted // planes)) if planes and height else 1
    return np.zeros((planes, max(1, chunks), 2), dtype=np.int64)
