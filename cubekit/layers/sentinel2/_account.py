"""Why pixels are empty, which are clear, and which are hidden: scene by scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cubekit.grid import Grid
from cubekit.layers._base import LayerRequest
from cubekit.layers.sentinel2._correct import FILL, Corrected, empty_of
from cubekit.layers.sentinel2._pixels import Stack, readable, zeros
from cubekit.layers.sentinel2._scenes import Scene, outside_mask
from cubekit.reflectance import PixelStatus, clear_mask, pixel_status

if TYPE_CHECKING:
    from cubekit.layers.sentinel2 import Sentinel2

__all__ = ["Account", "account"]


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """What is said of the pixels of all scenes.

    Parameters
    ----------
    status
        (scene, y, x) `PixelStatus`.
    cloud
        (scene, y, x) 0 clear, 1 not clear, 255 no data.
    clear_fraction
        (scene,) share of all pixels that are valid and clear, before any is hidden; NaN where the classes could not be read.
    blank
        (scene,) whether all was read and nothing is there.
    """

    status: npt.NDArray[np.uint8]
    cloud: npt.NDArray[np.uint8]
    clear_fraction: npt.NDArray[np.float64]
    blank: npt.NDArray[np.bool_]


def account(layer: Sentinel2, scenes: Sequence[Scene], stack: Stack, corrected: Corrected, request: LayerRequest) -> Account:
    """Account for every pixel; with ``mask: apply`` empties those that are not known to be clear."""
    shape = corrected.scl.shape
    status, cloud = zeros(request, shape, np.uint8), zeros(request, shape, np.uint8)
    fraction, blank = np.full(len(scenes), np.nan), np.zeros(len(scenes), bool)
    good = readable(stack.status)
    for number, scene in enumerate(scenes):
        values = corrected.values[number]
        empty = empty_of(values)
        # Nothing is missing: all is valid, which is 0.
        if empty.any() or not good[number, :-1].all():
            status[number] = _status(empty, good[number, :-1], scene, request.grid)
        cloud[number] = clear_mask(corrected.scl[number], layer.clear)
        if good[number, -1]:
            fraction[number] = np.mean((status[number] == PixelStatus.VALID) & (cloud[number] == 0), dtype=np.float64)
        blank[number] = bool(empty.all()) and bool(good[number].all())
        if layer.mask == "apply":
            _hide(values, np.asarray(~empty.all(axis=0)), status[number], cloud[number], classes=bool(good[number, -1]))
    return Account(status, cloud, fraction, blank)


def _status(empty: npt.NDArray[np.bool_], good: npt.NDArray[np.bool_], scene: Scene, grid: Grid) -> npt.NDArray[np.uint8]:
    """Status of the pixels of a scene; `empty` is (band, y, x), `good` tells whose reads worked.

    Of a scene of several granules one may have failed: its pixels may have come from another.
    """
    vacant = np.asarray(empty[good].any(axis=0) if good.any() else empty.all(axis=0))
    outside = outside_mask(scene.items, grid) if vacant.any() else np.zeros(vacant.shape, bool)
    result = pixel_status(vacant, outside, failed=False)
    lost = empty[~good].any(axis=0)
    result[lost & (result != PixelStatus.OUTSIDE_FOOTPRINT)] = PixelStatus.READ_FAILED
    return result


def _hide(
    values: npt.NDArray[Any], present: npt.NDArray[np.bool_], status: npt.NDArray[np.uint8], cloud: npt.NDArray[np.uint8], *, classes: bool
) -> None:
    """Empty the pixels that are not known to be clear; without scene classes that is a failed read, not a mask."""
    hidden = present & (cloud != 0)
    known = hidden if classes else hidden & (cloud == 1)
    status[hidden & ~known] = PixelStatus.READ_FAILED
    status[known] = PixelStatus.MASKED
    values[:, hidden] = FILL if values.dtype.kind == "i" else np.nan
