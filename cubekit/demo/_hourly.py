"""From daily weather to hours that agree with each other: sun, heat, moisture, wind, radiation, soil water.

Each hour's fluxes follow from the same temperature, cloud and sun: radiation from the solar height, long-wave from vapour and
cloud, evaporation from the energy balance and the water left in the soil. Sources: Haurwitz 1945 (clear sky), Kasten and Czeplak
1980 (cloud), Brutsaert 1975 (sky emissivity), FAO-56 and ASCE-EWRI 2005 (reference evapotranspiration).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cubekit.demo._weather import CELLS, LATITUDES, LONGITUDES, Weather

__all__ = ["Hourly", "make_hourly"]

Array: TypeAlias = npt.NDArray[Any]

_SIGMA, _GRAVITY = 5.670374e-8, 9.80665
_LAYERS = np.array([70.0, 210.0, 720.0, 1890.0])[:, None]
_ROOTS = np.array([0.30, 0.35, 0.30, 0.05])[:, None]
_WILTING, _UNSTRESSED, _CAPACITY, _SATURATION = 0.12, 0.24, 0.33, 0.44
_HOURS = np.arange(24)


@dataclass(frozen=True, slots=True)
class Hourly:
    """Hours of whole days, each array (day, 24, cell), float32.

    States stand for the hour's beginning (00 to 23 UTC); fluxes are sums over the hour that begins then: water in m, energy in J m-2,
    downward positive, so that evaporation is negative.
    """

    states: dict[str, npt.NDArray[np.float32]]
    fluxes: dict[str, npt.NDArray[np.float32]]


def _vapour_pressure(kelvin: Array) -> Array:
    """Saturation over water, Pa (Tetens, FAO-56 eq. 11)."""
    celsius = kelvin - np.float32(273.15)
    return np.float32(610.8) * np.exp(np.float32(17.27) * celsius / (celsius + np.float32(237.3)))


def _interpolate(daily: Array) -> npt.NDArray[np.float32]:
    """Daily means, held at noon, to hours by straight lines: (day, cell) to (day, 24, cell)."""
    daily = np.asarray(daily, np.float32)
    before = np.concatenate([daily[:1], daily[:-1]])
    after = np.concatenate([daily[1:], daily[-1:]])
    weight = ((_HOURS - 12) / 24.0).astype(np.float32)[:, None]
    other = np.where(weight < 0, before[:, None, :], after[:, None, :])
    return np.asarray(daily[:, None, :] * (1 - np.abs(weight)) + other * np.abs(weight), np.float32)


def _cos_zenith(weather: Weather) -> npt.NDArray[np.float32]:
    """Cosine of the sun's zenith in the middle of each hour, 0 at night: (day, 24, cell)."""
    doy = (weather.days - weather.days.astype("datetime64[Y]")).astype(int) + 1.0
    angle = 2 * np.pi * (doy - 81.0) / 365.25
    equation = (9.87 * np.sin(2 * angle) - 7.53 * np.cos(angle) - 1.5 * np.sin(angle)) / 60.0
    declination = np.deg2rad(23.44) * np.sin(angle)
    lat = np.deg2rad([LATITUDES[row] for row, _ in CELLS])
    lon = np.array([LONGITUDES[column] for _, column in CELLS])
    solar = (_HOURS[:, None] + 0.5) + lon / 15.0 + equation[:, None, None]
    up = np.sin(lat) * np.sin(declination)[:, None]
    across = np.cos(lat) * np.cos(declination)[:, None]
    cosine = up[:, None, :] + across[:, None, :] * np.cos(np.deg2rad(15.0) * (solar - 12.0))
    return np.asarray(np.maximum(cosine, 0.0), np.float32)


def _heat(weather: Weather) -> tuple[Array, Array]:
    """Temperature (lowest before sunrise, highest at 14 UTC) and dew point, K."""
    phase = 2 * np.pi * (_HOURS - 13.6) / 24.0
    shape = (np.cos(phase) + 0.13 * np.cos(2 * phase - 0.5)).astype(np.float32)[:, None]
    temperature = _interpolate(weather.temperature) + _interpolate(weather.amplitude) * shape
    dewpoint = _interpolate(weather.dewpoint) + np.float32(0.5) * shape
    return temperature, np.minimum(dewpoint, temperature - np.float32(0.1))


def _wind(weather: Weather, rng: np.random.Generator, sun: Array) -> tuple[Array, Array]:
    direction = 240.0 + 95.0 * rng.standard_normal(weather.days.size)
    east, north = -np.sin(np.deg2rad(direction)), -np.cos(np.deg2rad(direction))
    speed = _interpolate((3.1 * weather.storminess)[:, None]) * (np.float32(0.85) + np.float32(0.45) * sun)
    gusts = np.float32(0.5) * rng.standard_normal((*sun.shape[:2], 2), dtype=np.float32)
    return speed * _interpolate(east[:, None]) + gusts[..., :1], speed * _interpolate(north[:, None]) + gusts[..., 1:]


def _rain(weather: Weather, rng: np.random.Generator, sun: Array) -> npt.NDArray[np.float32]:
    """Daily sums dealt to a few hours, m per hour."""
    dice = rng.random((weather.days.size, 24), dtype=np.float32)
    share = np.maximum(dice + np.float32(0.25) * sun.mean(axis=2) - np.float32(0.72), 0.0)
    share[:, 15] += np.float32(0.02)
    share /= share.sum(axis=1, keepdims=True)
    return np.asarray(share[:, :, None] * (weather.rain / 1000.0)[:, None, :], np.float32)


def _radiation(weather: Weather, sun: Array, cloud: Array, temperature: Array, dewpoint: Array) -> dict[str, Array]:
    """Sums over the hour, J m-2."""
    clear = np.float32(1098.0) * sun * np.exp(np.float32(-0.057) / np.maximum(sun, np.float32(0.01)))
    downward = clear * (1 - np.float32(0.75) * cloud**3.4)
    albedo = np.where(weather.snow > 1.0, 0.55, 0.19).astype(np.float32)[:, None, :]
    vapour = _vapour_pressure(dewpoint) / 100.0
    emissivity = np.minimum(np.float32(1.24) * (vapour / temperature) ** np.float32(1 / 7) * (1 + np.float32(0.22) * cloud**2.75), 1.0)
    sky = emissivity * np.float32(_SIGMA) * temperature**4
    skin = temperature + np.float32(0.004) * downward - np.float32(1.2) * (1 - cloud)
    upward = np.float32(0.97 * _SIGMA) * skin**4 + np.float32(0.03) * sky
    hour = np.float32(3600.0)
    return {"ssrd": downward * hour, "ssr": downward * (1 - albedo) * hour, "strd": sky * hour, "str": (sky - upward) * hour}


def _reference_evaporation(radiation: dict[str, Array], temperature: Array, dewpoint: Array, pressure: Array, wind: Array) -> Array:
    """ASCE standardised short reference, hourly, mm (ASCE-EWRI 2005, eq. 1)."""
    net = (radiation["ssr"] + radiation["str"]) / 1e6
    day = net >= 0
    ground = np.where(day, 0.1, 0.5).astype(np.float32) * net
    denominator = np.where(day, 0.24, 0.96).astype(np.float32)
    saturated, actual = _vapour_pressure(temperature) / 1000.0, _vapour_pressure(dewpoint) / 1000.0
    slope = 4098.0 * saturated / (temperature - np.float32(35.85)) ** 2
    psychrometric = np.float32(0.665e-6) * pressure
    wind2 = wind * np.float32(4.87 / np.log(67.8 * 10 - 5.42))
    aerodynamic = psychrometric * 37.0 / temperature * wind2 * (saturated - actual)
    return np.asarray((0.408 * slope * (net - ground) + aerodynamic) / (slope + psychrometric * (1 + denominator * wind2)), np.float32)


def _soil(rain: Array, demand: Array) -> tuple[Array, Array]:
    """Water content of four layers at each day's end (4, day, cell), and the share of the demand that was met (day, cell); mm in."""
    content = np.full((4, rain.shape[1]), 0.30)
    layers = np.empty((4, *rain.shape), np.float32)
    met = np.empty(rain.shape, np.float32)
    for day in range(rain.shape[0]):
        ease = np.clip((content - _WILTING) / (_UNSTRESSED - _WILTING), 0.0, 1.0)
        taken = _ROOTS * ease
        content = content - taken * demand[day] / _LAYERS
        content[0] += rain[day] / _LAYERS[0, 0]
        surplus = np.maximum(content - _CAPACITY, 0.0) * np.array([0.7, 0.4, 0.15, 0.01])[:, None] * _LAYERS
        content = content - surplus / _LAYERS
        content[1:] += surplus[:-1] / _LAYERS[1:]
        content = np.minimum(content, _SATURATION)
        layers[:, day], met[day] = content, taken.sum(axis=0)
    return layers, met


def make_hourly(weather: Weather, seed: int) -> Hourly:
    """All hours of all days of the weather, for every land cell."""
    rng = np.random.default_rng([seed, 9])
    sun = _cos_zenith(weather)
    temperature, dewpoint = _heat(weather)
    cloud = np.clip(
        _interpolate(weather.cloud) + np.float32(0.06) * rng.standard_normal(sun.shape[:2], dtype=np.float32)[..., None], 0.0, 1.0
    )
    east, north = _wind(weather, rng, sun)
    elevation = np.array(list(CELLS.values()), np.float32)
    pressure = _interpolate(weather.pressure[:, None]) + np.float32(101_500.0) * np.exp(-elevation / np.float32(8430.0))
    radiation = _radiation(weather, sun, cloud, temperature, dewpoint)
    reference = _reference_evaporation(radiation, temperature, dewpoint, pressure, np.hypot(east, north))
    demand = np.maximum(reference.sum(axis=1), 0.0)
    layers, met = _soil(weather.rain, demand)
    zero = np.zeros_like(sun)
    states = {"t2m": temperature, "d2m": dewpoint, "sp": pressure + zero, "u10": east + zero, "v10": north + zero}
    states |= {f"swvl{number + 1}": _interpolate(layers[number]) for number in range(4)}
    evaporation = -np.maximum(reference, 0.0) * met[:, None, :] / np.float32(1000.0)
    fluxes = {"tp": _rain(weather, rng, sun), **radiation, "e": evaporation, "pev": -np.maximum(reference, 0.0) * np.float32(2.0e-3)}
    return Hourly(states, fluxes)
