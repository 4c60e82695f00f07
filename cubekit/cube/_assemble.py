"""From the datasets of the layers to one described tree."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr

from cubekit.bands import SENTINEL2
from cubekit.cube._attributes import flat_attrs
from cubekit.cube._encode import encode_text, encode_time, is_text, pack_reflectance
from cubekit.cube._globals import global_attrs
from cubekit.cube._relief import with_elevation_difference
from cubekit.cube._tables import ATTRS, AXES, band_attrs
from cubekit.errors import InputError
from cubekit.grid import Grid
from cubekit.layout import own_dim
from cubekit.site import Site, TimeRange

__all__ = ["assemble", "spatial_ref"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_READ_ON_GRID = "Read the layers on the grid of the site"


def assemble(
    groups: Mapping[str, xr.Dataset],
    grid: Grid,
    site: Site,
    attrs: Mapping[str, Any] | None = None,
    *,
    recipe: str | None = None,
    digest: str | None = None,
    title: str | None = None,
    time: TimeRange | None = None,
    missing: Sequence[str] = (),
    created: datetime | None = None,
) -> xr.DataTree:
    """Put the datasets of the layers together and describe them, ready to be committed.

    Parameters
    ----------
    groups
        Datasets by group: ``"/"`` is the imagery, with dims (time, y, x) on `grid` in grid order (y descending); others such as
        ``"climate"`` and ``"events"`` have a ``time`` axis of their own. Reflectance is float (NaN is empty) or int16 (packed, -32768 is
        empty). Arrays may be lazy or memory maps; only the elevation is read here, for ``cell_elevation_difference``. What a layer states
        in attributes is kept; attributes of the imagery become attributes of the cube (``item_hrefs``: the items it was made of).
    grid, site
        Where, and for whom.
    attrs
        Further root attributes. Nested values become JSON text; secrets are redacted.
    recipe, digest
        The recipe as canonical JSON, and its digest.
    title
        By default made of the site's id.
    time
        Time range that was asked for.
    missing
        Kinds of layers that found nothing, which the recipe allowed.
    created
        Moment for ``date_created`` and ``history``; now by default.

    Returns
    -------
    xarray.DataTree
        Packed as it will be stored. ``time`` of a group other than the root is called after it (``climate_time``), because a tree hands
        the root's axis down; `cubekit.layout.group_dataset` gives such a group back as a plain dataset.

    Raises
    ------
    InputError
        For no data at all, names that no store can hold, arrays that do not fit the grid, or undefined times.
    """
    normal = {_group_name(name): ds for name, ds in groups.items()}
    if not normal:
        raise InputError("There is nothing to assemble", remedy="Give at least one group, for example the imagery as '/'")
    given_imagery = _checked(normal.pop("/", xr.Dataset()), grid)
    located = {"x": xr.Variable("x", grid.x), "y": xr.Variable("y", grid.y), "spatial_ref": spatial_ref(grid)}
    imagery = _describe(given_imagery, "/", located)
    given: dict[str, Any] = {"recipe": recipe, "recipe_digest": digest, "title": title, "missing_layers": " ".join(missing) or None}
    if time is not None:
        given |= {"requested_start": time.start, "requested_end": time.end}
    given = {key: value for key, value in given.items() if value is not None}
    imagery.attrs = dict(global_attrs(imagery, grid, site, {**given_imagery.attrs, **given, **(attrs or {})}, created))
    tree = {"/": imagery}
    for name, ds in with_elevation_difference(normal, imagery).items():
        tree[f"/{name}"] = _describe(_with_own_axes(ds, name, imagery), name)
    return xr.DataTree.from_dict(tree, name=site.id)


def spatial_ref(grid: Grid) -> xr.Variable:
    """Grid mapping variable of CF, with the attributes that GDAL and rioxarray look for."""
    cf = _crs_attrs(grid.epsg)
    west, _, _, north = grid.bounds
    transform = f"{west:.17g} {grid.resolution:.17g} 0.0 {north:.17g} 0.0 {-grid.resolution:.17g}"
    return xr.Variable((), np.int64(0), {**cf, "spatial_ref": cf["crs_wkt"], "GeoTransform": transform})


@lru_cache(maxsize=256)
def _crs_attrs(epsg: int) -> Mapping[str, Any]:
    from pyproj import CRS

    return MappingProxyType(flat_attrs(CRS.from_epsg(epsg).to_cf()))


def _group_name(name: str) -> str:
    plain = name.strip("/") or "/"
    if plain != "/" and not all(_NAME.fullmatch(part) for part in plain.split("/")):
        raise InputError(f"{name!r} is not usable as the name of a group", remedy="Use letters, digits and _, starting with a letter")
    return plain


def _checked(ds: xr.Dataset, grid: Grid) -> xr.Dataset:
    """The imagery as it is, if it lies on the grid and knows its times."""
    for dim, coordinate, size in (("y", grid.y, grid.height), ("x", grid.x, grid.width)):
        if ds.sizes.get(dim, size) != size:
            raise InputError(f"The imagery has {ds.sizes[dim]} pixels along {dim}, the grid {size}", remedy=_READ_ON_GRID)
        if dim in ds.coords and not np.allclose(ds[dim].values, coordinate, rtol=0, atol=1e-3 * grid.resolution):
            raise InputError(f"The {dim} coordinates of the imagery are not those of the grid", remedy=_READ_ON_GRID)
    if "time" in ds.dims and "time" not in ds.coords:
        raise InputError("The imagery has no time coordinate", remedy="Give the acquisition times as coordinate 'time'")
    return ds


def _with_own_axes(ds: xr.Dataset, group: str, imagery: xr.Dataset) -> xr.Dataset:
    """Rename the axes that a tree would otherwise mix up with those of its root."""
    renames = {}
    for dim in ("time", "y", "x"):
        shared = dim != "time" and ds.sizes.get(dim) == imagery.sizes[dim] and (dim not in ds.coords or ds[dim].equals(imagery[dim]))
        if dim in ds.dims and not shared:
            renames[dim] = own_dim(group, dim)
    for dim in ("y", "x"):
        if dim in ds.dims and dim not in renames:
            ds = ds.drop_vars(dim, errors="ignore")
    return ds.rename(renames)


def _describe(ds: xr.Dataset, group: str, coords: Mapping[str, xr.Variable] = MappingProxyType({})) -> xr.Dataset:
    """The dataset with `coords` in place of its own, every variable described and encoded."""
    given: dict[Any, xr.Variable] = {**ds.variables, **coords}
    variables = {str(name): _variable(str(name), variable, group) for name, variable in given.items()}
    if bad := [name for name in variables if not _NAME.fullmatch(name)]:
        raise InputError(f"{bad[0]!r} is not usable as the name of a variable", remedy="Use letters, digits and _, starting with a letter")
    if group == "/":
        for variable in variables.values():
            if {"y", "x"} <= set(variable.dims):
                variable.attrs.setdefault("grid_mapping", "spatial_ref")
    for name, variable in list(variables.items()):
        bounds = variables.get(str(variable.attrs.get("bounds")))
        if bounds is not None and variable.dtype.kind == bounds.dtype.kind == "M":
            variables[name] = encode_time(variable, name, bounds)
            bounds.encoding = dict(variables[name].encoding)
    located = {name: variables.pop(name) for name in dict.fromkeys(map(str, (*ds.coords, *coords)))}
    return xr.Dataset(variables, coords=located, attrs=flat_attrs(ds.attrs))


def _variable(name: str, variable: xr.Variable, group: str) -> xr.Variable:
    axis = name.removeprefix(own_dim(group, "")) if group != "/" else name
    known: Mapping[str, Any] = {}
    if axis in AXES and variable.dims == (name,):
        known = AXES[axis]
    elif group == "/":
        known = {**ATTRS.get(name, {}), **band_attrs(name)}
    described = variable.to_base_variable()
    described.attrs = {**flat_attrs(known), **flat_attrs(variable.attrs)}
    if group == "/" and name in SENTINEL2 and str(variable.encoding.get("dtype", "int16")) == "int16":
        return pack_reflectance(described)
    if variable.dtype.kind == "M":
        return encode_time(described, name)
    if is_text(described):
        return encode_text(described, name)
    return described
