"""A small writer of Cloud-Optimised GeoTIFFs: same pixels, same bytes, on every machine.

Layout as GDAL's COG driver makes it (structural metadata, image directories first, overviews before the full image, block leaders
and trailers), deflate, horizontal predictor for integers. Sources: TIFF 6.0, GeoTIFF 1.1 (OGC 19-008), GDAL's COG driver page.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

__all__ = ["write_cog"]

_GHOST = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_HEADER_SIZE = 8
_FORMAT = {"u": 1, "i": 2, "f": 3}
_TYPES = {"H": 3, "I": 4, "d": 12, "s": 2}
Tag = tuple[int, str, Any]


@dataclass(frozen=True, slots=True)
class _Level:
    pixels: npt.NDArray[Any]
    blocks: list[bytes]
    tags: list[Tag]


def _reduce(pixels: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """Every `factor`-th pixel: an overview by nearest neighbour, which no reader can mistake for an average."""
    return np.ascontiguousarray(pixels[::factor, ::factor])


def _compress(pixels: npt.NDArray[Any], tile: int) -> list[bytes]:
    blocks = []
    for top in range(0, pixels.shape[0], tile):
        for left in range(0, pixels.shape[1], tile):
            part = pixels[top : top + tile, left : left + tile]
            rows, columns = part.shape
            block = np.zeros((tile, tile), pixels.dtype)
            block[:rows, :columns] = part
            if pixels.dtype.kind != "f":
                block[:rows, 1:columns] -= part[:, :-1]
            blocks.append(bytes(imagecodecs.deflate_encode(block.tobytes(), level=6)))
    return blocks


def _tags(pixels: npt.NDArray[Any], tile: int, overview: bool) -> list[Tag]:
    tags: list[Tag] = [(254, "I", [1])] if overview else []
    bits = pixels.dtype.itemsize * 8
    tags += [(256, "I", [pixels.shape[1]]), (257, "I", [pixels.shape[0]]), (258, "H", [bits]), (259, "H", [8]), (262, "H", [1])]
    tags += [(277, "H", [1]), (284, "H", [1]), (317, "H", [1 if pixels.dtype.kind == "f" else 2])]
    return [*tags, (322, "H", [tile]), (323, "H", [tile]), (339, "H", [_FORMAT[pixels.dtype.kind]])]


def _geo_tags(transform: list[float], epsg: int, point: bool) -> list[Tag]:
    a, _, left, _, e, top = transform
    shift = 0.5 if point else 0.0
    tie = [0.0, 0.0, 0.0, left + shift * a, top + shift * e, 0.0]
    keys = [(1024, 0, 1, 2 if epsg == 4326 else 1), (1025, 0, 1, 2 if point else 1)]
    keys += [(2048, 0, 1, 4326), (2054, 0, 1, 9102)] if epsg == 4326 else [(3072, 0, 1, epsg), (3076, 0, 1, 9001)]
    directory = [1, 1, 0, len(keys), *(number for key in keys for number in key)]
    return [(33550, "d", [a, -e, 0.0]), (33922, "d", tie), (34735, "H", directory)]


def _directory(tags: list[Tag], at: int, next_at: int | None) -> bytes:
    """One image directory with its out-of-line values, to stand at offset `at`; another follows directly when `next_at` is not None."""
    tags = sorted(tags, key=lambda tag: tag[0])
    entries, extra = b"", b""
    extra_at = at + 2 + 12 * len(tags) + 4
    for code, kind, values in tags:
        payload = values if kind == "s" else struct.pack(f"<{len(values)}{kind}", *values)
        if len(payload) <= 4:
            field = payload.ljust(4, b"\0")
        else:
            field = struct.pack("<I", extra_at + len(extra))
            extra += payload + b"\0" * (len(payload) % 2)
        entries += struct.pack("<HHI", code, _TYPES[kind], len(values)) + field
    following = 0 if next_at is None else extra_at + len(extra)
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following) + extra


def _assemble(levels: list[_Level]) -> bytes:
    ghost = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_GHOST) + _GHOST
    ghost += b"\0" * (len(ghost) % 2)
    offsets = [[0] * len(level.blocks) for level in levels]
    for _ in range(2):  # sizes of directories do not depend on the offsets: the second round is final
        at, directories = _HEADER_SIZE + len(ghost), b""
        for order, level in enumerate(levels):
            tags = [*level.tags, (324, "I", offsets[order]), (325, "I", [len(block) for block in level.blocks])]
            directory = _directory(tags, at + len(directories), None if order == len(levels) - 1 else 0)
            directories += directory
        position, body = at + len(directories), []
        for order in reversed(range(len(levels))):
            for number, block in enumerate(levels[order].blocks):
                body.append(struct.pack("<I", len(block)) + block + block[-4:])
                offsets[order][number] = position + 4
                position += len(block) + 8
    return struct.pack("<2sHI", b"II", 42, _HEADER_SIZE + len(ghost)) + ghost + directories + b"".join(body)


def write_cog(
    path: Path,
    pixels: npt.NDArray[Any],
    transform: list[float],
    epsg: int,
    *,
    nodata: float | None,
    overview: int | None = 4,
    tile: int = 256,
    point: bool = False,
) -> int:
    """Write one band as a Cloud-Optimised GeoTIFF and return its size in bytes.

    Parameters
    ----------
    path
        Where to; its folder exists.
    pixels
        (rows, columns), uint8, uint16 or float32.
    transform
        Six affine coefficients of the upper-left *corner*, as in STAC's ``proj:transform``.
    epsg
        4326 or a projected code.
    nodata
        Declared nodata value; None for none.
    overview
        Reduction of the one overview, made by nearest neighbour; None for no overview.
    tile
        Side of the internal tiles, pixels.
    point
        True writes PixelIsPoint: the tie point is the centre of the first pixel; the pixels lie at the same place.
    """
    levels = []
    for order, level in enumerate([pixels] if overview is None else [pixels, _reduce(pixels, overview)]):
        tags = _tags(level, tile, order > 0) + (_geo_tags(transform, epsg, point) if order == 0 else [])
        if nodata is not None:
            tags.append((42113, "s", f"{nodata:g}".encode() + b"\0"))
        levels.append(_Level(level, _compress(level, tile), tags))
    content = _assemble(levels)
    path.write_bytes(content)
    return len(content)
