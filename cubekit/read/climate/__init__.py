"""Where climate comes from: ERA5(-Land) stores and services, read for sites."""

from cubekit.read.climate._base import ClimateSource, Hourly
from cubekit.read.climate._cache import DiskCache
from cubekit.read.climate._known import earthdatahub, ecmwf_arco
from cubekit.read.climate._openmeteo import OpenMeteoSource
from cubekit.read.climate._select import SOURCES, configured_source, open_source
from cubekit.read.climate._site import read_daily, read_hourly, site_climate
from cubekit.read.climate._store import StoreSource

__all__ = [
    "SOURCES",
    "ClimateSource",
    "DiskCache",
    "Hourly",
    "OpenMeteoSource",
    "StoreSource",
    "configured_source",
    "earthdatahub",
    "ecmwf_arco",
    "open_source",
    "read_daily",
    "read_hourly",
    "site_climate",
]
