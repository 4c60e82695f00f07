"""Clouds and their shadows over one acquisition, and the scene classes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cubekit.demo._landscape import Kind
from cubekit.demo._noise import fractal

__all__ = ["CLOUD", "Sky", "scene_classes"]

Array: TypeAlias = npt.NDArray[Any]

CLOUD = np.array((0.620, 0.610, 0.600, 0.605, 0.610, 0.615, 0.620, 0.620, 0.420, 0.320))
"""Reflectance of thick cloud per band of `phenology.BANDS`."""
_EDGE = 0.06
"""Width of the rim around a cloud that is flagged though it is clear, in units of the cloud noise."""
_DARKNESS = 0.62
_SAMPLE = np.linspace(-9000.0, 9000.0, 73)


@dataclass(frozen=True, slots=True)
class Sky:
    """A cloud deck at one height: it hides what lies below it on the line of sight, and darkens what it hides from the sun.

    Attributes
    ----------
    seed
        Shape of the clouds.
    cover
        Share of the sky covered, 0 to 1.
    height
        Of the deck above ground, metres.
    view, sun
        Tangent-plane vectors (east, north) towards the satellite and the sun.
    """

    seed: int
    cover: float
    height: float
    view: tuple[float, float]
    sun: tuple[float, float]

    def _noise(self, x: Array, y: Array) -> Array:
        return fractal(x, y, 2100.0, 4, self.seed, gain=0.55)

    def _threshold(self) -> float:
        x, y = np.meshgrid(_SAMPLE, _SAMPLE)
        return float(np.quantile(self._noise(x, y), 1.0 - min(max(self.cover, 0.0), 1.0)))

    @property
    def clear(self) -> bool:
        """Whether there is no cloud at all."""
        return self.cover < 0.02

    def opacity(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Cloud opacity (0 to 1), shadow (0 to 1) and whether the point lies in a cloud's or shadow's guarded rim."""
        if self.clear:
            nothing = np.zeros(np.shape(x), np.float32)
            return nothing, nothing, np.zeros(np.shape(x), bool)
        threshold = self._threshold()
        excess = self._noise(x + self.height * self.view[0], y + self.height * self.view[1]) - threshold
        shade = self._noise(x + self.height * self.sun[0], y + self.height * self.sun[1]) - threshold
        return _steps(excess / 0.13), _steps(shade / 0.10), (excess > -_EDGE) | (shade > -_EDGE)

    def apply(self, reflectance: Array, cloud: Array, shadow: Array, bands: list[int]) -> Array:
        """What is seen through this sky; `reflectance` is (band, ...) for `bands` (indices into `phenology.BANDS`)."""
        if self.clear:
            return reflectance
        white = CLOUD[bands].astype(np.float32).reshape(-1, *([1] * (reflectance.ndim - 1)))
        return np.asarray(reflectance * ((1 - _DARKNESS * shadow) * (1 - cloud)) + white * (cloud * (0.86 + 0.14 * cloud)))


def _steps(share: Array) -> npt.NDArray[np.float32]:
    """Within 0 and 1, in twelve steps; anything above 0 is at least the first."""
    return np.asarray(np.ceil(np.clip(share, 0.0, 1.0) * 12.0) / 12.0, np.float32)


def scene_classes(kind: Array, red: Array, nir: Array, snow: Array, cloud: Array, shadow: Array, rim: Array) -> npt.NDArray[np.uint8]:
    """SCL: 3 shadow, 4 vegetation, 5 bare, 6 water, 8 and 9 cloud, 10 thin cloud and rims, 11 snow; nodata (0) is the caller's."""
    index = (nir - red) / np.maximum(nir + red, 1e-4)
    classes = np.where(index > 0.42, 4, 5)
    classes = np.where(np.isin(kind, (Kind.RIVER, Kind.LAKE, Kind.SHALLOWS)), 6, classes)
    classes = np.where(snow > 0.4, 11, classes)
    classes = np.where(rim, 10, classes)
    classes = np.where(shadow > 0, 3, classes)
    classes = np.where((shadow == 0) & (cloud > 0), 10, classes)
    classes = np.where(cloud > 0.12, 8, classes)
    return np.where(cloud > 0.55, 9, classes).astype(np.uint8)
