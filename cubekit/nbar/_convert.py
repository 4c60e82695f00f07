"""Rows of the fused pass, as explicit vectors.

A compiler makes vectors of such a loop too, but half as wide, with bounds that most rows do not need. And it stores through the caches,
which read each line of memory before it is overwritten: a large new array is written past them here, as a copy of memory does. What is read
next is fetched meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

__all__ = ["FILL", "convert_rows", "past_caches"]

FILL = -32768

LANES = 32
"""Pixels of a vector: a line of the cache for int16."""
LINE = 64
"""Bytes of a line of the cache."""
LARGE = 2**25
"""Bytes of a result that no cache keeps until it is read."""
AHEAD = 2048
"""Pixels that are fetched before they are due; of wider rows, the row below."""

utils: Any = cgutils  # its functions have no types
I16, I32, I64, F32, F64 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()


def past_caches(dn: Any, out: Any) -> Any:
    """Whether results are stored past the caches: a large array, and not the numbers themselves."""
    return False


@overload(past_caches)
def _past_caches(dn, out):  # type: ignore[no-untyped-def]
    return lambda dn, out: out.nbytes >= LARGE and dn.ctypes.data != out.ctypes.data


def convert_rows(
    dn: Any,
    base: Any,
    rows: Any,
    width: Any,
    v: Any,
    dv: Any,
    add: Any,
    level: Any,
    tilt: Any,
    limit: Any,
    complete: Any,
    nodata: Any,
    fill: Any,
    out: Any,
    past: Any,
) -> Any:
    """``(dn + add) * (level + tilt * b)`` with ``b = v + dv * row``, in float32; returns (clipped, uncorrected).

    An ``out`` of int16 gets it rounded half to even and clipped to +-32767.

    The first row begins at pixel ``base`` of the flat ``dn`` and ``out``, each next one ``width`` further. Valid pixels without a c, NaN,
    are filled and counted as uncorrected; ``complete``: there are none. Numbers up to ``limit`` cannot be clipped.

    This is what numba does with vectors, to the bit.
    """
    clipped, lost = 0, 0
    for i in range(rows):
        b = np.float32(v + dv * i)
        for j in range(len(level)):
            n = base + i * width + j
            value = (np.float32(dn[n]) + add) * (level[j] + tilt[j] * b)
            valid, known = dn[n] != nodata, not math.isnan(value)
            lost += bool(valid and not known)
            clipped += bool(valid and out.dtype == np.int16 and abs(value) >= 32767.5)
            if not valid or not known:
                value = fill
            elif out.dtype == np.int16:
                value = np.int16(min(max(np.rint(value), -32767.0), 32767.0))
            out[n] = value
    return clipped, lost


@overload(convert_rows)
def _convert_rows(dn, base, rows, width, v, dv, add, level, tilt, limit, complete, nodata, fill, out, past):  # type: ignore[no-untyped-def]
    return lambda dn, base, rows, width, v, dv, add, level, tilt, limit, complete, nodata, fill, out, past: _rows(  # type: ignore[call-arg]
        dn, base, rows, width, v, dv, add, level, tilt, limit, complete, nodata, fill, out, past
    )


@intrinsic
def _rows(typingctx, dn, base, rows, width, v, dv, add, level, tilt, limit, complete, nodata, fill, out, past):  # type: ignore[no-untyped-def]
    whole, double, single, flag = types.int64, types.float64, types.float32, types.boolean
    kinds = (dn, whole, whole, whole, double, double, single, level, tilt, whole, flag, dn.dtype, out.dtype, out, flag)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        count = context.make_array(level)(context, builder, arguments[7]).nitems
        pointers = [context.make_array(kinds[n])(context, builder, arguments[n]).data for n in (0, 7, 8, 13)]
        _, base, rows, width, v, dv, add, _, _, limit, complete, nodata, fill, _, past = arguments
        write = _Rows(builder, dn.dtype.signed, out.dtype == types.int16, count, (add, nodata, fill), pointers)
        return context.make_tuple(builder, signature.return_type, write(base, rows, width, v, dv, limit, complete, past))

    return types.UniTuple(whole, 2)(*kinds), generate  # type: ignore[no-untyped-call]


class _Rows:
    """Writes the instructions of `convert_rows`."""

    def __init__(self, build: Any, signed: bool, rounds: bool, count: Any, values: Sequence[Any], arrays: Sequence[Any]) -> None:
        self.build, self.signed, self.rounds, self.count = build, signed, rounds, count
        self.add, self.nodata, self.fill = values
        self.numbers, self.level, self.tilt, self.results = arrays
        self.size = 2 if rounds else 4
        self.totals = [utils.alloca_once_value(build, _int(0)) for _ in range(2)]

    def __call__(self, base: Any, rows: Any, width: Any, v: Any, dv: Any, limit: Any, complete: Any, past: Any) -> list[Any]:
        build = self.build
        wide = build.icmp_signed(">", self.count, _int(16 * LANES))
        self.ahead = build.select(build.icmp_signed(">", width, _int(AHEAD)), width, _int(AHEAD))
        with utils.for_range(build, rows, intp=I64) as row:
            start = build.add(base, build.mul(row.index, width))
            b = build.fptrunc(build.fadd(v, build.fmul(dv, build.sitofp(row.index, F64))), F32)
            numbers, results = build.gep(self.numbers, [start]), build.gep(self.results, [start])
            safe = build.and_(complete, build.icmp_signed("<=", self._highest(numbers), limit))
            with build.if_then(build.not_(safe), likely=False):
                self._count(numbers, b)
            with build.if_else(past) as (around, through):
                with around, build.if_else(wide) as (long, short):
                    with long:
                        self._row(numbers, results, b, safe, LINE)
                    with short:  # too few whole lines; numpy aligns its memory to 16 bytes
                        self._row(numbers, results, b, safe, 16)
                with through:
                    self._row(numbers, results, b, safe, None)
        with build.if_then(past):
            build.fence("seq_cst")
        return [build.load(total) for total in self.totals]

    def _highest(self, numbers: Any) -> Any:
        """Largest number of a row; negative ones count as large."""
        build, found = self.build, _int(0)
        whole = _whole(build, self.count)
        for lanes, begin, end in ((LANES, _int(0), whole), (1, whole, self.count)):
            kind = ir.VectorType(I16, lanes)
            top = utils.alloca_once(build, kind)
            build.store(ir.Constant(kind, [0] * lanes), top)
            with _each(build, begin, end, lanes) as j:
                number, known = _load(build, numbers, j, kind), build.load(top)
                build.store(build.select(build.icmp_unsigned(">", number, known), number, known), top)
            function = ir.FunctionType(I16, [kind])
            reduce = utils.get_or_insert_function(build.module, function, f"llvm.vector.reduce.umax.v{lanes}i16")
            best = build.zext(build.call(reduce, [build.load(top)]), I64)
            found = build.select(build.icmp_unsigned(">", best, found), best, found)
        return found

    def _count(self, numbers: Any, b: Any) -> None:
        """Add to the totals what is clipped and what is uncorrected of a row."""
        build, kind = self.build, ir.VectorType(F32, 1)
        with _each(build, _int(0), self.count, 1) as j:
            valid, value = self._value(numbers, b, j, 1)
            size = build.select(build.fcmp_ordered("<", value, ir.Constant(kind, [0.0])), build.fneg(value), value)
            clipped = build.fcmp_ordered(">=", size, ir.Constant(kind, [32767.5 if self.rounds else math.inf]))
            for total, happens in zip(self.totals, (clipped, build.fcmp_unordered("uno", value, value)), strict=True):
                one = build.extract_element(build.and_(valid, happens), ir.Constant(I32, 0))
                build.store(build.add(build.load(total), build.zext(one, I64)), total)

    def _row(self, numbers: Any, results: Any, b: Any, safe: Any, past: int | None) -> None:
        """Whole vectors, ``past`` the caches from the first byte that is so aligned, and single pixels before and after them."""
        build, first = self.build, _int(0)
        if past:
            first = build.udiv(build.and_(build.neg(build.ptrtoint(results, I64)), _int(past - 1)), _int(self.size))
            first = build.select(build.icmp_signed("<", first, self.count), first, self.count)
        last = build.add(first, _whole(build, build.sub(self.count, first)))
        with build.if_else(safe) as (plain, general):
            for branch, bounded in ((plain, False), (general, True)):
                with branch, _each(build, first, last, LANES) as j:
                    _fetch(build, build.gep(numbers, [build.add(j, self.ahead)]))
                    self._store(results, j, self._result(*self._value(numbers, b, j, LANES), bounded), past)
        for begin, end in ((_int(0), first), (last, self.count)):
            with _each(build, begin, end, 1) as j:
                self._store(results, j, self._result(*self._value(numbers, b, j, 1), True), None)

    def _value(self, numbers: Any, b: Any, j: Any, lanes: int) -> tuple[Any, Any]:
        """(valid, value) of the pixels at ``j``."""
        build = self.build
        words, wide, floats = (ir.VectorType(kind, lanes) for kind in (I16, I32, F32))
        number = _load(build, numbers, j, words)
        c = build.fadd(_load(build, self.level, j, floats), build.fmul(_load(build, self.tilt, j, floats), _all(build, b, floats)))
        plain = build.sitofp((build.sext if self.signed else build.zext)(number, wide), floats)
        value = build.fmul(build.fadd(plain, _all(build, self.add, floats)), c)
        return build.icmp_unsigned("!=", number, _all(build, self.nodata, words)), value

    def _result(self, valid: Any, value: Any, bounded: bool) -> Any:
        """What is stored. The low half of a float32 to which 1.5 * 2**23 was added is its rounded value."""
        build, lanes = self.build, value.type.count
        if self.rounds:
            if bounded:
                valid = build.and_(valid, build.fcmp_ordered("ord", value, value))
                for sign, bound in ((">", -32767.0), ("<", 32767.0)):
                    most = ir.Constant(value.type, [bound] * lanes)
                    value = build.select(build.fcmp_ordered(sign, value, most), value, most)
            shifted = build.fadd(value, ir.Constant(value.type, [12582912.0] * lanes))
            value = build.trunc(build.bitcast(shifted, ir.VectorType(I32, lanes)), ir.VectorType(I16, lanes))
        return build.select(valid, value, _all(build, self.fill, value.type))

    def _store(self, results: Any, j: Any, value: Any, past: int | None) -> None:
        build = self.build
        store = build.store(value, build.bitcast(build.gep(results, [j]), value.type.as_pointer()), align=past or self.size)
        if past:
            store.set_metadata("nontemporal", build.module.add_metadata([ir.Constant(I32, 1)]))


def _int(value: int) -> Any:
    return ir.Constant(I64, value)


def _whole(build: Any, count: Any) -> Any:
    """Pixels of the whole vectors among ``count``."""
    return build.and_(count, _int(-LANES))


@contextmanager
def _each(build: Any, begin: Any, end: Any, lanes: int) -> Iterator[Any]:
    with utils.for_range_slice(build, begin, end, _int(lanes), I64) as (j, _):
        yield j


def _all(build: Any, value: Any, kind: Any) -> Any:
    """A vector of one value."""
    one = build.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    return build.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def _load(build: Any, array: Any, j: Any, kind: Any) -> Any:
    return build.load(build.bitcast(build.gep(array, [j]), kind.as_pointer()), align=2 if kind.element == I16 else 4)


def _fetch(build: Any, place: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
    prefetch = utils.get_or_insert_function(build.module, kind, "llvm.prefetch.p0")
    build.call(prefetch, [place, *(ir.Constant(I32, flag) for flag in (0, 3, 1))])  # to read, to keep, data
