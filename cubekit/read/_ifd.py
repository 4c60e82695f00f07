"""TIFF directories out of scattered pieces of a file; whatever lies beyond them is asked for by `ShortError`.

Source: TIFF 6.0 (Adobe, 1992) and the BigTIFF extension (libtiff).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from cubekit.read._fault import Fault, ShortError
from cubekit.read._types import ReadStatus

__all__ = ["Directory", "Field", "Pieces", "first_directory", "numbers"]

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {
    1: "u1",
    2: "S1",
    3: "u2",
    4: "u4",
    6: "i1",
    7: "u1",
    8: "i2",
    9: "i4",
    11: "f4",
    12: "f8",
    13: "u4",
    16: "u8",
    17: "i8",
    18: "u8",
}
_MAX_TAGS = 4096


@dataclass(slots=True)
class Pieces:
    """The bytes of a file known so far."""

    parts: list[tuple[int, memoryview]] = field(default_factory=list)
    asked: list[tuple[int, int]] | None = None
    """Where it is a list: start and stop of everything looked at."""

    def add(self, start: int, data: memoryview) -> None:
        """Note bytes that were read from `start` on; what continues a known part is joined to it."""
        for index, (begin, known) in enumerate(self.parts):
            if begin <= start <= begin + len(known) < start + len(data):
                self.parts[index] = (begin, memoryview(bytes(known[: start - begin]) + bytes(data)))
                return
        self.parts.append((start, data))

    def get(self, start: int, count: int) -> memoryview:
        """`count` bytes from `start`, or `ShortError` for those of them that are missing."""
        missing = start
        for begin, data in self.parts:
            if begin <= start <= begin + len(data):
                if start + count <= begin + len(data):
                    if self.asked is not None:
                        self.asked.append((start, start + count))
                    return data[start - begin : start - begin + count]
                missing = max(missing, begin + len(data))
        raise ShortError(missing, start + count)


class Field(NamedTuple):
    """One tag: type code, number of values, where its values lie, and the entry's last field as an unsigned integer."""

    kind: int
    number: int
    at: int
    raw: int

    @property
    def nbytes(self) -> int:
        """Size of all values."""
        return _SIZES[self.kind] * self.number


class Directory(NamedTuple):
    """One IFD: its tags, and the position of the next (0: none)."""

    order: str
    big: bool
    fields: dict[int, Field]
    following: int

    def values(self, pieces: Pieces, tag: int) -> np.ndarray | None:
        """All values of a tag, None where the tag is absent."""
        entry = self.fields.get(tag)
        return None if entry is None else numbers(pieces, self.order, entry, 0, entry.number)

    def number(self, pieces: Pieces, tag: int, default: int = 0) -> int:
        """First value of a tag."""
        entry = self.fields.get(tag)
        if entry is None:
            return default
        if entry.number == 1 and entry.kind in (3, 4):
            width = 16 if entry.kind == 3 else 32
            return entry.raw & ((1 << width) - 1) if self.order == "<" else entry.raw >> ((64 if self.big else 32) - width)
        values = numbers(pieces, self.order, entry, 0, 1)
        return int(values[0]) if len(values) else default

    @classmethod
    def parse(cls, pieces: Pieces, order: str, big: bool, at: int) -> Directory:
        """Directory at a position of the file."""
        count_of, entries, next_of, inline = _FORMATS[order, big]
        (count,) = count_of.unpack(pieces.get(at, count_of.size))
        if not 0 < count <= _MAX_TAGS:
            raise Fault(ReadStatus.CORRUPT, f"TIFF directory at {at} claims {count} tags")
        begin = at + count_of.size
        raw = pieces.get(begin, count * entries.size + next_of.size)
        end = count * entries.size
        fields, place = {}, begin + entries.size - inline
        for tag, kind, number, value in entries.iter_unpack(raw[:end]):
            size = _SIZES.get(kind)
            if size is not None:
                fields[tag] = Field(kind, number, place if size * number <= inline else value, value)
            place += entries.size
        return cls(order, big, fields, next_of.unpack(raw[end:])[0])


_FORMATS: dict[tuple[str, bool], Any] = {
    (order, big): (*(struct.Struct(order + code) for code in (("Q", "HHQQ", "Q") if big else ("H", "HHII", "I"))), 8 if big else 4)
    for order in "<>"
    for big in (False, True)
}


def numbers(pieces: Pieces, order: str, entry: Field, first: int, last: int) -> np.ndarray:
    """Values `first` to `last` (exclusive) of a tag."""
    size = _SIZES[entry.kind]
    raw = pieces.get(entry.at + first * size, (last - first) * size)
    return np.frombuffer(raw, dtype=order + _CODES[entry.kind])


def first_directory(head: memoryview) -> tuple[str, bool, int]:
    """Byte order, whether BigTIFF, and position of the first directory, from the first 16 bytes of a file."""
    order = {b"II": "<", b"MM": ">"}[bytes(head[:2])]
    magic = struct.unpack_from(order + "H", head, 2)[0]
    if magic == 43:
        return order, True, struct.unpack_from(order + "Q", head, 8)[0]
    return order, False, struct.unpack_from(order + "I", head, 4)[0]
