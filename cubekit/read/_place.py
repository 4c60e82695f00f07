"""Where a grid lies in an image: which level, which rows and columns, and what is to be done with them. No I/O."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from affine import Affine
from pyproj import Transformer

from cubekit.grid import Grid
from cubekit.read._fault import Fault
from cubekit.read._types import ReadStatus
from cubekit.typing import Resampling

__all__ = [
    "CrsLike",
    "Method",
    "Placement",
    "check_extent",
    "checked_transform",
    "into_pixels",
    "level_for",
    "moved",
    "place",
    "reduction",
    "scaled",
    "source_per_target",
]

CrsLike: TypeAlias = int | str
"""EPSG code, or WKT where there is none."""

Method: TypeAlias = Literal["copy", "repeat", "mean", "pick", "warp"]

# A pixel edge is "the same" within this share of a pixel; a level "not coarser" within this share of a resolution.
_PHASE = 1e-4
_COARSER = 1e-3
_SMALLEST, _FARTHEST = 1e-8, 1e9
_MOST = 2**28
_thread = threading.local()


@dataclass(frozen=True, slots=True)
class Placement:
    """How the pixels of one level become the pixels of a grid.

    Attributes
    ----------
    rows, columns
        Half-open ranges of the level's pixels that are needed, inside the image; empty where the grid lies outside.
    method
        ``copy``; ``repeat`` (each source pixel `factor` times); ``mean`` or ``pick`` of blocks of `factor` pixels; ``warp`` (by GDAL).
    origin
        (row, column) of the grid's upper left corner, in level pixels (``repeat``: in grid pixels from the level's corner).
    factor
        (rows, columns) of a block.
    transform
        Affine coefficients of the level.
    """

    level: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    method: Method
    origin: tuple[int, int]
    factor: tuple[int, int]
    transform: Affine

    @property
    def empty(self) -> bool:
        """Whether nothing of the image lies in the grid."""
        return self.rows[0] >= self.rows[1] or self.columns[0] >= self.columns[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the pixels needed."""
        return max(0, self.rows[1] - self.rows[0]), max(0, self.columns[1] - self.columns[0])


def scaled(transform: Affine, full: tuple[int, int], level: tuple[int, int]) -> Affine:
    """Transform of an overview of (width, height) `level`: it covers the extent of the `full` image, as in GDAL."""
    x, y = full[0] / level[0], full[1] / level[1]
    return Affine(transform.a * x, transform.b * y, transform.c, transform.d * x, transform.e * y, transform.f)


def moved(transform: Affine, column: int, row: int) -> Affine:
    """Transform of the part of an image that begins at a column and row."""
    a, b, c, d, e, f = transform[:6]
    return Affine(a, b, c + a * column + b * row, d, e, f + d * column + e * row)


@lru_cache(maxsize=4096)
def source_per_target(transform: Affine, crs: CrsLike, grid: Grid) -> float:
    """Full-resolution source pixels per grid pixel, along the axis where there are fewer, at the grid's centre."""
    steps = _steps(transform, crs, grid)
    return min(steps) if np.isfinite(steps).all() else 1.0


def _steps(transform: Affine, crs: CrsLike, grid: Grid) -> tuple[float, float]:
    """Source pixels that a step of one grid pixel covers along x and y, at the grid's centre."""
    x = np.array([0.0, 1.0, 0.0]) * grid.resolution + grid.left + grid.resolution * grid.width / 2
    y = grid.top - grid.resolution * grid.height / 2 - np.array([0.0, 0.0, 1.0]) * grid.resolution
    columns, rows = into_pixels(transform, *_moved_to(crs, grid.epsg, x, y))
    along_x, along_y = (float(np.hypot(columns[i] - columns[0], rows[i] - rows[0])) for i in (1, 2))
    return along_x, along_y


@lru_cache(maxsize=4096)
def reduction(transform: Affine, crs: CrsLike, grid: Grid) -> tuple[float, float]:
    """Grid pixels per source pixel along the grid's axes (x, y), at its centre: 1 within 5 %, and never more than 1."""
    scales = []
    for step in _steps(transform, crs, grid):
        scale = 1 / step if np.isfinite(step) and step > 1 / 0.95 else 1.0
        # Short, so that a transform's last digit does not show in pixels.
        scales.append(float(f"{scale:.6g}"))
    return scales[0], scales[1]


def level_for(sizes: Sequence[tuple[int, int]], ratio: float) -> int:
    """Index of the coarsest level that is not coarser than the grid: `ratio` full-resolution pixels per grid pixel.

    Never one coarser than the target: detail is reduced by the resampling asked for, not by whatever made the overview.
    """
    full = sizes[0]
    fitting = [i for i, (w, h) in enumerate(sizes) if max(full[0] / w, full[1] / h) <= ratio * (1 + _COARSER)]
    return max(fitting, key=lambda i: full[0] / sizes[i][0], default=0)


@lru_cache(maxsize=16384)
def check_extent(key: str, rows: tuple[int, int], columns: tuple[int, int], tile: tuple[int, int] = (16, 16)) -> None:
    """A `Fault` where a window has more pixels or (height, width) tiles than any sensible grid needs of any sensible raster."""
    height, width = max(0, rows[1] - rows[0]), max(0, columns[1] - columns[0])
    if height * width > _MOST or (height // tile[0] + 1) * (width // tile[1] + 1) > _MOST >> 10:
        raise Fault(ReadStatus.REFUSED, f"{key}: {height} x {width} of its pixels lie in the grid, more than are read at once")


def checked_transform(key: str, transform: Affine) -> Affine:
    """The transform, if pixels of that size and place can be on Earth; else a `Fault`."""
    a, b, c, d, e, f = transform[:6]
    sizes = math.hypot(a, d), math.hypot(b, e)
    sane = all(_SMALLEST < size < _FARTHEST for size in sizes) and abs(a * e - b * d) > 1e-6 * sizes[0] * sizes[1]
    if not (sane and abs(c) < _FARTHEST and abs(f) < _FARTHEST):
        raise Fault(ReadStatus.CORRUPT, f"{key} has no usable georeference: {tuple(transform[:6])}")
    return transform


def place(
    transform: Affine, crs: CrsLike, size: tuple[int, int], level: int, full: tuple[int, int], grid: Grid, resampling: Resampling
) -> Placement:
    """Placement of a grid in a level of (width, height) `size` of an image with `transform` at (width, height) `full`."""
    local = scaled(transform, full, size)
    if crs == grid.epsg and local.b == local.d == 0 and local.a > 0 and local.e < 0:
        found = _aligned(local, size, level, grid, resampling)
        if found is not None:
            return found
    rows, columns = _window(local, crs, size, grid)
    return Placement(level, rows, columns, "warp", (0, 0), (1, 1), local)


def _aligned(local: Affine, size: tuple[int, int], level: int, grid: Grid, resampling: Resampling) -> Placement | None:
    factors = (grid.resolution / -local.e, grid.resolution / local.a)
    offsets = ((local.f - grid.top) / -local.e, (grid.left - local.c) / local.a)
    if all(_whole(f, 1) for f in factors) and all(_whole(o) for o in offsets):
        fy, fx = (round(f) for f in factors)
        oy, ox = (round(o) for o in offsets)
        if resampling == "bilinear" and (fy, fx) != (1, 1):
            return None
        method: Method = "copy" if (fy, fx) == (1, 1) else "mean" if resampling == "average" else "pick"
        rows, columns = _clip(oy, grid.height * fy, size[1]), _clip(ox, grid.width * fx, size[0])
        return Placement(level, rows, columns, method, (oy, ox), (fy, fx), local)
    inverse = (1 / factors[0], 1 / factors[1])
    fine = ((local.f - grid.top) / grid.resolution, (grid.left - local.c) / grid.resolution)
    if all(_whole(f, 1) for f in inverse) and all(_whole(o) for o in fine):
        fy, fx = (round(f) for f in inverse)
        oy, ox = (round(o) for o in fine)
        rows = _clip(oy // fy, -(-(oy + grid.height) // fy) - oy // fy, size[1])
        columns = _clip(ox // fx, -(-(ox + grid.width) // fx) - ox // fx, size[0])
        return Placement(level, rows, columns, "repeat", (oy, ox), (fy, fx), local)
    return None


def _whole(value: float, least: int | None = None) -> bool:
    return abs(value - round(value)) < _PHASE and (least is None or round(value) >= least)


def _clip(start: int, count: int, size: int) -> tuple[int, int]:
    return max(0, start), min(size, start + count)


def _window(local: Affine, crs: CrsLike, size: tuple[int, int], grid: Grid) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns that a warp of the grid can touch: the grid's edge and a lattice inside it, with the kernel's reach as margin."""
    columns, rows = into_pixels(local, *_lattice(crs, grid))
    good = np.isfinite(columns) & np.isfinite(rows)
    if not good.any():
        return (0, 0), (0, 0)
    spans = []
    for values, count, length in ((rows[good], size[1], grid.height), (columns[good], size[0], grid.width)):
        margin = 16 + 2 * (values.max() - values.min()) / length
        spans.append((int(max(0, np.floor(values.min() - margin))), int(min(count, np.ceil(values.max() + margin)))))
    return spans[0], spans[1]


@lru_cache(maxsize=16)  # files of several resolutions and makes lie in one CRS
def _lattice(crs: CrsLike, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Places (x, y) in a CRS of the grid's edge and a lattice inside it."""
    steps = min(65, max(grid.width, grid.height) + 1)
    u = np.linspace(0, grid.width, steps) * grid.resolution + grid.left
    v = grid.top - np.linspace(0, grid.height, steps) * grid.resolution
    x, y = np.meshgrid(u, v)
    return _moved_to(crs, grid.epsg, x.ravel(), y.ravel())


def _moved_to(crs: CrsLike, grid_epsg: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if crs != grid_epsg:
        x, y = _transformer(grid_epsg, crs).transform(x, y)
    return x, y


def into_pixels(transform: Affine, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(column, row) of places in an image; its upper left corner is (0, 0)."""
    inverse = ~transform
    return inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f


def _transformer(source: CrsLike, target: CrsLike) -> Transformer:
    """PROJ objects belong to one thread each."""
    if not hasattr(_thread, "transformers"):
        _thread.transformers = lru_cache(maxsize=64)(lambda a, b: Transformer.from_crs(a, b, always_xy=True))
    found: Transformer = _thread.transformers(source, target)
    return found
