"""Where the simulated world lies: on the border of UTM zones 32 and 33, on Sentinel-2's own tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pyproj import Transformer

__all__ = ["CENTER", "SITES", "TILES", "Tile", "Window", "pixel_centres", "to_lonlat", "to_plane"]

CENTER = (12.0, 51.333)
"""Longitude and latitude of the origin of the local plane: exactly on the zone border."""

SITES: dict[str, tuple[float, float]] = {
    "centre": (12.0060, 51.3310),
    "fields": (12.0185, 51.3195),
    "forest": (12.0180, 51.3465),
    "lake": (11.9885, 51.3450),
    "village": (11.9850, 51.3230),
    "zone32": (11.9800, 51.3340),
}
"""Named places (lon, lat): each at least 1.3 km inside the rendered area of the default size."""

_PLANE = f"+proj=tmerc +lon_0={CENTER[0]} +lat_0={CENTER[1]} +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m"

Array: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a tile that is rendered: `left` and `top` in metres, size in metres; all multiples of 60 m."""

    left: int
    top: int
    width: int
    height: int

    def shape(self, resolution: int) -> tuple[int, int]:
        """(rows, columns) at a resolution."""
        return self.height // resolution, self.width // resolution

    def transform(self, resolution: int) -> list[float]:
        """The six coefficients of STAC's proj:transform."""
        return [float(resolution), 0.0, float(self.left), 0.0, -float(resolution), float(self.top)]

    def bounds(self) -> tuple[float, float, float, float]:
        """(west, south, east, north), metres."""
        return float(self.left), float(self.top - self.height), float(self.left + self.width), float(self.top)


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile of the Sentinel-2 tiling grid: 109.8 km square, upper-left corner on the 60 m grid."""

    name: str
    epsg: int
    ulx: int
    uly: int

    def window(self, size: int) -> Window:
        """The rendered square of `size` 10 m pixels about the world's centre, cut at the tile's own border."""
        x, y = (float(v) for v in _transformer(4326, self.epsg).transform(*CENTER))
        half = size * 5
        left, top = 60 * round((x - half) / 60), 60 * round((y + half) / 60)
        right, bottom = min(left + size * 10, self.ulx + 109_800), max(top - size * 10, self.uly - 109_800)
        left, top = max(left, self.ulx), min(top, self.uly)
        return Window(left, top, right - left, top - bottom)


TILES = {
    tile.name: tile
    for tile in (
        Tile("33UTS", 32633, 199_980, 5_700_000),
        Tile("33UTT", 32633, 199_980, 5_800_020),
        Tile("32UQB", 32632, 699_960, 5_700_000),
    )
}
"""33UTS holds the whole world, 33UTT its northern part (the 9.8 km overlap of neighbours), 32UQB all of it in the next zone."""


@lru_cache(maxsize=64)
def _transformer(source: int | str, target: int | str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)


def to_plane(x: npt.ArrayLike, y: npt.ArrayLike, epsg: int) -> tuple[Array, Array]:
    """Map coordinates to the local plane (metres east and north of `CENTER`); lon/lat when `epsg` is 4326."""
    east, north = _transformer(epsg, _PLANE).transform(np.asarray(x, np.float64), np.asarray(y, np.float64))
    return np.asarray(east, np.float64), np.asarray(north, np.float64)


def to_lonlat(x: npt.ArrayLike, y: npt.ArrayLike, epsg: int | None = None) -> tuple[Array, Array]:
    """Map coordinates (of the local plane when `epsg` is None) to longitude and latitude, degrees."""
    lon, lat = _transformer(_PLANE if epsg is None else epsg, 4326).transform(np.asarray(x, np.float64), np.asarray(y, np.float64))
    return np.asarray(lon, np.float64), np.asarray(lat, np.float64)


def pixel_centres(transform: Any, shape: tuple[int, int]) -> tuple[Array, Array]:
    """x and y of pixel centres, each (rows, columns), from six affine coefficients."""
    a, _, c, _, e, f = (float(v) for v in transform[:6])
    columns, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    return c + a * columns, f + e * rows
