"""What a picture of an event cube needs, gathered chunk by chunk."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import InputError
from cubekit.event_cube._output import LAYOUT
from cubekit.event_cube._read import open_events, read_event_table, read_thresholds
from cubekit.events._space import LatLonGrid
from cubekit.show._events import EventPicture, draw_events

__all__ = ["show_events"]

_BLOCK = (512, 64, 128)


def show_events(path: str | Path, out: str | Path, *, labels: str | Path | None = None, largest: int = 6, title: str = "") -> Path:
    """Draw an events store: map, time line and largest events.

    Parameters
    ----------
    path, labels
        As :func:`open_events`.
    out
        PNG (or any format of matplotlib) to write.
    largest
        How many events are named, by volume (area times days); 1 to 8.
    title
        Heading; default says the period and the number of events.

    Returns
    -------
    Path
        The picture.
    """
    if not 1 <= largest <= 8:
        raise InputError(f"{largest} events cannot be told apart in the picture", remedy="Name 1 to 8 of them.")
    ds = open_events(path, labels)
    if "event_labels" not in ds:
        raise InputError(f"{path} has no event labels", remedy="Give the label cube as well.")
    tables, grid = read_event_table(path, labels), LatLonGrid.of(ds)
    top = tables.events.sort_values("volume", ascending=False).head(largest)
    days, footprints = _gather(ds["event_labels"], top["label"].to_numpy())
    years = ds.sizes["time"] / 365.25
    known = _has_data(path, ds)
    picture = EventPicture(
        lon_edges=grid.lon_edges(),
        lat_edges=grid.lat_edges(),
        days_per_year=np.where(known, days / years, np.nan),
        footprints=footprints,
        top=top,
        track=tables.track,
        n_events=len(tables.events),
        first=ds["time"].values[0],
        last=ds["time"].values[-1],
        title=title,
    )
    return draw_events(picture, Path(out))


def _has_data(path: str | Path, ds: xr.Dataset) -> npt.NDArray[np.bool_]:
    shape = (ds.sizes["latitude"], ds.sizes["longitude"])
    if ds.attrs.get("layout") != LAYOUT:
        return np.ones(shape, bool)
    bound = read_thresholds(path)["t2m_max"].isel(slot=0, bound=0).values
    known: npt.NDArray[np.bool_] = np.isfinite(bound)
    return known


def _gather(labels: xr.DataArray, top: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    shape = tuple(labels.sizes[dim] for dim in ("time", "latitude", "longitude"))
    days, footprints = np.zeros(shape[1:], np.int64), np.zeros((top.size, *shape[1:]), bool)
    starts = [range(0, n, step) for n, step in zip(shape, _BLOCK, strict=True)]
    for t, y, x in itertools.product(*starts):
        rows, columns = slice(y, y + _BLOCK[1]), slice(x, x + _BLOCK[2])
        block = labels.isel(time=slice(t, t + _BLOCK[0]), latitude=rows, longitude=columns).values
        if not block.any():
            continue
        days[rows, columns] += (block > 0).sum(axis=0)
        for i, label in enumerate(top):
            footprints[i, rows, columns] |= (block == label).any(axis=0)
    return days, footprints
