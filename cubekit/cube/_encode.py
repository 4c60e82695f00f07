"""How values are kept: reflectance in int16, times in whole numbers, text in variable length."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from cubekit.errors import InputError
from cubekit.layout import FILL, SCALE

__all__ = ["encode_text", "encode_time", "is_text", "pack_reflectance"]

_UNITS = (("days", "D"), ("seconds", "s"), ("milliseconds", "ms"), ("microseconds", "us"))
_LIMIT = 32767
_NAT = int(np.iinfo(np.int64).min)


def pack_reflectance(variable: xr.Variable) -> xr.Variable:
    """Turn float reflectance into int16 with scale 1e-4 and fill -32768.

    What does not fit, beyond +-3.2767, is clipped; the number of such values stands in the attribute ``clipped_values`` (it is not
    counted for lazy arrays). Integers are taken as packed already.
    """
    attrs = {**variable.attrs, "scale_factor": SCALE, "_FillValue": FILL}
    if variable.dtype.kind in "iu":
        if variable.dtype != np.int16:
            raise InputError(
                f"Packed reflectance must be int16, got {variable.dtype}", remedy="Give float reflectance, or int16 with scale 1e-4"
            )
        return xr.Variable(variable.dims, variable.data, attrs)
    data: Any = variable.data
    if hasattr(data, "map_blocks"):
        return xr.Variable(variable.dims, data.map_blocks(_pack, dtype=np.int16), attrs)
    values = np.asarray(data)
    clipped = int(np.count_nonzero(np.abs(values) > (_LIMIT + 0.5) * SCALE))
    return xr.Variable(variable.dims, _pack(values), {**attrs, "clipped_values": clipped} if clipped else attrs)


def _pack(values: Any) -> Any:
    values = np.asarray(values)
    scaled = np.rint(values * values.dtype.type(round(1 / SCALE)))
    return np.where(np.isnan(scaled), FILL, np.clip(scaled, -_LIMIT, _LIMIT)).astype(np.int16)


def encode_time(variable: xr.Variable, name: str, *beside: xr.Variable) -> xr.Variable:
    """State units, calendar and type of a time variable: int64, in the coarsest unit that holds it and what stands `beside` it exactly.

    An axis has no undefined times; elsewhere they become the smallest int64.
    """
    values = np.asarray(variable.values).astype("datetime64[ns]")
    undefined = bool(np.isnat(values).any())
    if undefined and name in variable.dims:
        raise InputError(f"{name} has {int(np.isnat(values).sum())} undefined times", remedy="Drop the steps without a time")
    together = np.concatenate([values.ravel(), *(np.asarray(other.values).astype("datetime64[ns]").ravel() for other in beside)])
    together = together[~np.isnat(together)]
    exact = (unit for unit, code in _UNITS if (together.astype(f"datetime64[{code}]") == together).all())
    unit = next(exact, "nanoseconds")
    encoding = {
        "units": f"{unit} since 1970-01-01",
        "calendar": "proleptic_gregorian",
        "dtype": "int64",
        "_FillValue": _NAT if undefined else None,
    }
    attrs = {key: value for key, value in variable.attrs.items() if key not in ("units", "calendar")}
    return xr.Variable(variable.dims, values, attrs, encoding)


def is_text(variable: xr.Variable) -> bool:
    """Whether a variable holds text in any of the ways numpy has for it."""
    return variable.dtype.kind in "UTSO"


def encode_text(variable: xr.Variable, name: str) -> xr.Variable:
    """Text as Python strings, which Zarr keeps in variable length; missing values become empty."""
    items = np.asarray(variable.values)
    strings = [_string(item, name) for item in items.ravel().tolist()]
    values = np.empty(items.size, dtype=object)
    values[:] = strings
    # Else every text would be looked at whether it is a date.
    return xr.Variable(variable.dims, values.reshape(items.shape), variable.attrs, fastpath=True)


def _string(item: Any, name: str) -> str:
    if item is None or (isinstance(item, float) and np.isnan(item)):
        return ""
    if isinstance(item, bytes):
        return item.decode("utf-8")
    if isinstance(item, str):
        return item
    raise InputError(f"{name} mixes text with {type(item).__name__} {item!r}", remedy="Give text or numbers, not both")
