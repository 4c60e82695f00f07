"""Names of DeepExtremeCubes (Ji et al. 2025, Sci. Data 12:149) and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BANDS", "CLIMATE", "CLOUD_CLASSES", "COARSE", "FILL", "FLUXES", "PERIOD_DAYS", "STEPS_PER_CHUNK", "ClimateName"]

BANDS: Final = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A")
PERIOD_DAYS: Final = 5
FILL: Final = -9999
"""Fill value of packed reflectance there; scale 1e-4 as everywhere."""
STEPS_PER_CHUNK: Final = 165
COARSE: Final = 300
"""Pixel size of its land cover, m; part of the names ``y_300``, ``x_300``, ``crs_300``."""


@dataclass(frozen=True, slots=True)
class ClimateName:
    """A variable of ERA5-Land under its short name.

    Parameters
    ----------
    name
        Short name; ``_mean``, ``_min`` and ``_max`` are appended.
    columns
        Columns of the daily table that the three come from.
    units, factor
        Unit there, and what turns the daily table's unit into it.
    flux
        Whether the daily value is a sum.
    """

    name: str
    columns: tuple[str, str, str]
    units: str
    factor: float = 1.0
    flux: bool = False


def _flux(name: str, units: str, factor: float) -> ClimateName:
    return ClimateName(name, (name, name, name), units, factor, flux=True)


CLIMATE: Final = (
    ClimateName("t2m", ("t2m_mean", "t2m_min", "t2m_max"), "K"),
    ClimateName("sp", ("sp", "sp", "sp"), "Pa"),
    _flux("tp", "m", 1e-3),
    _flux("e", "m", 1e-3),
    _flux("pev", "m", 1e-3),
    _flux("ssr", "J m-2", 1e6),
    _flux("slhf", "J m-2", 1e6),
    _flux("sshf", "J m-2", 1e6),
)
FLUXES: Final = tuple(entry.name for entry in CLIMATE if entry.flux)

CLOUD_CLASSES: Final = {0: "free_sky", 1: "cloud", 2: "cloud_shadows", 3: "snow", 4: "masked_other_reasons"}
"""Classes of ``cloudmask_en``."""
