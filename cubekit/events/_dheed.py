"""Dheed's event cubes (Weynants et al. 2025) in our terms."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from cubekit.errors import InputError, ScienceWarning
from cubekit.events._flags import DRY, HEAT, MISSING, event_attrs
from cubekit.events._inputs import DIMS
from cubekit.events._space import LatLonGrid

__all__ = ["DHEED_DEFECTS", "dheed_defects", "read_dheed"]

DHEED_DEFECTS: dict[str, str] = {
    "pet_constants": "reference evapotranspiration with the day and night constants of the hourly formula swapped (35-57 % too low)",
    "pei_taper": "PEI windows taper at the record start: the first 179 days rest on fewer days than their names say",
    "window_restart": "PEI windows restart where years were appended",
    "ties": "equal values are ranked by their position in the record, not by their mean rank",
    "no_missing": "missing values carry no code: they look like ordinary days",
    "min_run_4": "runs of 3 days were removed from the labels: the shortest run has 4 days or more",
}
"""Known defects of published Dheed cubes. A cube does not show all of them; they are its provenance."""

_NAMES = {"lat": "latitude", "lon": "longitude", "Lat": "latitude", "Lon": "longitude", "Ti": "time", "Time": "time", "ti": "time"}
_KNOWN = 0b10011111


def read_dheed(ds: xr.Dataset, labels: xr.Dataset | None = None) -> xr.Dataset:
    """A Dheed event cube (and label cube) as ``events`` and ``event_labels``.

    Parameters
    ----------
    ds
        Dataset with ``layer`` (codes: 1 heat; 2, 4, 8 PEI_30/90/180; 16 normal) and optionally ``labels``, in any order of its axes,
        longitude 0-360 or -180..180. Codes decoded to float (masked) count as missing where NaN.
    labels
        Dataset with ``labels`` (0 outside events) where they are a store of their own; days and cells they lack have no label.

    Returns
    -------
    Dataset
        ``events`` (uint8) and, if there are labels, ``event_labels`` (uint32); dims (time, latitude, longitude), north first, longitude
        -180..180 going east. Nothing is loaded from lazy input. Attribute ``known_defects`` names what is known of these cubes.

    Raises
    ------
    InputError
        If there is neither ``layer`` nor ``labels``, or the label cube has cells the event cube lacks.

    Warns
    -----
    ScienceWarning
        Names the known defects.
    """
    source = _named(ds)
    found: dict[str, xr.DataArray] = {}
    if "layer" in source:
        found["events"] = _flags(source["layer"])
    if labels is not None or "labels" in source:
        found["event_labels"] = _labels(source["labels"] if labels is None else _named(labels)["labels"])
    if not found:
        raise InputError(
            f"no Dheed cube: there is neither 'layer' nor 'labels' but {sorted(map(str, ds.data_vars))}", remedy="Check the store."
        )
    parts = {name: _oriented(array.transpose(*DIMS)) for name, array in found.items()}
    if len(parts) == 2:
        parts["event_labels"] = _aligned(parts["event_labels"], parts["events"])
    result = xr.Dataset(parts)
    LatLonGrid.of(result)
    known = [key for key in DHEED_DEFECTS if key != "min_run_4"]
    result.attrs = {
        "source": "Dheed (Weynants et al. 2025, ESSD 17, 6621)",
        "known_defects": "; ".join(DHEED_DEFECTS[key] for key in known),
    }
    warnings.warn(ScienceWarning(f"a Dheed cube: {result.attrs['known_defects']}"), stacklevel=2)
    return result


def dheed_defects(ds: xr.Dataset) -> list[str]:
    """Which defects a cube read by :func:`read_dheed` shows in its own data; loads it.

    Returns
    -------
    list of keys of ``DHEED_DEFECTS``
        ``pei_taper``: the first 179 days carry drought codes and no missing bit. ``no_missing``: no day of any cell is coded as missing.
        ``min_run_4``: the codes have compound runs of exactly three days, none of which is labelled, while longer ones are.
    """
    codes = ds["events"].transpose(*DIMS).values
    found = []
    early = codes[:179]
    if ((early & DRY) > 0).any() and not (early & MISSING).any():
        found.append("pei_taper")
    if not (codes & MISSING).any():
        found.append("no_missing")
    if "event_labels" in ds and _three_day_runs_are_gone(codes, ds["event_labels"].transpose(*DIMS).values):
        found.append("min_run_4")
    return found


def _three_day_runs_are_gone(codes: Any, labels: Any) -> bool:
    from cubekit.events._runs import runs_of_mask

    mask = ((codes & HEAT) > 0) & ((codes & DRY) > 0)
    flat = labels.reshape(labels.shape[0], -1)
    runs = runs_of_mask(mask.reshape(mask.shape[0], -1))
    length, labelled = runs.stop - runs.start, flat[runs.start, runs.cell] > 0
    return bool((length == 3).any() and not labelled[length == 3].any() and labelled[length > 3].any())


def _named(ds: xr.Dataset) -> xr.Dataset:
    return ds.rename({old: new for old, new in _NAMES.items() if old in ds.dims or old in ds.variables})


def _flags(layer: xr.DataArray) -> xr.DataArray:
    if np.issubdtype(layer.dtype, np.floating):
        layer = layer.fillna(MISSING)
    events = layer.astype(np.uint8)
    if not events.chunks and (events.values & ~np.uint8(_KNOWN)).any():
        raise InputError(
            f"the codes hold unknown bits ({int(events.max())})", remedy="This is no Dheed event cube: codes are sums of 1, 2, 4, 8, 16."
        )
    events.name, events.attrs = "events", event_attrs()
    return events


def _labels(labels: xr.DataArray) -> xr.DataArray:
    if np.issubdtype(labels.dtype, np.floating):
        labels = labels.fillna(0)
    result = labels.astype(np.uint32)
    result.name, result.attrs = (
        "event_labels",
        {"long_name": "label of the dry-hot event, 0 outside events", "comment": "numbers of the source"},
    )
    return result


def _oriented(array: xr.DataArray) -> xr.DataArray:
    if array["latitude"].size > 1 and array["latitude"].values[0] < array["latitude"].values[-1]:
        array = array.isel(latitude=slice(None, None, -1))
    lon = (array["longitude"].values.astype(np.float64) + 180.0) % 360.0 - 180.0
    return array.assign_coords(longitude=("longitude", lon, array["longitude"].attrs)).isel(longitude=np.argsort(lon, kind="stable"))


def _aligned(labels: xr.DataArray, events: xr.DataArray) -> xr.DataArray:
    for dim in DIMS:
        extra = np.setdiff1d(labels[dim].values, events[dim].values)
        if extra.size:
            raise InputError(
                f"the label cube has {extra.size} values of {dim} that the event cube lacks", remedy="Give the two cubes of one version."
            )
    attrs = labels.attrs
    if all(labels.sizes[dim] == events.sizes[dim] for dim in DIMS):
        return labels
    return labels.reindex_like(events, fill_value=0).assign_attrs(attrs)
