"""Which wavelengths: the bands of Sentinel-2 MSI."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cubekit.errors import InputError

__all__ = ["SENTINEL2", "Band", "sentinel2_bands"]


@dataclass(frozen=True, slots=True)
class Band:
    """A spectral band.

    Parameters
    ----------
    name
        Name in the product, such as ``"B8A"``.
    common_name
        Name in the STAC `eo` extension, such as ``"nir08"``.
    wavelength
        Centre of Sentinel-2A's band, micrometres.
    width
        Full width at half maximum, micrometres.
    resolution
        Native pixel size, m.
    long_name
        For people.
    """

    name: str
    common_name: str
    wavelength: float
    width: float
    resolution: int
    long_name: str


# Centre and width of Sentinel-2A: ESA, Sentinel-2 spectral response functions (S2-SRF) 4.0.
_TABLE = (
    Band("B01", "coastal", 0.4427, 0.020, 60, "coastal aerosol"),
    Band("B02", "blue", 0.4927, 0.065, 10, "blue"),
    Band("B03", "green", 0.5598, 0.035, 10, "green"),
    Band("B04", "red", 0.6646, 0.030, 10, "red"),
    Band("B05", "rededge071", 0.7041, 0.014, 20, "red edge 1"),
    Band("B06", "rededge075", 0.7405, 0.014, 20, "red edge 2"),
    Band("B07", "rededge078", 0.7828, 0.019, 20, "red edge 3"),
    Band("B08", "nir", 0.8328, 0.105, 10, "near infrared"),
    Band("B8A", "nir08", 0.8647, 0.021, 20, "narrow near infrared"),
    Band("B09", "nir09", 0.9451, 0.019, 60, "water vapour"),
    Band("B11", "swir16", 1.6137, 0.090, 20, "shortwave infrared 1"),
    Band("B12", "swir22", 2.2024, 0.174, 20, "shortwave infrared 2"),
)

SENTINEL2: Mapping[str, Band] = MappingProxyType({band.name: band for band in _TABLE})
"""The twelve surface reflectance bands of Sentinel-2 Level-2A by name, in spectral order."""

# Other ways to write a band: product names without the zero, STAC common names, Earth Search's asset keys.
_ALIASES = {
    **{band.common_name: band.name for band in _TABLE},
    **{f"B{number}": f"B0{number}" for number in range(1, 10)},
    "B08A": "B8A",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "rededge": "B05",
}


def sentinel2_bands(names: Iterable[str]) -> tuple[Band, ...]:
    """Look up bands by product name (``"B02"``, ``"B2"``) or common name (``"blue"``), in the order given.

    Raises
    ------
    InputError
        For an unknown or repeated name, or none at all.
    """
    bands = []
    for name in names:
        key = _ALIASES.get(name, name) if isinstance(name, str) else name
        if key not in SENTINEL2:
            raise InputError(f"Unknown Sentinel-2 band {name!r}", remedy=f"Use any of: {', '.join(SENTINEL2)} (or a common name)")
        if SENTINEL2[key] in bands:
            raise InputError(f"Band {name!r} is asked for twice", remedy="Name each band once")
        bands.append(SENTINEL2[key])
    if not bands:
        raise InputError("No bands are asked for", remedy=f"Name some of: {', '.join(SENTINEL2)}")
    return tuple(bands)
