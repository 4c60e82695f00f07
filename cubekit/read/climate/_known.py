"""The two public Zarr archives of ERA5-Land, by their documented layouts."""

from __future__ import annotations

from typing import Final

from cubekit.errors import AccessDeniedError
from cubekit.read.climate._cache import DiskCache
from cubekit.read.climate._credentials import basic, bearer, cds_key, earthdatahub_token
from cubekit.read.climate._store import StoreSource

__all__ = ["ARCO_GROUPS", "EARTHDATAHUB_URL", "earthdatahub", "ecmwf_arco"]

ARCO_BASE: Final = "https://arco.datastores.ecmwf.int"

ARCO_GROUPS: Final = {
    "sfc-2m-temperature": 7,
    "sfc-wind": 8,
    "sfc-pressure-precipitation": 9,
    "sfc-radiation-heat": 10,
    "sfc-soil-water": 5,
}
"""Topic groups of ERA5-Land and the number of the bucket each lies in; every group is a Zarr store of its own."""

EARTHDATAHUB_URL: Final = "https://data.earthdatahub.destine.eu/era5/era5-land-v0.zarr"


def ecmwf_arco(
    *, cache: DiskCache | None = None, base: str = ARCO_BASE, max_distance: float = 25.0, orography: str | None = None
) -> StoreSource:
    """ECMWF's ARCO Zarr of ERA5-Land, chunked for long series (33,792 hours x 4 x 8 cells).

    De-accumulated by the producer; latitude ascending, longitude -179.9 to 180; from 1950-01-02 to about five days ago. It offers no
    ``e``, ``pev`` and ``ssr``. The key of the Climate Data Store is sent as a bearer token.

    Raises
    ------
    AccessDeniedError
        When first read without a key in ``$CDSAPI_KEY`` or ``~/.cdsapirc``.
    """

    def headers() -> dict[str, str]:
        key = cds_key()
        if key is None:
            raise AccessDeniedError(
                "No key of the Climate Data Store found",
                remedy="Put it into ~/.cdsapirc (key: ...) or CDSAPI_KEY; the licence of ERA5-Land must be accepted on the CDS site",
            )
        return bearer(key)

    pattern = "{base}/cadl-arco-geo-{number:03d}/arco/reanalysis_era5_land/{group}/geoChunked.zarr"
    return StoreSource(
        tuple(pattern.format(base=base, number=number, group=group) for group, number in ARCO_GROUPS.items()),
        name="ecmwf-arco",
        convention="arco",
        headers=headers,
        cache=cache,
        max_distance=max_distance,
        orography=orography,
        description="ERA5-Land hourly time series, ARCO Zarr of ECMWF, Copernicus Climate Change Service, CC-BY 4.0",
    )


def earthdatahub(
    *, cache: DiskCache | None = None, url: str = EARTHDATAHUB_URL, max_distance: float = 25.0, orography: str | None = None
) -> StoreSource:
    """ERA5-Land in DestinE's Earth Data Hub: Zarr v3, chunks of 1,440 hours x 50 x 100 cells, ``valid_time``, longitude 0 to 360.

    Accumulated over the stamps 01 to 00 UTC as in the original. The personal access token is the password of the host in ``~/.netrc``.

    Raises
    ------
    AccessDeniedError
        When first read without a token.
    """

    def headers() -> dict[str, str]:
        found = earthdatahub_token()
        if found is None:
            raise AccessDeniedError(
                "No token of the Earth Data Hub found",
                remedy="Put it into ~/.netrc: machine data.earthdatahub.destine.eu login edh password TOKEN",
            )
        return basic(*found)

    return StoreSource(
        (url,),
        name="earthdatahub",
        convention="earthdatahub",
        headers=headers,
        cache=cache,
        max_distance=max_distance,
        orography=orography,
        description="ERA5-Land hourly, Earth Data Hub of Destination Earth, Copernicus Climate Change Service, CC-BY 4.0",
    )
