"""Which scenes to show, and in which colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.reflectance import CLEAR_CLASSES, PixelStatus, SceneClass
from cubekit.typing import FloatArray

__all__ = ["Shares", "choose_scenes", "compose", "ndvi", "shares"]

_RGB = (("B04", "B03", "B02"), ("B11", "B8A", "B04"), ("B12", "B8A", "B04"))
_ENOUGH = 0.3
"""Share of clear pixels from which a scene is worth a picture."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the pixels of every time step, each of shape (time,), between 0 and 1; together 1."""

    clear: FloatArray
    cloudy: FloatArray
    outside: FloatArray
    nodata: FloatArray
    failed: FloatArray
    masked: FloatArray
    absent: FloatArray


def shares(ds: xr.Dataset) -> Shares:
    """Count pixels by why they are, or are not, usable."""
    steps = ds.sizes["time"]
    status = np.asarray(ds["pixel_status"].values) if "pixel_status" in ds else _status(ds)
    valid = status == PixelStatus.VALID
    cloudy = _cloudy(ds, status.shape)

    def share(mask: npt.NDArray[np.bool_]) -> FloatArray:
        mean: FloatArray = mask.reshape(steps, -1).mean(axis=1)
        return mean

    return Shares(
        share(valid & ~cloudy),
        share(valid & cloudy),
        share(status == PixelStatus.OUTSIDE_FOOTPRINT),
        share(status == PixelStatus.NODATA_AT_SOURCE),
        share(status == PixelStatus.READ_FAILED),
        share(status == PixelStatus.MASKED),
        share(status == PixelStatus.NO_ACQUISITION),
    )


def _status(ds: xr.Dataset) -> npt.NDArray[np.uint8]:
    """Why pixels are empty, of a cube that does not say: that they are, in the bands of the pictures, is all that can be seen."""
    band = next((ds[name] for name in ("B04", "B8A", "B02") if name in ds), None)
    if band is None:
        return np.zeros((ds.sizes["time"], ds.sizes["y"], ds.sizes["x"]), np.uint8)
    return np.where(np.isnan(band.values), np.uint8(PixelStatus.NODATA_AT_SOURCE), np.uint8(PixelStatus.VALID))


def _cloudy(ds: xr.Dataset, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    if "cloud_mask" in ds:
        return np.asarray(ds["cloud_mask"].values == 1)
    return ~np.isin(np.asarray(ds["SCL"].values), CLEAR_CLASSES) if "SCL" in ds else np.zeros(shape, bool)


def choose_scenes(time: npt.NDArray[np.datetime64], clear: FloatArray, count: int) -> list[int]:
    """Indices, in order, of the clearest scene in each of `count` equal parts of the time axis.

    Where a part has none that is worth it, the clearest of all others steps in.
    """
    if time.size == 0:
        return []
    span = (time - time[0]).astype(np.float64)
    part = np.minimum((span / max(span[-1], 1.0) * count).astype(int), count - 1)
    good = clear >= min(_ENOUGH, float(clear.max()))
    chosen = [
        int(members[np.argmax(clear[members])]) for members in (np.flatnonzero((part == p) & good) for p in range(count)) if members.size
    ]
    rest = [int(index) for index in np.argsort(-clear, kind="stable") if good[index] and int(index) not in chosen]
    return sorted([*chosen, *rest[: count - len(chosen)]])


def compose(ds: xr.Dataset, steps: list[int]) -> tuple[npt.NDArray[np.float32], str] | None:
    """Colour pictures of some steps, shape (steps, height, width, 3) in [0, 1], and what they show; None without bands for it.

    All share one robust stretch over the pixels that are clear. Empty pixels are light grey.
    """
    names = next((rgb for rgb in _RGB if set(rgb) <= set(ds.data_vars)), None)
    if names is None or not steps:
        return None
    part = ds[[*names, *({"cloud_mask"} & set(ds.data_vars))]].isel(time=steps).load()
    picture = np.stack([part[name].values for name in names], axis=-1).astype(np.float32)
    empty = np.isnan(picture).any(axis=-1)
    usable = ~empty & (part["cloud_mask"].values == 0) if "cloud_mask" in part else ~empty
    sample = picture[usable if usable.any() else ~empty]
    low, high = np.percentile(sample, [1, 99], axis=0) if sample.size else (np.zeros(3), np.ones(3))
    # One dark point for all channels keeps vegetation green; the gain lies between one for all, in which bare soil glows red, and one for
    # each, which turns everything to grey.
    dark = 0.7 * float(low.min())
    span = np.maximum(high - dark, 0.04)
    stretched = np.clip((picture - dark) / np.sqrt(span * span.max()), 0, 1) ** np.float32(0.75)
    stretched[empty] = 0.93
    return stretched.astype(np.float32), "true colour" if names[0] == "B04" else f"false colour ({', '.join(names)})"


def ndvi(ds: xr.Dataset) -> FloatArray | None:
    """Quartiles (25, 50, 75 %) of NDVI over the land of every step that is clear of clouds and snow, shape (3, time).

    None without red and near infrared.
    """
    near = next((name for name in ("B8A", "B08") if name in ds), None)
    if near is None or "B04" not in ds:
        return None
    stride = max(1, round(np.sqrt(ds["B04"].size / 3e7)))
    part = ds.isel(y=slice(None, None, stride), x=slice(None, None, stride))
    red, infrared = (np.asarray(part[name].values, dtype=np.float32) for name in ("B04", near))
    total = infrared + red
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.where(total > 0.01, (infrared - red) / total, np.nan)
    index[_cloudy(part, index.shape)] = np.nan
    if "SCL" in part:
        index[np.isin(np.asarray(part["SCL"].values), [SceneClass.WATER, SceneClass.SNOW_OR_ICE])] = np.nan
    return _quartiles(index.reshape(index.shape[0], -1))


def _quartiles(values: Any) -> FloatArray:
    result = np.full((3, values.shape[0]), np.nan)
    counts = np.isfinite(values).sum(axis=1)
    for step, row in enumerate(values):
        known = row[np.isfinite(row)]
        if known.size >= max(4, 0.05 * counts.max()):
            result[:, step] = np.percentile(known, [25, 50, 75])
    return result
