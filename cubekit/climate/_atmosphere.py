"""Humidity, pressure and wind: the atmospheric parameters of FAO-56 (Allen et al. 1998, chapter 3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cubekit.typing import FloatArray

__all__ = [
    "actual_vapour_pressure_from_humidity",
    "atmospheric_pressure",
    "elevation_from_pressure",
    "mean_saturation_vapour_pressure",
    "psychrometric_constant",
    "saturation_vapour_pressure",
    "slope_of_vapour_pressure",
    "wind_speed_at_two_metres",
]

_SEA_LEVEL_KPA = 101.3
_EXPONENT = 5.26


def saturation_vapour_pressure(temperature: npt.ArrayLike) -> FloatArray:
    """Saturation vapour pressure e°(T) in kPa at `temperature` in degrees Celsius (FAO-56 eq. 11; with the dew point, eq. 14)."""
    celsius = np.asarray(temperature, dtype=np.float64)
    result: FloatArray = 0.6108 * np.exp(17.27 * celsius / (celsius + 237.3))
    return result


def mean_saturation_vapour_pressure(minimum: npt.ArrayLike, maximum: npt.ArrayLike) -> FloatArray:
    """Mean of e°(Tmin) and e°(Tmax) in kPa, both temperatures in degrees Celsius (FAO-56 eq. 12)."""
    return 0.5 * (saturation_vapour_pressure(minimum) + saturation_vapour_pressure(maximum))


def slope_of_vapour_pressure(temperature: npt.ArrayLike) -> FloatArray:
    """Slope of the saturation vapour pressure curve in kPa/°C at `temperature` in degrees Celsius (FAO-56 eq. 13)."""
    celsius = np.asarray(temperature, dtype=np.float64)
    return 4098.0 * saturation_vapour_pressure(celsius) / (celsius + 237.3) ** 2


def actual_vapour_pressure_from_humidity(
    minimum: npt.ArrayLike, maximum: npt.ArrayLike, humidity_maximum: npt.ArrayLike, humidity_minimum: npt.ArrayLike | None = None
) -> FloatArray:
    """Actual vapour pressure in kPa from relative humidity.

    Parameters
    ----------
    minimum, maximum
        Daily extremes of air temperature, degrees Celsius.
    humidity_maximum, humidity_minimum
        Daily extremes of relative humidity, % (FAO-56 eq. 17); without the minimum the first is the daily mean (eq. 19).
    """
    cold, warm = saturation_vapour_pressure(minimum), saturation_vapour_pressure(maximum)
    high = np.asarray(humidity_maximum, dtype=np.float64)
    if humidity_minimum is None:
        result: FloatArray = high / 100.0 * 0.5 * (cold + warm)
        return result
    return 0.5 * (cold * high + warm * np.asarray(humidity_minimum, dtype=np.float64)) / 100.0


def atmospheric_pressure(elevation: npt.ArrayLike) -> FloatArray:
    """Pressure in kPa of the standard atmosphere at `elevation` in m (FAO-56 eq. 7)."""
    metres = np.asarray(elevation, dtype=np.float64)
    result: FloatArray = _SEA_LEVEL_KPA * ((293.0 - 0.0065 * metres) / 293.0) ** _EXPONENT
    return result


def elevation_from_pressure(pressure: npt.ArrayLike) -> FloatArray:
    """Elevation in m at which the standard atmosphere has `pressure` in kPa: FAO-56 eq. 7 solved for z.

    With a long-term mean of surface pressure good to about 100 m.
    """
    kilopascal = np.asarray(pressure, dtype=np.float64)
    result: FloatArray = (1.0 - (kilopascal / _SEA_LEVEL_KPA) ** (1.0 / _EXPONENT)) * 293.0 / 0.0065
    return result


def psychrometric_constant(pressure: npt.ArrayLike) -> FloatArray:
    """Psychrometric constant in kPa/°C at `pressure` in kPa (FAO-56 eq. 8)."""
    result: FloatArray = 0.665e-3 * np.asarray(pressure, dtype=np.float64)
    return result


def wind_speed_at_two_metres(speed: npt.ArrayLike, height: float = 10.0) -> FloatArray:
    """Wind speed in m/s at 2 m from `speed` at `height` m, by the logarithmic profile over short grass (FAO-56 eq. 47)."""
    result: FloatArray = np.asarray(speed, dtype=np.float64) * 4.87 / np.log(67.8 * height - 5.42)
    return result
