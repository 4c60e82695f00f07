"""The layer's dataset: bands, classes, masks, why pixels are empty, and what is known of every scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.bands import SENTINEL2
from cubekit.errors import ReadError
from cubekit.grid import Grid
from cubekit.layers._base import LayerRequest
from cubekit.layers.sentinel2._account import Account, account
from cubekit.layers.sentinel2._correct import Corrected
from cubekit.layers.sentinel2._metadata import Angles, angle_band, item_key
from cubekit.layers.sentinel2._pixels import Stack, readable
from cubekit.layers.sentinel2._scenes import Scene
from cubekit.nbar import CField, NbarStatus, angles_at, status_attrs
from cubekit.read import ReadStatus
from cubekit.reflectance import PixelStatus, SceneClass
from cubekit.typing import Float2D

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


def to_dataset(
    layer: Sentinel2, scenes: Sequence[Scene], stack: Stack, corrected: Corrected, angles: Angles, request: LayerRequest
) -> xr.Dataset:
    """Assemble the dataset of all scenes on (time, y, x); scenes without a single pixel are left out and listed in an attribute.

    Raises
    ------
    ReadError
        If a scene cannot be adjusted to nadir and the layer says ``nbar.missing: fail``.
    """
    known = account(layer, scenes, stack, corrected, request)
    kept, attrs = _kept(layer, scenes, stack, corrected, known)
    scenes = [scenes[number] for number in kept]
    values, scl, status, cloud = (_move(array, kept) for array in (corrected.values, corrected.scl, known.status, known.cloud))
    stored = {"dtype": layer.dtype}
    data: dict[str, Any] = {band: (DIMS, values[:, number], _band_attrs(layer, band), stored) for number, band in enumerate(layer.bands)}
    data["SCL"] = (DIMS, scl, {"long_name": "scene classification of Sen2Cor", **flags(SceneClass)})
    data["cloud_mask"] = (DIMS, cloud, _cloud_attrs(layer))
    data["pixel_status"] = (DIMS, status, {"long_name": "why a pixel is empty in at least one band", **flags(PixelStatus)})
    if corrected.factors is not None:
        factors = _move(corrected.factors, kept)
        for number, band in enumerate(layer.bands):
            data[f"{band}_c"] = (DIMS, factors[:, number], {"long_name": f"NBAR c-factor of {band}", "units": "1"})
    if corrected.angles is not None:
        degrees = _move(corrected.angles, kept)
        for number, (name, described) in enumerate(_angle_attrs(layer).items()):
            data[name] = (DIMS, degrees[:, number], described)
    coords = _scene_coords(scenes, corrected.offset[kept], angles, request.grid)
    share = "share of the cube's pixels that are valid and clear"
    coords["clear_fraction"] = ("time", known.clear_fraction[kept], {"long_name": share, "units": "1"})
    coords["band"] = ("band", np.array([*layer.bands, "SCL"]), {"long_name": "band"})
    last = np.full((len(scenes), 1), NbarStatus.not_supported, np.int8)
    data["nbar_status"] = (("time", "band"), np.concatenate([corrected.nbar_status[kept], last], axis=1), status_attrs())
    data["read_status"] = (("time", "band"), stack.status[kept], {"long_name": "how reading ended", **flags(ReadStatus)})
    return xr.Dataset(data, coords=coords, attrs=attrs)


def _move(array: npt.NDArray[Any], kept: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """The scenes that are kept, moved together in place: an index would copy the whole stack."""
    for new, old in enumerate(kept):
        if new != old:
            array[new] = array[old]
    return array[: len(kept)]


def _angle_attrs(layer: Sentinel2) -> dict[str, dict[str, Any]]:
    band = angle_band(layer)
    looks = f"of {band}, by {'the detector that saw the pixel' if layer.nbar.detectors == 'seen' else 'the mean of the detectors'}"
    return {
        "sun_zenith_angle": {"long_name": "sun zenith angle", "standard_name": "solar_zenith_angle", "units": "degree"},
        "view_zenith_angle": {
            "long_name": f"view zenith angle {looks}",
            "standard_name": "sensor_zenith_angle",
            "units": "degree",
            "angle_band": band,
        },
        "relative_azimuth_angle": {
            "long_name": f"relative azimuth angle {looks}",
            "units": "degree",
            "comment": "sun azimuth minus view azimuth, from -180 to 180",
            "angle_band": band,
        },
    }


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


def _scene_coords(scenes: Sequence[Scene], offset: npt.NDArray[np.float64], angles: Angles, grid: Grid) -> dict[str, Any]:
    items = [scene.items[0] for scene in scenes]
    lon, lat = grid.center_lonlat
    center = cache(grid.center_in)
    view = [_view(angles[item_key(item)], center) for item in items]
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
        "boa_offset": _offset(offset),
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


def _offset(by_band: npt.NDArray[np.float64]) -> tuple[Any, ...]:
    """What was added to the digital numbers: one value per time step, or (time, band) with 0 for SCL where the bands differ."""
    attrs = {"long_name": "added to the digital numbers before scaling", "units": "1", "comment": "that of the first item"}
    whole = np.rint(by_band).astype(np.int16)
    if (whole == whole[:, :1]).all():
        return "time", whole[:, 0], attrs
    return ("time", "band"), np.concatenate([whole, np.zeros_like(whole[:, :1])], axis=1), attrs


def _view(field: CField | NbarStatus, center: Callable[[int], tuple[Float2D, Float2D]]) -> tuple[float, float]:
    """(sun, view) zenith at the centre of the grid (by EPSG code), NaN where the metadata does not tell."""
    if not isinstance(field, CField):
        return np.nan, np.nan
    x, y = center(field.angles.epsg)
    sun, view, _ = angles_at(field, next(iter(field.views), "B08"), x, y)
    return float(sun[0, 0]), float(view[0, 0])


def _text(values: Any) -> npt.NDArray[np.str_]:
    return np.array(list(values), dtype=np.str_)


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _kept(
    layer: Sentinel2, scenes: Sequence[Scene], stack: Stack, corrected: Corrected, known: Account
) -> tuple[npt.NDArray[np.intp], dict[str, Any]]:
    """Which scenes stay: those with pixels, and with NBAR if the layer says so; and the attributes that name the others."""
    supported = corrected.nbar_status != NbarStatus.not_supported
    asked = corrected.nbar_status != NbarStatus.not_requested
    unadjusted = ((corrected.nbar_status != NbarStatus.applied) & supported & asked).any(axis=1) & ~known.blank
    names = [scene.items[0].id for scene in scenes]
    if layer.nbar.missing == "fail" and unadjusted.any():
        number = int(np.flatnonzero(unadjusted)[0])
        states = {NbarStatus(state).name for state in corrected.nbar_status[number][supported[number]]} - {"applied"}
        raise ReadError(
            f"{int(unadjusted.sum())} of {len(scenes)} scenes cannot be adjusted to nadir: {names[number]} ({', '.join(sorted(states))})",
            remedy="Use nbar.missing: flag or drop, or nbar: none",
            item_id=names[number],
        )
    dropped = unadjusted if layer.nbar.missing == "drop" else np.zeros(len(scenes), bool)
    attrs = {
        "sentinel2_scenes_without_pixels": " ".join(name for name, out in zip(names, known.blank, strict=True) if out),
        "sentinel2_scenes_without_nbar": " ".join(name for name, out in zip(names, dropped, strict=True) if out),
        "sentinel2_negative_share": round(corrected.negative, 6),
        "sentinel2_clipped_values": corrected.clipped,
        "sentinel2_holes": int((~readable(stack.status)).sum()),
    }
    return np.flatnonzero(~(known.blank | dropped)), attrs
