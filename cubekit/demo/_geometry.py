"""Sun and view directions as analytic functions of place and time.

The satellite flies a straight line over the local plane. Across the track, the incidence angle follows from the distance to
the track on a round Earth; along the track, odd and even detectors look forward and back by an amount that depends on the band
(1.1 to 3.5 degrees between neighbours), which is what makes the seams of real images visible.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cubekit.demo._place import CENTER, Tile, to_lonlat, to_plane

__all__ = ["ALONG_TRACK", "DETECTORS", "HALF_SWATH", "TRACK", "Track", "node_grid", "sun_angles", "tan_vector"]

Array: TypeAlias = npt.NDArray[np.float64]

HALF_SWATH = 145_000.0
DETECTORS = 12
_ALTITUDE, _EARTH = 786_000.0, 6_371_000.0
_HEADING = np.deg2rad(193.9)
TRACK = (float(np.sin(_HEADING)), float(np.cos(_HEADING)))
"""Unit vector of flight (east, north): a descending orbit at 51 degrees north."""
_ACROSS = (-TRACK[1], TRACK[0])
_YAW = np.tan(np.deg2rad(-0.68))
ALONG_TRACK = {
    band: float(np.tan(np.deg2rad(half)))
    for band, half in {
        "B02": 0.57,
        "B03": 0.83,
        "B04": 1.12,
        "B05": 1.26,
        "B06": 1.40,
        "B07": 1.55,
        "B08": 0.70,
        "B8A": 1.69,
        "B11": 1.37,
        "B12": 1.73,
    }.items()
}
"""Half the angle between odd and even detectors, as a tangent, per band."""


def tan_vector(zenith: Any, azimuth: Any) -> tuple[Array, Array]:
    """(east, north) components of the tangent-plane vector that points to a body seen at zenith and azimuth, degrees."""
    length = np.tan(np.deg2rad(zenith))
    return np.asarray(length * np.sin(np.deg2rad(azimuth))), np.asarray(length * np.cos(np.deg2rad(azimuth)))


def _convergence(lon: Any, lat: Any) -> Any:
    """Angle from the plane's north axis to true north's azimuth count, degrees: added to an azimuth in the plane."""
    return (np.asarray(lon) - CENTER[0]) * np.sin(np.deg2rad(lat))


@dataclass(frozen=True, slots=True)
class Track:
    """One pass: `offset` is the distance of the world's centre from the ground track, metres, positive to the east."""

    offset: float

    def across(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Array:
        """Distance from the ground track at points of the local plane, metres, positive to the east."""
        return self.offset + np.asarray(x, np.float64) * _ACROSS[0] + np.asarray(y, np.float64) * _ACROSS[1]

    def detector(self, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Detector (1 to 12, from west to east) that sees a point; 0 outside the swath."""
        u = self.across(x, y)
        index = np.floor((u + HALF_SWATH) / (2 * HALF_SWATH / DETECTORS))
        return np.where((index >= 0) & (index < DETECTORS), index + 1, 0).astype(np.uint8)

    def view(self, band: str, detector: Any, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Array, Array]:
        """View zenith and azimuth, degrees, of `detector` looking at points of the local plane (also outside its footprint)."""
        u = self.across(x, y)
        theta = u / _EARTH
        look = np.arctan2(_EARTH * np.sin(theta), _ALTITUDE + _EARTH * (1 - np.cos(theta)))
        across = -np.tan(theta + look)
        parity = np.where(np.asarray(detector) % 2 == 1, 1.0, -1.0)
        along = parity * ALONG_TRACK[band] + _YAW
        east, north = across * _ACROSS[0] + along * TRACK[0], across * _ACROSS[1] + along * TRACK[1]
        azimuth = np.rad2deg(np.arctan2(east, north)) + _convergence(*to_lonlat(x, y))
        return np.rad2deg(np.arctan(np.hypot(east, north))), np.asarray(azimuth % 360.0)


def sun_angles(lon: npt.ArrayLike, lat: npt.ArrayLike, when: datetime) -> tuple[Array, Array]:
    """Sun zenith and azimuth, degrees, at a UTC time (low-precision solar coordinates of the Astronomical Almanac, 0.01 degree)."""
    days = (when.replace(tzinfo=None) - datetime(2000, 1, 1, 12)).total_seconds() / 86_400
    anomaly = np.deg2rad(357.528 + 0.9856003 * days)
    mean = 280.460 + 0.9856474 * days
    ecliptic = np.deg2rad(mean + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    tilt = np.deg2rad(23.439 - 4e-7 * days)
    right_ascension = np.arctan2(np.cos(tilt) * np.sin(ecliptic), np.cos(ecliptic))
    declination = np.arcsin(np.sin(tilt) * np.sin(ecliptic))
    sidereal = 280.46062 + 360.98564737 * days
    hour = np.deg2rad(sidereal + np.asarray(lon, np.float64)) - right_ascension
    phi = np.deg2rad(np.asarray(lat, np.float64))
    height = np.arcsin(np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour))
    azimuth = np.arctan2(
        -np.cos(declination) * np.sin(hour), np.sin(declination) * np.cos(phi) - np.cos(declination) * np.sin(phi) * np.cos(hour)
    )
    return 90.0 - np.rad2deg(height), np.asarray(np.rad2deg(azimuth) % 360.0)


def node_grid(tile: Tile) -> tuple[Array, Array, Array, Array]:
    """Nodes of ESA's angle grids as (plane x, plane y, lon, lat), each (23, 23): the first at the tile's upper-left corner, 5 km apart."""
    step = 5000.0 * np.arange(23)
    x, y = np.meshgrid(tile.ulx + step, tile.uly - step)
    return *to_plane(x, y, tile.epsg), *to_lonlat(x, y, tile.epsg)
