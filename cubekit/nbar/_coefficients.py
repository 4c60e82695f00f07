"""BRDF parameters of the Sentinel-2 bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cubekit.errors import InputError
from cubekit.typing import Float2D

__all__ = ["BAND_ORDER", "BORROWED", "NBAR_BANDS", "PARAMETERS", "canonical_band", "is_supported", "parameters"]

BAND_ORDER: tuple[str, ...] = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Band of ESA's ``bandId`` 0 to 12."""


PARAMETERS: dict[str, tuple[float, float, float]] = {
    "B02": (0.0774, 0.0079, 0.0372),
    "B03": (0.1306, 0.0178, 0.0580),
    "B04": (0.1690, 0.0227, 0.0574),
    "B05": (0.2085, 0.0256, 0.0845),
    "B06": (0.2316, 0.0273, 0.1003),
    "B07": (0.2599, 0.0294, 0.1197),
    "B08": (0.3093, 0.0330, 0.1535),
    "B11": (0.3430, 0.0453, 0.1154),
    "B12": (0.2658, 0.0387, 0.0639),
}
"""(f_iso, f_geo, f_vol): Roy et al. 2016 (RSE 176, table 5) and, for the red edge, Roy et al. 2017 (RSE 199, 25-38)."""

BORROWED: dict[str, str] = {"B8A": "B08"}
"""Bands that use another band's parameters: B8A those of MODIS NIR, as HLS does."""

NBAR_BANDS: tuple[str, ...] = tuple(band for band in BAND_ORDER if band in PARAMETERS or band in BORROWED)
"""Bands that can be adjusted, in spectral order; B01, B09 and B10 cannot."""


def is_supported(band: str) -> bool:
    """Whether there are BRDF parameters for a band (its own or borrowed)."""
    return band in PARAMETERS or band in BORROWED


def parameters(bands: Sequence[str]) -> Float2D:
    """BRDF parameters, shape (band, 3): f_iso, f_geo, f_vol.

    Raises
    ------
    InputError
        A band without parameters.
    """
    for band in bands:
        if not is_supported(band):
            raise InputError(
                f"band {band!r} has no BRDF parameters",
                remedy=f"Use bands out of {', '.join(NBAR_BANDS)}; the others pass unchanged in apply_nbar.",
                band=band,
            )
    return np.array([PARAMETERS[BORROWED.get(band, band)] for band in bands], dtype=np.float64).reshape(-1, 3)


_ALIASES: dict[str, str] = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
}


def canonical_band(name: str) -> str:
    """ESA's name of a band given as ``"B2"``, ``"b02"`` or by its common name (``"blue"``, ``"rededge1"``, ``"nir08"``).

    Raises
    ------
    InputError
        No spectral band of Sentinel-2.
    """
    text = str(name)
    upper = text.upper()
    if len(upper) == 2 and upper[0] == "B":
        upper = f"B0{upper[1]}"
    band = upper if upper in BAND_ORDER else _ALIASES.get(text.lower(), "")
    if not band:
        raise InputError(f"{text!r} is no spectral band of Sentinel-2", remedy="Drop it (classes such as SCL) before NBAR.", band=text)
    return band
