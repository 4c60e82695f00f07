"""The events store: its layout, writing parts of it, and the commit."""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec

from cubekit import __version__
from cubekit.errors import CommitError, InputError
from cubekit.event_cube._plan import Tiling
from cubekit.events._detect import pei_attrs
from cubekit.events._flags import INDICATORS, MISSING, WINDOWS, event_attrs
from cubekit.events._label import label_attrs
from cubekit.events._quantiles import bound_attrs, indicator_attrs, slot_attrs, threshold_attrs
from cubekit.events._scan import ScanPlan
from cubekit.events._space import LatLonGrid
from cubekit.events._table import TABLE_UNITS, EventTables

__all__ = ["building", "create_store", "write_tables"]

LAYOUT = "cubekit-events/1"
_EPOCH = np.datetime64("1950-01-01", "D")
_DAYS = {"units": "days since 1950-01-01", "calendar": "proleptic_gregorian"}


@contextmanager
def building(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A hidden sibling folder that becomes ``path`` when the block ends well, and vanishes when it does not.

    Raises
    ------
    InputError
        If ``path`` is a URL.
    CommitError
        If ``path`` exists (and ``overwrite`` is not given), or its folder does not.
    """
    if "://" in str(path):
        raise InputError(f"events are written to local disk, not to {path}", remedy="Write locally, then copy the store.")
    final = Path(path).absolute()
    if final.exists() and not overwrite:
        raise CommitError(f"{final} exists", remedy="Choose another name or overwrite it.", path=str(final))
    if not final.parent.is_dir():
        raise CommitError(f"the folder {final.parent} does not exist", remedy="Make it first.", path=str(final))
    _sweep(final)
    hidden = final.with_name(f".{final.name}.{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.partial")
    hidden.mkdir()
    try:
        yield hidden
        _swap(hidden, final, overwrite)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _swap(hidden: Path, final: Path, overwrite: bool) -> None:
    if final.exists():
        if not overwrite:
            raise CommitError(f"{final} appeared while it was being built", remedy="Remove it or choose another name.", path=str(final))
        old = hidden.with_name(hidden.name.replace(".partial", ".old.partial"))
        final.rename(old)
        hidden.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    else:
        hidden.rename(final)


def _sweep(final: Path) -> None:
    """Remove what dead writers of this host left behind."""
    prefix = f".{final.name}.{socket.gethostname()}-"
    for left in final.parent.glob(f".{final.name}.*.partial"):
        pid = left.name.removeprefix(prefix).split("-")[0]
        if left.name.startswith(prefix) and pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def create_store(path: Path, plan: ScanPlan, grid: LatLonGrid, lon: Any, tiling: Tiling, units: str, connectivity: int) -> None:
    """Metadata, coordinates and empty arrays of the store; ``lon`` are the longitudes as they were given."""
    root = zarr.create_group(path, zarr_format=3, attributes=_root_attrs(plan, connectivity))
    dims = ("time", "latitude", "longitude")
    shape = (plan.days_out, *grid.shape)
    _coordinates(root, plan, grid, lon)
    _array(root, "events", shape, "uint8", tiling.chunks, dims, MISSING, event_attrs())
    _array(root, "event_labels", shape, "uint32", tiling.chunks, dims, 0, label_attrs(connectivity))
    for n in WINDOWS if plan.keep_pei else ():
        _array(root, f"pei_{n}", shape, "float32", tiling.chunks, dims, np.nan, pei_attrs(n))
    group = root.create_group("thresholds", attributes=threshold_attrs(plan.reference, plan.levels, units))
    slots = plan.reference.slots
    _vector(group, "slot", np.arange(slots, dtype=np.int32), slot_attrs())
    _vector(group, "bound", np.arange(3, dtype=np.uint8), bound_attrs())
    _coordinates(group, None, grid, lon)
    for i, name in enumerate(INDICATORS):
        dims4 = ("slot", "bound", "latitude", "longitude")
        _array(group, name, (slots, 3, *grid.shape), "float32", (slots, 3, *tiling.chunks[1:]), dims4, np.nan, indicator_attrs(i, units))


def _root_attrs(plan: ScanPlan, connectivity: int) -> dict[str, Any]:
    return {
        "Conventions": "CF-1.11, ACDD-1.3",
        "title": "Dry-hot extreme events",
        "source": f"cubekit {__version__}, events detect",
        "references": "Weynants et al. 2025, ESSD 17, 6621 (method)",
        "layout": LAYOUT,
        "min_duration_days": plan.min_duration,
        "connectivity": connectivity,
        "time_coverage_start": str(plan.days[plan.out.start]),
        "time_coverage_end": str(plan.days[plan.out.stop - 1]),
    }


def _coordinates(group: zarr.Group, plan: ScanPlan | None, grid: LatLonGrid, lon: Any) -> None:
    if plan is not None:
        days = (plan.days[plan.out] - _EPOCH).astype(np.int32)
        _vector(group, "time", days, {"standard_name": "time", "axis": "T", **_DAYS})
    _vector(group, "latitude", grid.lat, {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"})
    _vector(group, "longitude", np.asarray(lon, np.float64), {"standard_name": "longitude", "units": "degrees_east", "axis": "X"})


def write_tables(path: Path, tables: EventTables) -> None:
    """Event statistics as group ``table`` (dim ``event``) and ``track`` (dim ``event_day``)."""
    root = zarr.open_group(path, mode="r+")
    group = root.create_group("table", attributes={"title": "Event statistics"})
    for name, unit in TABLE_UNITS.items():
        _column(group, name, tables.events[name], "event", unit)
    group = root.create_group("track", attributes={"title": "Centroid and area of each event on each day"})
    for name, unit in {"label": "1", "time": "", "lon": "degrees_east", "lat": "degrees_north", "area": "km2"}.items():
        _column(group, name, tables.track[name], "event_day", unit)


def _column(group: zarr.Group, name: str, column: Any, dim: str, unit: str) -> None:
    values = column.to_numpy()
    if np.issubdtype(values.dtype, np.datetime64):
        _vector(group, name, (values.astype("datetime64[D]") - _EPOCH).astype(np.int32), dict(_DAYS), dim)
    else:
        _vector(group, name, values, {"units": unit}, dim)


def _vector(group: zarr.Group, name: str, values: Any, attrs: dict[str, Any], dim: str | None = None) -> None:
    array = _array(group, name, values.shape, values.dtype, (max(1, min(values.size, 1 << 20)),), (dim or name,), 0, attrs)
    if values.size:
        array[:] = values


def _array(group: zarr.Group, name: str, shape: Any, dtype: Any, chunks: Any, dims: Any, fill: Any, attrs: dict[str, Any]) -> Any:
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in attrs.items()}
    codec = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
    return group.create_array(
        name, shape=shape, dtype=dtype, chunks=chunks, compressors=codec, fill_value=fill, dimension_names=dims, attributes=plain
    )


def read_days(values: Any) -> Any:
    """Stored days as datetime64[ns]."""
    return pd.DatetimeIndex((_EPOCH + np.asarray(values).astype("timedelta64[D]")).astype("datetime64[ns]"))
