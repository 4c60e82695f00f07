"""Facts of a Sentinel-2 granule, from properties where they are given, else out of ids that ESA and the catalogues write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cubekit.typing import JSON

__all__ = [
    "OFFSET_BASELINE",
    "baseline",
    "datatake",
    "granule_time",
    "is_sentinel2",
    "platform",
    "product_uri",
    "relative_orbit",
    "tile",
    "tile_epsg",
    "zenith",
]

OFFSET_BASELINE = (4, 0)
"""First processing baseline whose digital numbers carry +1000 (ESA, Sentinel-2 products specification, January 2022)."""

# ESA: S2B_MSIL2A_20240419T095549_N0510_R122_T47XML_20240419T123458(.SAFE); Planetary Computer drops the baseline.
_PRODUCT = re.compile(
    r"(?P<unit>S2[A-Z])_MSI(?P<level>L[12][AC])_(?P<sensed>\d{8}T\d{6})(?:_N(?P<baseline>\d{4}))?_R(?P<orbit>\d{3})_T(?P<tile>\d{2}[C-X][A-Z]{2})_(?P<made>\d{8}T\d{6})"
)
_TILE_IN_ID = re.compile(r"(?:^|[_.])T?(\d{1,2}[C-X][A-HJ-NP-Z][A-HJ-NP-V])(?:[_.]|$)")
_DATATAKE = re.compile(r"G(S2[A-Z])_(\d{8}T\d{6})_\d{6}(?:_N\d{2}\.\d{2})?")
_BASELINE_IN_ID = re.compile(r"_N(\d{2})\.?(\d{2})(?:_|$|\.SAFE)")
_UNIT = re.compile(r"^S2([A-Z])_")
_ZONE = re.compile(r"(\d{1,2})([C-X])([A-Z]{2})")


def _names(item: JSON) -> Iterator[str]:
    """Texts that may be a product's name, most telling first."""
    properties = item["properties"]
    for key in ("s2:product_uri", "sentinel:product_id", "title"):
        if isinstance(value := properties.get(key), str):
            yield value
    yield item["id"]
    for key in ("s2:granule_id", "s2:tile_id", "s2:datatake_id", "s2:datastrip_id"):
        if isinstance(value := properties.get(key), str):
            yield value


def _product(item: JSON) -> re.Match[str] | None:
    return next((match for name in _names(item) if (match := _PRODUCT.search(name))), None)


def is_sentinel2(item: JSON) -> bool:
    """True for an item of a Sentinel-2 granule."""
    properties = item["properties"]
    said = str(properties.get("platform", "")).lower()
    return said.startswith(("sentinel-2", "sentinel2")) or _UNIT.match(item["id"]) is not None or "s2:processing_baseline" in properties


def product_uri(item: JSON) -> str | None:
    """Name of ESA's product with its time of making, which tells apart products that share an item id; None where it is not given."""
    return next((name for name in _names(item) if _PRODUCT.search(name)), None)


def tile(item: JSON) -> str | None:
    """MGRS tile with a two-digit zone, such as ``"06VVN"``."""
    found = _tile_from(item["properties"])
    # Names of other missions hold look-alikes: 1SDV in those of Sentinel-1.
    return found or (_tile_from_names(item) if is_sentinel2(item) or item["id"].startswith("HLS.") else None)


def _tile_from(properties: Mapping[str, Any]) -> str | None:
    for prefix in ("mgrs", "sentinel", "s2"):
        parts = [properties.get(f"{prefix}:{part}") for part in ("utm_zone", "latitude_band", "grid_square")]
        if all(part is not None for part in parts):
            return _padded("".join(str(part) for part in parts))
    for key in ("s2:mgrs_tile", "grid:code"):
        value = str(properties.get(key, ""))
        if found := _padded(value.removeprefix("MGRS-").removeprefix("T")):
            return found
    return None


def _tile_from_names(item: JSON) -> str | None:
    if product := _product(item):
        return product["tile"]
    matches = (_TILE_IN_ID.search(name.removesuffix(".SAFE")) for name in _names(item))
    return next((_padded(match[1]) for match in matches if match), None)


def _padded(text: str) -> str | None:
    match = _ZONE.fullmatch(text)
    return f"{int(match[1]):02d}{match[2]}{match[3]}" if match and 1 <= int(match[1]) <= 60 else None


def tile_epsg(name: str | None) -> int | None:
    """EPSG code of the UTM zone of an MGRS tile.

    >>> tile_epsg("32UPC"), tile_epsg("36MYB")
    (32632, 32736)
    """
    if name is None or not (match := _ZONE.fullmatch(name)):
        return None
    return (32600 if match[2] >= "N" else 32700) + int(match[1])


def platform(item: JSON) -> str | None:
    """Platform in lower case, such as ``"sentinel-2a"``; from the id where the property is missing."""
    said = item["properties"].get("platform")
    if isinstance(said, str) and said.strip():
        return said.strip().lower()
    unit = _UNIT.match(item["id"]) or next((match for name in _names(item) if (match := _UNIT.match(name))), None)
    return f"sentinel-2{unit[1].lower()}" if unit else None


def datatake(item: JSON) -> str | None:
    """Datatake as unit and start of sensing, such as ``"S2B_20240419T095549"``: the same for every tile and processing baseline."""
    given = _DATATAKE.fullmatch(str(item["properties"].get("s2:datatake_id", "")))
    if given:
        return f"{given[1]}_{given[2]}"
    product = _product(item)
    return f"{product['unit']}_{product['sensed']}" if product else None


def granule_time(item: JSON) -> str:
    """When the product was made, as far as its name says; empty where it does not. Newer sorts later."""
    product = _product(item)
    return product["made"] if product else ""


def relative_orbit(item: JSON) -> int | None:
    """Relative orbit, 1 to 143."""
    said = item["properties"].get("sat:relative_orbit")
    if isinstance(said, str) and said.isdecimal() and len(said) <= 3:
        said = int(said)
    if isinstance(said, (int, float)) and 0 < said < 1000:
        return int(said)
    product = _product(item)
    return int(product["orbit"]) if product else None


def baseline(item: JSON) -> str | None:
    """Processing baseline such as ``"05.10"``; from the property, else the product's name, else None."""
    properties = item["properties"]
    for key in ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version"):
        if found := _written(properties.get(key)):
            return found
    product = _product(item)
    if product and product["baseline"]:
        return f"{product['baseline'][:2]}.{product['baseline'][2:]}"
    matches = (_BASELINE_IN_ID.search(name) for name in _names(item))
    return next((f"{match[1]}.{match[2]}" for match in matches if match), None)


def _written(value: Any) -> str | None:
    if isinstance(value, float):
        value = f"{value:05.2f}"
    match = re.fullmatch(r"N?(\d{1,2})\.?(\d{2})", str(value)) if value is not None else None
    return f"{int(match[1]):02d}.{match[2]}" if match else None


def zenith(properties: Mapping[str, Any], of: str) -> float | None:
    """Mean zenith angle of the ``"sun"`` or the ``"view"``, degrees, where the item gives one.

    ``view:off_nadir`` is not used: Earth Search v0 writes 0 for every item, and it is no zenith at the ground anyway.
    """
    value: Any
    if of == "sun":
        value = properties.get("s2:mean_solar_zenith")
        elevation = properties.get("view:sun_elevation")
        if value is None and isinstance(elevation, (int, float)):
            value = 90.0 - elevation
    else:
        value = properties.get("view:incidence_angle")
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= 180 else None
