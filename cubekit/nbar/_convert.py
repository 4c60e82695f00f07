"""Rows of the fused pass, as explicit vectors.

A compiler makes vectors of such a loop too, but half as wide, with bounds that most rows do not need. Here a few rows are done together, a
part of their columns at a time, so that c is loaded once for all of them and stays in the nearest cache; what is read next is fetched
meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

__all__ = ["FILL", "TOGETHER", "convert_rows"]

FILL = -32768

LANES = 32
"""Pixels of a vector: for int16 a line of the cache."""
PART = 2048
"""Columns of rows that are done before the next are begun: a few rows of them, and their c, stay in the first cache."""
TOGETHER = 4
"""Rows that are done together."""

utils: Any = cgutils  # its functions have no types
I16, I32, I64, F32, F64 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()


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
def _convert_rows(dn, base, rows, width, v, dv, add, level, tilt, limit, complete, nodata, fill, out):  # type: ignore[no-untyped-def]
    return lambda dn, base, rows, width, v, dv, add, level, tilt, limit, complete, nodata, fill, out: _rows(  # type: ignore[call-arg]
        dn, base, rows, width, v, dv, add, level, tilt, limit, complete, nodata, fill, out
    )


@intrinsic
def _rows(typingctx, dn, base, rows, width, v, dv, add, level, tilt, limit, complete, nodata, fill, out):  # type: ignore[no-untyped-def]
    whole, double, single, flag = types.int64, types.float64, types.float32, types.boolean
    kinds = (dn, whole, whole, whole, double, double, single, level, tilt, whole, flag, dn.dtype, out.dtype, out)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        count = context.make_array(level)(context, builder, arguments[7]).nitems
        pointers = [context.make_array(kinds[n])(context, builder, arguments[n]).data for n in (0, 7, 8, 13)]
        _, base, rows, width, v, dv, add, _, _, limit, complete, nodata, fill, _ = arguments
        write = _Rows(builder, dn.dtype.signed, out.dtype == types.int16, count, (add, nodata, fill), pointers)
        return context.make_tuple(builder, signature.return_type, write(base, rows, width, v, dv, limit, complete))

    return types.UniTuple(whole, 2)(*kinds), generate  # type: ignore[no-untyped-call]


class _Block(NamedTuple):
    """Columns of some rows: how many, where each row's numbers and results begin, b of each row, and c of the columns."""

    count: Any
    places: list[tuple[Any, Any]]
    b: list[Any]
    level: Any
    tilt: Any


class _Rows:
    """Writes the instructions of `convert_rows`."""

    def __init__(self, build: Any, signed: bool, rounds: bool, count: Any, values: Sequence[Any], arrays: Sequence[Any]) -> None:
        self.build, self.signed, self.rounds, self.count = build, signed, rounds, count
        self.add, self.nodata, self.fill = values
        self.numbers, self.level, self.tilt, self.results = arrays
        self.totals = [utils.alloca_once_value(build, _int(0)) for _ in range(2)]

    def __call__(self, base: Any, rows: Any, width: Any, v: Any, dv: Any, limit: Any, complete: Any) -> list[Any]:
        build = self.build
        self.base, self.width, self.v, self.dv, self.limit, self.complete = base, width, v, dv, limit, complete
        together = build.and_(rows, _int(-TOGETHER))
        for begin, end, some in ((_int(0), together, TOGETHER), (together, rows, 1)):
            with (
                utils.for_range_slice(build, begin, end, _int(some), I64) as (row, _),
                utils.for_range_slice(build, _int(0), self.count, _int(PART), I64) as (column, _),
            ):
                self._block(row, some, column)
        return [build.load(total) for total in self.totals]

    def _block(self, first: Any, rows: int, column: Any) -> None:
        """A part of the columns, from ``column`` on, of some rows."""
        build = self.build
        rest = build.sub(self.count, column)
        count = build.select(build.icmp_signed("<", rest, _int(PART)), rest, _int(PART))
        places, b = [], []
        for k in range(rows):
            row = build.add(first, _int(k))
            start = build.add(self.base, build.add(build.mul(row, self.width), column))
            places.append((build.gep(self.numbers, [start]), build.gep(self.results, [start])))
            b.append(build.fptrunc(build.fadd(self.v, build.fmul(self.dv, build.sitofp(row, F64))), F32))
        block = _Block(count, places, b, build.gep(self.level, [column]), build.gep(self.tilt, [column]))
        safe = build.and_(self.complete, build.icmp_signed("<=", self._highest(block), self.limit))
        with build.if_then(build.not_(safe), likely=False):
            self._count(block)
        self._convert(block, safe)

    def _highest(self, block: _Block) -> Any:
        """Largest number of a block; negative ones count as large."""
        build, found = self.build, _int(0)
        whole = _whole(build, block.count)
        for lanes, begin, end in ((LANES, _int(0), whole), (1, whole, block.count)):
            kind = ir.VectorType(I16, lanes)
            top = utils.alloca_once(build, kind)
            build.store(ir.Constant(kind, [0] * lanes), top)
            with _each(build, begin, end, lanes) as j:
                known = build.load(top)
                for numbers, _ in block.places:
                    number = _load(build, numbers, j, kind)
                    known = build.select(build.icmp_unsigned(">", number, known), number, known)
                build.store(known, top)
            function = ir.FunctionType(I16, [kind])
            reduce = utils.get_or_insert_function(build.module, function, f"llvm.vector.reduce.umax.v{lanes}i16")
            best = build.zext(build.call(reduce, [build.load(top)]), I64)
            found = build.select(build.icmp_unsigned(">", best, found), best, found)
        return found

    def _count(self, block: _Block) -> None:
        """Add to the totals what is clipped and what is uncorrected of a block."""
        build, kind = self.build, ir.VectorType(F32, 1)
        with _each(build, _int(0), block.count, 1) as j:
            for valid, value, _ in self._values(block, j, 1):
                size = build.select(build.fcmp_ordered("<", value, ir.Constant(kind, [0.0])), build.fneg(value), value)
                clipped = build.fcmp_ordered(">=", size, ir.Constant(kind, [32767.5 if self.rounds else math.inf]))
                for total, happens in zip(self.totals, (clipped, build.fcmp_unordered("uno", value, value)), strict=True):
                    one = build.extract_element(build.and_(valid, happens), ir.Constant(I32, 0))
                    build.store(build.add(build.load(total), build.zext(one, I64)), total)

    def _convert(self, block: _Block, safe: Any) -> None:
        """Whole vectors, and single pixels after them. The rows that come next are fetched, of narrow ones some more."""
        build, whole = self.build, _whole(self.build, block.count)
        ahead = build.mul(self.width, _int(len(block.places)))
        ahead = build.select(build.icmp_signed(">", ahead, _int(PART)), ahead, _int(PART))
        with build.if_else(safe) as (plain, general):
            for branch, bounded in ((plain, False), (general, True)):
                with branch, _each(build, _int(0), whole, LANES) as j:
                    for numbers, _ in block.places:
                        _fetch(build, build.gep(numbers, [build.add(j, ahead)]))
                    for valid, value, results in self._values(block, j, LANES):
                        _store(build, results, j, self._result(valid, value, bounded))
        with _each(build, whole, block.count, 1) as j:
            for valid, value, results in self._values(block, j, 1):
                _store(build, results, j, self._result(valid, value, True))

    def _values(self, block: _Block, j: Any, lanes: int) -> Iterator[tuple[Any, Any, Any]]:
        """(valid, value, where results go) of the pixels at ``j`` of each row."""
        build = self.build
        words, wide, floats = (ir.VectorType(kind, lanes) for kind in (I16, I32, F32))
        level, tilt = _load(build, block.level, j, floats), _load(build, block.tilt, j, floats)
        for (numbers, results), b in zip(block.places, block.b, strict=True):
            number = _load(build, numbers, j, words)
            c = build.fadd(level, build.fmul(tilt, _all(build, b, floats)))
            plain = build.sitofp((build.sext if self.signed else build.zext)(number, wide), floats)
            value = build.fmul(build.fadd(plain, _all(build, self.add, floats)), c)
            yield build.icmp_unsigned("!=", number, _all(build, self.nodata, words)), value, results

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


def _store(build: Any, array: Any, j: Any, value: Any) -> None:
    size = 2 if value.type.element == I16 else 4
    build.store(value, build.bitcast(build.gep(array, [j]), value.type.as_pointer()), align=size)


def _fetch(build: Any, place: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
    prefetch = utils.get_or_insert_function(build.module, kind, "llvm.prefetch.p0")
    build.call(prefetch, [place, *(ir.Constant(I32, flag) for flag in (0, 3, 1))])  # to read, to keep, data
