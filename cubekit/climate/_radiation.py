"""Sun geometry and radiation of FAO-56 (chapter 3) and ASCE-EWRI 2005; angles in and out in degrees, radiation in MJ m-2."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cubekit.typing import FloatArray

__all__ = [
    "clear_sky_radiation",
    "cloudiness",
    "daylight_hours",
    "extraterrestrial_daily",
    "extraterrestrial_hourly",
    "inverse_relative_distance",
    "net_longwave_daily",
    "net_longwave_hourly",
    "net_shortwave",
    "seasonal_correction",
    "solar_declination",
    "solar_radiation_from_sunshine",
    "sun_elevation",
    "sunset_hour_angle",
]

SOLAR_CONSTANT = 0.0820
"""MJ m-2 min-1."""

STEFAN_BOLTZMANN_DAY = 4.903e-9
"""MJ K-4 m-2 d-1."""

STEFAN_BOLTZMANN_HOUR = 2.042e-10
"""MJ K-4 m-2 h-1, as ASCE-EWRI 2005 rounds it; FAO-56 has 2.043e-10."""

ALBEDO = 0.23
"""Of the reference crop."""


def _radians(degrees: npt.ArrayLike) -> FloatArray:
    return np.radians(np.asarray(degrees, dtype=np.float64))


def inverse_relative_distance(day_of_year: npt.ArrayLike) -> FloatArray:
    """Inverse relative distance Earth-Sun d_r (FAO-56 eq. 23)."""
    result: FloatArray = 1.0 + 0.033 * np.cos(2.0 * np.pi / 365.0 * np.asarray(day_of_year, dtype=np.float64))
    return result


def solar_declination(day_of_year: npt.ArrayLike) -> FloatArray:
    """Solar declination in radians (FAO-56 eq. 24)."""
    result: FloatArray = 0.409 * np.sin(2.0 * np.pi / 365.0 * np.asarray(day_of_year, dtype=np.float64) - 1.39)
    return result


def sunset_hour_angle(latitude: npt.ArrayLike, day_of_year: npt.ArrayLike) -> FloatArray:
    """Sunset hour angle in radians (FAO-56 eq. 25): 0 in polar night, pi in polar day; `latitude` in degrees north."""
    result: FloatArray = np.arccos(np.clip(-np.tan(_radians(latitude)) * np.tan(solar_declination(day_of_year)), -1.0, 1.0))
    return result


def daylight_hours(latitude: npt.ArrayLike, day_of_year: npt.ArrayLike) -> FloatArray:
    """Greatest possible sunshine duration N in hours (FAO-56 eq. 34)."""
    return 24.0 / np.pi * sunset_hour_angle(latitude, day_of_year)


def extraterrestrial_daily(latitude: npt.ArrayLike, day_of_year: npt.ArrayLike) -> FloatArray:
    """Extraterrestrial radiation R_a in MJ m-2 d-1 (FAO-56 eq. 21); `latitude` in degrees north."""
    phi, delta = _radians(latitude), solar_declination(day_of_year)
    sunset = sunset_hour_angle(latitude, day_of_year)
    geometry = sunset * np.sin(phi) * np.sin(delta) + np.cos(phi) * np.cos(delta) * np.sin(sunset)
    # Below zero only by rounding, in polar night.
    result: FloatArray = np.maximum(24.0 * 60.0 / np.pi * SOLAR_CONSTANT * inverse_relative_distance(day_of_year) * geometry, 0.0)
    return result


def seasonal_correction(day_of_year: npt.ArrayLike) -> FloatArray:
    """Seasonal correction for solar time S_c in hours (FAO-56 eq. 32 and 33)."""
    b = 2.0 * np.pi * (np.asarray(day_of_year, dtype=np.float64) - 81.0) / 364.0
    result: FloatArray = 0.1645 * np.sin(2.0 * b) - 0.1255 * np.cos(b) - 0.025 * np.sin(b)
    return result


def _hour_angle(longitude: npt.ArrayLike, day_of_year: npt.ArrayLike, utc_hour: npt.ArrayLike) -> FloatArray:
    """Solar time angle in radians within [-pi, pi) at `utc_hour` (FAO-56 eq. 31, with the zone's meridian at 0)."""
    hour = np.asarray(utc_hour, dtype=np.float64) + np.asarray(longitude, dtype=np.float64) / 15.0 + seasonal_correction(day_of_year)
    result: FloatArray = np.pi / 12.0 * (np.mod(hour, 24.0) - 12.0)
    return result


def extraterrestrial_hourly(
    latitude: npt.ArrayLike, longitude: npt.ArrayLike, day_of_year: npt.ArrayLike, utc_hour: npt.ArrayLike, hours: float = 1.0
) -> FloatArray:
    """Extraterrestrial radiation R_a in MJ m-2 per period.

    Parameters
    ----------
    latitude, longitude
        Degrees north and east.
    day_of_year
        1 to 366.
    utc_hour
        Middle of the period, hours after 00 UTC (14.5 for 14:00 to 15:00).
    hours
        Length of the period.

    Notes
    -----
    FAO-56 eq. 28 to 33, with the period cut at sunrise and sunset as ASCE-EWRI 2005 does (eq. 55, 56).
    """
    phi, delta = _radians(latitude), solar_declination(day_of_year)
    sunset = sunset_hour_angle(latitude, day_of_year)
    middle = _hour_angle(longitude, day_of_year, utc_hour)
    half = np.pi * hours / 24.0
    # In polar day the sun does not set: a period across midnight must not be cut at +-pi.
    bound = np.where(sunset >= np.pi, np.inf, sunset)
    first, last = np.clip(middle - half, -bound, bound), np.clip(middle + half, -bound, bound)
    geometry = (last - first) * np.sin(phi) * np.sin(delta) + np.cos(phi) * np.cos(delta) * (np.sin(last) - np.sin(first))
    result: FloatArray = np.maximum(12.0 * 60.0 / np.pi * SOLAR_CONSTANT * inverse_relative_distance(day_of_year) * geometry, 0.0)
    return result


def sun_elevation(latitude: npt.ArrayLike, longitude: npt.ArrayLike, day_of_year: npt.ArrayLike, utc_hour: npt.ArrayLike) -> FloatArray:
    """Elevation of the sun above the horizon in radians (ASCE-EWRI 2005 eq. 62); arguments as `extraterrestrial_hourly`."""
    phi, delta = _radians(latitude), solar_declination(day_of_year)
    angle = _hour_angle(longitude, day_of_year, utc_hour)
    result: FloatArray = np.arcsin(np.clip(np.sin(phi) * np.sin(delta) + np.cos(phi) * np.cos(delta) * np.cos(angle), -1.0, 1.0))
    return result


def solar_radiation_from_sunshine(sunshine: npt.ArrayLike, possible: npt.ArrayLike, extraterrestrial: npt.ArrayLike) -> FloatArray:
    """Solar radiation by Ångström with a_s = 0.25, b_s = 0.50 (FAO-56 eq. 35); sunshine and possible hours, radiation in any unit."""
    share = np.asarray(sunshine, dtype=np.float64) / np.asarray(possible, dtype=np.float64)
    result: FloatArray = (0.25 + 0.50 * share) * np.asarray(extraterrestrial, dtype=np.float64)
    return result


def clear_sky_radiation(extraterrestrial: npt.ArrayLike, elevation: npt.ArrayLike) -> FloatArray:
    """Clear-sky radiation R_so, in the unit of `extraterrestrial`, at `elevation` in m (FAO-56 eq. 37)."""
    result: FloatArray = (0.75 + 2e-5 * np.asarray(elevation, dtype=np.float64)) * np.asarray(extraterrestrial, dtype=np.float64)
    return result


def net_shortwave(solar_radiation: npt.ArrayLike) -> FloatArray:
    """Net short-wave radiation of the reference crop (albedo 0.23), positive downward (FAO-56 eq. 38)."""
    result: FloatArray = (1.0 - ALBEDO) * np.asarray(solar_radiation, dtype=np.float64)
    return result


def cloudiness(ratio: npt.ArrayLike) -> FloatArray:
    """Cloudiness function 1.35 Rs/Rso - 0.35 with the ratio kept in 0.3 to 1.0 (FAO-56 eq. 39; limits of ASCE-EWRI 2005 eq. 18)."""
    result: FloatArray = 1.35 * np.clip(np.asarray(ratio, dtype=np.float64), 0.3, 1.0) - 0.35
    return result


def net_longwave_daily(
    minimum: npt.ArrayLike, maximum: npt.ArrayLike, actual_vapour_pressure: npt.ArrayLike, ratio: npt.ArrayLike
) -> FloatArray:
    """Net outgoing long-wave radiation in MJ m-2 d-1, positive upward (FAO-56 eq. 39).

    Parameters
    ----------
    minimum, maximum
        Daily extremes of air temperature, degrees Celsius.
    actual_vapour_pressure
        kPa.
    ratio
        Rs / Rso.
    """
    cold, warm = np.asarray(minimum, dtype=np.float64) + 273.16, np.asarray(maximum, dtype=np.float64) + 273.16
    emissivity = 0.34 - 0.14 * np.sqrt(np.asarray(actual_vapour_pressure, dtype=np.float64))
    result: FloatArray = STEFAN_BOLTZMANN_DAY * 0.5 * (cold**4 + warm**4) * emissivity * cloudiness(ratio)
    return result


def net_longwave_hourly(temperature: npt.ArrayLike, actual_vapour_pressure: npt.ArrayLike, ratio: npt.ArrayLike) -> FloatArray:
    """Net outgoing long-wave radiation in MJ m-2 h-1, positive upward (ASCE-EWRI 2005 eq. 44; FAO-56 eq. 39)."""
    kelvin = np.asarray(temperature, dtype=np.float64) + 273.16
    emissivity = 0.34 - 0.14 * np.sqrt(np.asarray(actual_vapour_pressure, dtype=np.float64))
    result: FloatArray = STEFAN_BOLTZMANN_HOUR * kelvin**4 * emissivity * cloudiness(ratio)
    return result
