"""The built-in profiles, as data. Sources stand beside each table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from cubekit.bands import SENTINEL2
from cubekit.catalog._profile import BandRule, Profile

__all__ = ["COMMON", "ENDPOINTS", "GRANULE_METADATA", "PC_ACCOUNTS", "PROFILES", "REQUESTER_PAYS", "S2_PHASES", "Endpoint", "known_profile"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A STAC API that is known by name.

    Parameters
    ----------
    url
        Root of the API.
    hosts
        Host names under which it answers.
    page_limit
        Items per page: Earth Search runs on a service with responses of at most 6 MB, Planetary Computer allows 1000.
    signer
        Name of the signer of its hrefs.
    """

    url: str
    hosts: tuple[str, ...]
    page_limit: int
    signer: str | None = None


ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType(
    {
        "planetary-computer": Endpoint(
            "https://planetarycomputer.microsoft.com/api/stac/v1", ("planetarycomputer.microsoft.com",), 250, "planetary-computer"
        ),
        "earth-search": Endpoint("https://earth-search.aws.element84.com/v1", ("earth-search.aws.element84.com",), 100),
    }
)

# Storage accounts that Planetary Computer's items point at (its dataset pages): where items come from a file, only these are signed.
PC_ACCOUNTS = frozenset(
    """ai4edataeuwest elevationeuwest goeseuwest hls2euwest landcoverdata landsateuwest modiseuwest naipeuwest sentinel1euwest
    sentinel1euwestrtc sentinel2l2a01 sentinel3euwest sentinel5euwest""".split()
)

# Buckets whose reader pays for the transfer (AWS Registry of Open Data).
REQUESTER_PAYS = frozenset({"sentinel-s2-l2a", "sentinel-s2-l1c", "sentinel-s1-l1c", "usgs-landsat", "naip-analytic", "naip-source"})

# 10 000 000 m, the false northing of the south, is 40 m beyond a multiple of 60.
S2_PHASES = {(60.0, "N"): (0.0, 0.0), (60.0, "S"): (0.0, 40.0)}
# Landsat pixel centres, not edges, are multiples of 30 m; its southern scenes keep the northern zone (negative northings).
_LANDSAT_PHASES = {(30.0, "N"): (15.0, 15.0), (30.0, "S"): (15.0, 15.0)}

GRANULE_METADATA = ("granule-metadata", "granule_metadata", "metadata")

# Earth Search v1 names assets after the STAC common names, except that the red edges are counted.
_EARTH_SEARCH_KEYS = {band.name: band.common_name for band in SENTINEL2.values()} | {
    "B05": "rededge1",
    "B06": "rededge2",
    "B07": "rededge3",
}


def _sentinel2_bands(keys: Mapping[str, str], scl: str, others: Mapping[str, str]) -> dict[str, BandRule]:
    bands = {name: BandRule((keys[name],), 1e-4) for name in SENTINEL2}
    bands["SCL"] = BandRule((scl,), classes=True)
    return bands | {name: BandRule((key,), 1e-3, fixed_offset=0.0) for name, key in others.items()}


_BY_NAME = _sentinel2_bands({name: name for name in SENTINEL2}, "SCL", {"AOT": "AOT", "WVP": "WVP"})
_BY_COMMON_NAME = _sentinel2_bands(_EARTH_SEARCH_KEYS, "scl", {"AOT": "aot", "WVP": "wvp"})

_PC_SENTINEL2 = Profile(
    "planetary-computer", "sentinel-2-l2a", _BY_NAME, "by-baseline", 0.0, S2_PHASES, GRANULE_METADATA, "planetary-computer"
)
_EARTH_SEARCH_SENTINEL2 = Profile("earth-search", "sentinel-2-l2a", _BY_COMMON_NAME, "fixed", 0.0, S2_PHASES, GRANULE_METADATA)

_COP_DEM = Profile("planetary-computer", "cop-dem-glo-30", {"DEM": BandRule(("data",), nodata=None)}, signer="planetary-computer")
_WORLDCOVER = Profile("planetary-computer", "esa-worldcover", {"map": BandRule(("map",), classes=True)}, signer="planetary-computer")

# Gamma naught in linear power.
_RTC = Profile(
    "planetary-computer",
    "sentinel-1-rtc",
    {name: BandRule((name,), nodata=-32768.0) for name in ("vv", "vh", "hh", "hv")},
    signer="planetary-computer",
)

# USGS, Landsat Collection 2 Level-2 science product guide: reflectance = DN * 2.75e-5 - 0.2, temperature (K) = DN * 0.00341802 + 149.
_LANDSAT = Profile(
    "planetary-computer",
    "landsat-c2-l2",
    {
        **{name: BandRule((name,), 2.75e-5) for name in ("coastal", "blue", "green", "red", "nir08", "swir16", "swir22")},
        **{name: BandRule((name,), 0.00341802, fixed_offset=149 / 0.00341802) for name in ("lwir11", "lwir")},
        "qa_pixel": BandRule(("qa_pixel",), nodata=1.0, classes=True),
        "qa_radsat": BandRule(("qa_radsat",), nodata=None, classes=True),
        "qa_aerosol": BandRule(("qa_aerosol",), nodata=1.0, classes=True),
    },
    "fixed",
    -0.2 / 2.75e-5,
    _LANDSAT_PHASES,
    signer="planetary-computer",
)


def _hls(catalogue: str, collection: str, bands: tuple[str, ...], signer: str | None) -> Profile:
    # HLS v2.0 user guide: scale 1e-4, fill -9999, Fmask fill 255; reflectance is BRDF-adjusted to nadir.
    rules = {name: BandRule((name,), 1e-4, -9999.0) for name in bands} | {"Fmask": BandRule(("Fmask",), nodata=255.0, classes=True)}
    return Profile(catalogue, collection, rules, signer=signer, nbar="already")


_HLS_L30 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B09")
_HLS_S30 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


def _table() -> dict[tuple[str, str], Profile]:
    shared = [_COP_DEM, _WORLDCOVER, _RTC, _LANDSAT]
    profiles = [
        _PC_SENTINEL2,
        *shared,
        _hls("planetary-computer", "hls2-l30", _HLS_L30, "planetary-computer"),
        _hls("planetary-computer", "hls2-s30", _HLS_S30, "planetary-computer"),
        *(_hls("lp-cloud", f"HLSL30{version}", _HLS_L30, None) for version in ("_2.0", ".v2.0")),
        *(_hls("lp-cloud", f"HLSS30{version}", _HLS_S30, None) for version in ("_2.0", ".v2.0")),
        # The offset is in the pixels already, whatever raster:bands and earthsearch:boa_offset_applied say.
        _EARTH_SEARCH_SENTINEL2,
        replace(_EARTH_SEARCH_SENTINEL2, collection="sentinel-2-c1-l2a", fixed_offset=-1000.0),
        replace(_EARTH_SEARCH_SENTINEL2, collection="sentinel-2-pre-c1-l2a", offset="by-baseline"),
        # The same files as sentinel-2-l2a, under the names of Earth Search v0.
        replace(_EARTH_SEARCH_SENTINEL2, collection="sentinel-s2-l2a-cogs", bands=_BY_NAME),
        *(replace(profile, catalogue="earth-search", signer=None) for profile in (_COP_DEM, _LANDSAT)),
        *(replace(profile, catalogue="demo", signer=None) for profile in (_PC_SENTINEL2, *shared)),
    ]
    return {(profile.catalogue, profile.collection): profile for profile in profiles}


PROFILES: Mapping[tuple[str, str], Profile] = MappingProxyType(_table())
"""Built-in profiles by (catalogue, collection)."""


COMMON = frozenset({"cop-dem-glo-30", "esa-worldcover", "sentinel-1-rtc", "landsat-c2-l2", "hls2-l30", "hls2-s30"})
"""Collections whose files are the same wherever they are served."""


def known_profile(catalogue: str, collection: str) -> Profile | None:
    """Built-in profile of a collection at a catalogue, None where there is none."""
    return PROFILES.get((catalogue, collection))
