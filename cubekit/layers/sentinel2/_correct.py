"""From digital numbers to comparable reflectance: offset, then c, then one scene out of its granules."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cubekit.errors import CatalogError, ScienceWarning
from cubekit.grid import Grid
from cubekit.layers._base import LayerRequest
from cubekit.layers.sentinel2._metadata import Angles, item_key, pixel_angles
from cubekit.layers.sentinel2._pixels import NODATA, Granule, Stack, zeros
from cubekit.layers.sentinel2._scenes import Scene
from cubekit.nbar import CField, Harmonised, NbarStatus, apply_c, harmonise, patches
from cubekit.reflectance import MAX_NEGATIVE_SHARE, negative_share

if TYPE_CHECKING:
    from cubekit.catalog import Item
    from cubekit.layers.sentinel2 import Sentinel2

__all__ = ["FILL", "Corrected", "correct", "empty_of"]

FILL = -32768
SCALE = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """Reflectance of all scenes.

    Parameters
    ----------
    values
        (scene, band, y, x), int16 of scale 1e-4 with fill -32768, or float32 with NaN.
    scl
        (scene, y, x) uint8.
    nbar_status
        (scene, band) `NbarStatus`; the worst over the granules of the scene.
    offset
        (scene, band) added to the digital numbers of the preferred granule.
    negative
        Share of clearly negative reflectance, over all scenes.
    clipped
        Number of values that int16 could not store.
    factors
        (scene, band, y, x) float32, or None unless they are kept.
    angles
        (scene, 3, y, x) float32, sun zenith, view zenith and relative azimuth, or None unless they are kept.
    """

    values: npt.NDArray[np.generic]
    scl: npt.NDArray[np.uint8]
    nbar_status: npt.NDArray[np.int8]
    offset: npt.NDArray[np.float64]
    negative: float
    clipped: int
    factors: npt.NDArray[np.float32] | None
    angles: npt.NDArray[np.float32] | None


def empty_of(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Where reflectance is fill, in either stored type."""
    return np.asarray(values == FILL if values.dtype.kind == "i" else np.isnan(values))


def correct(layer: Sentinel2, scenes: Sequence[Scene], stack: Stack, angles: Angles, request: LayerRequest) -> Corrected:
    """Offset and c on every granule, in its own CRS, then the granules of a scene into one; scene by scene, or by runs of scenes.

    As int16 the reflectance takes the place of the digital numbers in the stack.

    Raises
    ------
    CatalogError
        If the offset or the scale of an item cannot be known.
    """
    shape = stack.dn.shape
    values = stack.dn.view(np.int16) if layer.dtype == "int16" else zeros(request, shape, np.float32)
    status = np.zeros(shape[:2], np.int8)
    factors = zeros(request, shape, np.float32) if layer.nbar.factors else None
    kept = zeros(request, (shape[0], 3, *shape[2:]), np.float32) if layer.nbar.angles else None
    negative, offset = np.zeros(len(scenes)), np.zeros(shape[:2])
    clipped = 0
    nbar = layer.nbar.method != "none"
    fields = {id(one): angles[item_key(one.item)] if nbar else NbarStatus.not_requested for one in stack.granules}
    adjust = _Adjust(layer, request)
    with _one_warning(len(stack.granules)):
        for (scale, _), members in groupby(stack.granules, lambda one: _run(layer, one, fields[id(one)], request.grid)):
            run = list(members)
            scene, rank, stop = run[0].scene, run[0].rank, run[-1].scene + 1
            known = [fields[id(one)] for one in run]
            added = np.array([_offsets(layer, one.item) for one in run])
            hole = None
            if rank == 0:
                offset[scene:stop] = added
                negative[scene:stop] = [negative_share(one.dn, int(first[0])) for one, first in zip(run, added, strict=True)]
                done = adjust(known, stack.dn[scene:stop], added, scale, values[scene:stop])
                status[scene:stop] = done.status
            else:
                done = adjust(known, run[0].dn[None], added, scale, np.empty((1, *shape[1:]), layer.dtype))
                status[scene], hole = np.maximum(status[scene], done.status[0]), empty_of(values[scene])
                values[scene][hole] = done.values[0][hole]
                missing = stack.scl[scene] == 0
                stack.scl[scene][missing] = run[0].scl[missing]
            clipped += done.clipped
            for one, field in zip(run, known, strict=True):
                if factors is not None:
                    _put(factors[one.scene], adjust.c(field)[0], hole)
                if kept is not None:
                    seen = pixel_angles(layer, angles[item_key(one.item)], request.grid)
                    _put(kept[one.scene], seen, None if hole is None else np.isnan(kept[one.scene]) | hole.any(axis=0))
            request.session.progress("correct", stop, len(scenes))
    _warn_offset(negative, scenes)
    return Corrected(values, stack.scl, status, offset, float(negative.mean()) if negative.size else 0.0, clipped, factors, kept)


def _put(target: npt.NDArray[np.float32], values: npt.NDArray[np.float32], where: npt.NDArray[np.bool_] | None) -> None:
    if where is None:
        target[...] = values
    else:
        target[where] = values[where]


def _elsewhere(field: CField | NbarStatus, grid: Grid) -> bool:
    return isinstance(field, CField) and field.angles.epsg != grid.epsg


def _run(layer: Sentinel2, granule: Granule, field: CField | NbarStatus, grid: Grid) -> tuple[float, tuple[int, int] | None]:
    """Scale, and what tells a granule from its neighbours; preferred ones of the grid's own zone are adjusted together."""
    alone = granule.rank > 0 or _elsewhere(field, grid)
    return _scale(layer, granule.item), (granule.scene, granule.rank) if alone else None


class _Adjust:
    """Adjusts granules by the options of a layer."""

    def __init__(self, layer: Sentinel2, request: LayerRequest) -> None:
        self._layer, self._grid = layer, request.grid
        self._looks: dict[str, Any] = {"detectors": layer.nbar.detectors, "target": layer.nbar.target_sun_zenith}
        self._parallel = request.session.threads is None or request.session.threads > 1
        # Granules of one zone mostly follow each other.
        self._centers = lru_cache(maxsize=1)(request.grid.centers_in)

    def __call__(
        self,
        fields: Sequence[CField | NbarStatus],
        dn: npt.NDArray[np.uint16],
        offset: npt.NDArray[np.float64],
        scale: float,
        out: npt.NDArray[np.generic],
    ) -> Harmonised:
        """Granules (granule, band, y, x) into `out`: by runs of c in the grid's own zone; one of another zone by c per pixel."""
        stored: dict[str, Any] = {"scale": scale, "nodata": NODATA, "dtype": self._layer.dtype, "parallel": self._parallel, "out": out}
        if _elsewhere(fields[0], self._grid):
            return apply_c(dn, *self.c(fields[0]), offset, **stored)
        return harmonise(dn, patches(fields, self._layer.bands, self._grid.x, self._grid.y, **self._looks), offset, **stored)

    def c(self, field: CField | NbarStatus) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
        """c at the grid's pixel centres, (band, y, x), and the status per band."""
        bands, grid = self._layer.bands, self._grid
        if not isinstance(field, CField):
            return np.full((len(bands), *grid.shape), np.nan, np.float32), np.full(len(bands), int(field), np.int8)
        x, y = (grid.x, grid.y) if field.angles.epsg == grid.epsg else self._centers(field.angles.epsg)
        return field.c(bands, x, y, **self._looks)


def _offsets(layer: Sentinel2, item: Item) -> npt.NDArray[np.float64]:
    """(band,) added to the digital numbers; bands that the item lacks have that of the others."""
    own = {band: item.offset(band) for band in layer.bands if band in item.profile.bands}
    return np.array([own.get(band, next(iter(own.values()), 0.0)) for band in layer.bands])


def _scale(layer: Sentinel2, item: Item) -> float:
    """Reflectance per digital number: what the item declares where its profile goes by that, else that of Sentinel-2.

    A profile that names assets only has the scale 1, which reflectance cannot have.
    """
    scales = {scale for band in layer.bands if band in item.profile.bands and (scale := item.scale(band)) != 1.0} or {SCALE}
    if len(scales) > 1:
        raise CatalogError(
            f"The bands of item {item.id} have scales {sorted(scales)}", remedy="Read them in layers of one scale each", item_id=item.id
        )
    return scales.pop()


@contextmanager
def _one_warning(granules: int) -> Iterator[None]:
    """Say once, with the number, what every granule with a low sun would say."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    low = [warning for warning in caught if issubclass(warning.category, ScienceWarning)]
    for other in caught:
        if other not in low:
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    if low:
        said = {str(warning.message) for warning in low}
        warnings.warn(f"{min(len(low), granules)} of {granules} granules: {max(said)}", ScienceWarning, stacklevel=4)


def _warn_offset(suspects: npt.NDArray[np.float64], scenes: Sequence[Scene]) -> None:
    bad = np.flatnonzero(suspects > MAX_NEGATIVE_SHARE)
    if bad.size:
        worst = int(bad[np.argmax(suspects[bad])])
        warnings.warn(
            f"{bad.size} of {len(scenes)} scenes have more than {MAX_NEGATIVE_SHARE:.0%} of pixels below -0.01 reflectance "
            f"({suspects[worst]:.0%} in {scenes[worst].items[0].id}): is the offset right for this catalogue?",
            ScienceWarning,
            stacklevel=2,
        )
