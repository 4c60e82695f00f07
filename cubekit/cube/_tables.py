"""What is known of the variables of a cube by their names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cubekit.bands import SENTINEL2
from cubekit.reflectance import SCL, PixelStatus

__all__ = ["ATTRS", "AXES", "band_attrs"]

_REFLECTANCE = "surface_bidirectional_reflectance"


def _flags(meanings: Mapping[int, str], long_name: str, content: str, **more: Any) -> dict[str, Any]:
    return {
        "long_name": long_name,
        "flag_values": list(meanings),
        "flag_meanings": " ".join(meanings.values()),
        "coverage_content_type": content,
        **more,
    }


def _text(long_name: str) -> dict[str, Any]:
    return {"long_name": long_name}


ATTRS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "SCL": _flags(SCL, "scene classification", "thematicClassification"),
        "cloud_mask": _flags(
            {0: "clear", 1: "not_clear", 255: "no_data"}, "cloud mask", "qualityInformation", standard_name="quality_flag"
        ),
        "pixel_status": _flags(
            {status.value: status.name.lower() for status in PixelStatus},
            "why a pixel is empty in at least one band",
            "qualityInformation",
            standard_name="status_flag",
        ),
        "cop_dem": {"long_name": "elevation, Copernicus DEM GLO-30", "standard_name": "height_above_geopotential_datum", "units": "m"},
        "land_cover": {
            "long_name": "land cover class",
            "standard_name": "land_cover_lccs",
            "coverage_content_type": "thematicClassification",
        },
        "item_id": _text("STAC items that make up the time step"),
        "platform": _text("satellite"),
        "tile": _text("MGRS tiles that make up the time step"),
        "processing_baseline": _text("processing baseline of the product"),
        "relative_orbit": {"long_name": "relative orbit number", "units": "1"},
        "boa_offset": {"long_name": "offset added to digital numbers before scaling", "units": "1"},
        "sun_zenith": {"long_name": "mean sun zenith angle", "standard_name": "solar_zenith_angle", "units": "degree"},
        "view_zenith": {"long_name": "mean view zenith angle", "standard_name": "sensor_zenith_angle", "units": "degree"},
        "clear_fraction": {"long_name": "share of all pixels that are clear", "units": "1", "valid_range": [0.0, 1.0]},
        "nbar_status": {"long_name": "state of the correction to nadir view"},
    }
)
"""Attributes by variable name; what a layer says itself goes first."""

AXES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "time": {"standard_name": "time", "axis": "T"},
        "x": {"standard_name": "projection_x_coordinate", "long_name": "x of the pixel centre", "units": "m", "axis": "X"},
        "y": {"standard_name": "projection_y_coordinate", "long_name": "y of the pixel centre", "units": "m", "axis": "Y"},
    }
)
"""Attributes of the axes."""


def band_attrs(name: str) -> dict[str, Any]:
    """Attributes of a band of Sentinel-2 by name; empty for another variable."""
    if name not in SENTINEL2:
        return {}
    band = SENTINEL2[name]
    return {
        "long_name": f"surface reflectance, {band.long_name}",
        "standard_name": _REFLECTANCE,
        "units": "1",
        "common_name": band.common_name,
        "center_wavelength": band.wavelength,
        "full_width_half_max": band.width,
        "wavelength_units": "um",
        "coverage_content_type": "physicalMeasurement",
    }
