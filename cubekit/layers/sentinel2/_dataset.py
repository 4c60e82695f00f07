"""The layer's dataset: bands, classes, masks, why pixels are empty, and what is known of every scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.bands import SENTINEL2
from cubekit.grid import Grid
from cubekit.layers.sentinel2._correct import FILL, Angles, Corrected, item_key, readable
from cubekit.layers.sentinel2._pixels import Stack
from cubekit.layers.sentinel2._scenes import Scene, outside_mask
from cubekit.nbar import CField, NbarStatus, angles_at, status_attrs
from cubekit.read import ReadStatus
from cubekit.reflectance import PixelStatus, SceneClass, clear_mask, pixel_status

if TYPE_CHECKING:
    from cubekit.layers.sentinel2 import Sentinel2

__all__ = ["flags", "to_dataset"]

DIMS = ("time", "y", "x")


def flags(kind: type[Any]) -> dict[str, Any]:
    """CF `flag_values` and `flag_meanings` of an IntEnum."""
    return {
        "flag_values": np.array([member.value for member in kind], np.uint8),
        "flag_meanings": " ".join(member.name.lower() for member in kind),
    }


def to_dataset(layer: Sentinel2, scenes: Sequence[Scene], stack: Stack, corrected: Corrected, angles: Angles, grid: Grid) -> xr.Dataset:
    """Assemble the dataset of all scenes on (time, y, x); scenes without a single pixel are left out and listed in an attribute."""
    values, scl = corrected.values, corrected.scl
    empty = values == FILL if values.dtype.kind == "i" else np.isnan(values)
    status = _pixel_status(scenes, empty, stack.status[:, :-1], grid)
    cloud = clear_mask(scl, layer.clear)
    clear = (status == PixelStatus.VALID) & (cloud == 0)
    clear_fraction = clear.mean(axis=(1, 2), dtype=np.float64)
    clear_fraction[~readable(stack.status[:, -1])] = np.nan
    if layer.mask == "apply":
        _mask(values, status, cloud)
    data: dict[str, Any] = {band: (DIMS, values[:, number], _band_attrs(layer, band)) for number, band in enumerate(layer.bands)}
    data["SCL"] = (DIMS, scl, {"long_name": "scene classification of Sen2Cor", **flags(SceneClass)})
    data["cloud_mask"] = (DIMS, cloud, _cloud_attrs(layer))
    data["pixel_status"] = (DIMS, status, {"long_name": "why a pixel is empty in at least one band", **flags(PixelStatus)})
    if corrected.factors is not None:
        for number, band in enumerate(layer.bands):
            data[f"{band}_c"] = (DIMS, corrected.factors[:, number], {"long_name": f"NBAR c-factor of {band}", "units": "1"})
    coords = _scene_coords(scenes, corrected, angles, grid)
    coords["clear_fraction"] = ("time", clear_fraction, {"long_name": "share of the cube's pixels that are valid and clear", "units": "1"})
    coords["band"] = ("band", np.array([*layer.bands, "SCL"]), {"long_name": "band"})
    last = np.full((len(scenes), 1), NbarStatus.not_supported, np.int8)
    data["nbar_status"] = (("time", "band"), np.concatenate([corrected.nbar_status, last], axis=1), status_attrs())
    data["read_status"] = (("time", "band"), stack.status, {"long_name": "how reading ended", **flags(ReadStatus)})
    ds = xr.Dataset(data, coords=coords)
    return _select(layer, ds, scenes, stack, empty, corrected)


def _pixel_status(scenes: Sequence[Scene], empty: npt.NDArray[np.bool_], reads: npt.NDArray[np.uint8], grid: Grid) -> npt.NDArray[np.uint8]:
    result = np.empty((empty.shape[0], *empty.shape[2:]), np.uint8)
    for number, scene in enumerate(scenes):
        good = readable(reads[number])
        any_empty = empty[number][good].any(axis=0) if good.any() else np.ones(empty.shape[2:], bool)
        outside = outside_mask(scene.items, grid) if any_empty.any() else np.zeros(empty.shape[2:], bool)
        result[number] = pixel_status(any_empty, outside, failed=not good.all())
    return result


def _mask(values: npt.NDArray[Any], status: npt.NDArray[np.uint8], cloud: npt.NDArray[np.uint8]) -> None:
    hidden = (cloud == 1) & (status != PixelStatus.OUTSIDE_FOOTPRINT) & (status != PixelStatus.NODATA_AT_SOURCE)
    status[hidden] = PixelStatus.MASKED
    fill = FILL if values.dtype.kind == "i" else np.nan
    values.transpose(0, 2, 3, 1)[hidden] = fill


def _band_attrs(layer: Sentinel2, band: str) -> dict[str, Any]:
    known = SENTINEL2[band]
    attrs: dict[str, Any] = {
        "long_name": f"{'nadir BRDF-adjusted ' if layer.nbar.method != 'none' else ''}surface reflectance, {known.long_name}",
        "standard_name": "surface_bidirectional_reflectance",
        "units": "1",
        "common_name": known.common_name,
        "wavelength": known.wavelength,
        "wavelength_units": "um",
        "native_resolution": known.resolution,
        "ancillary_variables": "pixel_status nbar_status read_status",
    }
    if layer.nbar.method == "c-factor" and band == "B8A":
        attrs["nbar_parameters"] = "those of B08, for want of its own"
    return attrs


def _cloud_attrs(layer: Sentinel2) -> dict[str, Any]:
    return {
        "long_name": "pixels that are not clear",
        "flag_values": np.array([0, 1, 255], np.uint8),
        "flag_meanings": "clear not_clear no_data",
        "clear_classes": list(layer.clear),
    }


def _scene_coords(scenes: Sequence[Scene], corrected: Corrected, angles: Angles, grid: Grid) -> dict[str, Any]:
    items = [scene.items[0] for scene in scenes]
    lon, lat = grid.center_lonlat
    view = [_view(angles[item_key(item)], grid) for item in items]
    sun = [a if np.isfinite(a) else _number(item.sun_zenith) for (a, _), item in zip(view, items, strict=True)]
    zenith = [b if np.isfinite(b) else _number(item.view_zenith) for (_, b), item in zip(view, items, strict=True)]
    degrees = {
        "units": "degree",
        "comment": f"at the cube's centre ({lon:.5f} E, {lat:.5f} N) where granule metadata is given, else the granule's mean",
    }
    return {
        "time": (
            "time",
            np.array([scene.time for scene in scenes], "datetime64[ns]"),
            {"long_name": "acquisition", "standard_name": "time"},
        ),
        "item_id": (
            "time",
            _text(" ".join(item.id for item in scene.items) for scene in scenes),
            {"long_name": "catalogue items, preferred first"},
        ),
        "platform": ("time", _text(item.platform or "" for item in items), {"long_name": "platform"}),
        "relative_orbit": (
            "time",
            np.array([item.relative_orbit or 0 for item in items], np.int16),
            {"long_name": "relative orbit; 0 is unknown"},
        ),
        "tile": (
            "time",
            _text(" ".join(dict.fromkeys(i.tile or "" for i in scene.items)) for scene in scenes),
            {"long_name": "MGRS tiles"},
        ),
        "processing_baseline": ("time", _text(item.processing_baseline or "" for item in items), {"long_name": "processing baseline"}),
        "boa_offset": (
            "time",
            corrected.offset.astype(np.int16),
            {"long_name": "added to the digital numbers before scaling", "units": "1"},
        ),
        "sun_zenith": (
            "time",
            np.array(sun, np.float32),
            {"long_name": "sun zenith angle", "standard_name": "solar_zenith_angle", **degrees},
        ),
        "view_zenith": (
            "time",
            np.array(zenith, np.float32),
            {"long_name": "view zenith angle", "standard_name": "sensor_zenith_angle", **degrees},
        ),
    }


def _view(field: CField | NbarStatus, grid: Grid) -> tuple[float, float]:
    """(sun, view) zenith at the centre of the grid, NaN where the metadata does not tell."""
    if not isinstance(field, CField):
        return np.nan, np.nan
    x, y = grid.centers_in(field.angles.epsg)
    middle = (grid.height // 2, grid.width // 2)
    sun, view, _ = angles_at(field, next(iter(field.views), "B08"), x[middle][None, None], y[middle][None, None])
    return float(sun[0, 0]), float(view[0, 0])


def _text(values: Any) -> npt.NDArray[np.str_]:
    return np.array(list(values), dtype=np.str_)


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _select(
    layer: Sentinel2, ds: xr.Dataset, scenes: Sequence[Scene], stack: Stack, empty: npt.NDArray[np.bool_], corrected: Corrected
) -> xr.Dataset:
    """Leave out scenes without pixels, and those without NBAR if the layer says so; name them in the attributes."""
    failed = ~readable(stack.status).all(axis=1)
    blank: Any = empty.all(axis=(1, 2, 3)) & ~failed
    supported = corrected.nbar_status != NbarStatus.not_supported
    unadjusted = ((corrected.nbar_status != NbarStatus.applied) & supported).any(axis=1)
    dropped = unadjusted & ~blank if layer.nbar.missing == "drop" and layer.nbar.method != "none" else np.zeros(len(scenes), bool)
    ds = ds.isel(time=np.flatnonzero(~(blank | dropped)))
    names = [scene.items[0].id for scene in scenes]
    ds.attrs = {
        "sentinel2_scenes_without_pixels": " ".join(name for name, out in zip(names, blank, strict=True) if out),
        "sentinel2_scenes_without_nbar": " ".join(name for name, out in zip(names, dropped, strict=True) if out),
        "sentinel2_negative_share": round(corrected.negative, 6),
        "sentinel2_clipped_values": corrected.clipped,
        "sentinel2_holes": int((~readable(stack.status)).sum()),
    }
    return ds
