"""Compressed tiles to pixels: only the rows that are needed, only the columns that are needed. Runs in threads; codecs release the GIL.

Sources: TIFF 6.0 (horizontal differencing, section 14), TIFF Technical Note 3 (floating point predictor).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zstandard
from imagecodecs import delta_decode, lzw_decode
from isal import isal_zlib

from cubekit.read._fault import Fault
from cubekit.read._isal import DamagedError, inflate
from cubekit.read._tiff import Level
from cubekit.read._types import ReadStatus

__all__ = ["Inflater", "crop", "leading_bytes"]

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
    parts: list[bytes | memoryview] = field(default_factory=list)
    have: int = 0
    fed: int = 0
    used: int = 0
    """Bytes of the tile that were enough, with some slack."""

    def feed(self, data: memoryview, complete: bool, key: str) -> bytes | memoryview | None:
        """The wanted bytes, or None where more of the tile is needed; `complete`: this is all there is.

        They may be memory of this thread, good until it feeds another tile.

        Raises
        ------
        Fault
            ``CORRUPT`` where the stream is damaged or ends too early.
        """
        codec = self.level.codec
        self.fed += len(data)
        try:
            out = _STREAMS[codec](self, data)
        except (DamagedError, zstandard.ZstdError) as error:
            raise Fault(ReadStatus.CORRUPT, f"{key}: a tile is damaged ({error})") from None
        if out is None and complete:
            raise Fault(ReadStatus.CORRUPT, f"{key}: a tile ends too early (its {codec} stream holds fewer than {self.want} bytes)")
        return out

    def _plain(self, data: memoryview) -> memoryview | None:
        return data if len(data) >= self.want else None

    def _lzw(self, data: memoryview) -> bytes | None:
        try:
            out = bytes(lzw_decode(bytes(data), out=self.want))
        except RuntimeError as error:
            raise DamagedError(error) from None
        return out[: self.want] if len(out) >= self.want else None

    def _deflate(self, data: memoryview) -> memoryview | None:
        """Inflates anew what came in pieces: that is rare, and cheaper than to keep a decoder's state for every tile in flight."""
        self.parts.append(data)
        if len(self.parts) > 1:
            data = memoryview(b"".join(self.parts))
        if len(data) < 2 or data[0] & 15 != 8 or (data[0] << 8 | data[1]) % 31:
            raise DamagedError("no zlib header")
        out, used, ended = inflate(data[2:], self.want)
        self.have, self.used = len(out), 2 + used + _SLACK
        if self.have < self.want:
            return None
        self.parts.clear()
        if self.want >= self.level.row_bytes * self.level.tile_height:
            _check_whole(out, data[2 + used :], ended)
        return out

    def _zstd(self, data: memoryview) -> bytes | None:
        if self.engine is None:
            self.engine = zstandard.ZstdDecompressor().decompressobj()
        # A few bytes can stand for a block of 128 KiB: in slices, no more than 64 MiB come at once, and no slice after enough.
        for start in range(0, len(data), _SLICE):
            if self.have >= self.want or self.engine.eof:
                break
            self.parts.append(self.engine.decompress(data[start : start + _SLICE]))
            self.have += len(self.parts[-1])
            self.used = self.fed - len(data) + min(start + _SLICE, len(data)) + _SLACK
        return b"".join(self.parts)[: self.want] if self.have >= self.want else None

    def next_stop(self, count: int) -> int:
        """Where the next part of a tile of `count` bytes should end, judged by what the bytes so far held."""
        return min(count, int(self.fed * self.want / max(self.have, 1) * 1.06) + 1024) if 4 * self.have > self.want else count


_STREAMS: dict[str, Callable[[Inflater, memoryview], bytes | memoryview | None]] = {
    "none": Inflater._plain,
    "lzw": Inflater._lzw,
    "deflate": Inflater._deflate,
    "zstd": Inflater._zstd,
}


def _check_whole(out: memoryview, rest: memoryview, ended: bool) -> None:
    """Whether a whole tile is as long as it should be, and has the checksum that follows it; a stream cut there has none."""
    if not ended and len(rest):
        raise DamagedError("more bytes than the tile has")
    if ended and len(rest) >= 4 and int.from_bytes(rest[:4], "big") != isal_zlib.adler32(out):
        raise DamagedError("its checksum is another")


def crop(
    level: Level, raw: bytes | memoryview, skipped: int, rows: tuple[int, int], columns: tuple[int, int], sample: int, out: np.ndarray
) -> None:
    """Write pixels of a tile, `rows` and `columns` of one sample, into `out`; the inflated bytes begin at row `skipped`."""
    samples = 1 if level.planar else level.samples
    sample = 0 if level.planar else sample
    count, begin = rows[1] - rows[0], (rows[0] - skipped) * level.row_bytes
    first, last = columns
    if level.bits == 1:
        packed = np.frombuffer(raw, "u1", count * level.row_bytes, begin).reshape(count, -1)
        out[...] = np.unpackbits(packed, axis=1)[:, first:last]
        return
    if level.predictor == 3:
        out[...] = _float_rows(level, raw, begin, count, samples)[:, first:last, sample]
        return
    order = level.order if level.bits > 8 else "|"
    stored = np.frombuffer(raw, order + level.dtype, count * level.tile_width * samples, begin).reshape(count, -1, samples)[:, :, sample]
    if level.predictor == 1:
        out[...] = stored[:, first:last]
        return
    # Differences: the sum of all columns before, and the running sum of the wanted ones. Floats are summed as integers.
    kind = np.dtype(level.dtype) if stored.dtype.kind != "f" else np.dtype(f"u{stored.dtype.itemsize}")
    if not stored.dtype.isnative:
        stored = stored.astype(level.dtype)
    stored = stored.view(kind)
    target = out.view(kind) if out.dtype == level.dtype else np.empty(out.shape, kind)
    before = np.add.reduce(stored[:, :first], axis=1, dtype=kind) if first else None
    # Into the first of the wanted columns for as long as it takes: one pass over the pixels less. Only in this thread's own memory.
    ahead = before is not None and stored.flags.writeable and level.codec != "none"
    if ahead:
        stored[:, first] += before
    delta_decode(stored[:, first:last], axis=-1, out=target)  # a running sum, four times as fast as numpy's
    if ahead:
        stored[:, first] -= before
    elif before is not None:
        target += before[:, None]
    if out.dtype != level.dtype:
        out[...] = target.view(level.dtype)


def _float_rows(level: Level, raw: bytes | memoryview, begin: int, count: int, samples: int) -> np.ndarray:
    """Undo the floating point predictor: byte planes, most significant first, each byte a difference to the one a pixel before."""
    size = level.bits // 8
    stored = np.frombuffer(raw, "u1", count * level.row_bytes, begin).reshape(count, -1, samples)
    planes = np.add.accumulate(stored, axis=1, dtype=np.uint8).reshape(count, size, level.tile_width * samples)
    values = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{size}")
    return values.reshape(count, level.tile_width, samples).astype(level.dtype)
