"""What a cube is made of: names, marks of a committed store, chunk shapes, and how its parts are looked at."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cubekit.typing import JSON

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "CHUNK_EDGE",
    "CHUNK_STEPS",
    "CLIMATE",
    "DIGEST",
    "EVENTS",
    "FILL",
    "FORMAT",
    "FORMAT_VERSION",
    "ROOT_KEY",
    "SCALE",
    "VOLATILE",
    "canonical_json",
    "chunk_key",
    "chunk_shape",
    "decoded",
    "digest_of",
    "group_dataset",
    "is_band",
    "metadata_hash",
    "own_dim",
]

FORMAT, FORMAT_VERSION = "cubekit_format", "1"
"""Root attribute that names the layout, and its value; written last."""
DIGEST = "content_digest"
"""Root attribute with the digest of everything else; written last."""
ROOT_KEY = "zarr.json"
"""The object whose presence commits a cube."""
VOLATILE = frozenset({"date_created", "date_modified", "history", "software_versions", FORMAT, DIGEST})
"""Root attributes that may differ between identical builds."""

CLIMATE, EVENTS = "climate", "events"
SCALE, FILL = 1e-4, -32768
"""Packing of reflectance in int16."""
CHUNK_STEPS, CHUNK_EDGE = 165, 256
"""Time steps and pixels that a chunk has at most, more or less."""


def own_dim(group: str, dim: str) -> str:
    """Name under which `dim` of `group` is stored: a tree hands its root's dimensions down, so a group's own axis needs its own name.

    >>> own_dim("climate", "time")
    'climate_time'
    """
    return f"{group.strip('/').replace('/', '_')}_{dim}"


def group_dataset(tree: xr.DataTree, group: str) -> xr.Dataset:
    """One group as a plain dataset: only its own variables, with its axes called ``time``, ``y`` and ``x`` again.

    Parameters
    ----------
    tree
        A cube, as assembled or opened.
    group
        Name such as ``"climate"``; ``"/"`` is the imagery.

    Raises
    ------
    KeyError
        For a group that the cube does not have.
    """
    node: Any = tree[group] if group.strip("/") else tree
    ds: xr.Dataset = node.to_dataset(inherit=False)
    renames = {own_dim(group, dim): dim for dim in ("time", "y", "x") if own_dim(group, dim) in ds.dims}
    return ds.rename(renames)


def decoded(tree: xr.DataTree) -> xr.DataTree:
    """The same tree with packed integers turned into physical values and fill values into NaN, lazily; a no-op on an opened cube.

    Integers of one or two bytes become float32 (xarray would choose float64, since JSON does not tell the type of a scale factor).
    """
    return tree.map_over_datasets(_decoded)


def _decoded(ds: xr.Dataset) -> xr.Dataset:
    import numpy as np
    import xarray as xr

    packed = [name for name, variable in ds.data_vars.items() if {"scale_factor", "_FillValue"} & set(variable.attrs)]
    if not packed:
        return ds
    part = ds[packed].copy(deep=False)
    scales = {name: part[name].attrs["scale_factor"] for name in packed if "scale_factor" in part[name].attrs}
    for name, scale in scales.items():
        if part[name].dtype.itemsize <= 2:
            part[name].attrs["scale_factor"] = np.float32(scale)
    part = xr.decode_cf(part, decode_times=False, decode_coords=False)
    for name, scale in scales.items():
        part[name].encoding["scale_factor"] = scale
    return ds.assign(part.data_vars)


def is_band(variable: xr.DataArray | xr.Variable) -> bool:
    """Whether a variable of the imagery is a measured quantity over (time, y, x), as opposed to classes and flags."""
    packed = "scale_factor" in variable.attrs or "scale_factor" in variable.encoding
    return variable.dims[-3:] == ("time", "y", "x") and (packed or variable.dtype.kind == "f")


def chunk_shape(dims: Iterable[Any], shape: Iterable[int]) -> tuple[int, ...]:
    """Chunks of an array: all of a tile in space, about 165 steps in time, evenly cut; everything else whole.

    >>> chunk_shape(("time", "y", "x"), (330, 128, 128))
    (165, 128, 128)
    """
    dims, shape = tuple(map(str, dims)), tuple(shape)
    spatial = {"y", "x"} & {dim.rpartition("_")[2] for dim in dims}

    def length(dim: str, size: int) -> int:
        kind = dim.rpartition("_")[2]
        if kind in ("y", "x") and len(dims) > 1:
            return _even(size, CHUNK_EDGE, math.ceil)
        if kind == "time" and spatial:
            return _even(size, CHUNK_STEPS, round)
        return max(size, 1)

    return tuple(length(dim, size) for dim, size in zip(dims, shape, strict=True))


def chunk_key(index: Iterable[int], separator: str) -> str:
    """Key of a chunk below its array.

    >>> chunk_key((0, 1, 2), ".")
    'c.0.1.2'
    """
    return separator.join(["c", *map(str, index)])


def _even(size: int, target: int, rounding: Any) -> int:
    parts: int = max(1, rounding(size / target))
    return max(1, math.ceil(size / parts))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def metadata_hash(document: JSON, *, root: bool = False) -> str:
    """SHA-256 of a ``zarr.json`` document, of the root's without what may differ between identical builds."""
    document = dict(document)
    if root:
        document.pop("consolidated_metadata", None)
        document["attributes"] = {key: value for key, value in document.get("attributes", {}).items() if key not in VOLATILE}
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def digest_of(hashes: Mapping[str, str]) -> str:
    """Digest of a cube from the SHA-256 of its objects: of each chunk's bytes and of each metadata document in canonical form.

    Two cubes have the same digest if and only if their chunks are bit-identical and their metadata agree in everything but `VOLATILE`.
    """
    lines = "".join(f"{hashes[key]}  {key}\n" for key in sorted(hashes))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
