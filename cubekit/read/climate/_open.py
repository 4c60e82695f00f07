"""Opening ERA5(-Land) data lazily: Zarr or NetCDF, here or anywhere."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import obstore
import xarray as xr
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url
from zarr.errors import BaseZarrError
from zarr.storage import ObjectStore

from cubekit.climate import canonical_hourly, canonical_names
from cubekit.errors import AccessDeniedError, CubekitError, InputError, ReadError
from cubekit.read.climate._cache import DiskCache
from cubekit.read.climate._credentials import require_safe_host
from cubekit.read.climate._kept import KeptChunks
from cubekit.redact import redact, unsigned

__all__ = ["READ_ERRORS", "as_read_error", "cell_heights", "is_remote", "open_era5", "open_raw"]

_SCHEMES = ("http", "https", "s3", "gs", "az", "abfs")
_OPTIONS = {"headers", "config", "client_options", "retry_config", "anon", "endpoint_url", "key", "secret", "token", "region"}
_S3 = {
    "key": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "token": "aws_session_token",
    "endpoint_url": "endpoint",
    "region": "region",
}
_GRAVITY = 9.80665
_REFUSED = re.compile(r"\b40[13] (Unauthorized|Forbidden)\b")
_NETCDF = (".nc", ".nc4", ".netcdf", ".h5", ".cdf")


READ_ERRORS: Final = (BaseError, BaseZarrError, OSError, ValueError, RuntimeError)
"""What storage libraries raise when a store or chunk cannot be read or decoded."""


def is_remote(path: str) -> bool:
    """Whether `path` is a URL."""
    return "://" in path


def as_read_error(error: Exception, where: str) -> ReadError | AccessDeniedError:
    """What a storage library raised, in cubekit's terms and without secrets."""
    name = unsigned(where)
    refused = isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError))
    if refused or _REFUSED.search(str(error)):
        return AccessDeniedError(
            f"{name} refused access", remedy="Check the credentials (docs/climate.md) and that the licence was accepted", href=name
        )
    if isinstance(error, (NotFoundError, FileNotFoundError)):
        return ReadError(f"{name} does not exist", remedy="Check the path or URL", href=name)
    return ReadError(f"{name} could not be read: {redact(str(error))[:300]}", remedy="Try again; check the path or URL", href=name)


def _object_store(url: str, options: Mapping[str, Any]) -> Any:
    """The obstore store of a URL; understands obstore's options and the common ones of fsspec."""
    unknown = set(options) - _OPTIONS
    if unknown:
        raise InputError(f"Unknown storage option {', '.join(sorted(unknown))}", remedy=f"Known are {', '.join(sorted(_OPTIONS))}")
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise InputError(f"Scheme {parts.scheme!r} of {url} is not supported", remedy=f"Use one of {', '.join(_SCHEMES)}, or a local path")
    client = dict(options.get("client_options") or {})
    headers = dict(options.get("headers") or {})
    if headers:
        require_safe_host(url)
        client["default_headers"] = {**dict(client.get("default_headers") or {}), **headers}
    if parts.scheme == "http":
        client.setdefault("allow_http", True)
    # A chunk may be tens of MB from tape-backed storage; the whole request, not the silence, is timed.
    client.setdefault("timeout", "600s")
    config = dict(options.get("config") or {})
    if parts.scheme == "s3":
        config.update({target: options[source] for source, target in _S3.items() if options.get(source)})
        if options.get("anon"):
            config["skip_signature"] = True
    retry = options.get("retry_config") or {"max_retries": 5, "retry_timeout": timedelta(seconds=180)}
    arguments: dict[str, Any] = {"client_options": client, "retry_config": retry}
    if config:
        arguments["config"] = config
    return from_url(url, **arguments)


def _download(url: str, options: Mapping[str, Any], cache: DiskCache) -> Path:
    """A remote NetCDF file as a local one, fetched once."""
    folder, _, name = unsigned(url).rpartition("/")
    path = cache.path(unsigned(url), name)
    if not path.exists():
        store = _object_store(folder, options)
        cache.put(path, bytes(obstore.get(store, name).bytes()))
    return path


def _is_zarr(path: str) -> bool:
    if path.rstrip("/").endswith(".zarr"):
        return True
    folder = Path(path)
    return any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata"))


def _open_zarr(store: Any, name: str, chunks: dict[str, Any] | None) -> xr.Dataset:
    """Consolidated metadata if there are any; over http nothing can be listed without."""
    try:
        consolidated: xr.Dataset = xr.open_zarr(store, chunks=chunks, consolidated=True)
        return consolidated
    except (ValueError, KeyError):
        if not name.startswith("http"):
            plain: xr.Dataset = xr.open_zarr(store, chunks=chunks, consolidated=False)
            return plain
    raise ReadError(
        f"{unsigned(name)} does not exist, or lacks the consolidated metadata that a Zarr store needs over http",
        remedy="Check the URL; consolidate the store with zarr.consolidate_metadata",
        href=unsigned(name),
    )


def open_raw(path: str, options: Mapping[str, Any], cache: DiskCache | None, chunks: dict[str, Any] | None = None) -> xr.Dataset:
    """One store or file as it is, lazily; raises ReadError or AccessDeniedError."""
    try:
        if is_remote(path):
            if path.lower().endswith(_NETCDF):
                return xr.open_dataset(_download(path, options, cache or DiskCache()), chunks=chunks)
            remote = ObjectStore(_object_store(path, options), read_only=True)
            if cache is None:
                return _open_zarr(remote, path, chunks)
            kept = KeptChunks(remote, unsigned(path), cache)
            data = _open_zarr(kept, path, chunks)
            kept.learn(data)
            return data
        if not Path(path).exists():
            raise ReadError(f"{path} does not exist", remedy="Check the path", href=path)
        return _open_zarr(path, path, chunks) if _is_zarr(path) else xr.open_dataset(path, chunks=chunks)
    except CubekitError:
        raise
    except (*READ_ERRORS, KeyError) as error:
        raise as_read_error(error, path) from None


def _expand(path: str) -> list[str]:
    """One path, a pattern, or a folder of NetCDF files."""
    if is_remote(path):
        return [path]
    expanded = str(Path(path).expanduser())
    if Path(expanded).is_dir() and not _is_zarr(expanded):
        found = sorted(str(p) for p in Path(expanded).iterdir() if p.suffix in _NETCDF)
    elif any(c in expanded for c in "*?["):
        found = sorted(glob.glob(expanded))
    else:
        return [expanded]
    if not found:
        raise ReadError(f"No NetCDF file matches {path}", remedy="Check the folder or pattern", href=path)
    return found


def _regular(data: xr.Dataset) -> bool:
    """Whether hours can be taken by index from the arrays as they are stored."""
    time = data.indexes.get("time")
    plain = all(set(map(str, v.dims)) <= {"time", "latitude", "longitude"} for v in data.data_vars.values())
    return plain and time is not None and bool(time.is_monotonic_increasing) and bool(time.is_unique)


def open_era5(
    paths: str | Path | list[str | Path], options: Mapping[str, Any], cache: DiskCache | None
) -> tuple[xr.Dataset, xr.DataArray | None]:
    """Open one or several stores or files as one lazy dataset with ERA5 short names and increasing time; and its `cell_heights`.

    Notes
    -----
    A regular store stays as stored, for reading chunk by chunk. Anything else (several files, ``expver`` as a dimension, hours out of
    order) becomes lazy dask arrays in canonical form.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    names = [name for path in given for name in _expand(str(path))]
    if not names:
        raise InputError("No path given", remedy="Give a Zarr store, NetCDF file, folder or pattern")
    if len(names) == 1:
        raw = open_raw(names[0], options, cache, None)
        single = canonical_names(raw)
        if _regular(single):
            return single, cell_heights(raw)
    opened = [open_raw(name, options, cache, {}) for name in names]
    heights = next((found for raw in opened if (found := cell_heights(raw)) is not None), None)
    parts = [_grouped(raw) for raw in opened]
    by_variables: dict[frozenset[str], list[xr.Dataset]] = {}
    for part in parts:
        by_variables.setdefault(frozenset(map(str, part.data_vars)), []).append(part)
    joined = [canonical_hourly(_join(group)) for group in by_variables.values()]
    merged = joined[0] if len(joined) == 1 else xr.merge(joined, join="outer", compat="override", combine_attrs="drop_conflicts")
    return merged, heights


def cell_heights(data: xr.Dataset) -> xr.DataArray | None:
    """Elevation of the grid in m over (latitude, longitude): ``elevation`` or ``orography``, else geopotential ``z``.

    Lazy: the attribute ``factor`` turns what is stored into m.
    """
    data = data.rename({old: new for old, new in (("lat", "latitude"), ("lon", "longitude")) if old in data.dims})
    for name in ("elevation", "orography", "z"):
        if name in data and {"latitude", "longitude"} <= set(data[name].dims):
            field = data[name].isel({dim: 0 for dim in data[name].dims if dim not in ("latitude", "longitude")}, drop=True)
            metres = name != "z" or str(field.attrs.get("units", "")).strip() in ("m", "metre", "meter")
            return field.assign_attrs(factor=1.0 if metres else 1.0 / _GRAVITY)
    return None


def _grouped(data: xr.Dataset) -> xr.Dataset:
    tidy = canonical_hourly(data)
    # Rounded coordinates let float32 and float64 files of one grid meet.
    for name in ("latitude", "longitude"):
        if name in tidy.dims:
            tidy = tidy.assign_coords({name: np.round(tidy[name].values.astype(np.float64), 4)})
    return tidy


def _join(group: list[xr.Dataset]) -> xr.Dataset:
    if len(group) == 1:
        return group[0]
    if not all("preliminary" in part.coords for part in group):
        group = [part.drop_vars("preliminary", errors="ignore") for part in group]
    ordered = sorted(group, key=lambda part: part["time"].values[0])
    return xr.concat(ordered, "time", join="outer", coords="minimal", compat="override", combine_attrs="drop_conflicts")
