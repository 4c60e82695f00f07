"""Which source: by name, by path, or the first that is configured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cubekit.errors import InputError
from cubekit.read.climate._base import ClimateSource
from cubekit.read.climate._cache import DiskCache
from cubekit.read.climate._credentials import cds_key, earthdatahub_token
from cubekit.read.climate._known import earthdatahub, ecmwf_arco
from cubekit.read.climate._openmeteo import OpenMeteoSource
from cubekit.read.climate._store import StoreSource

__all__ = ["SOURCES", "configured_source", "open_source"]

SOURCES: Final = ("path", "ecmwf-arco", "earthdatahub", "open-meteo")
"""Names of sources, in the order in which ``auto`` takes the first that is configured."""


def configured_source(path: str | Path | None = None) -> str:
    """Name of the source that ``auto`` means now: a path (given, or ``$CUBEKIT_ERA5LAND``), a CDS key, an Earth Data Hub token, none."""
    if path or os.environ.get("CUBEKIT_ERA5LAND"):
        return "path"
    if cds_key() is not None:
        return "ecmwf-arco"
    return "earthdatahub" if earthdatahub_token() is not None else "open-meteo"


def open_source(
    name: str = "auto",
    *,
    path: str | Path | list[str | Path] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    convention: str = "auto",
    cache: DiskCache | bool = True,
    max_distance: float = 25.0,
    orography: str | None = None,
) -> ClimateSource:
    """A climate source; nothing is read or connected to yet.

    Parameters
    ----------
    name
        ``auto``, or one of `SOURCES`.
    path
        For ``path``: a Zarr store, NetCDF file, folder or pattern, local or remote; by default ``$CUBEKIT_ERA5LAND``.
    storage_options
        For remote paths, see `StoreSource`.
    convention
        For ``path``: how accumulated variables are stored; by default told from the data.
    cache
        A `DiskCache`, True for the one of the user, False for none.
    max_distance
        Farthest that a land cell may be, km.
    orography
        See `StoreSource`; not for ``open-meteo``.

    Raises
    ------
    InputError
        An unknown name; ``path`` without a path, or a path with another source.
    """
    chosen = configured_source(None if path is None else str(path)) if name == "auto" else name
    if chosen not in SOURCES:
        raise InputError(f"Unknown climate source {name!r}", remedy=f"Use auto or one of {', '.join(SOURCES)}; a store goes into path")
    if path is not None and chosen != "path":
        raise InputError(f"A path was given, but the source is {chosen!r}", remedy="Use the source 'path', or leave the path out")
    disk = (DiskCache() if cache else None) if isinstance(cache, bool) else cache
    if chosen == "path":
        where = path or os.environ.get("CUBEKIT_ERA5LAND")
        if not where:
            raise InputError("The source 'path' needs a path", remedy="Give path, or set CUBEKIT_ERA5LAND")
        return StoreSource(
            (where,),
            convention=convention,
            storage_options=dict(storage_options or {}),
            cache=disk,
            max_distance=max_distance,
            orography=orography,
        )
    if storage_options or convention != "auto":
        raise InputError(f"storage_options and convention are not for the source {chosen!r}", remedy="Leave them out")
    if chosen == "open-meteo":
        return OpenMeteoSource(cache=disk, max_distance=max_distance)
    known = ecmwf_arco if chosen == "ecmwf-arco" else earthdatahub
    return known(cache=disk, max_distance=max_distance, orography=orography)
