"""The simulated world as one object: parameters in, truth at any point and time out. The writer and the tests share it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cubekit.demo._acquire import Acquisition, Granule, acquisitions, granules
from cubekit.demo._brdf import anisotropy
from cubekit.demo._geometry import sun_angles
from cubekit.demo._landscape import Landscape, Surface
from cubekit.demo._phenology import BANDS, SNOW, SNOW_HOLD, unit_reflectance
from cubekit.demo._place import to_lonlat
from cubekit.demo._sky import scene_classes
from cubekit.demo._weather import CELLS, PlantedEvent, Weather, at, make_weather, planted_events, vegetation_stress
from cubekit.errors import InputError

__all__ = ["FORMAT", "Model", "Parameters", "band_indices", "model"]

Array: TypeAlias = npt.NDArray[Any]

FORMAT = 2
"""Raised whenever the same parameters give other bytes."""
_TOP_OF_SNOW = 9.0


@dataclass(frozen=True, slots=True)
class Parameters:
    """Everything that a world depends on.

    Attributes
    ----------
    seed
        Of all randomness.
    start, end
        First and last day of imagery.
    climate_start
        First day of the climate; it ends at the end of the imagery's last year.
    size
        Side of the rendered square, 10 m pixels; a multiple of 12.
    max_cloud
        Passes under more cloud than this are not delivered.
    """

    seed: int = 6
    start: str = "2021-01-01"
    end: str = "2022-12-31"
    climate_start: str = "1991-01-01"
    size: int = 516
    max_cloud: float = 0.45

    def __post_init__(self) -> None:
        first, last, climate = (self._day(name) for name in ("start", "end", "climate_start"))
        if last < first:
            raise InputError(f"end {self.end} lies before start {self.start}", remedy="Give start <= end")
        if climate > first:
            raise InputError(
                f"climate_start {self.climate_start} lies after start {self.start}",
                remedy="Let the climate begin with the imagery or before",
            )
        if first < np.datetime64("2016-01-01"):
            raise InputError(
                f"start {self.start} lies before 2016", remedy="Both satellites and all baselines are simulated from 2016-01-01 on"
            )
        if not 48 <= self.size <= 900 or self.size % 12:
            raise InputError(f"size {self.size} is not a multiple of 12 between 48 and 900", remedy="Give e.g. size=600")
        if not 0 < self.max_cloud <= 1:
            raise InputError(f"max_cloud {self.max_cloud} is not within (0, 1]", remedy="Give a share such as 0.9")

    def _day(self, name: str) -> np.datetime64:
        try:
            return np.datetime64(getattr(self, name), "D")
        except ValueError as error:
            raise InputError(f"{name} {getattr(self, name)!r} is no date", remedy="Write YYYY-MM-DD") from error

    @property
    def imagery(self) -> tuple[np.datetime64, np.datetime64]:
        """First and last day of imagery."""
        return self._day("start"), self._day("end")

    @property
    def climate(self) -> tuple[np.datetime64, np.datetime64]:
        """First and last day of the climate."""
        return self._day("climate_start"), np.datetime64(self.end[:4] + "-12-31", "D")

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with any parameter and with the format."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def band_indices(bands: Sequence[str]) -> list[int]:
    """Places of bands in `BANDS`; InputError for one that is not simulated."""
    for band in bands:
        if band not in BANDS:
            raise InputError(f"band {band!r} is not simulated", remedy=f"Take some of {', '.join(BANDS)}", band=band)
    return [BANDS.index(band) for band in bands]


@dataclass(frozen=True)
class Model:
    """Truth by position in the local plane (metres); made by `model`, which keeps it."""

    parameters: Parameters
    landscape: Landscape = field(repr=False)

    @cached_property
    def weather(self) -> Weather:
        """Daily weather."""
        first, last = self.parameters.climate
        return make_weather(self.parameters.seed, first, last + np.timedelta64(1, "D"))

    @cached_property
    def events(self) -> tuple[PlantedEvent, ...]:
        """Planted compound events within the climate."""
        return planted_events(*self.parameters.climate)

    @cached_property
    def stress(self) -> Array:
        """Vegetation stress on each of `weather.days`."""
        return vegetation_stress(self.weather.days, self.events)

    @cached_property
    def acquisitions(self) -> tuple[Acquisition, ...]:
        """Delivered passes in order of time."""
        return acquisitions(self.parameters.seed, *self.parameters.imagery, self.parameters.max_cloud, self.weather)

    @cached_property
    def granules(self) -> dict[str, Granule]:
        """Products by item id."""
        return {granule.id: granule for granule in granules(self.acquisitions)}

    def kind(self, surface: Surface) -> Array:
        """What covers each point."""
        return self.landscape.units.kind[surface.unit][surface.patch]

    def _patch_snow(self, surface: Surface, day: np.datetime64) -> Array:
        depth = float(at(self.weather.days, self.weather.snow, day)[list(CELLS).index((1, 1))])
        patchy = np.clip(depth / _TOP_OF_SNOW + 0.45 * surface.vigour, 0.0, 1.0) if depth >= 0.2 else np.zeros(surface.unit.shape)
        return SNOW_HOLD[self.landscape.units.kind[surface.unit]] * patchy

    def snow(self, surface: Surface, day: np.datetime64) -> npt.NDArray[np.float32]:
        """Share of each point under snow."""
        return self._patch_snow(surface, day).astype(np.float32)[surface.patch]

    def nadir(self, surface: Surface, day: np.datetime64, bands: list[int]) -> npt.NDArray[np.float32]:
        """Nadir reflectance (band, ...) under a clear sky."""
        stress = float(at(self.weather.days, self.stress, day))
        base, slope = unit_reflectance(self.landscape.units, self.parameters.seed, day, stress)
        snow = self._patch_snow(surface, day)[:, None]
        patches = np.maximum(base[surface.unit] + surface.vigour[:, None] * slope[surface.unit], 0.001) * (1 - snow) + SNOW * snow
        bright = 1.0 + surface.texture
        return np.stack([patches[:, band].astype(np.float32)[surface.patch] * bright for band in bands])

    def angles(self, granule: Granule, band: str, detector: Any, x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        """Sun zenith and azimuth, view zenith and azimuth, degrees."""
        sun = sun_angles(*to_lonlat(x, y), granule.sensing)
        return *sun, *granule.acquisition.track.view(band, detector, x, y)

    def ratio(self, granule: Granule, band: str, detector: Any, x: Array, y: Array) -> npt.NDArray[np.float64]:
        """Reflectance towards the satellite over nadir reflectance."""
        sza, saa, vza, vaa = self.angles(granule, band, detector, x, y)
        return anisotropy(band, sza, vza, saa - vaa)

    def classes(self, granule: Granule, surface: Surface, detectors: Array, opacity: tuple[Array, Array, Array]) -> npt.NDArray[np.uint8]:
        """Scene classes (SCL), 0 outside the swath; `opacity` is what `Sky.opacity` gives there."""
        day = granule.acquisition.day
        red, nir = self.nadir(surface, day, band_indices(["B04", "B08"]))
        classes = scene_classes(self.kind(surface), red, nir, self.snow(surface, day), *opacity)
        return np.where(detectors > 0, classes, 0).astype(np.uint8)


@lru_cache(maxsize=8)
def model(parameters: Parameters) -> Model:
    """The model of some parameters, made once."""
    return Model(parameters, Landscape(parameters.seed))
