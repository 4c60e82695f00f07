"""Profiles for items that no table knows: which catalogue made their pixels, or else what the item itself says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from cubekit.bands import SENTINEL2
from cubekit.catalog._profile import BandRule, OffsetPolicy, Profile
from cubekit.catalog._sentinel2 import is_sentinel2
from cubekit.catalog._tables import COMMON, GRANULE_METADATA, PC_ACCOUNTS, PROFILES, S2_PHASES, known_profile
from cubekit.typing import JSON

__all__ = ["deduced_profile", "first_band", "profile_of", "provenance"]

_EARTH_SEARCH_BUCKETS = ("sentinel-cogs.s3", "e84-earth-search-sentinel-data.s3")
# STAC 1.1 names the red edges by wavelength, 1.0 calls all three "rededge".
_COMMON_NAMES = {band.common_name: band.name for band in SENTINEL2.values()} | {"rededge1": "B05", "rededge2": "B06", "rededge3": "B07"}
_CLASS_KEYS = {"scl": "SCL", "SCL": "SCL", "qa_pixel": "qa_pixel", "Fmask": "Fmask", "map": "map"}


def provenance(item: JSON) -> str | None:
    """Catalogue whose pixels an item points at, by the hosts of its assets and links; None where nothing tells.

    What is true of pixels depends on who wrote them, so assets count first: an item of Earth Search stays one when it is read from a file.
    """
    for asset in item["assets"].values():
        href = str(asset.get("href", "")) if isinstance(asset, Mapping) else ""
        try:
            host = urlsplit(href).netloc.rpartition("@")[2] if "://" in href else ""
        except ValueError:
            continue
        if host.startswith(_EARTH_SEARCH_BUCKETS):
            return "earth-search"
        if host.endswith(".blob.core.windows.net") and host.partition(".")[0] in PC_ACCOUNTS:
            return "planetary-computer"
        if host.startswith("data.lpdaac."):
            return "lp-cloud"
    if any(key.startswith("earthsearch:") for key in item["properties"]):
        return "earth-search"
    return None


def profile_of(item: JSON, catalogue: str | None) -> Profile:
    """Profile of an item: of the catalogue, else of the catalogue that wrote its pixels, else deduced from what it says.

    Collections that everybody serves the same way (`COMMON`) have one table everywhere; Sentinel-2 is none of them.
    """
    collection = str(item.get("collection") or "")
    for name in (catalogue, provenance(item)):
        if name is not None and (found := known_profile(name, collection)) is not None:
            return found
    if collection in COMMON:
        return replace(PROFILES["planetary-computer", collection], catalogue="generic", signer=None)
    return deduced_profile(item, collection)


def deduced_profile(item: JSON, collection: str) -> Profile:
    """Profile out of what an item says of itself.

    Band names: for Sentinel-2 those of the product (``B02`` ... ``B8A``, ``SCL``), found by the asset key or ``bands``/``eo:bands`` (name
    or common name); for anything else the asset keys. Of several assets for a band (``B02_10m``, ``B02_20m``) the finest comes first.
    Scale, offset and nodata: as declared; a Sentinel-2 item that declares no offset has the one of its processing baseline.
    """
    sentinel2 = is_sentinel2(item)
    candidates: dict[str, list[tuple[float, str, Mapping[str, Any]]]] = {}
    for key, asset in item["assets"].items():
        if not isinstance(asset, Mapping) or not _is_data(asset):
            continue
        if name := _sentinel2_name(key, asset) if sentinel2 else key:
            candidates.setdefault(name, []).append((_resolution(asset), key, asset))
    bands = {name: _rule(name, sorted(found, key=lambda entry: entry[:2]), sentinel2) for name, found in sorted(candidates.items())}
    policy: OffsetPolicy = "declared"
    return Profile(
        "generic", collection, bands, policy, 0.0, S2_PHASES if sentinel2 else {}, GRANULE_METADATA if sentinel2 else (), signer=None
    )


def _is_data(asset: Mapping[str, Any]) -> bool:
    roles = asset.get("roles")
    if isinstance(roles, list) and set(roles) & {"thumbnail", "overview", "metadata", "visual", "tiles"}:
        return False
    kind = str(asset.get("type", ""))
    return kind.startswith("image/") and "png" not in kind and "jpeg" not in kind if kind else "data" in (roles or ["data"])


def _rule(name: str, found: list[tuple[float, str, Mapping[str, Any]]], sentinel2: bool) -> BandRule:
    band = first_band(found[0][2])
    keys = tuple(key for _, key, _ in found)
    classes = name in _CLASS_KEYS.values() or "classification:classes" in found[0][2]
    nodata = band.get("nodata")
    if isinstance(nodata, str):
        nodata = float(nodata) if nodata.lower() in ("nan", "inf", "-inf") else None
    if nodata is None and sentinel2:
        nodata = 0.0
    default = 1e-4 if sentinel2 and not classes else 1.0
    scale = band.get("scale")
    return BandRule(keys, float(scale) if isinstance(scale, (int, float)) and scale else default, nodata, classes)


_SPELLINGS = {f"{prefix}{key}": key for key in ("nodata", "scale", "offset", "common_name") for prefix in ("", "raster:", "eo:")}
_IN_BANDS = _SPELLINGS | {"name": "name"}


def first_band(asset: Mapping[str, Any]) -> dict[str, Any]:
    """What an asset declares of its first band, in STAC 1.1 or 1.0: those of ``name common_name nodata scale offset`` that it does."""
    facts: dict[str, Any] = {}
    for key in ("eo:bands", "raster:bands", "bands"):
        if key in asset:
            band = _first(asset, key)
            facts.update({_IN_BANDS[spelling]: band[spelling] for spelling in band.keys() & _IN_BANDS.keys()})
    facts.update({_SPELLINGS[spelling]: asset[spelling] for spelling in asset.keys() & _SPELLINGS.keys()})
    return facts


def _first(asset: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    bands = asset.get(key)
    return bands[0] if isinstance(bands, list) and bands and isinstance(bands[0], Mapping) else {}


def _sentinel2_name(key: str, asset: Mapping[str, Any]) -> str | None:
    several = asset.get("bands") or asset.get("eo:bands")
    if isinstance(several, list) and len(several) > 1:
        return None
    stem = key.split("_", 1)[0]
    if stem in SENTINEL2 or stem in _COMMON_NAMES:
        return _COMMON_NAMES.get(stem, stem)
    if stem in _CLASS_KEYS:
        return _CLASS_KEYS[stem]
    facts = first_band(asset)
    name = str(facts.get("name", ""))
    return name if name in SENTINEL2 else _COMMON_NAMES.get(str(facts.get("common_name", "")))


def _resolution(asset: Mapping[str, Any]) -> float:
    for value in (asset.get("gsd"), _first(asset, "raster:bands").get("spatial_resolution"), asset.get("raster:spatial_resolution")):
        if isinstance(value, (int, float)) and value > 0:
            return float(value)
    transform = asset.get("proj:transform")
    return (
        abs(float(transform[0])) if isinstance(transform, list) and transform and isinstance(transform[0], (int, float)) else float("inf")
    )
