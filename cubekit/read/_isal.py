"""Inflating into memory that is used again, with the interpreter lock let go once per tile.

ISA-L's ``isal_inflate_stateless`` (igzip_lib.h) is called where the `isal` package exports it, which saves the package's own objects: a
new result and its pages for every tile. A small stream is inflated first; where that does not give what it should, or there is no such
symbol (Windows), the package's Python interface does the same.
"""

from __future__ import annotations

import ctypes
import threading
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from isal import isal_zlib

__all__ = ["DamagedError", "Inflated", "inflate", "inflate_portably"]

_STATE = 256 << 10
"""Bytes for ``struct inflate_state``, which takes about 90 KiB."""
_KEPT = 8 << 20
_END_INPUT, _OUT_OVERFLOW = 1, 2


class DamagedError(ValueError):
    """The bytes are no deflate stream."""


class Inflated(NamedTuple):
    """What a raw deflate stream gave: at most the wanted bytes, how many it took for them, and whether it ended there.

    ``data`` may be memory of this thread, good until the next call.
    """

    data: memoryview
    used: int
    ended: bool


def inflate(data: memoryview, want: int) -> Inflated:
    """The first `want` bytes of a raw deflate stream, or as many as `data` holds.

    Raises
    ------
    DamagedError
        If the stream is damaged before that.
    """
    return _chosen()(data, want)


def inflate_portably(data: memoryview, want: int) -> Inflated:
    """`inflate` by the Python interface of `isal`."""
    engine: Any = isal_zlib.decompressobj(wbits=-15)
    # With room for one byte more than there is, the decoder goes on to the end of the stream.
    try:
        out = engine.decompress(data, want + 1)
    except isal_zlib.error as error:  # type: ignore[misc]  # the stubs give an instance, not the class
        raise DamagedError(str(error)) from None
    left = len(engine.unused_data) if engine.eof else len(engine.unconsumed_tail)
    return Inflated(memoryview(out)[:want], len(data) - left, bool(engine.eof) and len(out) <= want)


class _Head(ctypes.Structure):
    """The beginning of ``struct inflate_state``."""

    _fields_ = [
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_uint32),
        ("total_out", ctypes.c_uint32),
        ("next_in", ctypes.c_void_p),
        ("read_in", ctypes.c_uint64),
        ("avail_in", ctypes.c_uint32),
        ("read_in_length", ctypes.c_int32),
    ]


class _Memory(threading.local):
    """A decoder's state and room for its result, for every thread its own."""

    def __init__(self, init: Any) -> None:
        self.state = np.zeros(_STATE, np.uint8)
        self.head = _Head.from_buffer(self.state.data)
        self.address = _address(self.state)
        self.room = np.empty(0, np.uint8)
        init(self.address)

    def at_least(self, size: int) -> np.ndarray:
        """Room for `size` bytes; more than a tile usually takes is not kept."""
        if len(self.room) >= size:
            return self.room
        room = np.empty(size, np.uint8)
        if size <= _KEPT:
            self.room = room
        return room


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _direct(library: ctypes.CDLL) -> Callable[[memoryview, int], Inflated]:
    """`inflate` by ISA-L's own functions."""
    init, stateless = library.isal_inflate_init, library.isal_inflate_stateless
    init.argtypes = stateless.argtypes = [ctypes.c_void_p]
    init.restype, stateless.restype = None, ctypes.c_int
    memory = _Memory(init)

    def call(data: memoryview, want: int) -> Inflated:
        if not len(data):
            return Inflated(data, 0, False)
        head, room = memory.head, memory.at_least(want)
        head.next_out, head.avail_out = _address(room), want
        head.next_in, head.avail_in = _address(np.frombuffer(data, np.uint8)), len(data)
        status = stateless(memory.address)
        got = head.total_out
        if status < 0 and got < want:
            raise DamagedError(f"ISA-L error {status}")
        return Inflated(room.data[:got], len(data) - head.avail_in, status == 0)

    return call


@lru_cache(maxsize=1)
def _chosen() -> Callable[[memoryview, int], Inflated]:
    try:
        direct = _direct(ctypes.CDLL(isal_zlib.__file__))
    except (OSError, AttributeError):
        return inflate_portably
    return direct if _proven(direct) else inflate_portably


def _proven(call: Callable[[memoryview, int], Inflated]) -> bool:
    """Whether whole, partly wanted and cut streams give what they should."""
    text = np.arange(3000, dtype="<u2").tobytes() * 3 + bytes(range(256)) * 20
    packed = memoryview(zlib.compress(text, 6)[2:])
    whole, part = len(packed) - 4, len(text) // 2
    found = call(packed, len(text))
    if (bytes(found.data), found.used, found.ended) != (text, whole, True):
        return False
    found = call(packed, part)
    if bytes(found.data) != text[:part] or found.ended:
        return False
    found = call(packed[: whole // 2], len(text))
    return not found.ended and 0 < len(found.data) < len(text) and text.startswith(found.data)
