"""Reference evapotranspiration: FAO-56 daily and hourly, and the hourly short reference of ASCE-EWRI 2005."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cubekit.climate._atmosphere import (
    atmospheric_pressure,
    mean_saturation_vapour_pressure,
    psychrometric_constant,
    saturation_vapour_pressure,
    slope_of_vapour_pressure,
)
from cubekit.climate._radiation import (
    clear_sky_radiation,
    extraterrestrial_daily,
    extraterrestrial_hourly,
    net_longwave_daily,
    net_longwave_hourly,
    net_shortwave,
    solar_declination,
    sun_elevation,
)
from cubekit.typing import FloatArray

__all__ = [
    "asce_hourly",
    "day_night_constants",
    "fao56_daily",
    "fao56_hourly",
    "hourly_clear_sky_ratio",
    "penman_monteith",
]

OVERCAST_RATIO = 0.667
"""Rs/Rso where no sun ever shows it: the middle of the range that FAO-56 gives for humid and arid nights (0.4 to 0.8)."""


def penman_monteith(
    temperature: npt.ArrayLike,
    wind_speed: npt.ArrayLike,
    deficit: npt.ArrayLike,
    energy: npt.ArrayLike,
    gamma: npt.ArrayLike,
    numerator: npt.ArrayLike,
    denominator: npt.ArrayLike,
) -> FloatArray:
    """The standardized Penman-Monteith equation (FAO-56 eq. 6 and 53; ASCE-EWRI 2005 eq. 1) in mm per period.

    Parameters
    ----------
    temperature
        Mean air temperature at 2 m, degrees Celsius.
    wind_speed
        At 2 m, m/s.
    deficit
        Vapour pressure deficit, kPa.
    energy
        Net radiation less soil heat flux, Rn - G, MJ m-2 per period.
    gamma
        Psychrometric constant, kPa/°C.
    numerator, denominator
        C_n and C_d: 900 and 0.34 daily; 37 and 0.34 hourly (FAO-56); 37 and 0.24 by day, 0.96 by night (ASCE short reference).
    """
    celsius, speed = np.asarray(temperature, dtype=np.float64), np.asarray(wind_speed, dtype=np.float64)
    slope = slope_of_vapour_pressure(celsius)
    radiation = 0.408 * slope * np.asarray(energy, dtype=np.float64)
    aerodynamic = np.asarray(gamma) * np.asarray(numerator) / (celsius + 273.0) * speed * np.asarray(deficit, dtype=np.float64)
    result: FloatArray = (radiation + aerodynamic) / (slope + np.asarray(gamma) * (1.0 + np.asarray(denominator) * speed))
    return result


def day_night_constants(net_radiation: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Soil heat flux as a share of net radiation, and C_d, of the ASCE hourly short reference.

    Returns
    -------
    tuple
        (0.1, 0.24) where net radiation is zero or positive (day), (0.5, 0.96) where negative (night); ASCE-EWRI 2005 table 1, eq. 65, 66.
    """
    day = np.asarray(net_radiation) >= 0.0
    return np.where(day, 0.1, 0.5), np.where(day, 0.24, 0.96)


def fao56_daily(
    *,
    minimum: npt.ArrayLike,
    maximum: npt.ArrayLike,
    actual_vapour_pressure: npt.ArrayLike,
    wind_speed: npt.ArrayLike,
    solar_radiation: npt.ArrayLike,
    latitude: npt.ArrayLike,
    elevation: npt.ArrayLike,
    day_of_year: npt.ArrayLike,
    pressure: npt.ArrayLike | None = None,
    mean: npt.ArrayLike | None = None,
    soil_heat_flux: npt.ArrayLike = 0.0,
) -> FloatArray:
    """Daily reference evapotranspiration ET0 of FAO-56 (eq. 6) in mm d-1; all arguments broadcast.

    Parameters
    ----------
    minimum, maximum
        Daily extremes of air temperature at 2 m, degrees Celsius.
    actual_vapour_pressure
        kPa.
    wind_speed
        Daily mean at 2 m, m/s.
    solar_radiation
        Global radiation, MJ m-2 d-1, positive downward.
    latitude, elevation
        Degrees north; m.
    day_of_year
        1 to 366.
    pressure
        kPa; by default that of the standard atmosphere at `elevation` (eq. 7).
    mean
        Mean temperature, degrees Celsius; by default half the sum of the extremes (eq. 9), as FAO-56 prescribes.
    soil_heat_flux
        MJ m-2 d-1; 0 by default (eq. 42).

    Notes
    -----
    Where the sun does not rise Rs/Rso is unknown and 0.667 is taken. ET0 can be slightly negative in winter (dew); it is not clipped.
    """
    cold, warm = np.asarray(minimum, dtype=np.float64), np.asarray(maximum, dtype=np.float64)
    celsius = 0.5 * (cold + warm) if mean is None else np.asarray(mean, dtype=np.float64)
    incoming = np.asarray(solar_radiation, dtype=np.float64)
    clear = clear_sky_radiation(extraterrestrial_daily(latitude, day_of_year), elevation)
    # A thousandth of a MJ is the sun grazing the horizon: the ratio of two such numbers says nothing.
    ratio = np.where(clear > 1e-3, incoming / np.maximum(clear, 1e-3), OVERCAST_RATIO)
    net = net_shortwave(incoming) - net_longwave_daily(cold, warm, actual_vapour_pressure, ratio)
    gamma = psychrometric_constant(atmospheric_pressure(elevation) if pressure is None else pressure)
    deficit = mean_saturation_vapour_pressure(cold, warm) - np.asarray(actual_vapour_pressure, dtype=np.float64)
    return penman_monteith(celsius, wind_speed, deficit, net - np.asarray(soil_heat_flux), gamma, 900.0, 0.34)


def hourly_clear_sky_ratio(
    solar_radiation: npt.ArrayLike, clear_sky: npt.ArrayLike, elevation_angle: npt.ArrayLike, noon_angle: npt.ArrayLike
) -> FloatArray:
    """Rs/Rso for every hour, nights taking the last value before sunset (ASCE-EWRI 2005 eq. 45, 46).

    Parameters
    ----------
    solar_radiation, clear_sky
        MJ m-2 h-1, time first.
    elevation_angle
        Elevation of the sun in the middle of the hour, radians; a ratio counts from 0.3 rad up.
    noon_angle
        Elevation at solar noon of that day, radians: where it stays below 0.4 the ratio counts from three quarters of it up.

    Returns
    -------
    ndarray
        Shape of the arguments broadcast. Hours before the first countable ratio take that one; 0.667 where there is none.
    """
    arrays = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (solar_radiation, clear_sky, elevation_angle, noon_angle)))
    incoming, clear, angle, noon = arrays
    usable = (angle >= np.minimum(0.3, 0.75 * noon)) & (angle > 0.02) & (clear > 0) & np.isfinite(incoming)
    ratio = np.where(usable, incoming / np.where(usable, clear, 1.0), np.nan)
    step = np.arange(ratio.shape[0]).reshape((-1,) + (1,) * (ratio.ndim - 1))
    last = np.maximum.accumulate(np.where(usable, step, -1), axis=0)
    first = np.where(usable.any(axis=0), usable.argmax(axis=0), 0)
    filled = np.take_along_axis(ratio, np.where(last < 0, first, last), axis=0)
    return np.where(np.isnan(filled), OVERCAST_RATIO, filled)


def _hourly_energy(
    celsius: FloatArray,
    actual: FloatArray,
    incoming: FloatArray,
    place: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
    moment: tuple[npt.ArrayLike, npt.ArrayLike],
    ratio: npt.ArrayLike | None,
) -> FloatArray:
    """Net radiation in MJ m-2 h-1 from air temperature, vapour pressure and global radiation."""
    latitude, longitude, elevation = place
    day_of_year, utc_hour = moment
    if ratio is None:
        clear = clear_sky_radiation(extraterrestrial_hourly(latitude, longitude, day_of_year, utc_hour), elevation)
        angle = sun_elevation(latitude, longitude, day_of_year, utc_hour)
        noon = 0.5 * np.pi - np.abs(np.radians(np.asarray(latitude, dtype=np.float64)) - solar_declination(day_of_year))
        ratio = hourly_clear_sky_ratio(incoming, clear, angle, noon)
    return net_shortwave(incoming) - net_longwave_hourly(celsius, actual, ratio)


def asce_hourly(
    *,
    temperature: npt.ArrayLike,
    actual_vapour_pressure: npt.ArrayLike,
    wind_speed: npt.ArrayLike,
    solar_radiation: npt.ArrayLike,
    latitude: npt.ArrayLike,
    longitude: npt.ArrayLike,
    elevation: npt.ArrayLike,
    day_of_year: npt.ArrayLike,
    utc_hour: npt.ArrayLike,
    pressure: npt.ArrayLike | None = None,
    clear_sky_ratio: npt.ArrayLike | None = None,
    net_radiation: npt.ArrayLike | None = None,
) -> FloatArray:
    """Hourly short (grass) reference evapotranspiration of ASCE-EWRI 2005 (eq. 1, table 1) in mm h-1; time first, all broadcast.

    Parameters
    ----------
    temperature
        Mean over the hour at 2 m, degrees Celsius.
    actual_vapour_pressure
        kPa.
    wind_speed
        At 2 m, m/s.
    solar_radiation
        Global radiation, MJ m-2 h-1, positive downward.
    latitude, longitude, elevation
        Degrees north and east; m.
    day_of_year, utc_hour
        1 to 366; middle of the hour after 00 UTC, such as 14.5. Consecutive hours, so that a night finds its evening.
    pressure
        kPa; by default that of the standard atmosphere at `elevation`.
    clear_sky_ratio
        Rs/Rso, where known better than by `hourly_clear_sky_ratio`.
    net_radiation
        MJ m-2 h-1, where known; replaces the estimate.

    Notes
    -----
    Net radiation of zero or more is day (G = 0.1 Rn, C_d = 0.24), less is night (G = 0.5 Rn, C_d = 0.96).
    """
    celsius, actual, incoming = (np.asarray(a, dtype=np.float64) for a in (temperature, actual_vapour_pressure, solar_radiation))
    if net_radiation is None:
        net_radiation = _hourly_energy(
            celsius, actual, incoming, (latitude, longitude, elevation), (day_of_year, utc_hour), clear_sky_ratio
        )
    net = np.asarray(net_radiation, dtype=np.float64)
    share, denominator = day_night_constants(net)
    gamma = psychrometric_constant(atmospheric_pressure(elevation) if pressure is None else pressure)
    deficit = saturation_vapour_pressure(celsius) - actual
    return penman_monteith(celsius, wind_speed, deficit, net * (1.0 - share), gamma, 37.0, denominator)


def fao56_hourly(
    *,
    temperature: npt.ArrayLike,
    actual_vapour_pressure: npt.ArrayLike,
    wind_speed: npt.ArrayLike,
    net_radiation: npt.ArrayLike,
    elevation: npt.ArrayLike,
) -> FloatArray:
    """Hourly reference evapotranspiration of FAO-56 (eq. 53) in mm h-1: as ASCE but for C_d = 0.34 day and night.

    Arguments as `asce_hourly`; soil heat flux is 0.1 Rn by day and 0.5 Rn by night (eq. 45, 46).
    """
    net = np.asarray(net_radiation, dtype=np.float64)
    share, _ = day_night_constants(net)
    gamma = psychrometric_constant(atmospheric_pressure(elevation))
    deficit = saturation_vapour_pressure(temperature) - np.asarray(actual_vapour_pressure, dtype=np.float64)
    return penman_monteith(temperature, wind_speed, deficit, net * (1.0 - share), gamma, 37.0, 0.34)
