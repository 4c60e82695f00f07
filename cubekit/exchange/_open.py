"""Open what others wrote: flat Zarr groups of either version, and NetCDF."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

from cubekit.errors import InputError, ReadError
from cubekit.location import Location

__all__ = ["open_published"]

_MARKS = (".zmetadata", ".zgroup", "zarr.json")
_NETCDF = (b"CDF", b"\x89HDF")


def open_published(path: str | os.PathLike[str]) -> xr.Dataset:
    """The dataset at a path or URL, decoded and lazy.

    Raises
    ------
    InputError
        If nothing is there, or neither Zarr nor NetCDF.
    ReadError
        If it is damaged.
    """
    location = Location.parse(path)
    kind = _kind(location)
    try:
        if kind == "netcdf":
            ds = xr.open_dataset(location.path, decode_coords="all")
        else:
            store: Any = location.zarr_store()
            ds = xr.open_zarr(store, consolidated=kind == ".zmetadata", chunks=None, decode_coords="all")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"{location.url} cannot be opened: {str(error)[:200]}", remedy="Check that the copy is whole", href=location.url
        ) from error
    return _single(ds)


def _kind(location: Location) -> str:
    if location.local and location.path.is_file():
        with open(location.path, "rb") as file:
            head = file.read(4)
        if head.startswith(_NETCDF):
            return "netcdf"
    else:
        for mark in _MARKS:
            if location.get(mark) is not None:
                return mark
    raise InputError(f"{location.url} is neither Zarr nor NetCDF", remedy="Give the folder of a Zarr group, or a NetCDF file")


def _single(ds: xr.Dataset) -> xr.Dataset:
    """Reflectance packed in two bytes as float32, which tells every step of 1e-4; JSON scale factors make float64 of it."""
    packed = {
        name: array.astype(np.float32)
        for name, array in ds.data_vars.items()
        if array.dtype == np.float64
        and np.dtype(array.encoding.get("dtype", "f8")) == np.int16
        and array.encoding.get("scale_factor") == 1e-4
    }
    for name, array in packed.items():
        array.attrs, array.encoding = ds[name].attrs, ds[name].encoding
    return ds.assign(packed)
