"""Quantile tables: the thresholds that turn ranks into comparisons, stored so that later days need no ranking."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import InputError
from cubekit.events._flags import INDICATORS, Levels
from cubekit.events._ranks import describe
from cubekit.events._space import LatLonGrid
from cubekit.events._time import Reference

__all__ = ["pack_thresholds", "threshold_attrs", "threshold_reference", "unpack_thresholds"]

_BOUNDS = ("extreme", "normal_low", "normal_high")


def threshold_attrs(reference: Reference, levels: Levels, units: str) -> dict[str, Any]:
    """Attributes of a quantile table: all that is needed to use it again."""
    return {
        "rank_mode": reference.mode,
        "reference_start": reference.start,
        "reference_end": reference.end,
        "window_days": reference.window,
        "level_heat": levels.heat,
        "level_drought": levels.drought,
        "level_normal_low": levels.normal_low,
        "level_normal_high": levels.normal_high,
        "t2m_max_units": units,
        "rank_formula": describe(reference),
        "comment": "strict comparisons decide as ranks do: heat t2m_max > bound 0; drought pei < bound 0; normal bound 1 < x < bound 2",
    }


def pack_thresholds(tables: npt.NDArray[np.float32], coords: Any, attrs: dict[str, Any]) -> xr.Dataset:
    """Kernel thresholds (4, slots, 3, cells) as a dataset with dims (slot, bound, latitude, longitude), one variable per indicator."""
    shape = (tables.shape[1], 3, coords["latitude"].size, coords["longitude"].size)
    dims = ("slot", "bound", "latitude", "longitude")
    ds = xr.Dataset(
        {name: (dims, tables[i].reshape(shape), indicator_attrs(i, attrs["t2m_max_units"])) for i, name in enumerate(INDICATORS)},
        coords={name: coords[name] for name in ("latitude", "longitude")},
        attrs=attrs,
    )
    return ds.assign_coords(
        slot=("slot", np.arange(tables.shape[1]), slot_attrs()), bound=("bound", np.arange(3, dtype=np.uint8), bound_attrs())
    )


def indicator_attrs(i: int, units: str) -> dict[str, Any]:
    """Attributes of the i-th threshold variable."""
    return {"long_name": f"bounds of the code for {INDICATORS[i]}", "units": units if i == 0 else "mm d-1"}


def slot_attrs() -> dict[str, Any]:
    """Attributes of the slot coordinate."""
    return {"long_name": "calendar slot (0 = 1 January; 29 February counts as 28 February)", "units": "1"}


def bound_attrs() -> dict[str, Any]:
    """Attributes of the bound coordinate."""
    return {"long_name": "which bound", "flag_values": np.arange(3, dtype=np.uint8), "flag_meanings": " ".join(_BOUNDS)}


def threshold_reference(attrs: dict[str, Any]) -> tuple[Reference, Levels]:
    """The reference and levels of a stored table."""
    try:
        reference = Reference(attrs["rank_mode"], attrs["reference_start"], attrs["reference_end"], int(attrs["window_days"]))
        levels = Levels(*(float(attrs[f"level_{name}"]) for name in ("heat", "drought", "normal_low", "normal_high")))
    except KeyError as error:
        raise InputError(
            f"the quantile table lacks the attribute {error}", remedy="Use the 'thresholds' of an earlier detection."
        ) from error
    return reference, levels


def unpack_thresholds(ds: xr.Dataset, grid: LatLonGrid, units: str) -> npt.NDArray[np.float32]:
    """Stored table as kernel thresholds (4, slots, 3, cells).

    Raises
    ------
    InputError
        If the table is of another grid or another temperature unit.
    """
    if ds.attrs.get("t2m_max_units") != units:
        raise InputError(
            f"the quantile table is for t2m_max in {ds.attrs.get('t2m_max_units')}, the data are in {units}", remedy="Convert the data."
        )
    check_same_grid(ds, grid)
    parts = [ds[name].transpose("slot", "bound", "latitude", "longitude").values for name in INDICATORS]
    return np.stack([part.reshape(part.shape[0], 3, -1) for part in parts]).astype(np.float32, copy=False)


def check_same_grid(ds: xr.Dataset, grid: LatLonGrid) -> None:
    """Raise InputError unless the table's cells are the grid's cells, in the same order."""
    own = LatLonGrid.of(ds)
    same = (
        own.shape == grid.shape
        and np.allclose(own.lat, grid.lat, atol=1e-4)
        and np.allclose((own.lon - grid.lon + 180) % 360, 180, atol=1e-4)
    )
    if not same:
        raise InputError(
            f"the quantile table is for a grid of {own.shape} cells that is not the grid of the data ({grid.shape})",
            remedy="Use the same grid.",
        )
