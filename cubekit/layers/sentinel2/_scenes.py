"""From catalogue items to scenes: one time step per acquisition, and only the granules that add pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from cubekit.grid import Grid, transformer

if TYPE_CHECKING:
    from cubekit.catalog import Item

__all__ = ["Scene", "footprint_in", "group_scenes", "outside_mask"]


_NEGLIGIBLE = 1e-9


@dataclass(frozen=True, slots=True)
class Scene:
    """One acquisition over the grid.

    Parameters
    ----------
    key
        Datatake, or platform, orbit and day where the catalogue does not tell the datatake.
    items
        Its granules, the preferred one first; a later one only fills what the earlier ones leave empty.
    """

    key: str
    items: tuple[Item, ...]

    @property
    def time(self) -> np.datetime64:
        """Acquisition time (UTC) of the preferred granule."""
        return np.datetime64(self.items[0].datetime.replace(tzinfo=None), "ns")


def group_scenes(items: Iterable[Item], grid: Grid) -> list[Scene]:
    """Group items into scenes and keep, per scene, the granules needed to cover the grid.

    Granules in the grid's own zone come first, then those that cover more. One swath gives overlapping granules the same pixels, so a
    granule is left out once the tiles before it cover the grid; a second product of the same tile is kept, for it may hold another part
    of the swath.

    Returns
    -------
    list of Scene
        Sorted by time.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(_key(item), []).append(item)
    target = box(*grid.bounds)
    scenes = [Scene(key, _needed(members, grid, target)) for key, members in groups.items()]
    return sorted((scene for scene in scenes if scene.items), key=lambda scene: (scene.time, scene.key))


def _key(item: Item) -> str:
    return item.datatake


def _needed(items: list[Item], grid: Grid, target: BaseGeometry) -> tuple[Item, ...]:
    extents = {id(item): _extent_in(item, grid.epsg) for item in items}
    ordered = sorted(items, key=lambda item: (item.epsg != grid.epsg, -_share(extents[id(item)], target), item.id))
    chosen: list[Item] = []
    missing: BaseGeometry = target
    for item in ordered:
        extent = extents[id(item)]
        same_tile = any(item.tile is not None and item.tile == other.tile for other in chosen)
        if _share(extent, missing) > _NEGLIGIBLE or (same_tile and _share(extent, target) > 0):
            chosen.append(item)
            missing = _rest(missing, extent)
    return tuple(chosen)


@lru_cache(maxsize=256)
def _share(extent: BaseGeometry, area: BaseGeometry) -> float:
    return float(extent.intersection(area).area / area.area) if area.area > 0 else 0.0


@lru_cache(maxsize=256)
def _rest(area: BaseGeometry, extent: BaseGeometry) -> BaseGeometry:
    return area.difference(extent)


def _extent_in(item: Item, epsg: int) -> BaseGeometry:
    """Extent of the item's raster in a CRS: from its assets' transform, else its footprint."""
    for asset in item.assets.values():
        if asset.transform is not None and asset.shape is not None and item.epsg is not None:
            return _raster_in(item.epsg, asset.transform, asset.shape, epsg)
    return footprint_in(item, epsg)


@lru_cache(maxsize=256)
def _raster_in(source: int, transform: tuple[float, ...], shape: tuple[int, int], epsg: int) -> BaseGeometry:
    """Extent in a CRS of a raster that lies in `source`; the granules of a tile share it."""
    a, _, left, _, e, top = transform[:6]
    height, width = shape
    return _project(box(left, top + e * height, left + a * width, top), source, epsg)


def footprint_in(item: Item, epsg: int) -> BaseGeometry:
    """The item's footprint in a projected CRS; parts beyond the antimeridian come out where they belong."""
    return _project(shape(item.geometry), 4326, epsg)


def _project(geometry: BaseGeometry, source: int, target: int) -> BaseGeometry:
    if source == target:
        return geometry
    step = 5_000.0 if source != 4326 else 0.05
    convert = transformer(source, target)
    projected = shapely.transform(shapely.segmentize(geometry, step), lambda xy: np.column_stack(convert.transform(xy[:, 0], xy[:, 1])))
    return shapely.make_valid(projected)


def outside_mask(items: tuple[Item, ...], grid: Grid) -> np.ndarray:
    """(height, width) mask of the pixel centres that lie in no footprint of `items`."""
    union = shapely.union_all([footprint_in(item, grid.epsg) for item in items])
    if union.covers(box(*grid.bounds)):
        return np.zeros(grid.shape, bool)
    x, y = np.meshgrid(grid.x, grid.y)
    shapely.prepare(union)
    return np.asarray(~shapely.contains_xy(union, x, y))
