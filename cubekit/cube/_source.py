"""A stored cube as it lies there: packed values and metadata documents."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from cubekit.layout import ROOT_KEY
from cubekit.location import Location
from cubekit.typing import JSON

__all__ = ["open_packed"]

_SMALL = 1 << 28
"""Bytes up to which a group is read at once instead of step by step."""


def open_packed(location: Location) -> tuple[xr.DataTree, JSON, dict[str, JSON]]:
    """Tree with packed values, document of the root, and documents of arrays and groups by path (the root's is ``""``)."""
    root: JSON = json.loads(location.get(ROOT_KEY) or b"")
    if root.get("consolidated_metadata") is None:
        root.pop("consolidated_metadata", None)  # zarr up to 3.1.3 writes null
    documents = {"": root}
    for path in root.get("consolidated_metadata", {}).get("metadata", {}):
        data = location.get(f"{path}/{ROOT_KEY}")
        if data is not None:
            documents[path] = json.loads(data)
    store: Any = location.zarr_store()
    tree: xr.DataTree = xr.open_datatree(store, engine="zarr", consolidated="consolidated_metadata" in root, mask_and_scale=False)
    for node in tree.subtree:
        if node.nbytes < _SMALL:
            node.load()
    return tree, root, documents
