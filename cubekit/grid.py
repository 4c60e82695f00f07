"""Where a cube lies: square pixels in a metric CRS, snapped so that source pixels can be copied."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cubekit.errors import InputError
from cubekit.typing import BBox, Float1D, Float2D

if TYPE_CHECKING:
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from pyproj import Transformer
    from shapely.geometry.base import BaseGeometry

__all__ = ["REMEMBERED", "Grid", "check_lonlat", "edge_in_pixels", "transformer", "utm_epsg"]

UPS_NORTH, UPS_SOUTH = 32661, 32761
METRES_PER_DEGREE = 111_320.0
"""Along a meridian, about; for tolerances, not for distances."""
MAX_EDGE = 32768
"""Largest edge in pixels; beyond it a request is a mistake or wants another tool."""


def check_lonlat(lat: float, lon: float) -> tuple[float, float]:
    """Return (`lat`, `lon`) as floats, or raise `InputError` unless -90 <= lat <= 90 and -180 <= lon <= 180 (degrees)."""
    try:
        lat, lon = float(lat), float(lon)
    except (TypeError, ValueError):
        raise InputError(f"lat and lon must be numbers, got lat={lat!r}, lon={lon!r}", remedy="Give decimal degrees") from None
    if not -90 <= lat <= 90:
        swapped = " (are lat and lon swapped?)" if abs(lon) <= 90 and abs(lat) <= 180 else ""
        raise InputError(f"Latitude {lat:g} is outside [-90, 90]{swapped}", remedy="Give decimal degrees north")
    if not -180 <= lon <= 180:
        wrapped = f"; did you mean {(lon + 180) % 360 - 180:g}?" if math.isfinite(lon) else ""
        raise InputError(f"Longitude {lon:g} is outside [-180, 180]", remedy=f"Give decimal degrees east{wrapped}")
    return lat, lon


def utm_epsg(lat: float, lon: float) -> int:
    """EPSG code of the WGS 84 / UTM zone of a point in degrees; UPS (32661, 32761) north of 84 and south of -80.

    Zones are the plain six-degree strips, as EPSG's areas of use have them: the exceptions of the military grid around
    Norway and Svalbard are not applied. The equator belongs to the north; a border belongs to the zone east of it.
    """
    if lat > 84:
        return UPS_NORTH
    if lat < -80:
        return UPS_SOUTH
    zone = int((lon + 180) // 6) % 60 + 1
    return (32600 if lat >= 0 else 32700) + zone


def edge_in_pixels(edge_size: float, resolution: float, units: str = "px") -> int:
    """Convert an edge length to whole pixels, rounding to the nearest.

    Parameters
    ----------
    edge_size
        Length in `units`; a whole number where `units` is ``"px"``.
    resolution
        Pixel size, m.
    units
        ``"px"``, ``"m"``, ``"km"`` or the name of a length in `scipy.constants` (``"mile"``, ``"yard"``, ``"nautical_mile"``, ...).

    Raises
    ------
    InputError
        For an unknown unit, a size that is not positive or a number of pixels outside [1, 32768].
    """
    if not (isinstance(edge_size, (int, float, np.integer, np.floating)) and math.isfinite(edge_size) and edge_size > 0):
        raise InputError(f"edge_size must be a positive number, got {edge_size!r}", remedy="Give for example 128")
    pixels = float(edge_size) if units == "px" else edge_size * _metres(units) / resolution
    if units == "px" and not float(edge_size).is_integer():
        raise InputError(f"edge_size {edge_size!r} is not a whole number of pixels", remedy="Give an integer, or other units such as 'm'")
    if not 1 <= round(pixels) <= MAX_EDGE:
        raise InputError(
            f"edge_size {edge_size:g} {units} is {pixels:g} px at {resolution:g} m",
            remedy=f"An edge has between 1 and {MAX_EDGE} px: change edge_size, units or resolution",
        )
    return round(pixels)


_LENGTHS = (
    "inch foot yard mile mil pt point survey_foot survey_mile nautical_mile fermi angstrom micron au astronomical_unit light_year parsec"
).split()
_PREFIXED = {
    "m": 1.0,
    "km": 1000.0,
    "kilometer": 1000.0,
    "kilometre": 1000.0,
    "meter": 1.0,
    "metre": 1.0,
    "cm": 0.01,
    "mm": 0.001,
    "kilo": 1000.0,
}


def _metres(units: str) -> float:
    if units in _PREFIXED:
        return _PREFIXED[units]
    if units in _LENGTHS:
        from scipy import constants

        return float(getattr(constants, units))
    allowed = ", ".join(["px", "m", "km", *_LENGTHS])
    raise InputError(f"Unknown unit of length {units!r}", remedy=f"Use one of: {allowed}")


@lru_cache(maxsize=256)
def transformer(source: int | str, target: int | str) -> Transformer:
    """Cached pyproj transformer between two CRS given by EPSG code, x (longitude) first."""
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


REMEMBERED = 2**18
"""Pixels of the largest grid whose places in other zones are kept."""


@dataclass(frozen=True)
class Grid:
    """A north-up grid of square pixels.

    Parameters
    ----------
    epsg
        Code of a projected CRS with metres.
    resolution
        Pixel size, m.
    left, top
        Coordinates of the outer edges of the upper left pixel, m.
    width, height
        Number of pixels along x and y.
    """

    epsg: int
    resolution: float
    left: float
    top: float
    width: int
    height: int

    def __post_init__(self) -> None:
        _check_resolution(self.resolution)
        if self.width < 1 or self.height < 1:
            raise InputError(f"A grid of {self.width} x {self.height} px is empty", remedy="Give at least one pixel each way")

    @classmethod
    def around(
        cls,
        lat: float,
        lon: float,
        edge_size: float = 128,
        resolution: float = 10,
        units: str = "px",
        epsg: int | None = None,
        phase: tuple[float, float] = (0.0, 0.0),
    ) -> Grid:
        """Square grid around a point: exactly `edge_size` pixels, edges on multiples of the resolution (plus `phase`).

        With an even number of pixels the centre is the point's projection rounded to the nearest multiple of the resolution, which is
        cubo's choice; with an odd number the point lies in the central pixel.

        Parameters
        ----------
        lat, lon
            Centre, degrees.
        edge_size, units
            Edge length, see `edge_in_pixels`.
        resolution
            Pixel size, m.
        epsg
            CRS to use; by default the UTM or UPS zone of the point.
        phase
            (x, y) offset of the pixel edges from multiples of the resolution, m. Sources whose zone and phase agree are copied.

        Raises
        ------
        InputError
            For coordinates, sizes, units or a CRS that cannot be meant.
        """
        lat, lon = check_lonlat(lat, lon)
        _check_resolution(resolution)
        n = edge_in_pixels(edge_size, resolution, units)
        epsg = utm_epsg(lat, lon) if epsg is None else _check_epsg(epsg)
        x, y = transformer(4326, epsg).transform(lon, lat)
        if not (math.isfinite(x) and math.isfinite(y)):
            raise InputError(f"lat={lat:g}, lon={lon:g} has no coordinates in EPSG:{epsg}", remedy="Use the UTM zone of the point")
        left = _snap(x, n, resolution, phase[0]) - n // 2 * resolution
        bottom = _snap(y, n, resolution, phase[1]) - n // 2 * resolution
        return cls(epsg, resolution, left, bottom + n * resolution, n, n)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def bounds(self) -> BBox:
        """(west, south, east, north) of the outer edges, m."""
        return self.left, self.top - self.height * self.resolution, self.left + self.width * self.resolution, self.top

    @property
    def x(self) -> Float1D:
        """Pixel centres from west to east, shape (width,), m."""
        return self.left + (np.arange(self.width) + 0.5) * self.resolution

    @property
    def y(self) -> Float1D:
        """Pixel centres from north to south, shape (height,), m."""
        return self.top - (np.arange(self.height) + 0.5) * self.resolution

    @property
    def affine(self) -> Affine:
        """Transform from (column, row) to (x, y) of the upper left pixel corner."""
        from affine import Affine

        return Affine(self.resolution, 0.0, self.left, 0.0, -self.resolution, self.top)

    @property
    def geobox(self) -> GeoBox:
        """The same grid as odc-geo knows it."""
        from odc.geo.geobox import GeoBox

        return GeoBox(self.shape, self.affine, f"EPSG:{self.epsg}")

    @property
    def center_lonlat(self) -> tuple[float, float]:
        """(lon, lat) of the middle of the grid, degrees."""
        west, south, east, north = self.bounds
        lon, lat = transformer(self.epsg, 4326).transform((west + east) / 2, (south + north) / 2)
        return float(lon), float(lat)

    def lonlat(self) -> tuple[Float2D, Float2D]:
        """(lon, lat) of all pixel centres, each of shape (height, width), degrees."""
        lon, lat = transformer(self.epsg, 4326).transform(*np.meshgrid(self.x, self.y))
        return lon, lat

    def centers_in(self, epsg: int) -> tuple[Float2D, Float2D]:
        """(x, y) of all pixel centres in another CRS, each of shape (height, width); read-only where they are kept."""
        return _kept_centers(self, epsg) if self.width * self.height <= REMEMBERED else _centers(self, epsg)

    def center_in(self, epsg: int) -> tuple[Float2D, Float2D]:
        """(x, y) of the centre of the pixel ``[height // 2, width // 2]`` in another CRS, each of shape (1, 1)."""
        x, y = self.x[self.width // 2, None, None], self.y[self.height // 2, None, None]
        if epsg == self.epsg:
            return x, y
        x, y = transformer(self.epsg, epsg).transform(x, y)
        return x, y

    def distance_from(self, lat: float, lon: float) -> Float2D:
        """Distance of the pixel centres from a point, in the grid's plane, shape (height, width), m."""
        x, y = transformer(4326, self.epsg).transform(lon, lat)
        distance: Float2D = np.hypot(self.x[np.newaxis, :] - x, self.y[:, np.newaxis] - y)
        return distance

    def at_resolution(self, resolution: float) -> Grid:
        """The same extent in pixels of another size, which has to divide the edges."""
        width, height = self.width * self.resolution / resolution, self.height * self.resolution / resolution
        if not (width.is_integer() and height.is_integer()):
            raise InputError(f"{self.width} x {self.height} px of {self.resolution:g} m cannot be cut into pixels of {resolution:g} m")
        return Grid(self.epsg, resolution, self.left, self.top, int(width), int(height))

    def footprint(self) -> BaseGeometry:
        """Outline in longitude and latitude (degrees), split at the antimeridian and closed over a pole it contains."""
        return self._footprint

    @cached_property
    def _footprint(self) -> BaseGeometry:
        return _outline(self.epsg, self.bounds, self.resolution / 4)

    def search_boxes(self) -> list[BBox]:
        """Boxes (west, south, east, north) in degrees that cover the grid; two where it crosses the antimeridian."""
        parts: Any = getattr(self.footprint(), "geoms", [self.footprint()])
        return [(float(w), float(s), float(e), float(n)) for w, s, e, n in (part.bounds for part in parts)]


def _check_resolution(resolution: Any) -> None:
    if not (isinstance(resolution, (int, float, np.integer, np.floating)) and math.isfinite(resolution) and resolution > 0):
        raise InputError(f"resolution must be a positive number of metres, got {resolution!r}", remedy="Give for example 10")


def _check_epsg(epsg: int) -> int:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_epsg(epsg)
    except (CRSError, TypeError):
        raise InputError(f"EPSG:{epsg} is not known", remedy="Give the code of a projected CRS with metres, such as 32632") from None
    if not crs.is_projected or crs.axis_info[0].unit_name != "metre":
        raise InputError(f"EPSG:{epsg} ({crs.name}) is not projected in metres", remedy="Give a projected CRS, such as 32632")
    return int(epsg)


def _snap(coordinate: float, pixels: int, resolution: float, phase: float) -> float:
    # Even: nearest multiple (Python rounds ties to even, as cubo does). Odd: west or south edge of the pixel that holds the point.
    steps = (coordinate - phase) / resolution
    return (math.floor(steps) if pixels % 2 else round(steps)) * resolution + phase


def _outline(epsg: int, bounds: BBox, tolerance: float, points: int = 33) -> BaseGeometry:
    """Lon/lat outline of a projected box, true to `tolerance` metres; a Polygon, or a MultiPolygon where it is split."""
    import shapely
    from shapely.affinity import translate
    from shapely.geometry import MultiPolygon, Polygon, box

    west, south, east, north = bounds
    xs, ys = np.linspace(west, east, points), np.linspace(south, north, points)
    x = np.concatenate([xs, np.full(points, east), xs[::-1], np.full(points, west)])
    y = np.concatenate([np.full(points, south), ys, np.full(points, north), ys[::-1]])
    lon, lat = _refined(epsg, x, y, tolerance)
    if abs(lon[-1] - lon[0]) > 180:  # the outline winds around a pole
        return box(-180.0, lat.min(), 180.0, 90.0) if lat.mean() > 0 else box(-180.0, -90.0, 180.0, lat.max())
    whole = Polygon(np.column_stack([lon, lat]))
    globe, parts = box(-180.0, -90.0, 180.0, 90.0), []
    for turn in (-360.0, 0.0, 360.0):
        part = shapely.intersection(translate(whole, turn), globe)
        # Where an edge of the outline runs along the antimeridian, the part has lines beside its polygon.
        parts += [polygon for polygon in getattr(part, "geoms", [part]) if polygon.area > 0]
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)


def _refined(epsg: int, x: Float1D, y: Float1D, tolerance: float, rounds: int = 10) -> tuple[Float1D, Float1D]:
    """(lon, lat) of a ring of projected points, longitude without jumps; with points between where chords miss the true line."""
    to_lonlat = transformer(epsg, 4326).transform
    for _ in range(rounds):
        lon, lat = to_lonlat(x, y)
        middle_x, middle_y = (x[:-1] + x[1:]) / 2, (y[:-1] + y[1:]) / 2
        true_lon, true_lat = to_lonlat(middle_x, middle_y)
        chord_lon = lon[:-1] + _turn(np.diff(lon)) / 2
        east = _turn(true_lon - chord_lon) * np.cos(np.radians(true_lat))
        far = np.hypot(east, true_lat - (lat[:-1] + lat[1:]) / 2) * METRES_PER_DEGREE > tolerance
        if not far.any():
            break
        after = np.flatnonzero(far) + 1
        x, y = np.insert(x, after, middle_x[far]), np.insert(y, after, middle_y[far])
    lon, lat = to_lonlat(x, y)
    return np.unwrap(lon, period=360.0), lat


def _turn(degrees: Float1D) -> Float1D:
    """Differences of longitude from -180 to 180."""
    turned: Float1D = (degrees + 180.0) % 360.0 - 180.0
    return turned


def _centers(grid: Grid, epsg: int) -> tuple[Float2D, Float2D]:
    x, y = np.meshgrid(grid.x, grid.y)
    if epsg != grid.epsg:
        x, y = transformer(grid.epsg, epsg).transform(x, y)
    return x, y


@lru_cache(maxsize=8)
def _kept_centers(grid: Grid, epsg: int) -> tuple[Float2D, Float2D]:
    """`_centers`, for all who ask: the pixels of a scene, its angles and its c."""
    x, y = _centers(grid, epsg)
    x.flags.writeable = y.flags.writeable = False
    return x, y
