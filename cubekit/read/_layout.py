"""From a header and the windows wanted of it to tiles and byte ranges: the plan of one asset. No I/O.

The natural unit of work is (asset, internal tile): read and decoded once for every window in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from affine import Affine

from cubekit.grid import Grid
from cubekit.read._decode import leading_bytes
from cubekit.read._fault import Fault
from cubekit.read._place import Placement, check_extent, checked_transform, level_for, place, source_per_target
from cubekit.read._tiff import Header, Level
from cubekit.read._types import AssetRead, ReadOptions, ReadStatus
from cubekit.typing import Resampling

__all__ = ["Crop", "GdalNeeded", "Layout", "Range", "Tile", "Use", "decide_nodata", "lay_out"]

Coefficients: TypeAlias = tuple[float, ...]
_METADATA = 256 << 10
_LONGEST = 4 << 20
_LARGEST = 256 << 20
_SKETCHES = 1024


class GdalNeeded(Exception):
    """The file is a raster that this engine leaves to GDAL; the message says why."""


@dataclass(slots=True)
class Use:
    """One window of one asset: what was asked, where it lies, and the arrays it goes into."""

    index: int
    read: AssetRead
    grid: Grid
    out: np.ndarray | None = None
    placement: Placement | None = None
    fill: float = 0.0
    has_nodata: bool = False
    also_nodata: float | None = None
    window: np.ndarray | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Crop:
    """Part of a tile that goes into a use's window (or its mask): tile rows and columns, and the window's upper left pixel."""

    use: Use
    rows: tuple[int, int]
    columns: tuple[int, int]
    top: int
    left: int
    sample: int
    masks: bool


@dataclass(slots=True)
class Tile:
    """One compressed tile: where it lies, which rows are wanted, for whom; `lead` is its part asked for first."""

    level: Level
    number: int
    offset: int
    count: int
    filled: int
    rows: tuple[int, int]
    crops: list[Crop] = field(default_factory=list)
    lead: tuple[int, int] = (0, 0)

    @property
    def inflated(self) -> int:
        """Bytes the wanted rows take, with those above them."""
        return self.rows[1] * self.level.row_bytes


@dataclass(slots=True)
class Range:
    """Bytes asked for at once, and the tiles whose leading parts they are."""

    start: int
    stop: int
    tiles: list[Tile]

    @property
    def memory(self) -> int:
        """Bytes in memory while the range is fetched and decoded."""
        inflated = self.tiles[0].inflated if len(self.tiles) == 1 else max([tile.inflated for tile in self.tiles])
        return self.stop - self.start + inflated


@dataclass(slots=True)
class Layout:
    """All that will be asked of one asset."""

    ranges: list[Range]
    scratch: int
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class _Cell:
    """A tile that a window touches: level, whether of its mask, number; the rest as in `Tile` and `Crop`."""

    number: int
    masks: bool
    index: int
    filled: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    top: int
    left: int
    sample: int


@dataclass(frozen=True, slots=True)
class _Sketch:
    """What a use is laid out to, but for the places of its tiles: the same in all files of one make."""

    placement: Placement
    nodata: tuple[bool, float, float | None]
    cells: tuple[_Cell, ...]
    scratch: int


def lay_out(key: str, header: Header, uses: Iterable[Use], options: ReadOptions) -> Layout:
    """Plan an asset; notes placement and nodata in the uses.

    Raises
    ------
    ShortError
        If more of the header has to be read first.
    GdalNeeded
        If the file is for GDAL.
    Fault
        If the file is not what it should be.
    """
    if header.reason:
        raise GdalNeeded(header.reason)
    tiles: dict[tuple[int, bool, int], Tile] = {}
    scratch = 0
    for use in uses:
        sketch = _sketched(key, header, use)
        use.placement, (use.has_nodata, use.fill, use.also_nodata) = sketch.placement, sketch.nodata
        scratch += sketch.scratch
        for cell in sketch.cells:
            _collect(key, header, tiles, use, cell)
    _refuse_vacant(key, header, tiles.values())
    wanted = [tile for tile in tiles.values() if tile.count]
    return Layout(_ranges(wanted, options.coalesce), scratch, len(wanted) < len(tiles))


def _sketched(key: str, header: Header, use: Use) -> _Sketch:
    """`_sketch`, or what it gave for a file of the same make."""
    read, known = use.read, header.make.sketches
    asked = use.grid, read.resampling, read.index, read.nodata, read.epsg, read.transform, use.out is not None and use.out.dtype
    sketch: _Sketch | None = known.get(asked)
    if sketch is None:
        sketch = _sketch(key, header, use)
        if header.make.sketches is known:  # and nothing more was read of this file
            if len(known) >= _SKETCHES:
                known.clear()
            known[asked] = sketch
    return sketch


def _sketch(key: str, header: Header, use: Use) -> _Sketch:
    epsg, transform = _georeference(key, header, use.read)
    decide_nodata(key, header.levels[0].dtype, header.nodata, use)
    nodata = use.has_nodata, use.fill, use.also_nodata
    ratio = _ratio(key, transform, epsg, use.grid)
    if header.following:
        header.grow_for(max(ratio, 1.0))
    sizes = tuple([(level.width, level.height) for level in header.levels])
    placement = _placed(transform, epsg, sizes, ratio, use.grid, use.read.resampling)
    number = placement.level
    level = header.levels[number]
    if placement.empty:
        return _Sketch(placement, nodata, (), 0)
    check_extent(key, placement.rows, placement.columns, (level.tile_height, level.tile_width))
    if level.reason:
        raise GdalNeeded(level.reason)
    if use.read.index > level.samples:
        raise Fault(ReadStatus.CORRUPT, f"{key} has {level.samples} bands, and band {use.read.index} was asked for")
    mask = header.masks.get(number)
    if mask is not None and mask.reason:
        raise GdalNeeded(f"the mask: {mask.reason}")
    cells = _cells(placement, level, use.read.index - 1, masks=False)
    if mask is not None:
        cells += _cells(placement, mask, 0, masks=True)
    height, width = placement.shape
    return _Sketch(placement, nodata, cells, 0 if placement.method == "copy" else height * width * level.bits // 8)


def _georeference(key: str, header: Header, read: AssetRead) -> tuple[int, Coefficients]:
    if header.epsg is not None and read.epsg is not None and header.epsg != read.epsg:
        raise Fault(ReadStatus.CORRUPT, f"{key} is in EPSG:{header.epsg}, but its catalogue says EPSG:{read.epsg}")
    epsg = header.epsg if header.epsg is not None else read.epsg
    transform = header.transform or (tuple(float(value) for value in read.transform[:6]) if read.transform else None)
    if epsg is None or transform is None:
        raise GdalNeeded("its georeference is not one of plain GeoTIFF keys")
    return epsg, transform


# The assets of a job are much alike: what depends on their georeference only is worked out once.


@lru_cache(maxsize=1024)
def _known_ratio(transform: Coefficients, epsg: int, grid: Grid) -> float:
    return source_per_target(checked_transform("", Affine(*transform)), epsg, grid)


def _ratio(key: str, transform: Coefficients, epsg: int, grid: Grid) -> float:
    """Full-resolution pixels per grid pixel; a `Fault` for a georeference that cannot be."""
    try:
        return _known_ratio(transform, epsg, grid)
    except Fault:
        checked_transform(key, Affine(*transform))
        raise


@lru_cache(maxsize=1024)
def _placed(
    transform: Coefficients, epsg: int, sizes: tuple[tuple[int, int], ...], ratio: float, grid: Grid, resampling: Resampling
) -> Placement:
    number = level_for(sizes, ratio)
    return place(Affine(*transform), epsg, sizes[number], number, sizes[0], grid, resampling)


def decide_nodata(key: str, source: str, declared: float | None, use: Use) -> None:
    """Decide what marks a pixel without data in the source (of type `source`) and in the result, and whether the result can hold both.

    Raises
    ------
    Fault
        If it cannot.
    """
    target = None if use.out is None else use.out.dtype
    use.has_nodata, use.fill, use.also_nodata, problem = _nodata(source, declared, use.read.nodata, target)
    if problem:
        raise Fault(ReadStatus.CORRUPT, f"{key} {problem}")


@lru_cache(maxsize=1024)
def _nodata(source: str, declared: float | None, given: float | None, target: np.dtype | None) -> tuple[bool, float, float | None, str]:
    """Whether there is a nodata value, which, another one of the file, and why the result cannot hold these pixels ("": it can)."""
    dtype = np.dtype(source)
    if declared is not None and not _holds(dtype, declared):
        declared = None  # such as -9999 of unsigned pixels: no pixel can have it
    has = given is not None or declared is not None
    fill = given if given is not None else declared if declared is not None else (np.nan if dtype.kind == "f" else 0)
    also = declared if given is not None and declared is not None and not _same(declared, given) else None
    problem = ""
    if target is not None and not _holds(target, fill):
        problem = f"declares nodata {fill:g}, which the result's type {target} cannot hold"
    elif target is not None and not np.can_cast(dtype, target, "safe") and not (target.kind == "f" and dtype.itemsize <= 4):
        problem = f"holds {dtype} pixels, which an array of {target} cannot take"
    return has, fill, also, problem


def _holds(dtype: np.dtype, value: float) -> bool:
    if dtype.kind == "f":
        return True
    info = np.iinfo(dtype)
    return bool(np.isfinite(value)) and float(value).is_integer() and info.min <= value <= info.max


def _same(a: float, b: float) -> bool:
    return a == b or bool(np.isnan(a) and np.isnan(b))


def _cells(placement: Placement, level: Level, sample: int, *, masks: bool) -> tuple[_Cell, ...]:
    """The tiles that a window touches."""
    (top, bottom), (left, right) = placement.rows, placement.columns
    th, tw = level.tile_height, level.tile_width
    cells = []
    for row in range(top // th, -(-bottom // th)):
        rows = (max(top - row * th, 0), min(bottom - row * th, th))
        for column in range(left // tw, -(-right // tw)):
            columns = (max(left - column * tw, 0), min(right - column * tw, tw))
            at = row * th + rows[0] - top, column * tw + columns[0] - left
            filled = min(th, level.height - row * th)
            cells.append(_Cell(placement.level, masks, level.tile(row, column, sample), filled, rows, columns, *at, sample))
    return tuple(cells)


def _collect(key: str, header: Header, tiles: dict[tuple[int, bool, int], Tile], use: Use, cell: _Cell) -> None:
    """Add a tile that a use touches, or widen the rows wanted of one that is known."""
    index, rows = cell.index, cell.rows
    tile = tiles.get((cell.number, cell.masks, index))
    if tile is None:
        level = (header.masks if cell.masks else header.levels)[cell.number]
        offset, count = level.entry(header.pieces, index)
        _check_entry(key, header, index, offset, count)
        tile = tiles[cell.number, cell.masks, index] = Tile(level, index, offset, count, cell.filled, rows)
    tile.rows = (min(tile.rows[0], rows[0]), max(tile.rows[1], rows[1]))
    if tile.inflated > _LARGEST:
        raise Fault(ReadStatus.REFUSED, f"{key}: {tile.rows[1]} rows of tile {index} are {tile.inflated} bytes, more than {_LARGEST}")
    tile.crops.append(Crop(use, rows, cell.columns, cell.top, cell.left, cell.sample, cell.masks))


def _check_entry(key: str, header: Header, index: int, offset: int, count: int) -> None:
    if count and not offset:
        raise Fault(ReadStatus.CORRUPT, f"{key}: tile {index} has {count} bytes at offset 0: its tile table is damaged")
    if header.size is not None and offset + count > header.size:
        raise Fault(ReadStatus.CORRUPT, f"{key} is truncated: tile {index} ends at byte {offset + count} of {header.size}")


def _refuse_vacant(key: str, header: Header, tiles: Iterable[Tile]) -> None:
    """A file without any tile is sparse only if it is as small as a file without tiles is."""
    for level in {id(tile.level): tile.level for tile in tiles if not tile.count}.values():
        if level.vacant() and header.size is not None:
            tables = sum(place.nbytes for one in [*header.levels, *header.masks.values()] for place in one.places or ())
            if header.size > tables + _METADATA:
                raise Fault(
                    ReadStatus.CORRUPT, f"{key}: all tile offsets are 0 in a file of {header.size} bytes: its tile table is damaged"
                )


def _ranges(tiles: list[Tile], gap: int) -> list[Range]:
    """Leading parts of tiles, neighbours joined up to 4 MiB: enough to be worth a request, little enough to share out."""
    ranges: list[Range] = []
    for tile in sorted(tiles, key=lambda tile: tile.offset):
        tile.lead = leading_bytes(tile.level, tile.number, tile.count, *tile.rows, tile.filled)
        start, stop = tile.offset + tile.lead[0], tile.offset + tile.lead[1]
        if ranges and start - ranges[-1].stop <= gap and stop - ranges[-1].start <= _LONGEST:
            ranges[-1].stop = max(ranges[-1].stop, stop)
            ranges[-1].tiles.append(tile)
        else:
            ranges.append(Range(start, stop, [tile]))
    return ranges
