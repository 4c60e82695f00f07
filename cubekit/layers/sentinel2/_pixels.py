"""Reading a stack of scenes: digital numbers, scene classes, and how every read ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cubekit.bands import SENTINEL2
from cubekit.errors import AccessDeniedError, HolesError, ReadError
from cubekit.grid import Grid
from cubekit.layers._base import LayerRequest
from cubekit.layers.sentinel2._scenes import Scene
from cubekit.read import AssetOutcome, AssetRead, ReadStatus, plan_reads, read_assets

if TYPE_CHECKING:
    from cubekit.catalog import Catalog, Item
    from cubekit.layers.sentinel2 import Sentinel2
    from cubekit.read import ReadPlan

__all__ = ["NODATA", "Granule", "Stack", "plan_stack", "read_stack", "readable", "zeros"]

NODATA = 0


@dataclass(frozen=True, slots=True, eq=False)
class Granule:
    """Pixels of one granule on the cube's grid.

    Parameters
    ----------
    scene
        Index of its scene.
    rank
        Its place within the scene, 0 is preferred.
    item
        Catalogue item.
    dn
        (band, y, x) uint16, 0 is empty.
    scl
        (y, x) uint8, 0 is empty.
    """

    scene: int
    rank: int
    item: Item
    dn: npt.NDArray[np.uint16]
    scl: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """All that was read.

    Parameters
    ----------
    dn
        (scene, band, y, x) uint16: the preferred granule of every scene.
    scl
        (scene, y, x) uint8: the same of the scene classes.
    granules
        All granules, scene by scene in order of preference; the preferred ones are views of `dn` and `scl`.
    status
        (scene, band + 1) `ReadStatus`, scene classes last; the worst over the granules of the scene.
    """

    dn: npt.NDArray[np.uint16]
    scl: npt.NDArray[np.uint8]
    granules: tuple[Granule, ...]
    status: npt.NDArray[np.uint8]


def zeros(request: LayerRequest, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Zeros where the session wants them: in memory, or in a file that the system pages."""
    # As a plain array: numba takes no subclasses.
    return np.asarray(request.session.allocate(shape, dtype))


def readable(status: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which reads gave pixels or their honest absence."""
    return np.asarray(status <= ReadStatus.EMPTY)


def read_stack(layer: Sentinel2, scenes: Sequence[Scene], request: LayerRequest, catalog: Catalog) -> Stack:
    """Read every band and the scene classes of every granule.

    Raises
    ------
    AccessDeniedError
        If every read was denied.
    HolesError
        If more reads failed than the layer's `max_holes` allows.
    """
    bands = len(layer.bands)
    dn = zeros(request, (len(scenes), bands, *request.grid.shape), np.uint16)
    scl = zeros(request, (len(scenes), *request.grid.shape), np.uint8)
    granules = _granules(scenes, request, dn, scl)
    reads: list[AssetRead] = []
    arrays: list[npt.NDArray[np.generic]] = []
    slots: list[tuple[int, int]] = []
    found: dict[tuple[int, int], list[int]] = {}
    failures: list[tuple[str, str, str]] = []
    for granule in granules:
        targets = [*zip(layer.bands, granule.dn, strict=True), ("SCL", granule.scl)]
        for number, (band, array) in enumerate(targets):
            try:
                reads.append(asset_read(layer, granule.item, band, request.grid))
            except ReadError as error:
                found.setdefault((granule.scene, number), []).append(_absent(granule.item, band))
                failures.append((granule.item.id, band, error.message))
                continue
            arrays.append(array)
            slots.append((granule.scene, number))

    def report(done: int, total: int) -> None:
        request.session.progress("read", done, total)

    options = request.session.read_options(catalog)
    outcomes = read_assets(reads, request.grid, arrays, sign=catalog.sign, options=options, progress=report)
    for read, slot, outcome in zip(reads, slots, outcomes, strict=True):
        found.setdefault(slot, []).append(outcome.status)
        if outcome.status.is_hole:
            failures.append((read.item_id, read.band, f"{outcome.status.name.lower()}: {outcome.message}"))
    status = np.zeros((len(scenes), bands + 1), np.uint8)
    for slot, several in found.items():
        status[slot] = _joint(several)
    if request.session.pins is not None:
        request.session.pins.see_reads(reads, [outcome.etag for outcome in outcomes])
    _account(request, outcomes, failures, layer.max_holes)
    return Stack(dn, scl, granules, status)


def _granules(
    scenes: Sequence[Scene], request: LayerRequest, dn: npt.NDArray[np.uint16], scl: npt.NDArray[np.uint8]
) -> tuple[Granule, ...]:
    """All granules with the arrays that take their pixels."""
    further = sum(len(scene.items) - 1 for scene in scenes)
    more_dn, more_scl = zeros(request, (further, *dn.shape[1:]), np.uint16), zeros(request, (further, *scl.shape[1:]), np.uint8)
    free = iter(zip(more_dn, more_scl, strict=True))
    return tuple(
        Granule(index, rank, item, *((dn[index], scl[index]) if rank == 0 else next(free)))
        for index, scene in enumerate(scenes)
        for rank, item in enumerate(scene.items)
    )


def _absent(item: Item, band: str) -> ReadStatus:
    """Why an item has no file for a band: it lacks the asset, or the address is one that is never opened."""
    refused = band in item.profile.bands and any(key in item.refused for key in item.profile.band(band).keys)
    return ReadStatus.REFUSED if refused else ReadStatus.MISSING


def plan_stack(layer: Sentinel2, scenes: Sequence[Scene], request: LayerRequest, catalog: Catalog) -> tuple[ReadPlan, int]:
    """The reads of `read_stack` as a plan, and their number."""
    reads = list(_possible(layer, scenes, request.grid))
    plan = plan_reads(reads, request.grid, request.session.read_options(catalog), sign=catalog.sign)
    if request.session.pins is not None:
        request.session.pins.see_reads(reads)
    return plan, len(reads)


def _possible(layer: Sentinel2, scenes: Sequence[Scene], grid: Grid) -> Iterable[AssetRead]:
    for scene in scenes:
        for item in scene.items:
            for band in (*layer.bands, "SCL"):
                try:
                    yield asset_read(layer, item, band, grid)
                except ReadError:  # counted as a hole by the run
                    continue


def asset_read(layer: Sentinel2, item: Item, band: str, grid: Grid) -> AssetRead:
    """How one band of an item comes onto the grid.

    Raises
    ------
    ReadError
        If the item has no such asset, or one that may not be opened.
    """
    if band not in item.profile.bands:
        raise ReadError(f"Item {item.id} has no asset for band {band}", remedy="The catalogue lacks this file", item_id=item.id, band=band)
    asset = item.asset(band)
    nodata = item.profile.band(band).nodata
    epsg = asset.epsg or item.epsg
    resampling: Literal["nearest", "bilinear", "average"] = "nearest"
    if band != "SCL":
        resolution = abs(asset.transform[0]) if asset.transform else float(SENTINEL2[band].resolution)
        resampling = _resampling(layer, item, grid, epsg, resolution)
    return AssetRead(asset.href, item.id, band, resampling, nodata, epsg, asset.shape, asset.transform)


def _resampling(layer: Sentinel2, item: Item, grid: Grid, epsg: int | None, resolution: float) -> Literal["nearest", "bilinear", "average"]:
    phase = item.profile.phase(resolution, south=epsg is not None and 32700 < epsg < 32800)
    if epsg != grid.epsg or not _aligned(grid, resolution, phase):
        return layer.resampling.other
    return layer.resampling.coarser if grid.resolution > resolution else "nearest"


def _aligned(grid: Grid, resolution: float, phase: tuple[float, float]) -> bool:
    """Whether pixels of the source nest in those of the grid, or the other way round."""
    fine, coarse = sorted((grid.resolution, resolution))
    if coarse % fine:
        return False
    offsets = (grid.left - phase[0], grid.top - phase[1])
    return all(
        offset % (fine if grid.resolution == coarse else resolution) == 0 or (grid.resolution == fine and offset % fine == 0)
        for offset in offsets
    )


def _joint(several: Sequence[int]) -> int:
    """The status of a band over the granules of a scene: a hole before data, data before emptiness."""
    worst = max(several)
    return worst if worst > ReadStatus.EMPTY else min(several)


def _account(request: LayerRequest, outcomes: Sequence[AssetOutcome], failures: list[tuple[str, str, str]], max_holes: float) -> None:
    """Count what was read; raise where too much is missing."""
    unread = len(failures) - sum(outcome.status.is_hole for outcome in outcomes)
    total = len(outcomes) + unread
    request.tally.add(
        assets=total,
        holes=len(failures),
        requests=sum(outcome.requests for outcome in outcomes),
        bytes=sum(outcome.bytes for outcome in outcomes),
        retries=sum(outcome.retries for outcome in outcomes),
        misses=sum(outcome.misses for outcome in outcomes),
    )
    if not failures:
        return
    listed = "; ".join(f"{item_id} {band} {reason}" for item_id, band, reason in failures[:3])
    more = f" and {len(failures) - 3} more" if len(failures) > 3 else ""
    if sum(outcome.status is ReadStatus.DENIED for outcome in outcomes) == total:
        raise AccessDeniedError(f"All {total} assets were denied: {listed}{more}", remedy="Check the catalogue's credentials")
    if len(failures) > max_holes * total:
        raise HolesError(
            f"{len(failures)} of {total} asset reads failed, more than max_holes={max_holes:g} allows: {listed}{more}",
            remedy="Try again later, or raise max_holes in the recipe",
            holes=len(failures),
            assets=total,
        )
