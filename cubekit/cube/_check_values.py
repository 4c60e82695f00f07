"""Checks of values: axes, georeferencing, times, flags, and whether every pixel is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from cubekit.cube._problem import Problem, Subject, error, warning
from cubekit.layout import CLIMATE, EVENTS, is_band, own_dim
from cubekit.reflectance import PixelStatus

__all__ = ["check_flags", "check_groups", "check_space", "check_status", "check_times"]


def check_space(subject: Subject) -> Iterator[Problem]:
    """x and y are regular pixel centres and agree with the CRS, the GeoTransform and the ``spatial:`` attributes."""
    ds, attrs = subject.imagery, subject.tree.attrs
    steps: dict[str, float] = {}
    for dim in ("x", "y"):
        if dim not in ds.coords or ds[dim].dims != (dim,):
            yield error(f"/{dim}", "is missing")
            return
        values = np.asarray(ds[dim].values, dtype=float)
        difference = np.diff(values)
        regular = values.size < 2 or np.allclose(difference, difference[0], rtol=0, atol=1e-3 * abs(difference[0]))
        if not regular or (difference == 0).any():
            yield error(f"/{dim}", "is not regular and monotonic")
            return
        if ds[dim].attrs.get("standard_name") != f"projection_{dim}_coordinate" or ds[dim].attrs.get("units") != "m":
            yield error(f"/{dim}", "lacks units 'm' or the standard name of a projection coordinate")
        steps[dim] = float(difference[0]) if difference.size else np.nan
    if steps["y"] > 0 or steps["x"] < 0:
        yield error("/y", "the rows do not run from north to south, or the columns not from west to east")
    for name, variable in ds.data_vars.items():
        if {"y", "x"} <= set(variable.dims) and "grid_mapping" not in {**variable.attrs, **variable.encoding}:
            yield error(f"/{name}@grid_mapping", "is missing", "Name the variable that holds the CRS")
    yield from _check_reference(ds, attrs, steps)


def _check_reference(ds: xr.Dataset, attrs: dict[Any, Any], steps: dict[str, float]) -> Iterator[Problem]:
    import rioxarray  # noqa: F401
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    if "spatial_ref" not in ds.variables:
        yield error("/spatial_ref", "is missing")
        return
    mapping = ds["spatial_ref"].attrs
    try:
        crs = CRS.from_wkt(str(mapping.get("crs_wkt", "")))
        epsg = crs.to_epsg() if ds.rio.crs is not None else None
    except CRSError:
        epsg = None
    if epsg is None:
        yield error("/spatial_ref@crs_wkt", "is missing or not readable")
    elif str(attrs.get("proj:code")) != f"EPSG:{epsg}":
        yield error("/@proj:code", f"is {attrs.get('proj:code')!r}, but crs_wkt says EPSG:{epsg}")
    if "grid_mapping_name" not in mapping:
        yield error("/spatial_ref@grid_mapping_name", "is missing")
    yield from _check_transform(ds, attrs, steps)


def _check_transform(ds: xr.Dataset, attrs: dict[Any, Any], steps: dict[str, float]) -> Iterator[Problem]:
    try:
        left, dx, rx, top, ry, dy = (float(part) for part in str(ds["spatial_ref"].attrs.get("GeoTransform", "")).split())
    except ValueError:
        yield error("/spatial_ref@GeoTransform", "is missing or not six numbers")
        return
    centers = {"x": left + dx / 2, "y": top + dy / 2}
    for dim, step in (("x", dx), ("y", dy)):
        first = float(ds[dim].values[0])
        if abs(first - centers[dim]) > 1e-3 * abs(step) or (np.isfinite(steps[dim]) and abs(steps[dim] - step) > 1e-6 * abs(step)):
            yield error(
                f"/{dim}",
                f"the first centre {first:g} and step {steps[dim]:g} do not follow from GeoTransform ({centers[dim]:g}, {step:g})",
            )
    height, width = ds.sizes["y"], ds.sizes["x"]
    wanted: dict[str, list[Any]] = {
        "spatial:dimensions": ["y", "x"],
        "spatial:shape": [height, width],
        "spatial:transform": [dx, rx, left, ry, dy, top],
        "spatial:bbox": [left, top + height * dy, left + width * dx, top],
    }
    for key, value in wanted.items():
        stated = np.asarray(attrs.get(key, [])).tolist()
        same = (
            stated == value if key == "spatial:dimensions" else len(stated) == len(value) and np.allclose(stated, value, rtol=0, atol=1e-6)
        )
        if not same:
            yield error(f"/@{key}", f"is {stated}, but the coordinates say {value}")


def check_times(subject: Subject) -> Iterator[Problem]:
    """Time axes are times, sorted and unique; bounds enclose them."""
    for path, ds in subject.nodes():
        for dim in map(str, ds.dims):
            if dim != "time" and not dim.endswith("_time"):
                continue
            where = f"{path.rstrip('/')}/{dim}"
            if dim not in ds.coords:
                yield error(where, "the time axis has no coordinate")
                continue
            times = ds[dim]
            if times.dtype.kind != "M":
                yield error(where, f"holds {times.dtype}, not times", "State units such as 'days since 1970-01-01'")
                continue
            if times.attrs.get("standard_name") != "time":
                yield error(f"{where}@standard_name", "is not 'time'")
            if np.isnat(times.values).any() or (times.values[1:] <= times.values[:-1]).any():
                yield error(where, "the times are not sorted, not unique, or not all defined")
            yield from _check_bounds(ds, times, where)
    for path, document in subject.documents.items():
        units = str(document.get("attributes", {}).get("units", ""))
        if " since " in units and document.get("data_type") != "int64":
            yield warning(f"/{path}", f"times are kept as {document.get('data_type')}, which may round", "Keep them as int64")


def _check_bounds(ds: xr.Dataset, times: xr.DataArray, where: str) -> Iterator[Problem]:
    bounds = ds.variables.get(times.attrs.get("bounds", times.encoding.get("bounds")))
    if bounds is None or bounds.dtype.kind != "M" or bounds.ndim != 2:
        return
    if ((bounds.values[:, 0] > times.values) | (times.values > bounds.values[:, 1])).any():
        yield error(where, "some times lie outside of their bounds")


def check_flags(subject: Subject) -> Iterator[Problem]:
    """Flags have a meaning each, fit their type, and the data hold no others."""
    for where, _, variable in subject.variables():
        for key in ("flag_values", "flag_masks"):
            if key not in variable.attrs:
                continue
            flags = np.atleast_1d(np.asarray(variable.attrs[key]))
            meanings = str(variable.attrs.get("flag_meanings", "")).split()
            if len(meanings) != flags.size or len(set(flags.tolist())) != flags.size:
                yield error(f"{where}@{key}", f"{flags.size} flags, {len(meanings)} meanings, or one twice")
                continue
            if variable.dtype.kind not in "iu" or flags.dtype.kind not in "iu":
                yield error(f"{where}@{key}", f"flags are {flags.dtype}, the data {variable.dtype}; both must be integers")
                continue
            found = np.unique(np.asarray(variable.values))
            allowed = {int(variable.attrs["_FillValue"])} if "_FillValue" in variable.attrs else set()
            if key == "flag_values":
                strange = sorted(set(found.tolist()) - set(flags.tolist()) - allowed)
            else:
                union = int(np.bitwise_or.reduce(flags.astype(np.int64)))
                strange = [value for value in found.tolist() if value & ~union and value not in allowed]
            if strange:
                yield error(where, f"holds {strange[:5]}, which {key} does not explain")


def check_status(subject: Subject) -> Iterator[Problem]:
    """`pixel_status` accounts for every pixel: valid where all bands have data, a reason where one has none."""
    ds = subject.imagery
    bands = [v for v in ds.data_vars.values() if is_band(v) and v.attrs.get("standard_name") == "surface_bidirectional_reflectance"]
    if not bands:
        return
    if "pixel_status" not in ds:
        yield error("/pixel_status", "is missing, so nobody knows why pixels are empty")
        return
    unexplained = denied = 0
    for step in range(ds.sizes["time"]):
        status = ds["pixel_status"][step].values
        empty = np.zeros(status.shape, bool)
        for band in bands:
            values = band[step].values
            empty |= np.isnan(values) if values.dtype.kind == "f" else values == band.attrs.get("_FillValue")
        valid = status == PixelStatus.VALID
        unexplained += int(np.count_nonzero(empty & valid))
        denied += int(np.count_nonzero(~empty & ~valid))
    if unexplained:
        yield error("/pixel_status", f"{unexplained} empty pixels are called valid")
    if denied:
        yield warning("/pixel_status", f"{denied} pixels have data in all bands but are not called valid")
    yield from _check_clear(ds)


def _check_clear(ds: xr.Dataset) -> Iterator[Problem]:
    if "clear_fraction" not in ds.variables or "cloud_mask" not in ds:
        return
    clear = ((ds["cloud_mask"] == 0) & (ds["pixel_status"] == PixelStatus.VALID)).mean(("y", "x")).values
    stated = np.asarray(ds["clear_fraction"].values, dtype=float)
    wrong = np.isfinite(stated) & (np.abs(stated - clear) > 0.005) & ~(ds["pixel_status"] == PixelStatus.MASKED).any(("y", "x")).values
    if wrong.any():
        step = int(np.flatnonzero(wrong)[0])
        yield warning("/clear_fraction", f"says {stated[step]:.3f} at step {step}, the masks say {clear[step]:.3f}")


def check_groups(subject: Subject) -> Iterator[Problem]:
    """The daily groups are daily, and go together."""
    axes: dict[str, Any] = {}
    for group in (CLIMATE, EVENTS):
        if group not in subject.tree.children:
            continue
        ds = subject.tree[group].to_dataset(inherit=False)  # type: ignore[call-arg]
        dim = own_dim(group, "time")
        if dim not in ds.coords or ds[dim].dtype.kind != "M":
            yield error(f"/{group}/{dim}", "is missing or holds no times")
            continue
        axes[group] = ds[dim].values
        steps = np.diff(axes[group])
        if steps.size and not (steps == steps[0]).all():
            yield error(f"/{group}/{dim}", "has gaps: not every step is as long as the first")
    if len(axes) == 2:
        first, second = axes[CLIMATE], axes[EVENTS]
        if first.size and second.size and (second[-1] < first[0] or first[-1] < second[0]):
            yield error(f"/{EVENTS}", "covers none of the time of /climate")
    if EVENTS in subject.tree.children:
        events = subject.tree[EVENTS].to_dataset(inherit=False)  # type: ignore[call-arg]
        if "events" in events and "flag_masks" not in events["events"].attrs:
            yield error(f"/{EVENTS}/events@flag_masks", "is missing, so the bits mean nothing")
