"""The header of a (cloud-optimised) GeoTIFF: levels, masks, tile tables, georeference.

Sources: OGC GeoTIFF 1.1, OGC Cloud Optimized GeoTIFF 1.0, GDAL's COG driver documentation (ghost area, sparse tiles, internal masks).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cubekit.read._fault import Fault, ShortError
from cubekit.read._ifd import Directory, Field, Pieces, first_directory, numbers
from cubekit.read._types import ReadStatus

__all__ = ["CODECS", "Header", "Level", "sniff"]

CODECS = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate", 50000: "zstd"}
_KINDS = {1: "u", 2: "i", 3: "f"}
_TABLE = 256 << 10
_MAX_LEVELS = 64
_USER_DEFINED = 32767
_MAX_SIDE = 10_000_000


@dataclass(slots=True)
class Level:
    """One image of the file: the full one, an overview, or a mask of either.

    ``reason`` says why this reader leaves the image to GDAL, if it does.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    samples: int
    planar: bool
    dtype: str
    bits: int
    codec: str
    predictor: int
    order: str
    places: tuple[Field, Field] | None
    reason: str = ""
    offsets: np.ndarray | None = None
    counts: np.ndarray | None = None
    hints: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def across(self) -> int:
        """Tiles per row of tiles."""
        return -(-self.width // self.tile_width)

    @property
    def down(self) -> int:
        """Rows of tiles."""
        return -(-self.height // self.tile_height)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a tile, inflated."""
        return (self.tile_width * (1 if self.planar else self.samples) * self.bits + 7) // 8

    def tile(self, row: int, column: int, sample: int) -> int:
        """Number of a tile by its place and, in planar files, its sample."""
        return (sample if self.planar else 0) * self.across * self.down + row * self.across + column

    def entry(self, pieces: Pieces, tile: int) -> tuple[int, int]:
        """Offset and byte count of a tile, or `ShortError` for the bytes of the file that hold them."""
        if self.offsets is None:
            assert self.places is not None
            if self.places[0].nbytes + self.places[1].nbytes > _TABLE:
                return self._single(pieces, tile)
            self._load(pieces)
        assert self.offsets is not None
        assert self.counts is not None
        if tile >= len(self.offsets) or tile >= len(self.counts):
            raise Fault(ReadStatus.CORRUPT, f"tile {tile} is not in the tile table ({len(self.offsets)} entries)")
        return int(self.offsets[tile]), int(self.counts[tile])

    def _load(self, pieces: Pieces) -> None:
        assert self.places is not None
        first, second = self.places
        low, high = min(first.at, second.at), max(first.at + first.nbytes, second.at + second.nbytes)
        if high - low <= 2 * _TABLE:  # both in one request, if any
            pieces.get(low, high - low)
        self.offsets = numbers(pieces, self.order, first, 0, first.number).astype(np.uint64)
        self.counts = numbers(pieces, self.order, second, 0, second.number).astype(np.uint64)

    def _single(self, pieces: Pieces, tile: int) -> tuple[int, int]:
        """An entry of a table too large to be read whole: a block of 512 entries around it."""
        assert self.places is not None
        found = []
        for place in self.places:
            if tile >= place.number:
                raise Fault(ReadStatus.CORRUPT, f"tile {tile} is not in the tile table ({place.number} entries)")
            first = tile // 512 * 512
            found.append(int(numbers(pieces, self.order, place, first, min(first + 512, place.number))[tile - first]))
        return found[0], found[1]

    def like(self) -> Level:
        """The same image of another file, whose tiles are not known."""
        return Level(
            self.width, self.height, self.tile_width, self.tile_height, self.samples, self.planar, self.dtype, self.bits, self.codec,
            self.predictor, self.order, self.places, self.reason,
        )  # fmt: skip

    def vacant(self) -> bool:
        """Whether every tile has offset and count 0."""
        return self.counts is not None and self.offsets is not None and not self.counts.any() and not self.offsets.any()


class Make:
    """What files have in common that differ in their tile tables only; `sketches` is what laying out learnt of them."""

    __slots__ = ("sketches",)

    def __init__(self) -> None:
        self.sketches: dict[Any, Any] = {}


@dataclass(slots=True)
class Header:
    """What reading pixels needs to know of a file; grows as more of it is asked for."""

    order: str
    big: bool
    following: int
    pieces: Pieces
    levels: list[Level] = field(default_factory=list)
    masks: dict[int, Level] = field(default_factory=dict)
    transform: tuple[float, float, float, float, float, float] | None = None
    epsg: int | None = None
    nodata: float | None = None
    etag: str | None = None
    size: int | None = None
    reason: str = ""
    maskless: bool = False
    visited: set[int] = field(default_factory=set)
    make: Make = field(default_factory=Make)

    @classmethod
    def start(cls, pieces: Pieces) -> Header:
        """Header with the full image, from the beginning of a TIFF."""
        order, big, at = first_directory(pieces.get(0, 16))
        header = cls(order, big, at, pieces)
        header.grow()
        header.maskless = header._maskless()
        return header

    def like(self, pieces: Pieces) -> Header:
        """Header of another file in which everything looked at so far, but for the tiles, is the same."""
        other = Header(self.order, self.big, self.following, pieces, [level.like() for level in self.levels])
        other.masks = {number: level.like() for number, level in self.masks.items()}
        other.transform, other.epsg, other.nodata, other.reason = self.transform, self.epsg, self.nodata, self.reason
        other.maskless, other.visited, other.make = self.maskless, set(self.visited), self.make
        return other

    def grow(self) -> bool:
        """Parse one directory more; False where there is none."""
        if not self.following:
            return False
        self.make = Make()  # further directories were not compared
        directory = Directory.parse(self.pieces, self.order, self.big, self.following)
        self.visited.add(self.following)
        kind = directory.number(self.pieces, 254)
        level = _level(self.pieces, directory)
        if not self.levels:
            self._georeference(directory)
            self.levels.append(level)
        elif kind & 4:
            same = [i for i, one in enumerate(self.levels) if (one.width, one.height) == (level.width, level.height)]
            if same:
                self.masks[same[0]] = level
        elif kind & 1 and level.width <= self.levels[-1].width:
            self.levels.append(level)
        onward = directory.following not in self.visited and len(self.visited) < _MAX_LEVELS
        self.following = directory.following if onward else 0
        return True

    def forget_pieces(self) -> None:
        """Let go of the file's bytes once what they held is parsed; anything more is read anew if it is ever needed."""
        if self.levels and all(level.offsets is not None for level in self.levels):
            self.pieces.parts.clear()

    def grow_for(self, pixels: float) -> None:
        """Parse until the coarsest level that is at most `pixels` times coarser than the full one, and its mask, are known."""
        while self.following:
            if self.levels[0].width / self.levels[-1].width > pixels * 1.001:
                return
            if len(self.levels) == 1 and pixels < 1.999 and self.maskless:
                return
            self.grow()

    def _maskless(self) -> bool:
        """Whether the ghost area of GDAL's COG driver says that no mask follows the full image."""
        try:
            ghost = bytes(self.pieces.get(16 if self.big else 8, 43))
        except ShortError:
            return False
        if not ghost.startswith(b"GDAL_STRUCTURAL_METADATA_SIZE="):
            return False
        size = int(ghost[30:36]) if ghost[30:36].isdigit() else 0
        try:
            text = bytes(self.pieces.get(59 if self.big else 51, size))
        except ShortError:
            return False
        return size > 0 and b"LAYOUT=IFDS_BEFORE_DATA" in text and b"MASK_INTERLEAVED_WITH_IMAGERY=YES" not in text

    def _georeference(self, directory: Directory) -> None:
        pieces = self.pieces
        keys = _geokeys(directory.values(pieces, 34735))
        code = keys.get(3072) or keys.get(2048)
        self.epsg = None if code in (None, 0, _USER_DEFINED) else code
        self.transform = _transform(directory, pieces, keys.get(1025) == 2)
        text = directory.values(pieces, 42113)
        if text is not None:
            try:
                self.nodata = float(text.tobytes().split(b"\0")[0])
            except ValueError:
                self.nodata = None


def sniff(head: memoryview, key: str) -> str:
    """``tiff`` or ``jp2`` by the first bytes; a `Fault` for everything else, above all for a VRT that calls itself something.tif."""
    start = bytes(head[:12])
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if start == b"\0\0\0\x0cjP  \r\n\x87\n" or start[:4] == b"\xff\x4f\xff\x51":
        return "jp2"
    text = bytes(head[:512]).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<vrtdataset"):
        raise Fault(ReadStatus.REFUSED, f"{key} is a GDAL virtual dataset (VRT), which may point anywhere, and is never opened")
    if text.startswith((b"<!doctype html", b"<html")):
        raise Fault(ReadStatus.CORRUPT, f"{key} holds a web page, not a raster")
    raise Fault(ReadStatus.CORRUPT, f"{key} is neither TIFF nor JPEG 2000 (it starts with {start[:8]!r})")


def _level(pieces: Pieces, directory: Directory) -> Level:
    number: Any = lambda tag, default=0: directory.number(pieces, tag, default)  # noqa: E731
    tiled = 324 in directory.fields and 325 in directory.fields and number(322) > 0 and number(323) > 0
    depth, kind = number(258, 1), _KINDS.get(number(339, 1), "")
    compression, predictor = number(259, 1), number(317, 1)
    reason = ""
    if not tiled:
        reason = "it is striped"
    elif compression not in CODECS:
        reason = f"its compression {compression} is left to GDAL"
    elif number(277, 1) > 1 and any(_differ(directory.values(pieces, tag)) for tag in (258, 339)):
        reason = "its samples differ in type"
    elif any(kind in (1, 2) for kind in _extra(directory, pieces)):
        reason = "it has an alpha band"
    elif depth == 1 and number(277, 1) > 1:
        reason = "its samples of one bit share bytes"
    elif not (depth == 1 and kind == "u") and (depth not in (8, 16, 32, 64) or not kind or (kind == "f" and depth not in (32, 64))):
        reason = f"its samples have {depth} bits of format {kind or 'unknown'}"
    elif predictor not in (1, 2, 3) or (predictor == 3 and kind != "f") or (predictor == 2 and depth == 1):
        reason = f"its predictor {predictor} is left to GDAL"
    elif number(266, 1) != 1:
        reason = "its bits are stored in reverse"
    width, height = number(256), number(257)
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise Fault(ReadStatus.CORRUPT, f"TIFF image of {width} x {height} pixels")
    return Level(
        width=width,
        height=height,
        tile_width=number(322) if tiled else width,
        tile_height=number(323) if tiled else height,
        samples=number(277, 1),
        planar=number(284, 1) == 2,
        dtype="u1" if depth == 1 else f"{kind}{depth // 8}",
        bits=depth,
        codec=CODECS.get(compression, "other"),
        predictor=predictor,
        order=directory.order,
        places=(directory.fields[324], directory.fields[325]) if tiled else None,
        reason=reason,
    )


def _extra(directory: Directory, pieces: Pieces) -> list[int]:
    """What samples beyond the colours are: 1 and 2 are alpha."""
    values = directory.values(pieces, 338)
    return [] if values is None else [int(value) for value in values]


def _geokeys(raw: np.ndarray | None) -> dict[int, int]:
    """Keys whose value stands in the key directory itself."""
    if raw is None or len(raw) < 4:
        return {}
    rows = raw[4 : 4 + 4 * int(raw[3])]
    rows = rows[: len(rows) // 4 * 4].reshape(-1, 4)
    return {int(key): int(value) for key, place, _, value in rows if place == 0}


def _transform(directory: Directory, pieces: Pieces, point: bool) -> tuple[float, float, float, float, float, float] | None:
    """Affine coefficients (a, b, c, d, e, f) of pixel corners; None where the file has none."""
    matrix = directory.values(pieces, 34264)
    if matrix is not None and len(matrix) == 16:
        a, b, _, c, d, e, _, f = (float(value) for value in matrix[:8])
    else:
        scale, tie = directory.values(pieces, 33550), directory.values(pieces, 33922)
        if scale is None or tie is None or len(scale) < 2 or len(tie) != 6:
            return None
        a, b, d, e = float(scale[0]), 0.0, 0.0, -float(scale[1])
        c, f = float(tie[3]) - float(tie[0]) * a, float(tie[4]) - float(tie[1]) * e
    if point:
        c, f = c - 0.5 * (a + b), f - 0.5 * (d + e)
    return (a, b, c, d, e, f) if a * e - b * d else None


def _differ(values: np.ndarray | None) -> bool:
    return values is not None and len(set(values.tolist())) > 1
