"""Compressed tiles to pixels: only the rows that are needed, only the columns that are needed. Runs in threads; codecs release the GIL.

Sources: TIFF 6.0 (horizontal differencing, section 14), TIFF Technical Note 3 (floating point predictor).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import zstandard
from isal import isal_zlib

from cubekit.read._fault import Fault
from cubekit.read._tiff import Level
from cubekit.read._types import ReadStatus

__all__ = ["Inflater", "crop", "leading_bytes"]

# The package's type stubs give an instance, not the class.
_Damaged: Any = isal_zlib.error
_BLOCK = 128 << 10
_SLACK = 64
_SLICE = 2 << 10


def leading_bytes(level: Level, tile: int, count: int, first: int, last: int, filled: int) -> tuple[int, int]:
    """Bytes (start, stop) of a compressed tile that should hold its rows `first` to `last` (exclusive).

    Deflated rows lie in the tile in their order, so their share of the bytes is about their share of the `filled` rows (those
    inside the image). A margin of 2 % and 8 % of the share left out covers content that is not too uneven; what is missing is asked for
    later, and counted. Zstandard works in blocks of 128 KiB. Uncompressed rows are exactly where they are.
    """
    if level.codec == "none":
        return min(count, first * level.row_bytes), min(count, last * level.row_bytes)
    hint = level.hints.get(tile)
    if hint is not None and last <= hint[0]:
        return 0, min(count, hint[1])
    if level.codec == "lzw" or last >= filled:
        return 0, count
    needed, total = last * level.row_bytes, filled * level.row_bytes
    if level.codec == "zstd":
        needed = -(-needed // _BLOCK) * _BLOCK
    if needed >= total:
        return 0, count
    share = needed / total
    stop = int(count * share * (1.02 + 0.08 * (1 - share))) + 512
    return 0, count if stop > 0.94 * count else stop


@dataclass(slots=True)
class Inflater:
    """The rows of one tile so far, as bytes; fed with the tile's leading part and, where that was short, with the rest."""

    level: Level
    want: int
    engine: Any = None
    parts: list[bytes] | None = None
    have: int = 0
    fed: int = 0
    tail: bytes = b""
    checked: bool = False

    def feed(self, data: memoryview, complete: bool, key: str) -> bytes | memoryview | None:
        """The wanted bytes, or None where more of the tile is needed; `complete`: this is all there is.

        Raises
        ------
        Fault
            ``CORRUPT`` where the stream is damaged or ends too early.
        """
        codec = self.level.codec
        if codec == "none":
            out: bytes | memoryview | None = data if len(data) >= self.want else None
        elif codec == "lzw":
            out = _lzw(data, self.want, key)
        else:
            out = self._stream(data, key)
        if out is None and complete:
            raise Fault(ReadStatus.CORRUPT, f"{key}: a tile ends too early (its {codec} stream holds fewer than {self.want} bytes)")
        return out

    def _stream(self, data: memoryview, key: str) -> bytes | None:
        left = self.want - self.have
        try:
            piece = self._inflate(data, left) if self.level.codec == "deflate" else self._zstd(data, left)
        except (_Damaged, zstandard.ZstdError) as error:
            raise Fault(ReadStatus.CORRUPT, f"{key}: a tile is damaged ({error})") from None
        self.fed += len(data)
        self.have += len(piece)
        if self.parts is None and len(piece) == self.want:
            return piece
        self.parts = [*(self.parts or []), piece]
        return b"".join(self.parts) if self.have >= self.want else None

    def _inflate(self, data: memoryview, left: int) -> bytes:
        if self.engine is None:
            if len(data) < 2 or data[0] & 15 != 8 or (data[0] << 8 | data[1]) % 31:
                raise _Damaged("no zlib header")
            # Without its frame there is no checksum to compute; whole tiles keep it, so that damage shows.
            whole = self.want >= self.level.row_bytes * self.level.tile_height
            self.engine = isal_zlib.decompressobj() if whole else isal_zlib.decompressobj(wbits=-15)
            self.checked = whole
            data = data if whole else data[2:]
        # Room for one byte more than there is lets the decoder go on to the checksum.
        piece: bytes = self.engine.decompress(data, left + self.checked)
        if len(piece) > left:
            raise _Damaged("more bytes than the tile has")
        self.tail = self.engine.unconsumed_tail
        return piece

    def _zstd(self, data: memoryview, left: int) -> bytes:
        if self.engine is None:
            self.engine = zstandard.ZstdDecompressor().decompressobj()
        pieces, have = [], 0
        # A few bytes can stand for a block of 128 KiB: in slices, no more than 64 MiB come at once, and no slice after enough.
        for start in range(0, len(data), _SLICE):
            if have >= left or self.engine.eof:
                break
            pieces.append(self.engine.decompress(data[start : start + _SLICE]))
            have += len(pieces[-1])
        return b"".join(pieces)[:left]

    def next_stop(self, fed: int, count: int) -> int:
        """Where the next part of a tile should end, judged by what its first `fed` bytes held."""
        return min(count, int(fed * self.want / max(self.have, 1) * 1.06) + 1024) if 4 * self.have > self.want else count

    @property
    def used(self) -> int:
        """Bytes of the tile that were enough, with some slack."""
        return self.fed - len(self.tail) + _SLACK


def _lzw(data: memoryview, want: int, key: str) -> bytes | None:
    try:
        out = bytes(imagecodecs.lzw_decode(bytes(data), out=want))
    except RuntimeError as error:
        raise Fault(ReadStatus.CORRUPT, f"{key}: a tile is damaged ({error})") from None
    return out[:want] if len(out) >= want else None


def crop(level: Level, raw: bytes | memoryview, skipped: int, rows: tuple[int, int], columns: tuple[int, int], sample: int) -> np.ndarray:
    """Pixels of a tile: `rows` and `columns` of one sample, from inflated bytes that begin at row `skipped`."""
    width = level.tile_width
    samples = 1 if level.planar else level.samples
    sample = 0 if level.planar else sample
    count = rows[1] - rows[0]
    begin = (rows[0] - skipped) * level.row_bytes
    if level.bits == 1:
        packed = np.frombuffer(raw, "u1", count * level.row_bytes, begin).reshape(count, -1)
        return np.unpackbits(packed, axis=1)[:, columns[0] : columns[1]]
    if level.predictor == 3:
        return _float_rows(level, raw, begin, count, samples)[:, columns[0] : columns[1], sample]
    order = level.order if level.bits > 8 else "|"
    stored = np.frombuffer(raw, order + level.dtype, count * width * samples, begin).reshape(count, width, samples)[:, :, sample]
    if not stored.dtype.isnative:
        stored = stored.astype(level.dtype)
    if level.predictor == 1:
        return stored[:, columns[0] : columns[1]]
    # Differences: the sum of all columns before, then the running sum of the wanted ones.
    if stored.dtype.kind == "f":
        stored = stored.view(f"u{stored.dtype.itemsize}")
    out = stored[:, columns[0] : columns[1]].copy()
    np.add.reduce(stored[:, : columns[0] + 1], axis=1, dtype=stored.dtype, out=out[:, 0])
    np.add.accumulate(out, axis=1, out=out, dtype=stored.dtype)
    return out.view(level.dtype)


def _float_rows(level: Level, raw: bytes | memoryview, begin: int, count: int, samples: int) -> np.ndarray:
    """Undo the floating point predictor: byte planes, most significant first, each byte a difference to the one a pixel before."""
    size = level.bits // 8
    stored = np.frombuffer(raw, "u1", count * level.row_bytes, begin).reshape(count, -1, samples)
    planes = np.add.accumulate(stored, axis=1, dtype=np.uint8).reshape(count, size, level.tile_width * samples)
    values = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{size}")
    return values.reshape(count, level.tile_width, samples).astype(level.dtype)
