"""From acquisitions to a regular time axis."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import InputError
from cubekit.layers._base import LayerRequest
from cubekit.layers.sentinel2._pixels import zeros
from cubekit.nbar import FILL, NbarStatus
from cubekit.read import ReadStatus
from cubekit.reflectance import PixelStatus

__all__ = ["period_days", "to_period"]

_PERIOD = re.compile(r"([1-9]\d{0,2})D")
_FILL = {
    "SCL": 0,
    "cloud_mask": 255,
    "pixel_status": int(PixelStatus.NO_ACQUISITION),
    "nbar_status": int(NbarStatus.not_requested),
    "read_status": int(ReadStatus.EMPTY),
}
"""What stands for absence in the variables of flags."""


def period_days(period: str) -> int:
    """Days of a period such as ``"5D"``."""
    match = _PERIOD.fullmatch(period)
    if match is None:
        raise InputError(f"period {period!r} is not understood", remedy="Write a number of days, such as 5D")
    return int(match[1])


def to_period(ds: xr.Dataset, request: LayerRequest, period: str) -> xr.Dataset:
    """Put scenes onto bins of equal length that start with the first day.

    A bin takes the scene with the largest clear fraction, the earliest of equals; a bin without one is empty with the status
    `no_acquisition`. The label is the bin's first day, `time_bnds` has both ends (the second excluded), and `acquisition_time` tells
    when the scene was taken.
    """
    days, time = period_days(period), request.time
    starts = np.arange(time.start, time.end + np.timedelta64(1, "D"), np.timedelta64(days, "D"))
    chosen = _clearest(ds, starts)
    scenes = ds.assign_coords(acquisition_time=("time", ds.time.values, {"long_name": "acquisition; undefined in bins without a scene"}))
    variables = {
        str(name): variable if "time" not in variable.dims else _onto(str(name), variable, chosen, request)
        for name, variable in scenes.variables.items()
        if name != "time"
    }
    labels = {**ds.time.attrs, "long_name": "first day of the bin", "bounds": "time_bnds"}
    variables["time"] = xr.Variable("time", starts.astype("datetime64[ns]"), labels)
    ends = np.minimum(starts + np.timedelta64(days, "D"), time.end + np.timedelta64(1, "D"))
    variables["time_bnds"] = xr.Variable(("time", "nv"), np.stack([starts, ends], axis=1).astype("datetime64[ns]"))
    coords = {str(name): variables.pop(str(name)) for name in scenes.coords}
    return xr.Dataset(variables, coords, {**ds.attrs, "sentinel2_period": period})


def _clearest(ds: xr.Dataset, starts: npt.NDArray[np.datetime64]) -> npt.NDArray[np.intp]:
    """Per bin the number of its scene, -1 for none."""
    bins = np.searchsorted(starts, ds.time.values.astype("datetime64[D]"), side="right") - 1
    clear = np.nan_to_num(ds.clear_fraction.values, nan=-1.0)
    chosen = np.full(len(starts), -1, np.intp)
    for number in np.lexsort((ds.time.values, -clear)):
        if chosen[bins[number]] < 0:
            chosen[bins[number]] = number
    return chosen


def _onto(name: str, variable: xr.Variable, chosen: npt.NDArray[np.intp], request: LayerRequest) -> xr.Variable:
    """The chosen steps of a variable, and what stands for absence in the others."""
    source, (first, *_) = variable.values, variable.dims
    assert first == "time"
    shape = (len(chosen), *source.shape[1:])
    result = zeros(request, shape, source.dtype) if source.ndim == 3 else np.zeros(shape, source.dtype)
    absent = _absence(name, source)
    for step, number in enumerate(chosen):
        result[step] = source[number] if number >= 0 else absent
    return xr.Variable(variable.dims, result, variable.attrs, variable.encoding)


def _absence(name: str, values: npt.NDArray[Any]) -> Any:
    if name in _FILL:
        return _FILL[name]
    if values.dtype.kind == "f":
        return np.nan
    if values.dtype.kind == "M":
        return np.datetime64("NaT", "ns")
    if values.dtype.kind == "U":
        return ""
    return FILL if values.ndim == 3 else 0
