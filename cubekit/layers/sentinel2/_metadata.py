"""Granule metadata: fetched at once, parsed once per session, and the angles that it gives."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cubekit.errors import InputError, ReadError, ScienceWarning
from cubekit.grid import Grid
from cubekit.layers._base import LayerRequest
from cubekit.nbar import CField, NbarStatus, angles_at, is_supported, map_granules
from cubekit.read import AssetOutcome, read_bytes

if TYPE_CHECKING:
    from cubekit.catalog import Catalog, Item
    from cubekit.layers.sentinel2 import Sentinel2
    from cubekit.typing import FloatArray

__all__ = ["Angles", "angle_band", "fetch_angles", "item_key", "pixel_angles", "wants_metadata"]

Angles = dict[str, CField | NbarStatus]
"""Per item id (and product) the granule's field of c, or why there is none."""

_KEPT = 256 << 20


class FieldStore:
    """Fields of the granules that a session met last, up to 256 MiB of them, so that neighbouring sites share them."""

    def __init__(self) -> None:
        self._fields: dict[tuple[str, tuple[str, ...]], tuple[CField, int]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, tuple[str, ...]]) -> CField | None:
        """The field, if it is kept."""
        with self._lock:
            if key not in self._fields:
                return None
            self._fields[key] = self._fields.pop(key)
            return self._fields[key][0]

    def put(self, key: tuple[str, tuple[str, ...]], field: CField) -> None:
        """Keep a field, and let go of those that were not asked for longest."""
        views = sum(view.vectors.nbytes + view.seen.nbytes + view.seams.nbytes for view in field.views.values())
        size = views + field.angles.view_zenith.nbytes + field.angles.view_azimuth.nbytes
        with self._lock:
            if key not in self._fields:
                self._fields[key] = field, size
                self._bytes += size
            while self._bytes > _KEPT and len(self._fields) > 1:
                self._bytes -= self._fields.pop(next(iter(self._fields)))[1]


def item_key(item: Item) -> str:
    """Identifies a granule among those of a cube."""
    return f"{item.id}/{item.product or ''}"


def wants_metadata(layer: Sentinel2) -> bool:
    """Whether the layer needs granule metadata at all."""
    return layer.nbar.method != "none" or layer.nbar.angles


def angle_band(layer: Sentinel2) -> str:
    """The band whose view angles stand for all: the first of the layer's that has BRDF parameters."""
    return next((band for band in layer.bands if is_supported(band)), "B08")


def fetch_angles(layer: Sentinel2, items: Sequence[Item], request: LayerRequest, catalog: Catalog) -> Angles:
    """Fetch and parse the granule metadata of all items at once; what the session has met before is not read again.

    Raises
    ------
    ReadError
        If one cannot be had and the layer says ``nbar.missing: fail``.
    """
    if not wants_metadata(layer):
        return {item_key(item): NbarStatus.not_requested for item in items}
    angles: Angles = {item_key(item): NbarStatus.not_requested for item in items if item.profile.nbar == "already"}
    wanted = [item for item in items if item_key(item) not in angles]
    bands = tuple(band for band in layer.bands if is_supported(band)) or (angle_band(layer),)
    pins = request.session.pins
    store = request.session.remember("sentinel2 granule metadata", FieldStore)
    unread = []
    for item in (item for item in wanted if item.granule_metadata):
        # A lock has to see the bytes.
        known = store.get((str(item.granule_metadata), bands)) if pins is None else None
        if known is None:
            unread.append(item)
        else:
            angles[item_key(item)] = known
    hrefs = [str(item.granule_metadata) for item in unread]

    def account(requests: int, size: int, retries: int) -> None:
        request.tally.add(requests=requests, bytes=size, retries=retries)

    answers = read_bytes(hrefs, sign=catalog.sign, options=request.session.read_options(catalog), account=account)
    contents = [answer if isinstance(answer, bytes) else None for answer in answers]
    parsed = map_granules(lambda field: field, contents, bands, threads=request.session.threads)
    for item, href, answer, made in zip(unread, hrefs, answers, parsed, strict=True):
        if isinstance(answer, bytes) and pins is not None:
            pins.see_bytes(href, answer)
        angles[item_key(item)] = field = _field(item, answer, made)
        if isinstance(field, CField):
            store.put((href, bands), field)
    for item in wanted:
        state = angles.setdefault(item_key(item), NbarStatus.no_metadata)
        if layer.nbar.method != "none" and layer.nbar.missing == "fail" and not isinstance(state, CField):
            raise ReadError(
                f"Item {item.id} has no usable granule metadata",
                remedy="Use nbar.missing: flag or drop, or nbar: none",
                item_id=item.id,
            )
    return angles


def _field(item: Item, content: bytes | AssetOutcome, made: CField | ReadError | None) -> CField | NbarStatus:
    """The granule's field, or a warning that says why there is none."""
    if isinstance(content, bytes) and isinstance(made, CField):
        try:
            if item.tile is not None:
                made.angles.check_tile(item.tile)
            return made
        except InputError as error:
            reason = str(error)
    else:
        reason = f"granule metadata: {made if isinstance(content, bytes) else content.message}"
    warnings.warn(f"No NBAR for {item.id}: {reason}", ScienceWarning, stacklevel=2)
    return NbarStatus.no_metadata


def centers(field: CField, grid: Grid) -> tuple[FloatArray, FloatArray]:
    """The grid's pixel centres in the CRS of a granule: axes where it is the grid's own, else 2-D arrays."""
    return (grid.x, grid.y) if field.angles.epsg == grid.epsg else grid.centers_in(field.angles.epsg)


def pixel_angles(layer: Sentinel2, field: CField | NbarStatus, grid: Grid) -> npt.NDArray[np.float32]:
    """(3, y, x) sun zenith, view zenith and relative azimuth at the grid's pixels, degrees; NaN where they are not known."""
    if not isinstance(field, CField):
        return np.full((3, *grid.shape), np.nan, np.float32)
    return np.stack(angles_at(field, angle_band(layer), *centers(field, grid), detectors=layer.nbar.detectors)).astype(np.float32)
