"""Events at one site."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from cubekit.errors import InputError
from cubekit.events._detect import detect
from cubekit.events._flags import Levels
from cubekit.events._space import LatLonGrid
from cubekit.events._time import Mode, Period

__all__ = ["cell_events", "events_touching", "site_events"]


def site_events(
    daily: xr.Dataset,
    *,
    mode: Mode = "period",
    reference: Period | None = None,
    window: int = 31,
    period: Period | None = None,
    thresholds: xr.Dataset | None = None,
    levels: Levels | None = None,
    min_duration: int = 3,
) -> xr.Dataset:
    """Codes, PEI and local events of one site's daily series.

    Parameters
    ----------
    daily
        ``t2m_max`` (K or degC), ``tp`` and ``et0`` (mm/d) on ``time`` alone (or with latitude and longitude of size 1).
    mode, reference, window, period, thresholds, levels, min_duration
        As :func:`detect`.

    Returns
    -------
    Dataset, dims (time)
        ``events`` (uint8 bit flags), ``pei_30``, ``pei_90``, ``pei_180`` (mm/d), ``event_labels`` (uint32). A label is one run of at least
        ``min_duration`` compound days at the site, counted from 1; a site alone cannot know which runs belong to one regional event.
    """
    extra = {str(dim): size for dim, size in daily.sizes.items() if dim != "time"}
    if any(size != 1 for size in extra.values()):
        raise InputError(f"a site has one cell, the data have {extra}", remedy="Select one cell, or use detect for grids.")
    flat = daily.squeeze(list(extra), drop=False) if extra else daily
    found = detect(
        flat,
        mode=mode,
        reference=reference,
        window=window,
        period=period,
        thresholds=thresholds,
        levels=levels,
        min_duration=min_duration,
    )
    site = found.cube.isel(latitude=0, longitude=0, drop=True)
    site["event_labels"].attrs["comment"] = f"runs of at least {min_duration} compound days at this site, counted from 1"
    return site.assign_coords({name: flat[name] for name in ("latitude", "longitude") if name in flat.coords})


def cell_events(cube: xr.Dataset, lon: float, lat: float) -> xr.Dataset:
    """Codes and labels of the cell of an event cube that is nearest to a point.

    Parameters
    ----------
    cube
        Event cube with dims (time, latitude, longitude), as :func:`detect`, an events store or :func:`read_dheed` give it.
    lon, lat
        The point, degrees; any longitude convention.

    Returns
    -------
    Dataset, dims (time)
        The variables of the cube at that cell; scalar ``latitude`` and ``longitude`` are its centre.

    Raises
    ------
    InputError
        If the point is more than a cell outside the grid.
    """
    row, column = LatLonGrid.of(cube).nearest(lon, lat)
    return cube.isel(latitude=row, longitude=column)


def events_touching(site: xr.Dataset | xr.DataArray, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of an event table whose events reach a site.

    Parameters
    ----------
    site
        ``event_labels`` of one cell, dims (time), from the cube that the table describes (:func:`cell_events`).
    table
        Event table of that cube (``EventTables.events``).

    Returns
    -------
    DataFrame
        Rows in the order of their labels, with ``site_start``, ``site_end`` (first and last day at the site) and ``site_days``.

    Raises
    ------
    InputError
        If the site has labels that the table lacks: they are of different cubes.
    """
    labels = site["event_labels"] if isinstance(site, xr.Dataset) else site
    if labels.dims != ("time",):
        raise InputError(f"labels of a site have dimension time alone, not {labels.dims}", remedy="Select one cell first (cell_events).")
    values, days = labels.values, labels["time"].values
    present: Any = np.unique(values[values > 0])
    missing = np.setdiff1d(present, table["label"].to_numpy())
    if missing.size:
        raise InputError(f"labels {missing[:5].tolist()} of the site are not in the table", remedy="Use the table of the same event cube.")
    rows = table[table["label"].isin(present)].sort_values("label")
    at_site = [days[values == label] for label in rows["label"]]
    return rows.assign(
        site_start=pd.DatetimeIndex([d[0] for d in at_site]),
        site_end=pd.DatetimeIndex([d[-1] for d in at_site]),
        site_days=np.array([d.size for d in at_site], dtype=np.int64),
    )
