"""The sun zenith that reflectance is adjusted to."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np

from cubekit.errors import InputError
from cubekit.nbar._granule import TILE_SIZE, GranuleAngles

__all__ = ["SUN_LIMIT", "SUN_WARNING", "TargetSun", "check_target", "hls_sun_zenith", "target_zenith", "utm_latitude"]

TargetSun: TypeAlias = Literal["observed", "hls"] | float

SUN_WARNING = 70.0
SUN_LIMIT = 80.0

ORBITS = ((98.2, 10 + 11 / 60), (98.62, 10.5))
"""(inclination in degrees, mean local solar time of the descending node in hours) of Landsat 8 and Sentinel-2, as HLS uses them."""


def check_target(target: TargetSun) -> None:
    """Raise `InputError` unless the target is ``"observed"``, ``"hls"`` or a zenith of 0 to 80 degrees."""
    if isinstance(target, str):
        if target not in ("observed", "hls"):
            raise InputError(f"target_sun_zenith={target!r}", remedy="Use 'observed', 'hls' or degrees.")
        return
    if isinstance(target, bool) or not isinstance(target, (int, float, np.integer, np.floating)) or not 0 <= float(target) <= SUN_LIMIT:
        raise InputError(f"target_sun_zenith={target!r}", remedy=f"Use 'observed', 'hls' or degrees between 0 and {SUN_LIMIT:g}.")


def target_zenith(angles: GranuleAngles, target: TargetSun) -> float:
    """Target sun zenith of a granule in degrees; NaN stands for the observed one.

    ``"hls"`` is observed where the model has no answer: poleward of the orbits' turning point (about 81 degrees), or where the model
    puts the sun below 80 degrees zenith.

    Raises
    ------
    InputError
        Not a target, or ``"hls"`` for a granule without sensing time.
    """
    check_target(target)
    if target == "observed":
        return math.nan
    if target != "hls":
        return float(target)
    if np.isnat(angles.sensing_time):
        raise InputError("target_sun_zenith='hls' needs the sensing time, which the metadata lacks", remedy="Use 'observed' or degrees.")
    half = TILE_SIZE / 2
    latitude = utm_latitude(angles.epsg, angles.ulx + half, angles.uly - half)
    zenith = hls_sun_zenith(latitude, angles.sensing_time)
    return zenith if zenith <= SUN_LIMIT else math.nan


def hls_sun_zenith(latitude: float, date: np.datetime64) -> float:
    """Sun zenith in degrees at a latitude and day, mean of Landsat 8's and Sentinel-2's modelled overpass.

    Parameters
    ----------
    latitude
        Degrees north.
    date
        The day, UTC; the time of day does not matter.

    Returns
    -------
    float
        NaN poleward of where an orbit turns.

    Notes
    -----
    Mean local solar time of the overpass ``t = t_node - asin(tan(lat) / tan(inclination)) / 15`` (Li, Zhang & Roy 2019, IEEE TGRS 57,
    equation 4); declination and equation of time after Spencer 1971.
    """
    day = (date.astype("datetime64[D]") - date.astype("datetime64[Y]").astype("datetime64[D]")).astype(int) + 1
    zeniths = []
    for inclination, node_hours in ORBITS:
        ratio = math.tan(math.radians(latitude)) / math.tan(math.radians(inclination))
        if abs(ratio) > 1.0:
            return math.nan
        hours = node_hours - math.degrees(math.asin(ratio)) / 15.0
        declination, equation = _sun(day - 1 + hours / 24.0)
        hour_angle = math.radians(15.0 * (hours + equation / 60.0 - 12.0))
        lat = math.radians(latitude)
        cosine = math.sin(lat) * math.sin(declination) + math.cos(lat) * math.cos(declination) * math.cos(hour_angle)
        zeniths.append(math.degrees(math.acos(cosine)))
    return sum(zeniths) / len(zeniths)


def _sun(days: float) -> tuple[float, float]:
    """(declination in radians, equation of time in minutes) at days since 1 January (Spencer 1971)."""
    g = 2.0 * math.pi * days / 365.0
    declination = (
        0.006918
        - 0.399912 * math.cos(g)
        + 0.070257 * math.sin(g)
        - 0.006758 * math.cos(2 * g)
        + 0.000907 * math.sin(2 * g)
        - 0.002697 * math.cos(3 * g)
        + 0.00148 * math.sin(3 * g)
    )
    equation = 229.18 * (
        0.000075 + 0.001868 * math.cos(g) - 0.032077 * math.sin(g) - 0.014615 * math.cos(2 * g) - 0.040849 * math.sin(2 * g)
    )
    return declination, equation


def utm_latitude(epsg: int, x: float, y: float) -> float:
    """Latitude in degrees of a point in a UTM zone (WGS 84), within 1e-6 degrees (Krueger series to third order)."""
    flattening = 1 / 298.257223563
    n = flattening / (2 - flattening)
    radius = 6378137.0 / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    northing = y - (1e7 if 32700 < epsg < 32761 else 0.0)
    xi, eta = northing / (0.9996 * radius), (x - 500_000.0) / (0.9996 * radius)
    beta = (n / 2 - 2 / 3 * n**2 + 37 / 96 * n**3, n**2 / 48 + n**3 / 15, 17 / 480 * n**3)
    xi0 = xi - sum(b * math.sin(2 * (j + 1) * xi) * math.cosh(2 * (j + 1) * eta) for j, b in enumerate(beta))
    eta0 = eta - sum(b * math.cos(2 * (j + 1) * xi) * math.sinh(2 * (j + 1) * eta) for j, b in enumerate(beta))
    chi = math.asin(math.sin(xi0) / math.cosh(eta0))
    delta = (2 * n - 2 / 3 * n**2 - 2 * n**3, 7 / 3 * n**2 - 8 / 5 * n**3, 56 / 15 * n**3)
    return math.degrees(chi + sum(d * math.sin(2 * (j + 1) * chi) for j, d in enumerate(delta)))
