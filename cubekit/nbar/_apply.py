"""Offset, scale and c in one pass over a stack of scenes. Order: offset, then c, then rounding; nodata stays nodata."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from cubekit.errors import InputError
from cubekit.nbar._convert import FILL
from cubekit.nbar._field import Int8Array
from cubekit.nbar._patch import CPatch
from cubekit.nbar._rows import with_nodes, with_pixels
from cubekit.nbar._status import NbarStatus
from cubekit.typing import FloatArray

__all__ = ["FILL", "SCALE", "Harmonised", "apply_c", "harmonise"]

SCALE = 1e-4
THREADS = int(os.environ.get("NUMBA_NUM_THREADS") or os.cpu_count() or 1)
GRAIN = 2**19
"""Pixels below which a thread costs more than it saves."""


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
        Use all processors. Leave it False inside dask workers.
    out
        Where to write, C-contiguous, of the shape of ``dn`` and the type asked for. May be the memory of ``dn`` itself: ``dn``, or
        ``dn.view("int16")``, takes the results in place, which saves new memory and the time that its first touch takes.

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
    which, nodes, seams, geometry = _packed(patches, dn.shape[1])
    counts = _counts(dn, parallel)
    factor = scale / SCALE if out.dtype == np.int16 else scale
    known = (offset, factor, which, nodes, seams, geometry, status == 0)
    _launch(with_nodes, dn, (*known, dn.dtype.type(nodata)), out, counts, parallel)
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
    known = (offset, factor, c, states == 0)
    _launch(with_pixels, dn, (*known, dn.dtype.type(nodata)), out, counts, parallel)
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
        spread: FloatArray = np.empty(dn.shape[:2])
        spread[...] = given[:, None] if given.ndim == 1 else given
    except ValueError:
        spread = np.full(1, np.nan)
    if not np.isfinite(spread).all():
        raise InputError(
            f"offset of shape {np.shape(offset)}", remedy=f"Give one finite number, or (time,) or (time, band) = {dn.shape[:2]}."
        )
    return out, spread


def _statuses(patches: Sequence[CPatch | NbarStatus], bands: int) -> Int8Array:
    rows = []
    for t, item in enumerate(patches):
        if isinstance(item, CPatch):
            if len(item.status) != bands:
                raise InputError(
                    f"patch {t} has {len(item.status)} bands, the stack {bands}", remedy="Make the patch with the stack's bands."
                )
            rows.append(item.status)
        elif item == NbarStatus.applied:
            raise InputError(f"patch {t} is the status 'applied'", remedy="Give the CPatch, or why there is none.")
        else:
            rows.append(np.full(bands, int(item), dtype=np.int8))
    return np.concatenate(rows).reshape(-1, bands) if rows else np.empty((0, bands), dtype=np.int8)


def _packed(patches: Sequence[CPatch | NbarStatus], bands: int) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray, FloatArray]:
    """(patch of each time, nodes, seams, geometry) as `with_nodes` wants them; smaller patches are padded."""
    distinct = {id(p): p for p in patches if isinstance(p, CPatch)}
    place = dict(zip(distinct, range(len(distinct)), strict=True))
    which = np.array([place.get(id(p), -1) for p in patches], dtype=np.int64)
    real = list(distinct.values())
    shapes = {p.nodes.shape for p in real} or {(bands, 1, 2, 2)}
    geometry = np.array([(*p.origin, *p.pitch, *p.corner) for p in real]).reshape(-1, 6)
    depth, rows, columns = (max(shape[i] for shape in shapes) for i in (1, 2, 3))
    if len(shapes) == 1 and real:
        nodes, seams = np.concatenate([p.nodes for p in real]), np.concatenate([p.seams for p in real])
        return which, nodes.reshape(len(real), bands, depth, rows, columns), seams.reshape(len(real), bands, depth - 1, 6), geometry
    nodes = np.full((len(real), bands, depth, rows, columns), np.nan)
    seams = np.zeros((len(real), bands, depth - 1, 6))
    seams[..., 0] = -1.0
    for n, p in enumerate(real):
        nodes[n, :, : p.nodes.shape[1], : p.nodes.shape[2], : p.nodes.shape[3]] = p.nodes
        seams[n, :, : p.seams.shape[1]] = p.seams
    return which, nodes, seams, geometry


def _launch(
    loop: Callable[..., None],
    dn: npt.NDArray[Any],
    known: tuple[Any, ...],
    out: npt.NDArray[Any],
    counts: npt.NDArray[np.int64],
    parallel: bool,
) -> None:
    """Run a compiled loop over all its units of work, in threads if asked for; it does not hold the interpreter's lock."""
    if not dn.size:
        return
    in_place = dn.flags.c_contiguous and dn.dtype.itemsize == out.dtype.itemsize and dn.ctypes.data == out.ctypes.data
    if np.may_share_memory(dn, out) and not in_place:
        dn = dn.copy()  # results would overtake the numbers that they are made of
    arguments = (dn.reshape(-1), dn.shape, *known, _fill_of(out), out.reshape(-1), counts)
    units = counts.shape[0] * counts.shape[1]
    parts = min(units, 8 * THREADS, dn.size // GRAIN) if parallel else 1
    if parts <= 1:
        loop(*arguments, 0, units)
        return
    waiting = deque(range(parts))

    def work() -> None:
        while waiting:
            try:
                part = waiting.popleft()
            except IndexError:  # another thread took the last one meanwhile
                return
            loop(*arguments, part * units // parts, (part + 1) * units // parts)

    others = [_helpers().submit(work) for _ in range(min(parts, THREADS) - 1)]
    work()
    for other in others:
        if not other.cancel():  # it may wait for those who help somebody else
            other.result()


@lru_cache(maxsize=1)
def _helpers() -> ThreadPoolExecutor:
    """Threads that stay: to start one takes as long as a few million pixels."""
    return ThreadPoolExecutor(max(1, THREADS - 1), thread_name_prefix="cubekit-nbar")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def _fill_of(out: npt.NDArray[Any]) -> np.generic:
    return np.int16(FILL) if out.dtype == np.int16 else np.float32(np.nan)


def _counts(dn: npt.NDArray[Any], parallel: bool) -> npt.NDArray[np.int64]:
    """Room for the counts, one per unit of work: bands and times, cut into chunks of rows where they are fewer than the threads want."""
    planes, height = dn.shape[0] * dn.shape[1], dn.shape[2]
    wanted = 8 * THREADS if parallel else 1
    chunks = min(height, -(-wanted // planes)) if planes and height else 1
    return np.zeros((planes, max(1, chunks), 2), dtype=np.int64)
