"""The nearest valid (land) cell of a latitude-longitude grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import InputError, NothingFoundError
from cubekit.typing import FloatArray

__all__ = ["Cell", "great_circle_km", "nearest_land_cell", "wrap_longitude"]

EARTH_RADIUS_KM = 6371.0088


@dataclass(frozen=True, slots=True)
class Cell:
    """A grid cell chosen for a site.

    Attributes
    ----------
    row, column : int
        Index along latitude and longitude, in the grid's own order.
    latitude, longitude : float
        Centre, degrees; longitude in -180 to 180.
    distance : float
        Great-circle distance from the site to the centre, km.
    elevation_difference : float
        Elevation of the cell less that of the site, m; NaN where either is unknown.
    """

    row: int
    column: int
    latitude: float
    longitude: float
    distance: float
    elevation_difference: float = float("nan")


def wrap_longitude(longitude: npt.ArrayLike) -> FloatArray:
    """Longitude in -180 (included) to 180 (excluded) degrees."""
    result: FloatArray = np.mod(np.asarray(longitude, dtype=np.float64) + 180.0, 360.0) - 180.0
    return result


def great_circle_km(lat1: npt.ArrayLike, lon1: npt.ArrayLike, lat2: npt.ArrayLike, lon2: npt.ArrayLike) -> FloatArray:
    """Distance in km on the sphere of mean radius (haversine); degrees, any longitude range."""
    a, b = np.radians(np.asarray(lat1, dtype=np.float64)), np.radians(np.asarray(lat2, dtype=np.float64))
    half = np.radians(wrap_longitude(np.asarray(lon2, dtype=np.float64) - np.asarray(lon1, dtype=np.float64))) / 2.0
    h = np.sin((b - a) / 2.0) ** 2 + np.cos(a) * np.cos(b) * np.sin(half) ** 2
    result: FloatArray = 2.0 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0)))
    return result


def check_position(lat: float, lon: float) -> None:
    """Raise InputError unless (lat, lon) is a place on Earth."""
    if not (np.isfinite(lat) and -90.0 <= lat <= 90.0):
        raise InputError(f"Latitude {lat} is not within -90 to 90", remedy="Give degrees north")
    if not (np.isfinite(lon) and -360.0 <= lon <= 360.0):
        raise InputError(f"Longitude {lon} is not within -360 to 360", remedy="Give degrees east")


def _valid(field: xr.DataArray) -> np.ndarray:
    """(latitude, longitude): True where the cell is land."""
    missing = {"latitude", "longitude"} - set(map(str, field.dims))
    if missing:
        raise InputError(f"The field has no dimension {', '.join(sorted(missing))}: {field.dims}", remedy="Rename its dimensions")
    field = field.transpose(..., "latitude", "longitude")
    values = np.asarray(field.values)
    mask: np.ndarray = values if values.dtype == bool else np.isfinite(values)
    return np.asarray(mask.reshape((-1, *mask.shape[-2:])).any(axis=0))


def nearest_land_cell(
    lat: float,
    lon: float,
    field: xr.DataArray,
    *,
    max_distance: float = 25.0,
    elevation: xr.DataArray | None = None,
    site_elevation: float | None = None,
) -> Cell:
    """The valid cell nearest to a site.

    Parameters
    ----------
    lat, lon
        The site, degrees north and east; any longitude range.
    field
        Over (latitude, longitude), in either order of latitude and any range of longitude; boolean: True is land; else NaN is not
        land. Further dimensions (time) are reduced: a cell is land where any of its values is valid.
    max_distance
        Search radius, km.
    elevation
        Elevation of the cells over (latitude, longitude) of the same grid, m.
    site_elevation
        m.

    Returns
    -------
    Cell
        Of equally near cells the one with the smallest row, then column.

    Raises
    ------
    NothingFoundError
        No valid cell within `max_distance`; the message names the distance to the nearest one of the field.
    """
    check_position(lat, lon)
    latitudes, longitudes = field["latitude"].values.astype(np.float64), field["longitude"].values.astype(np.float64)
    mask = _valid(field)
    # Metres decide: below that, equal distances would be told apart by rounding.
    distances = np.round(great_circle_km(lat, lon, latitudes[:, None], longitudes[None, :]), 3)
    candidates = np.where(mask, distances, np.inf)
    row, column = (int(i) for i in np.unravel_index(int(np.argmin(candidates)), candidates.shape)) if candidates.size else (0, 0)
    nearest = float(candidates[row, column]) if candidates.size else float("inf")
    if not nearest <= max_distance:
        where = f"the nearest land cell is {nearest:.1f} km away" if np.isfinite(nearest) else "the field holds no land cell at all"
        raise NothingFoundError(
            f"No land cell within {max_distance:g} km of latitude {lat:g}, longitude {lon:g}: {where}",
            remedy="Move the site onto land, raise max_distance, or leave the climate layer out",
            latitude=lat,
            longitude=lon,
            distance=nearest,
        )
    difference = float("nan")
    if elevation is not None and site_elevation is not None:
        heights = elevation.transpose(..., "latitude", "longitude").values.reshape((-1, *mask.shape))[0]
        difference = float(heights[row, column]) - site_elevation
    return Cell(row, column, float(latitudes[row]), float(wrap_longitude(longitudes[column])), nearest, difference)
