"""Reading event stores: ours and Dheed's; the event table as Parquet or CSV."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
import zarr

from cubekit.errors import InputError
from cubekit.event_cube._output import LAYOUT, read_days
from cubekit.event_cube._tasks import open_zarr
from cubekit.events._dheed import read_dheed
from cubekit.events._label import event_ids
from cubekit.events._table import TABLE_UNITS, EventTables, event_table

__all__ = ["open_events", "read_event_table", "read_thresholds", "write_event_table"]


def open_events(path: str | Path, labels: str | Path | None = None) -> xr.Dataset:
    """Open an events store lazily.

    Parameters
    ----------
    path
        Store written by :func:`detect_events`, or a Dheed event cube (variable ``layer``).
    labels
        Dheed's label cube, which is a store of its own.

    Returns
    -------
    Dataset
        ``events`` (our bit flags) and, where there are any, ``event_labels``; dims (time, latitude, longitude).

    Raises
    ------
    InputError
        If the store is neither.
    """
    ds = open_zarr(path)
    if ds.attrs.get("layout") == LAYOUT:
        return ds
    if "layer" in ds or "labels" in ds:
        return read_dheed(open_zarr(path, dask=True), None if labels is None else open_zarr(labels, dask=True))
    raise InputError(
        f"{path} holds no event cube (it has {sorted(map(str, ds.data_vars))})",
        remedy="Give a store written by 'cubekit events detect' or a Dheed cube with 'layer'.",
    )


def read_thresholds(path: str | Path) -> xr.Dataset:
    """Quantile table of an events store, lazily; see :func:`cubekit.events.quantile_table`."""
    return open_zarr(path, "thresholds")


def read_event_table(path: str | Path, labels: str | Path | None = None) -> EventTables:
    """Event statistics of a store.

    Parameters
    ----------
    path, labels
        As :func:`open_events`. The statistics of our stores are read; those of a Dheed cube are computed in memory, without intensities.
    """
    ds = open_events(path, labels)
    if ds.attrs.get("layout") != LAYOUT:
        if "event_labels" not in ds:
            raise InputError(f"{path} has no event labels", remedy="Give Dheed's label cube as well.")
        return event_table(ds["event_labels"], ds["events"], xr.Dataset())
    root = zarr.open_group(str(path), mode="r")
    events = _frame(root, "table", list(TABLE_UNITS), {"start", "end"})
    ids = event_ids(events["start"].to_numpy(), events["seed_lon"].to_numpy(), events["seed_lat"].to_numpy())
    events.index = pd.Index(ids, name="event_id", dtype=object)
    return EventTables(events, _frame(root, "track", ["label", "time", "lon", "lat", "area"], {"time"}))


def write_event_table(path: str | Path, out: str | Path, *, labels: str | Path | None = None, track: bool = False) -> pd.DataFrame:
    """Write the event table of a store to Parquet or CSV, by the suffix of ``out``.

    Parameters
    ----------
    path, labels
        As :func:`open_events`.
    out
        ``.parquet`` or ``.csv``; replaced if it exists. Units are in the Parquet schema's metadata and in ``TABLE_UNITS``.
    track
        Write the daily centroids and areas instead.

    Returns
    -------
    DataFrame
        What was written.
    """
    target = Path(out)
    if target.suffix not in (".parquet", ".csv"):
        raise InputError(f"cannot write a table as {target.suffix or 'a file without suffix'}", remedy="Use .parquet or .csv.")
    if target.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError("Parquet needs pyarrow", remedy="Install cubekit[publish] or write .csv.")
    tables = read_event_table(path, labels)
    frame = tables.track if track else tables.events
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        if target.suffix == ".csv":
            frame.to_csv(partial, index=not track, date_format="%Y-%m-%d")
        else:
            _to_parquet(frame, partial, index=not track)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return frame


def _to_parquet(frame: pd.DataFrame, path: Path, *, index: bool) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=index)
    units = {**TABLE_UNITS, "lon": "degrees_east", "lat": "degrees_north", "area": "km2"}
    fields = [field.with_metadata({"units": units.get(field.name, "")}) for field in table.schema]
    pq.write_table(table.cast(pa.schema(fields, metadata=table.schema.metadata)), path, compression="zstd")


def _frame(root: zarr.Group, group: str, names: list[str], dates: set[str]) -> pd.DataFrame:
    columns = {}
    for name in names:
        node = root[f"{group}/{name}"]
        if not isinstance(node, zarr.Array):
            raise InputError(f"{group}/{name} is no array", remedy="The store is damaged: detect again.")
        values = np.asarray(node[:])
        columns[name] = read_days(values) if name in dates else values
    return pd.DataFrame(columns)
