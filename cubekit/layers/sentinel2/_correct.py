"""From digital numbers to comparable reflectance: offset, then c, then one scene out of its granules."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cubekit.errors import InputError, ReadError, ScienceWarning
from cubekit.layers._base import LayerRequest
from cubekit.layers.sentinel2._pixels import NODATA, Granule, Stack
from cubekit.layers.sentinel2._scenes import Scene
from cubekit.nbar import CField, CPatch, NbarStatus, apply_c, harmonise, map_granules, patch
from cubekit.read import AssetOutcome, ReadStatus, read_bytes
from cubekit.reflectance import MAX_NEGATIVE_SHARE, negative_share

if TYPE_CHECKING:
    from cubekit.catalog import Catalog, Item
    from cubekit.layers.sentinel2 import Sentinel2

__all__ = ["Corrected", "correct", "fetch_angles"]

FILL = -32768


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
        (scene,) added to the digital numbers.
    negative
        Share of clearly negative reflectance, over all scenes.
    clipped
        Number of values that int16 could not store.
    factors
        (scene, band, y, x) float32, or None unless they are kept.
    """

    values: npt.NDArray[np.generic]
    scl: npt.NDArray[np.uint8]
    nbar_status: npt.NDArray[np.int8]
    offset: npt.NDArray[np.float64]
    negative: float
    clipped: int
    factors: npt.NDArray[np.float32] | None


Angles = dict[str, CField | NbarStatus]
"""Per item id (and product) the granule's field of c, or why there is none."""


def item_key(item: Item) -> str:
    """Identifies a granule among those of a cube."""
    return f"{item.id}/{item.product or ''}"


def fetch_angles(layer: Sentinel2, items: Sequence[Item], request: LayerRequest, catalog: Catalog) -> Angles:
    """Fetch and parse the granule metadata of all items at once.

    Raises
    ------
    ReadError
        If one cannot be had and the layer says ``nbar.missing: fail``.
    """
    if layer.nbar.method == "none":
        return {item_key(item): NbarStatus.not_requested for item in items}
    angles: Angles = {item_key(item): NbarStatus.not_requested for item in items if item.profile.nbar == "already"}
    wanted = [item for item in items if item_key(item) not in angles]
    with_metadata = [item for item in wanted if item.granule_metadata]
    answers = read_bytes(
        [str(item.granule_metadata) for item in with_metadata], sign=catalog.sign, options=request.session.read_options(catalog)
    )
    contents = [answer if isinstance(answer, bytes) else None for answer in answers]
    fields = map_granules(lambda field: field, contents, layer.bands, threads=request.session.threads)
    for item, answer, field in zip(with_metadata, answers, fields, strict=True):
        if isinstance(answer, bytes):
            request.tally.add(requests=1, bytes=len(answer))
        else:
            request.tally.add(requests=answer.requests, bytes=answer.bytes, retries=answer.retries)
        angles[item_key(item)] = _field(item, answer, field)
    for item in wanted:
        state = angles.setdefault(item_key(item), NbarStatus.no_metadata)
        if layer.nbar.missing == "fail" and not isinstance(state, CField):
            raise ReadError(
                f"Item {item.id} has no usable granule metadata",
                remedy="Use nbar.missing: flag or drop, or nbar: none",
                item_id=item.id,
            )
    return angles


def _field(item: Item, answer: bytes | AssetOutcome, field: CField | ReadError | None) -> CField | NbarStatus:
    """The field of an item's metadata, if it could be fetched and read and is of the item's tile."""
    reason: object = f"granule metadata: {answer.message}" if isinstance(answer, AssetOutcome) else field
    if isinstance(field, CField):
        try:
            if item.tile is not None:
                field.angles.check_tile(item.tile)
            return field
        except InputError as error:
            reason = error
    warnings.warn(f"No NBAR for {item.id}: {reason}", ScienceWarning, stacklevel=2)
    return NbarStatus.no_metadata


def correct(layer: Sentinel2, scenes: Sequence[Scene], stack: Stack, angles: Angles, request: LayerRequest) -> Corrected:
    """Offset and c on every granule, in its own CRS, then the granules of a scene into one.

    Raises
    ------
    CatalogError
        If the offset of an item cannot be known.
    """
    dtype = np.dtype(layer.dtype)
    offsets = np.array([scene.items[0].offset(layer.bands[0]) for scene in scenes])
    parallel = request.session.threads is None or request.session.threads > 1
    firsts = [Granule(index, scene.items[0], stack.first[index], stack.scl[index]) for index, scene in enumerate(scenes)]
    with _one_warning(len(firsts)):
        patches = [_patch(layer, granule.item, angles, request) for granule in firsts]
    done = harmonise(
        stack.first, [NbarStatus.not_requested if p is None else p for p in patches], offsets[:, None], dtype=layer.dtype, parallel=parallel
    )
    values, status, clipped = done.values, done.status, done.clipped
    factors = np.full(values.shape, np.nan, np.float32) if layer.nbar.factors else None
    negative = np.array([negative_share(granule.dn, int(offset)) for granule, offset in zip(firsts, offsets, strict=True)])
    for granule, made in [*zip(firsts, patches, strict=True), *((granule, None) for granule in stack.more)]:
        if made is not None and factors is None:
            continue
        scene = granule.scene
        c, state = _c(layer, granule.item, angles[item_key(granule.item)], request)
        if made is not None and factors is not None:
            factors[scene] = c
            continue
        offset = granule.item.offset(layer.bands[0])
        single = apply_c(granule.dn[None], c, state, offset, nodata=NODATA, dtype=layer.dtype, parallel=parallel)
        clipped += single.clipped
        if granule.dn.base is stack.first:
            values[scene], status[scene], hole = single.values[0], single.status[0], np.ones(values.shape[1:], bool)
        else:
            hole = values[scene] == FILL if dtype.kind == "i" else np.isnan(values[scene])
            values[scene][hole] = single.values[0][hole]
            stack.scl[scene] = np.where(stack.scl[scene] == 0, granule.scl, stack.scl[scene])
            status[scene] = np.maximum(status[scene], single.status[0])
        if factors is not None:
            factors[scene][hole] = c[hole]
    request.session.progress("correct", len(scenes), len(scenes))
    _warn_offset(negative, scenes)
    return Corrected(values, stack.scl, status, offsets, float(negative.mean()) if negative.size else 0.0, clipped, factors)


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
        worst = max(str(warning.message) for warning in low)
        warnings.warn(f"{len(low)} of {granules} granules: {worst}", ScienceWarning, stacklevel=4)


def _patch(layer: Sentinel2, item: Item, angles: Angles, request: LayerRequest) -> CPatch | NbarStatus | None:
    """c of a granule of the grid's own zone, or why there is none; None for a granule of another zone."""
    field = angles[item_key(item)]
    if not isinstance(field, CField):
        return field
    if field.angles.epsg != request.grid.epsg:
        return None
    grid = request.grid
    return patch(field, layer.bands, grid.x, grid.y, detectors=layer.nbar.detectors, target=layer.nbar.target_sun_zenith)


def _c(
    layer: Sentinel2, item: Item, field: CField | NbarStatus, request: LayerRequest
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """c at the grid's pixel centres, (band, y, x), and the status per band."""
    grid = request.grid
    if not isinstance(field, CField):
        return np.full((len(layer.bands), *grid.shape), np.nan, np.float32), np.full(len(layer.bands), int(field), np.int8)
    same = field.angles.epsg == grid.epsg
    x, y = (grid.x, grid.y) if same else grid.centers_in(field.angles.epsg)
    return field.c(layer.bands, x, y, detectors=layer.nbar.detectors, target=layer.nbar.target_sun_zenith)


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


def readable(status: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which reads gave pixels or their honest absence."""
    return np.asarray(status <= ReadStatus.EMPTY)
