"""Areas and footprints in degrees: the antimeridian, boxes to ask for, and who touches whom."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import shapely
from shapely.geometry import MultiPolygon, Polygon, box, mapping, shape
from shapely.geometry.base import BaseGeometry

from cubekit.errors import InputError
from cubekit.grid import Grid
from cubekit.typing import JSON, BBox

__all__ = ["Area", "Ground", "area_of", "footprint_geometry", "search_boxes", "touches"]

Area: TypeAlias = BaseGeometry | Grid | BBox | Iterable[BBox]
"""What can be searched: a shapely geometry in (lon, lat), a grid, a box (west, south, east, north) or several; west > east crosses 180."""


_FARTHEST = 1000.0  # degrees; some catalogues count on beyond 180


def area_of(area: Area) -> BaseGeometry:
    """One valid geometry in [-180, 180] for anything that can be searched.

    Raises
    ------
    InputError
        For an empty geometry or coordinates that are no degrees.
    """
    if isinstance(area, Grid):
        return area.footprint()
    if isinstance(area, BaseGeometry):
        geometry = _split(area, unwrap=False)
    else:
        entries: list[Any] = list(area)
        boxes = [entries] if len(entries) == 4 and not any(isinstance(entry, (list, tuple)) for entry in entries) else entries
        geometry = shapely.union_all([part for entry in boxes for part in _box(entry)])
    if geometry.is_empty:
        raise InputError("The search area is empty", remedy="Give a geometry in degrees (lon, lat) or a box (west, south, east, north)")
    west, south, east, north = geometry.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise InputError(f"The search area {geometry.bounds} is not in degrees", remedy="Give (lon, lat) in EPSG:4326")
    return geometry


def _box(entry: Any) -> list[BaseGeometry]:
    try:
        west, south, east, north = (float(number) for number in entry)
    except (TypeError, ValueError):
        raise InputError(f"Search box {entry!r} is not (west, south, east, north)", remedy="Give four numbers in degrees") from None
    if not (
        all(map(math.isfinite, (west, south, east, north))) and -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90
    ):
        raise InputError(
            f"Search box {entry!r} is not (west, south, east, north) in degrees", remedy="Give south <= north within [-90, 90]"
        )
    if west <= east:
        return [box(west, south, east, north)]
    return [box(west, south, 180, north), box(-180, south, east, north)]


def search_boxes(geometry: BaseGeometry) -> list[BBox]:
    """One box, or one on each side of the antimeridian, that cover a geometry; (west, south, east, north), degrees."""
    parts = list(getattr(geometry, "geoms", [geometry]))
    west, _, east, _ = geometry.bounds
    if east - west <= 180 or len(parts) == 1:
        return [geometry.bounds]
    halves = [[part for part in parts if part.centroid.x >= 0], [part for part in parts if part.centroid.x < 0]]
    return [shapely.union_all(half).bounds for half in halves if half]


def footprint_geometry(geometry: object, bbox: object) -> JSON | None:
    """Valid GeoJSON of an item's footprint within [-180, 180], from its geometry or else its bbox; None where neither can be used."""
    if isinstance(geometry, Mapping):
        try:
            parsed = shape(geometry)
        except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.GEOSException):
            parsed = Polygon()
        if not parsed.is_empty and all(abs(edge) <= _FARTHEST for edge in parsed.bounds):
            west, _, east, _ = parsed.bounds
            if parsed.is_valid and west >= -180 and east <= 180 and (east - west <= 180 or len(getattr(parsed, "geoms", [])) > 1):
                return dict(geometry)
            return dict(mapping(_split(parsed, unwrap=True)))
    if isinstance(bbox, list) and len(bbox) in (4, 6):
        half = len(bbox) // 2
        try:
            return dict(mapping(shapely.union_all(_box([bbox[0], bbox[1], bbox[half], bbox[half + 1]]))))
        except InputError:
            return None
    return None


def _split(geometry: BaseGeometry, *, unwrap: bool) -> BaseGeometry:
    """Repair a geometry and cut it at the antimeridian; with `unwrap`, rings that jump by more than 180 degrees go the short way round."""
    parts = [_unwrapped(part) if unwrap else part for part in getattr(geometry, "geoms", [geometry])]
    whole = shapely.union_all([shapely.make_valid(part) for part in parts])
    pieces = []
    for shift in (-360, 0, 360):
        piece = shapely.intersection(whole, box(-180 - shift, -90, 180 - shift, 90))
        if not piece.is_empty:
            pieces.append(shapely.transform(piece, lambda xy, s=shift: np.add(xy, (s, 0))))
    return shapely.union_all(pieces)


def _unwrapped(part: BaseGeometry) -> BaseGeometry:
    if not isinstance(part, Polygon) or part.bounds[2] - part.bounds[0] <= 180:
        return part
    moved = shapely.transform(part, lambda xy: xy + [(360, 0) if x < 0 else (0, 0) for x, _ in xy])
    # Both sides of a box around the globe fall together.
    return moved if 0 < moved.bounds[2] - moved.bounds[0] < 180 else part


@dataclass(frozen=True, slots=True)
class Ground:
    """What a footprint covers: a valid geometry in degrees, widened by `reach`.

    Edges of a granule are straight in its own projection but given by their corners only, so the line in degrees may lie inside the
    granule; footprints are widened by that sagitta (1.6 km at 82 degrees north, 0.2 km at 45).
    """

    geometry: BaseGeometry
    reach: float

    @classmethod
    def of(cls, footprint: JSON | None) -> Ground | None:
        """The ground of a GeoJSON footprint; None where that is unknown."""
        if footprint is None:
            return None
        geometry = shape(footprint)
        if not geometry.is_valid:
            geometry = shapely.make_valid(geometry)
        return cls(geometry, _sagitta(geometry))


def touches(ground: Ground | None, area: BaseGeometry) -> bool:
    """True if the ground intersects an area, or is unknown."""
    return ground is None or bool(ground.geometry.intersects(area) or ground.geometry.distance(area) <= ground.reach)


def _sagitta(geometry: BaseGeometry) -> float:
    """Height of the arc, degrees, that a parallel makes over the footprint: (dlon^2 / 8) sin(lat) cos(lat)."""
    parts: list[BaseGeometry] = list(geometry.geoms) if isinstance(geometry, MultiPolygon) else [geometry]
    # Parts on either side of the antimeridian are one footprint: their widths add up.
    width = math.radians(min(20.0, sum(part.bounds[2] - part.bounds[0] for part in parts)))
    latitude = math.radians(max(abs(geometry.bounds[1]), abs(geometry.bounds[3])))
    return math.degrees(width**2 / 8 * math.sin(latitude) * math.cos(latitude))
