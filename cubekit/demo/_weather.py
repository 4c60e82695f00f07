"""Thirty years of weather, day by day: temperature, cloud, rain, snow, and the dry and hot spells that are planted in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cubekit.demo._noise import hash01

__all__ = ["CELLS", "LATITUDES", "LONGITUDES", "PlantedEvent", "Weather", "make_weather", "planted_events", "vegetation_stress"]

Array: TypeAlias = npt.NDArray[np.float64]
Days: TypeAlias = npt.NDArray[np.datetime64]

LATITUDES = np.array([51.4, 51.3, 51.2])
LONGITUDES = np.array([11.9, 12.0, 12.1])
CELLS = {(row, column): 95.0 + 62.0 * float(hash01(5, row, column)) for row in range(3) for column in range(3) if (row, column) != (2, 2)}
"""Elevation (m) of the land cells by (row, column); the south-eastern cell is open water and has no data."""
_WARM_UP = 420
_RELIEF = 28

_ALL = tuple(CELLS)
_WEST = tuple(cell for cell in CELLS if cell[1] <= 1)
_NORTH = tuple(cell for cell in CELLS if cell[0] <= 1)
_PLANTED = (
    # first day of the dry spell, first and last hot day, mean temperature of the hot days (degC), cells
    ("1994-06-16", "1994-07-22", "1994-08-03", 28.2, _ALL),
    ("2003-06-14", "2003-07-28", "2003-08-08", 29.0, _ALL),
    ("2010-06-02", "2010-07-08", "2010-07-18", 28.0, _WEST),
    ("2015-06-19", "2015-07-25", "2015-08-04", 28.4, _NORTH),
    ("2018-06-18", "2018-07-24", "2018-08-06", 28.6, _ALL),
    ("2022-05-24", "2022-07-12", "2022-07-27", 29.4, _ALL),
)


@dataclass(frozen=True, slots=True)
class PlantedEvent:
    """A compound dry-hot spell of the truth.

    Attributes
    ----------
    dry_start
        First day without rain.
    start, end
        First and last hot day, inclusive; the drought lasts until `end`.
    temperature
        Mean temperature of the hot days at 120 m, degrees Celsius.
    cells
        (row, column) of the climate cells that it touches.
    """

    dry_start: np.datetime64
    start: np.datetime64
    end: np.datetime64
    temperature: float
    cells: tuple[tuple[int, int], ...]


def planted_events(first: np.datetime64, last: np.datetime64) -> tuple[PlantedEvent, ...]:
    """The planted events that lie completely between two days."""
    events = (PlantedEvent(np.datetime64(a), np.datetime64(b), np.datetime64(c), mean, cells) for a, b, c, mean, cells in _PLANTED)
    return tuple(event for event in events if first <= event.dry_start and event.end <= last)


@dataclass(frozen=True, slots=True)
class Weather:
    """Daily weather; arrays are (day,) for the region or (day, cell) in the order of `CELLS`.

    Attributes
    ----------
    days
        UTC days, with a warm-up before the asked first day.
    cloud
        Cloud cover, 0 to 1.
    temperature
        Daily mean, K.
    amplitude
        Half the daily range, K.
    dewpoint
        Daily mean, K.
    rain
        Total precipitation, mm (snow included).
    snow
        Snow on the ground, mm of water.
    pressure
        Anomaly of surface pressure, Pa.
    storminess
        Relative wind speed.
    """

    days: Days
    cloud: Array
    temperature: Array
    amplitude: Array
    dewpoint: Array
    rain: Array
    snow: Array
    pressure: Array
    storminess: Array


def _autoregressive(rng: np.random.Generator, n: int, memory: float) -> Array:
    """Noise of unit variance whose neighbours correlate by `memory`."""
    series, level, innovation = [], 0.0, float(np.sqrt(1 - memory**2))
    for shock in rng.standard_normal(n).tolist():
        level = memory * level + innovation * shock
        series.append(level)
    return np.array(series)


def _windows(events: tuple[PlantedEvent, ...], days: Days) -> tuple[Array, Array, Array]:
    """Planted spells per day and cell: 1 in a dry one; temperature of hot days (degC), else 0; 1 in the rainy weeks that end it."""
    cells = list(CELLS)
    dry, heat, relief = (np.zeros((days.size, len(cells))) for _ in range(3))
    for event in events:
        columns = np.isin(np.arange(len(cells)), [cells.index(cell) for cell in event.cells])
        in_dry = (days >= event.dry_start) & (days <= event.end)
        in_heat = (days >= event.start) & (days <= event.end)
        dry[np.ix_(in_dry, columns)] = 1.0
        heat[np.ix_(in_heat, columns)] = event.temperature
        relief[np.ix_((days > event.end) & (days <= event.end + np.timedelta64(_RELIEF, "D")), columns)] = 1.0
    return dry, heat, relief


def _snowpack(temperature: Array, rain: Array) -> Array:
    snow = np.zeros_like(rain)
    store = np.zeros(rain.shape[1])
    celsius = temperature - 273.15
    for day in range(rain.shape[0]):
        store = store + np.where(celsius[day] < 0.4, rain[day], 0.0)
        store = np.maximum(store - 3.5 * np.maximum(celsius[day], 0.0), 0.0)
        snow[day] = store
    return snow


def make_weather(seed: int, first: np.datetime64, last: np.datetime64) -> Weather:
    """The weather of `first` to `last` (and of the warm-up before), from one seed."""
    days = np.arange(first - np.timedelta64(_WARM_UP, "D"), last + np.timedelta64(1, "D")).astype("datetime64[D]")
    rng = np.random.default_rng([seed, 7])
    n, cells = days.size, len(CELLS)
    doy = (days - days.astype("datetime64[Y]")).astype(int) + 1.0
    season = -np.cos(2 * np.pi * (doy - 17.0) / 365.25)
    warm = np.clip(_autoregressive(rng, n, 0.82), -2.1, 1.7)
    wet = _autoregressive(rng, n, 0.62)
    local = rng.standard_normal((n, cells))
    amount = np.minimum(rng.gamma(0.8, 1.0, n), 4.0)
    dry, heat, relief = _windows(planted_events(days[0], days[-1]), days)
    wet = np.where(relief.any(axis=1), np.maximum(wet, -1.2), wet)
    cloud = 1.0 / (1.0 + np.exp(-(0.35 - 0.45 * season + 2.1 * wet)))[:, None] * np.ones(cells)
    cloud = np.where(dry > 0, 0.05 + 0.25 * cloud, cloud)
    rain = np.where(wet > 0.18, amount * (4.0 + 2.0 * season) * (0.5 + wet), 0.0)[:, None] * np.exp(0.35 * local)
    rain = np.where((dry > 0) | (rain < 0.1), 0.0, rain)
    warm = np.where(relief.any(axis=1), np.minimum(warm, -0.2), warm)
    return _finish(days, season, warm, wet, cloud, rain, dry, heat, rng)


def _finish(
    days: Days,
    season: Array,
    warm: Array,
    wet: Array,
    cloud: Array,
    rain: Array,
    dry: Array,
    heat: Array,
    rng: np.random.Generator,
) -> Weather:
    n, cells = rain.shape
    elevation = np.array(list(CELLS.values()))
    anomaly = (3.1 - 0.4 * season) * warm
    spell = np.where(dry > 0, np.clip(anomaly, -2.0, 1.2)[:, None] + 0.8, anomaly[:, None])
    celsius = 9.4 + 9.3 * season[:, None] + 2.2 * season[:, None] * (0.6 - cloud) + spell
    warmth = np.where(heat > 0, heat + 0.3 * np.clip(anomaly, -1.0, 1.0)[:, None] - celsius, 0.0)
    celsius = celsius + warmth
    celsius = celsius - 0.0065 * (elevation - 120.0) + 0.15 * rng.standard_normal((n, cells))
    amplitude = 1.4 + (2.2 + 3.6 * (0.5 + 0.5 * season))[:, None] * (1.0 - 0.8 * cloud)
    dewpoint = celsius - 0.75 * warmth - amplitude * 0.85 - 1.2 - 3.2 * (1 - cloud) * (0.5 + 0.5 * season)[:, None] - 2.0 * dry
    temperature = celsius + 273.15
    pressure = 850.0 * (0.6 * _autoregressive(rng, n, 0.85) - 0.5 * wet)
    storminess = np.exp(0.35 * _autoregressive(rng, n, 0.7)) * (1.0 - 0.18 * season)
    storminess = np.where(dry.any(axis=1), 0.9, storminess)
    return Weather(days, cloud, temperature, amplitude, dewpoint + 273.15, rain, _snowpack(temperature, rain), pressure, storminess)


def vegetation_stress(days: Days, events: tuple[PlantedEvent, ...], cell: tuple[int, int] = (1, 1)) -> Array:
    """Drought stress of the vegetation, 0 to 1: grows slowly in a planted dry spell, fast in its heat, fades over two months after it.

    Parameters
    ----------
    days
        Consecutive days.
    events
        What was planted.
    cell
        The climate cell that the vegetation lives under.
    """
    gain = np.zeros(days.size)
    held = np.zeros(days.size, bool)
    for event in events:
        if cell in event.cells:
            held |= (days >= event.dry_start + np.timedelta64(21, "D")) & (days <= event.end)
            gain += np.where((days >= event.dry_start + np.timedelta64(21, "D")) & (days <= event.end), 0.008, 0.0)
            gain += np.where((days >= event.start) & (days <= event.end), 0.040, 0.0)
    stress = np.zeros(days.size)
    level = 0.0
    for day in range(days.size):
        level = min(level + gain[day], 1.0) if held[day] else level * np.exp(-1 / 62.0)
        stress[day] = level
    return stress


def at(days: Days, values: Any, day: np.datetime64) -> Any:
    """Value of a daily series on one day."""
    return values[int((day - days[0]) / np.timedelta64(1, "D"))]
