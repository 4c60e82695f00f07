"""Options of the Sentinel-2 layer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from cubekit.bands import sentinel2_bands
from cubekit.redact import redact

__all__ = ["BANDS", "CatalogNames", "Nbar", "Resampling"]

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""Bands of 10 and 20 m: what a cube holds unless told otherwise."""

_MODEL = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _without_secrets(names: tuple[str, ...]) -> tuple[str, ...]:
    """Recipes are stored in every cube, so they hold no credentials."""
    for name in names:
        if redact(name) != name:
            raise ValueError("the address of a catalogue may not hold credentials; keep them in ~/.netrc or in its own settings")
    return names


CatalogNames = Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1), AfterValidator(_without_secrets)]
"""One catalogue (name, URL or path), or several as fallbacks in order."""

Classes = Annotated[tuple[Annotated[int, Field(ge=1, le=11)], ...], BeforeValidator(_as_tuple)]


class Nbar(BaseModel):
    """How reflectance is brought to nadir view; written as ``nbar: c-factor`` or ``nbar: none`` for the defaults."""

    model_config = _MODEL

    method: Literal["c-factor", "none"] = "c-factor"
    """Roy et al. (2016) c-factor with the global MODIS kernel weights, or no adjustment."""

    detectors: Literal["seen", "mean"] = "seen"
    """Angles of the detector that saw the pixel, or the mean of all detectors."""

    target_sun_zenith: Annotated[float, Field(ge=0, le=70)] | Literal["observed", "hls"] = "observed"
    """Sun zenith of the adjusted reflectance: as observed, that of the modelled overpass of HLS, or a constant (degrees)."""

    missing: Literal["flag", "drop", "fail"] = "flag"
    """What happens to a scene that cannot be adjusted: kept as it is and flagged in `nbar_status`, dropped, or the build fails."""

    factors: bool = False
    """Whether to keep the c-factors as variables ``<band>_c``."""

    angles: bool = False
    """Whether to keep sun zenith, view zenith and relative azimuth as variables, in degrees per pixel; also without adjustment."""

    @model_validator(mode="after")
    def _factors(self) -> Nbar:
        if self.factors and self.method == "none":
            raise ValueError("factors: there are none with method: none")
        return self


class Resampling(BaseModel):
    """How bands come onto the cube's grid when their pixels cannot be copied; classes always take the nearest."""

    model_config = _MODEL

    coarser: Literal["average", "nearest"] = "average"
    """Onto aligned, larger pixels: mean of the valid pixels, or the nearest."""

    other: Literal["bilinear", "nearest"] = "bilinear"
    """Across zones, or where pixel edges do not align."""


def _nbar(value: Any) -> Any:
    return {"method": value} if isinstance(value, str) else value


NbarOption = Annotated[Nbar, BeforeValidator(_nbar)]


class BandNames:
    """Validator mix-in: band names in any accepted spelling become product names."""

    @field_validator("bands", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        value = _as_tuple(value)
        return tuple(band.name for band in sentinel2_bands(value)) if isinstance(value, tuple) else value
