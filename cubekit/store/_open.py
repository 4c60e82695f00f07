"""Open committed cubes, and only those."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from cubekit.layout import decoded
from cubekit.location import Location
from cubekit.store._local import restore_interrupted

__all__ = ["open_cube"]


def open_cube(
    target: str | os.PathLike[str],
    *,
    chunks: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Open a committed cube lazily.

    Parameters
    ----------
    target
        Local path, or URL (``s3://``, ``gs://``, ``az://``, ``http(s)://``).
    chunks
        As in `xarray.open_zarr`: None reads when values are asked for, ``{}`` gives dask arrays in the chunks of the store.
    storage_options
        Settings of the object store, see obstore.

    Returns
    -------
    xarray.DataTree
        Decoded: reflectance as float32 with NaN where empty, times as datetime64.

    Raises
    ------
    CommitError
        For a cube that was not committed, or that cubekit did not write.
    InputError
        Where nothing is found.
    ReadError, AccessDeniedError
        Where the store does not answer, or refuses.
    """
    location = Location.parse(target, storage_options)
    if location.local:
        restore_interrupted(location)
    location.committed_root()
    store: Any = location.zarr_store()
    packed = xr.open_datatree(store, engine="zarr", consolidated=True, mask_and_scale=False, decode_coords="all", chunks=chunks)
    tree = decoded(packed)
    for node in tree.subtree:
        for variable in node.variables.values():
            _type_flags(variable)
    return tree


def _type_flags(variable: xr.Variable) -> None:
    # CF wants flags in the type of their variable; JSON knows no types.
    for key in ("flag_values", "flag_masks"):
        if key in variable.attrs and variable.dtype.kind in "iu":
            variable.attrs[key] = np.atleast_1d(np.asarray(variable.attrs[key], dtype=variable.dtype))
