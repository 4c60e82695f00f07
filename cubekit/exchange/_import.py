"""Published minicubes in: read, checked for known defects, described, and never changed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from cubekit.cube import assemble, flat_attrs
from cubekit.errors import InputError
from cubekit.exchange._defects import find_defects
from cubekit.exchange._open import open_published
from cubekit.exchange._parts import canonical_names, centre_of, describe_parts, grid_of
from cubekit.site import Site
from cubekit.store import write_cube

__all__ = ["import_cube"]


def import_cube(
    path: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, *, overwrite: bool = False
) -> tuple[xr.DataTree, list[str]]:
    """Read a published minicube, report its known defects, and describe it by CF. Values stay as they are.

    Parameters
    ----------
    path
        Minicube of DeepExtremeCubes (Zarr v2 or v3, local or remote) or of earthnet-minicuber (NetCDF or Zarr).
    out
        Where to commit the tree as a cube; by default it is only returned.
    overwrite
        Whether an existing cube is replaced.

    Returns
    -------
    tree : DataTree
        Imagery at the root (``s2_B02`` and the like as ``B02``, ``s2_dlmask`` as ``cloudmask_en``), ERA5-Land or E-OBS in ``/climate``,
        event codes in ``/events``, coarse land cover in ``/land_cover_300m``; root attribute ``import_defects``. On a projected grid it is
        a complete cube; a minicube in degrees keeps its ``lat`` and ``lon``.
    defects : list of str
        Each starts with its name: ``zone_off_by_one``, ``padded_start``, ``running_totals``, ``positive_only``, ``overflow``,
        ``nested_attributes``. Nothing is mended.

    Raises
    ------
    InputError
        No store there, or none with bands of Sentinel-2.
    ReadError, AccessDeniedError
        Where it cannot be read.
    """
    raw = open_published(path)
    ds = canonical_names(raw)
    defects = find_defects(ds)
    attrs = {**_flattened(raw.attrs), "import_defects": defects or None, "import_source": os.path.basename(os.fspath(path).rstrip("/"))}
    parts = describe_parts(ds)
    grid = grid_of(ds)
    lon, lat = centre_of(ds, grid)
    if grid is None:
        tree = xr.DataTree.from_dict({name: part.assign_attrs(flat_attrs(part.attrs)) for name, part in parts.items()})
        tree.attrs = dict(flat_attrs({**attrs, "Conventions": "CF-1.11", "site_longitude": lon, "site_latitude": lat}))
    else:
        tree = assemble(parts, grid, Site(lat, lon, _site_id(raw.attrs)), attrs)
    if out is not None:
        write_cube(tree, out, overwrite=overwrite)
    return tree, defects


def _flattened(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Mappings one level down become attributes of their own; anything deeper becomes JSON text later on."""
    flat: dict[str, Any] = {}
    for key, value in attrs.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}_{inner}": part for inner, part in value.items()})
        elif not (isinstance(value, (list, tuple, str, np.ndarray)) and len(value) == 0):
            flat[str(key)] = value
    return flat


def _site_id(attrs: Mapping[Any, Any]) -> str:
    """The published id where it is safe as a name, else one made of the coordinates."""
    name = str(attrs.get("data_id", ""))
    try:
        return Site(0.0, 0.0, name).id if re.fullmatch(r"[\w.+-]+", name) else ""
    except InputError:
        return ""
