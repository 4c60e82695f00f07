"""TIFF directories out of scattered pieces of a file; whatever lies beyond them is asked for by `ShortError`.

Source: TIFF 6.0 (Adobe, 1992) and the BigTIFF extension (libtiff).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from cubekit.read._fault import Fault, ShortError
from cubekit.read._types import ReadStatus

__all__ = ["Directory", "Field", "Pieces", "first_directory"]

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
                    return data[start - begin : start - begin + count]
                missing = max(missing, begin + len(data))
        raise ShortError(missing, start + count)


@dataclass(frozen=True, slots=True)
class Field:
    """One tag: type code, number of values, and where its values lie."""

    kind: int
    count: int
    at: int

    @property
    def nbytes(self) -> int:
        """Size of all values."""
        return _SIZES[self.kind] * self.count


@dataclass(frozen=True, slots=True)
class Directory:
    """One IFD: its tags, and the position of the next (0: none)."""

    order: str
    fields: dict[int, Field]
    following: int

    def values(self, pieces: Pieces, tag: int) -> np.ndarray | None:
        """All values of a tag, None where the tag is absent."""
        entry = self.fields.get(tag)
        return None if entry is None else self.slice(pieces, entry, 0, entry.count)

    def slice(self, pieces: Pieces, entry: Field, first: int, last: int) -> np.ndarray:
        """Values `first` to `last` (exclusive) of a tag."""
        size = _SIZES[entry.kind]
        raw = pieces.get(entry.at + first * size, (last - first) * size)
        return np.frombuffer(raw, dtype=self.order + _CODES[entry.kind])

    def number(self, pieces: Pieces, tag: int, default: int = 0) -> int:
        """First value of a tag."""
        values = self.values(pieces, tag)
        return default if values is None or not len(values) else int(values[0])

    @classmethod
    def parse(cls, pieces: Pieces, order: str, big: bool, at: int) -> Directory:
        """Directory at a position of the file."""
        head, size, tail = ("Q", 20, "Q") if big else ("H", 12, "I")
        width = struct.calcsize(f"<{head}")
        (count,) = struct.unpack(order + head, pieces.get(at, width))
        if not 0 < count <= _MAX_TAGS:
            raise Fault(ReadStatus.CORRUPT, f"TIFF directory at {at} claims {count} tags")
        raw = pieces.get(at + width, count * size + struct.calcsize(f"<{tail}"))
        fields = {}
        for index in range(count):
            tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), raw, index * size)
            if kind not in _CODES:
                continue
            inline = 8 if big else 4
            place = at + width + index * size + (12 if big else 8)
            if _SIZES[kind] * number > inline:
                (place,) = struct.unpack_from(order + ("Q" if big else "I"), raw, index * size + (12 if big else 8))
            fields[tag] = Field(kind, number, place)
        (following,) = struct.unpack_from(order + tail, raw, count * size)
        return cls(order, fields, following)


def first_directory(head: memoryview) -> tuple[str, bool, int]:
    """Byte order, whether BigTIFF, and position of the first directory, from the first 16 bytes of a file."""
    order = {b"II": "<", b"MM": ">"}[bytes(head[:2])]
    magic = struct.unpack_from(order + "H", head, 2)[0]
    if magic == 43:
        return order, True, struct.unpack_from(order + "Q", head, 8)[0]
    return order, False, struct.unpack_from(order + "I", head, 4)[0]
