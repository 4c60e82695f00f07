"""Cubes out, in the layout of a published dataset."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import xarray as xr

from cubekit.cube import flat_attrs
from cubekit.errors import CommitError, InputError, TargetExistsError
from cubekit.exchange._layout import deepextremecubes
from cubekit.exchange._names import STEPS_PER_CHUNK
from cubekit.location import Location
from cubekit.store import open_cube

__all__ = ["LAYOUTS", "export_cube"]

LAYOUTS: Mapping[str, Callable[[xr.DataTree], xr.Dataset]] = MappingProxyType({"deepextremecubes": deepextremecubes})
"""Layouts by name: a cube in, one flat dataset out."""

_HOURS = {"units": "hours since 1970-01-01", "calendar": "proleptic_gregorian", "dtype": "int64"}


def export_cube(
    cube: xr.DataTree | str | os.PathLike[str], out: str | os.PathLike[str], layout: str = "deepextremecubes", *, overwrite: bool = False
) -> str:
    """Write a cube in the layout of a published dataset, as one flat Zarr v2 group that its loaders open.

    ``deepextremecubes``: the seven bands, ``SCL`` and ``cloudmask_en`` over (time, y, x), ``time`` in the middle of each five days (12:00
    of the third) with ``time_bnds``; ERA5-Land as ``<name>_mean``, ``_min``, ``_max`` over ``time``, fluxes from daily sums (and
    ``<name>_sum``, that of the five days); ``events`` and ``event_labels`` over the daily ``event_time``; ``cop_dem`` (y, x);
    ``lccs_class`` (y_300, x_300); ``crs``. Reflectance is int16 of scale 1e-4 and fill -9999. All attributes are flat.

    Parameters
    ----------
    cube
        Path or URL of a committed cube, or the opened tree.
    out
        Local folder to make. It is written under another name beside it and renamed when complete.
    layout
        One of `LAYOUTS`.
    overwrite
        Whether an existing Zarr group is replaced.

    Returns
    -------
    str
        Absolute path of the group.

    Raises
    ------
    InputError
        An unknown layout, a target that is not local or exists, or a cube that lacks what the layout needs.
    CommitError
        The disk is full or not writable; nothing is left behind.
    """
    if layout not in LAYOUTS:
        raise InputError(f"Layout {layout!r} is unknown", remedy=f"Use one of {', '.join(LAYOUTS)}")
    target = _check_target(out, overwrite)
    tree = cube if isinstance(cube, xr.DataTree) else open_cube(cube)
    flat = LAYOUTS[layout](tree)
    flat.attrs = flat_attrs(flat.attrs)
    for variable in flat.variables.values():
        variable.attrs = {key: value for key, value in variable.attrs.items() if value is not None}
    _write(flat, target)
    return str(target)


def _check_target(out: str | os.PathLike[str], overwrite: bool) -> Path:
    location = Location.parse(out)
    if not location.local:
        raise InputError(f"Cannot export to {location.url}", remedy="Export to a local path, then copy the folder")
    target = location.path
    if os.path.lexists(target):
        if not overwrite:
            raise TargetExistsError(f"{target} exists", remedy="Choose another name or allow to overwrite", target=str(target))
        if target.is_symlink() or not any((target / mark).is_file() for mark in (".zgroup", "zarr.json")):
            raise CommitError(f"{target} is no Zarr group, so it is not replaced", remedy="Choose another name", target=str(target))
    return target


def _write(flat: xr.Dataset, target: Path) -> None:
    """All of it under a hidden name beside the target, then one rename; an existing group gives way at the last moment."""
    token = uuid.uuid4().hex[:12]
    staged, old = (target.with_name(f".{target.name}.{token}.{kind}") for kind in ("partial", "old"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            # Text of variable length has no place in the specification of Zarr v2, but in every reader of it.
            warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
            flat.to_zarr(staged, mode="w-", zarr_format=2, consolidated=True, encoding=_encoding(flat))
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(staged, target)
        except OSError:
            if old.exists():
                os.rename(old, target)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommitError(f"Cannot write {target}: {reason}", remedy="Free some space or write elsewhere", target=str(target)) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _encoding(flat: xr.Dataset) -> dict[str, dict[str, Any]]:
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in flat.variables.items():
        chunks = tuple(
            min(STEPS_PER_CHUNK, size) if dim == "time" and variable.ndim == 3 else max(size, 1) for dim, size in variable.sizes.items()
        )
        encoding[str(name)] = {"chunks": chunks} if chunks else {}
        if variable.dtype.kind == "M":
            encoding[str(name)] |= _HOURS
        elif variable.dtype.kind == "f" and variable.ndim == 1 and name in flat.coords:
            encoding[str(name)]["_FillValue"] = None
    return encoding
