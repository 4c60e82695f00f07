"""The Ross-Thick / Li-Sparse-Reciprocal model of reflectance by direction, in plain numpy.

Written apart from the code that corrects for it, so that the two can be held against each other.
Sources: Roujean et al. 1992, Wanner et al. 1995, Lucht et al. 2000; parameters of Roy et al. 2016, 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["PARAMETERS", "anisotropy"]

PARAMETERS: dict[str, tuple[float, float, float]] = {
    "B02": (0.0774, 0.0079, 0.0372),
    "B03": (0.1306, 0.0178, 0.0580),
    "B04": (0.1690, 0.0227, 0.0574),
    "B05": (0.2085, 0.0256, 0.0845),
    "B06": (0.2316, 0.0273, 0.1003),
    "B07": (0.2599, 0.0294, 0.1197),
    "B08": (0.3093, 0.0330, 0.1535),
    "B8A": (0.3093, 0.0330, 0.1535),
    "B11": (0.3430, 0.0453, 0.1154),
    "B12": (0.2658, 0.0387, 0.0639),
}
"""(isotropic, geometric, volumetric) weight per band; B8A has those of B08."""


def _kernels(sun: Any, view: Any, azimuth: Any) -> tuple[Any, Any]:
    cos_phase = np.cos(sun) * np.cos(view) + np.sin(sun) * np.sin(view) * np.cos(azimuth)
    phase = np.arccos(np.clip(cos_phase, -1.0, 1.0))
    volumetric = ((np.pi / 2 - phase) * cos_phase + np.sin(phase)) / (np.cos(sun) + np.cos(view)) - np.pi / 4
    tan_sun, tan_view = np.tan(sun), np.tan(view)
    sec = 1 / np.cos(sun) + 1 / np.cos(view)
    distance2 = tan_sun**2 + tan_view**2 - 2 * tan_sun * tan_view * np.cos(azimuth)
    cos_t = np.clip(2.0 * np.sqrt(np.maximum(distance2, 0.0) + (tan_sun * tan_view * np.sin(azimuth)) ** 2) / sec, -1.0, 1.0)
    t = np.arccos(cos_t)
    overlap = (t - np.sin(t) * cos_t) * sec / np.pi
    geometric = overlap - sec + (1 + cos_phase) / 2 / (np.cos(sun) * np.cos(view))
    return volumetric, geometric


def _reflectance(band: str, sun: Any, view: Any, azimuth: Any) -> Any:
    iso, geo, vol = PARAMETERS[band]
    volumetric, geometric = _kernels(sun, view, azimuth)
    return iso + vol * volumetric + geo * geometric


def anisotropy(band: str, sun_zenith: Any, view_zenith: Any, relative_azimuth: Any) -> npt.NDArray[np.float64]:
    """Reflectance seen from a direction over reflectance seen from nadir, under the same sun: the inverse of the c-factor.

    Parameters
    ----------
    band
        Sentinel-2 band, one of `PARAMETERS`.
    sun_zenith, view_zenith, relative_azimuth
        Degrees, broadcastable; sun azimuth minus view azimuth.
    """
    sun, view, azimuth = (np.deg2rad(np.asarray(v, np.float64)) for v in (sun_zenith, view_zenith, relative_azimuth))
    return np.asarray(_reflectance(band, sun, view, azimuth) / _reflectance(band, sun, np.zeros_like(view), azimuth))
