"""The land: fields, forest, a river, a lake, villages and roads as analytic functions of position."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cubekit.demo._noise import fractal, hash01, value_noise

__all__ = ["VIGOUR_STEP", "Kind", "Landscape", "Surface", "Units"]

Array: TypeAlias = npt.NDArray[Any]


class Kind(IntEnum):
    """What covers a point; `ARABLE` changes its crop every year."""

    ARABLE = 0
    GRASS = 1
    BROADLEAF = 2
    CONIFER = 3
    WETLAND = 4
    HEDGE = 5
    TRACK = 6
    ROAD = 7
    ROOF = 8
    BRIGHT_ROOF = 9
    RIVER = 10
    LAKE = 11
    SHALLOWS = 12


_WORLDCOVER = {
    Kind.ARABLE: 40,
    Kind.GRASS: 30,
    Kind.BROADLEAF: 10,
    Kind.CONIFER: 10,
    Kind.WETLAND: 90,
    Kind.HEDGE: 10,
    Kind.TRACK: 30,
    Kind.ROAD: 50,
    Kind.ROOF: 50,
    Kind.BRIGHT_ROOF: 50,
    Kind.RIVER: 80,
    Kind.LAKE: 80,
    Kind.SHALLOWS: 80,
}

VIGOUR_STEP = 0.25
_SPACING, _SIDE, _PARTS = 1180.0, 12, (8, 6)
_PER_BLOCK = _PARTS[0] * _PARTS[1]
_BLOCKS = _SIDE * _SIDE * _PER_BLOCK
_STANDS = 64
_LAKE, _LAKE_LEVEL = (-700.0, 1250.0), 94.0
_VILLAGES = ((-1050.0, -1150.0, 470.0), (1900.0, 350.0, 230.0))


@dataclass(frozen=True, slots=True)
class Units:
    """Table of the units of land (a field, a forest stand, a kind of roof): one row each."""

    kind: npt.NDArray[np.uint8]
    number: npt.NDArray[np.int64]
    soil: npt.NDArray[np.float32]
    """Brightness of bare ground relative to the mean."""
    fertility: npt.NDArray[np.float32]
    """Green cover relative to the mean."""


@dataclass(frozen=True, slots=True)
class Surface:
    """What stands at each point.

    Attributes
    ----------
    unit, vigour
        Of each distinct patch: row of the unit table, and relative deviation of its green cover, in steps of `VIGOUR_STEP`.
    patch
        Which patch each point belongs to.
    texture
        Relative deviation of brightness at each point.
    """

    unit: npt.NDArray[np.int32]
    vigour: npt.NDArray[np.float32]
    patch: npt.NDArray[np.int32]
    texture: npt.NDArray[np.float32]


class Landscape:
    """All of it, from one seed; every method takes metres east and north of the world's centre."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.units = self._make_units()

    def _make_units(self) -> Units:
        fields = np.arange(_BLOCKS)
        meadows = hash01(self.seed + 11, fields) < 0.22
        kinds = [np.where(meadows, int(Kind.GRASS), int(Kind.ARABLE)), *(np.full(_STANDS, int(kind)) for kind in list(Kind)[1:])]
        kind = np.concatenate(kinds).astype(np.uint8)
        number = np.arange(kind.size)
        soil = 1.0 + 0.24 * (hash01(self.seed + 12, number) - 0.5)
        fertility = 1.0 - 0.22 * hash01(self.seed + 13, number)
        return Units(kind, number, soil.astype(np.float32), fertility.astype(np.float32))

    def _stand(self, kind: Kind, number: Array) -> Array:
        return _BLOCKS + (int(kind) - 1) * _STANDS + (number % _STANDS)

    def elevation(self, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Metres above the geoid: rolling loess country with a valley along the river."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        hills = 26.0 * fractal(x, y, 2300.0, 4, self.seed + 21)
        valley = 48.0 * (1.0 - np.exp(-((self._river_distance(x, y) / 1500.0) ** 2)))
        height = 98.0 + valley + hills * (0.35 + valley / 48.0 * 0.65)
        shore = np.clip(-self._lake_depth(x, y) / 0.7, 0.0, 1.0)
        basin = shore * shore * (3.0 - 2.0 * shore)
        return np.asarray(_LAKE_LEVEL + np.maximum(height - _LAKE_LEVEL, 0.5) * basin)

    def _river_distance(self, x: Array, y: Array) -> Array:
        """Distance to the river's centre line, metres, negative on its right bank."""
        along, across = 0.82 * x + 0.57 * y, -0.57 * x + 0.82 * y
        phase = float(hash01(self.seed, 31)) * 0.6
        line = -620.0 + 330.0 * np.sin(along / 720.0 + phase) + 130.0 * np.sin(along / 295.0 + 1.3 + phase)
        slope = 330.0 / 720.0 * np.cos(along / 720.0 + phase) + 130.0 / 295.0 * np.cos(along / 295.0 + 1.3 + phase)
        return (across - line) / np.sqrt(1.0 + slope**2)

    def _lake_depth(self, x: Array, y: Array) -> Array:
        """Positive inside the lake, about 1 in its middle."""
        u, v = (x - _LAKE[0]) / 760.0, (y - _LAKE[1]) / 500.0
        return 1.0 - np.hypot(0.93 * u + 0.36 * v, -0.36 * u + 0.93 * v) + 0.30 * fractal(x, y, 520.0, 3, self.seed + 41)

    def _blocks(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Block of fields at each point: (row, column) of its seed and the distance to the block's border."""
        gx, gy = np.floor(x / _SPACING).astype(np.int64), np.floor(y / _SPACING).astype(np.int64)
        best = np.full(x.shape, np.inf)
        second = np.full(x.shape, np.inf)
        row, column = np.zeros_like(gy), np.zeros_like(gx)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                i, j = gy + dy, gx + dx
                cx, cy = self._seed_point(i, j)
                distance = np.hypot(x - cx, y - cy)
                nearer = distance < best
                second = np.where(nearer, best, np.minimum(second, distance))
                best = np.where(nearer, distance, best)
                row, column = np.where(nearer, i, row), np.where(nearer, j, column)
        return row, column, (second - best) / 2

    def _seed_point(self, i: Array, j: Array) -> tuple[Array, Array]:
        jitter_x, jitter_y = hash01(self.seed + 51, i, j), hash01(self.seed + 52, i, j)
        return (j + 0.14 + 0.72 * jitter_x) * _SPACING, (i + 0.14 + 0.72 * jitter_y) * _SPACING

    def _field(self, x: Array, y: Array, row: Array, column: Array) -> Array:
        """Number of the field inside its block: strips of uneven width, cut across at uneven lengths."""
        angle = np.pi * hash01(self.seed + 53, row, column)
        width = 150.0 + 170.0 * hash01(self.seed + 54, row, column)
        length = 480.0 + 460.0 * hash01(self.seed + 55, row, column)
        cx, cy = self._seed_point(row, column)
        p = (np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)) / length
        q = (-np.sin(angle) * (x - cx) + np.cos(angle) * (y - cy)) / width + 0.37
        strip = np.floor(q).astype(np.int64)
        strip = np.where(q - strip < 0.45 * hash01(self.seed + 56, row, column, strip), strip - 1, strip)
        cut = np.floor(p + hash01(self.seed + 57, row, column, strip)).astype(np.int64)
        block = (row % _SIDE) * _SIDE + column % _SIDE
        return np.asarray(block * _PER_BLOCK + (strip % _PARTS[0]) * _PARTS[1] + cut % _PARTS[1])

    def _forest(self, x: Array, y: Array) -> Array:
        centre = np.exp(-(((x - 1350.0) / 1000.0) ** 2) - ((y - 1650.0) / 800.0) ** 2)
        far = np.exp(-(((x + 2600.0) / 900.0) ** 2) - ((y + 2500.0) / 700.0) ** 2)
        return np.asarray(1.25 * centre + far + 0.62 * fractal(x, y, 780.0, 4, self.seed + 61) > 0.52)

    def surface(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Surface:
        """Unit, texture and vigour at points of the plane."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        wx, wy = x + 28.0 * value_noise(x, y, 310.0, self.seed + 71), y + 28.0 * value_noise(x, y, 310.0, self.seed + 72)
        row, column, border = self._blocks(wx, wy)
        unit = self._field(wx, wy, row, column)
        kind_of_border = hash01(self.seed + 73, row + column)
        unit = np.where(border < 7.0, self._stand(Kind.TRACK, row + column), unit)
        unit = np.where((border < 13.0) & (kind_of_border < 0.4), self._stand(Kind.HEDGE, row + column), unit)
        unit = self._draw_forest(unit, x, y)
        river, depth = np.abs(self._river_distance(x, y)), self._lake_depth(x, y)
        unit = self._draw_banks(unit, x, y, river, depth)
        unit = self._draw_settlement(unit, x, y)
        half_width = 31.0 + 7.0 * value_noise(x, y, 260.0, self.seed + 74)
        unit = np.where(river < half_width, self._stand(Kind.RIVER, np.zeros_like(row)), unit)
        unit = np.where(depth > 0.0, self._stand(Kind.SHALLOWS, np.zeros_like(row)), unit)
        unit = np.where(depth > 0.10, self._stand(Kind.LAKE, np.zeros_like(row)), unit)
        level = np.rint(1.2 * fractal(x, y, 560.0, 2, self.seed + 93) / VIGOUR_STEP).astype(np.int64)
        codes, patch = np.unique(unit * 64 + level + 32, return_inverse=True)
        vigour = ((codes % 64 - 32) * VIGOUR_STEP).astype(np.float32)
        return Surface((codes // 64).astype(np.int32), vigour, patch.reshape(x.shape).astype(np.int32), self._texture(unit, x, y))

    def _draw_forest(self, unit: Array, x: Array, y: Array) -> Array:
        stand_x, stand_y = np.floor((0.9 * x + 0.44 * y) / 270.0).astype(np.int64), np.floor((-0.44 * x + 0.9 * y) / 210.0).astype(np.int64)
        number = stand_x * 7 + stand_y * 13
        conifer = hash01(self.seed + 75, stand_x, stand_y) < 0.42
        trees = np.where(conifer, self._stand(Kind.CONIFER, number), self._stand(Kind.BROADLEAF, number))
        return np.where(self._forest(x, y), trees, unit)

    def _draw_banks(self, unit: Array, x: Array, y: Array, river: Array, depth: Array) -> Array:
        meadow = river < 210.0 + 150.0 * value_noise(x, y, 420.0, self.seed + 76)
        unit = np.where(meadow & (self.units.kind[unit] == Kind.ARABLE), self._stand(Kind.GRASS, unit // 4), unit)
        trees = (river < 62.0) & (value_noise(x, y, 75.0, self.seed + 77) > 0.05)
        unit = np.where(trees, self._stand(Kind.BROADLEAF, unit), unit)
        reeds = (depth > -0.09) & (value_noise(x, y, 190.0, self.seed + 78) > -0.15)
        return np.where(reeds, self._stand(Kind.WETLAND, unit * 0), unit)

    def _draw_settlement(self, unit: Array, x: Array, y: Array) -> Array:
        for order, (cx, cy, radius) in enumerate(_VILLAGES):
            dx, dy = x - cx, y - cy
            inside = np.hypot(dx, dy) < radius * (1.0 + 0.30 * fractal(x, y, 240.0, 2, self.seed + 81))
            u, v = (0.88 * dx + 0.47 * dy) / 23.0, (-0.47 * dx + 0.88 * dy) / 23.0
            i, j = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
            pick = hash01(self.seed + 82 + order, i, j)
            house = np.where(pick < 0.26, self._stand(Kind.ROOF, i), self._stand(Kind.GRASS, i + j))
            house = np.where((pick >= 0.26) & (pick < 0.34), self._stand(Kind.BRIGHT_ROOF, i), house)
            house = np.where(pick > 0.80, self._stand(Kind.BROADLEAF, i + 3 * j), house)
            street = (i % 5 == 0) | (j % 7 == 0)
            house = np.where(street, self._stand(Kind.ROAD, i * 0), house)
            unit = np.where(inside, house, unit)
        return np.where(self._road_distance(x, y) < 9.0, self._stand(Kind.ROAD, unit * 0), unit)

    def _road_distance(self, x: Array, y: Array) -> Array:
        bend = 90.0 * np.sin(x / 610.0) + 40.0 * np.sin(x / 233.0)
        start, end = _VILLAGES[0], _VILLAGES[1]
        slope = (end[1] - start[1]) / (end[0] - start[0])
        first = np.abs(y - start[1] - slope * (x - start[0]) - bend) / np.hypot(1.0, slope)
        second = np.abs(x - start[0] - 0.22 * (y - start[1]) - 60.0 * np.sin(y / 480.0))
        return np.asarray(np.minimum(first, second))

    def _texture(self, unit: Array, x: Array, y: Array) -> npt.NDArray[np.float32]:
        """Crowns, roofs and tussocks: cells of 26 m in three steps of brightness; fields are even."""
        amplitude = np.zeros(len(Kind), np.float32)
        amplitude[[Kind.BROADLEAF, Kind.CONIFER, Kind.HEDGE]] = 0.11
        amplitude[[Kind.ROOF, Kind.BRIGHT_ROOF, Kind.ROAD]] = 0.10
        amplitude[Kind.WETLAND] = 0.06
        i, j = np.floor((0.8 * x + 0.6 * y) / 26.0).astype(np.int64), np.floor((-0.6 * x + 0.8 * y) / 26.0).astype(np.int64)
        step = np.floor(3.0 * hash01(self.seed + 91, i, j)) - 1.0
        return np.asarray(amplitude[self.units.kind[unit]] * step, np.float32)

    def land_cover(self, x: npt.ArrayLike, y: npt.ArrayLike, version: int = 2021) -> npt.NDArray[np.uint8]:
        """ESA WorldCover class; the 2020 map takes every fourteenth 80 m cell of grass or crops for the other one."""
        table = np.array([_WORLDCOVER[kind] for kind in Kind], np.uint8)
        surface = self.surface(x, y)
        cover = table[self.units.kind[surface.unit]][surface.patch]
        if version == 2021:
            return cover
        i, j = np.floor(np.asarray(y) / 80.0).astype(np.int64), np.floor(np.asarray(x) / 80.0).astype(np.int64)
        wrong = hash01(self.seed + 94, i, j) < 1 / 14
        swapped = np.where(cover == 40, 30, np.where(cover == 30, 40, cover))
        return np.where(wrong, swapped, cover).astype(np.uint8)
