"""From truth to products: the pixels and the metadata of one granule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cubekit.demo._acquire import Granule
from cubekit.demo._cog import write_cog
from cubekit.demo._granule_xml import MeanAngles, ViewGrids, granule_xml, view_grids
from cubekit.demo._landscape import Surface
from cubekit.demo._model import Model, band_indices
from cubekit.demo._place import TILES, Window, pixel_centres, to_plane

__all__ = ["RESOLUTIONS", "Rendered", "Stage", "render", "to_numbers"]

Array: TypeAlias = npt.NDArray[Any]

RESOLUTIONS = {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "B05": 20, "B06": 20, "B07": 20, "B8A": 20, "B11": 20, "B12": 20}
"""Pixel size of each band, metres."""
_LATTICE = 9


@dataclass(frozen=True, slots=True)
class Stage:
    """One tile at one resolution: where its pixels lie and what stands there."""

    window: Window
    resolution: int
    x: Array
    y: Array
    surface: Surface


@dataclass(frozen=True, slots=True)
class Rendered:
    """What the item of a granule needs to know of its files."""

    granule: Granule
    window: Window
    files: dict[str, str]
    sizes: dict[str, int]
    content: dict[str, float]
    sun: MeanAngles
    view: dict[str, MeanAngles]


@lru_cache(maxsize=16)
def stage(model: Model, tile: str, resolution: int) -> Stage:
    """Pixels of a tile's window, with the landscape under them."""
    window = TILES[tile].window(model.parameters.size)
    x, y = to_plane(*pixel_centres(window.transform(resolution), window.shape(resolution)), TILES[tile].epsg)
    return Stage(window, resolution, x, y, model.landscape.surface(x, y))


@lru_cache(maxsize=32)
def _views(tile: str, track: Any) -> ViewGrids:
    return view_grids(TILES[tile], track)


def to_numbers(reflectance: Array, offset: int) -> npt.NDArray[np.uint16]:
    """Digital numbers as ESA writes them: reflectance times 10000 plus the baseline's offset; 0 stays free for nodata."""
    return np.asarray(np.clip(np.rint(reflectance * 1e4) + offset, 1, 65_535), np.uint16)


@dataclass(frozen=True, slots=True)
class _Look:
    """One granule on one stage: detectors and clouds as seen at its pixels."""

    stage: Stage
    detectors: Array
    present: list[int]
    opacity: tuple[Array, Array, Array]


def _look(model: Model, granule: Granule, resolution: int) -> _Look:
    here = stage(model, granule.tile.name, resolution)
    detectors = granule.acquisition.track.detector(here.x, here.y)
    present = [int(d) for d in np.flatnonzero(np.bincount(detectors.ravel())) if d > 0]
    return _Look(here, detectors, present, granule.acquisition.sky.opacity(here.x, here.y))


def _ratio(model: Model, granule: Granule, band: str, look: _Look) -> npt.NDArray[np.float32]:
    """Anisotropy at every pixel: exact on a lattice of points 650 m apart, bilinear between (within 1e-7)."""
    here = look.stage
    rows, columns = here.x.shape
    west, south, east, north = here.window.bounds()
    corner_x, corner_y = np.meshgrid(np.linspace(west, east, _LATTICE), np.linspace(north, south, _LATTICE))
    px, py = to_plane(corner_x, corner_y, granule.tile.epsg)
    out = np.ones((rows, columns), np.float32)
    for detector in look.present:
        nodes = model.ratio(granule, band, detector, px, py).astype(np.float32)
        ratio = _stretch(_stretch(nodes, rows).T, columns).T
        np.copyto(out, ratio, where=look.detectors == detector)
    return out


def _stretch(nodes: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Linear interpolation along the first axis: from lattice points to `count` pixel centres.

    No matrix product: the threads of BLAS would cost more than the few sums.
    """
    position = ((np.arange(count) + 0.5) / count * (nodes.shape[0] - 1)).astype(np.float32)
    before = position.astype(np.intp)
    share = (position - before)[:, None]
    return np.asarray(nodes[before] * (1 - share) + nodes[before + 1] * share)


def _bands(model: Model, granule: Granule, look: _Look) -> dict[str, npt.NDArray[np.uint16]]:
    names = [band for band, size in RESOLUTIONS.items() if size == look.stage.resolution]
    index = band_indices(names)
    acquisition = granule.acquisition
    reflectance = model.nadir(look.stage.surface, acquisition.day, index)
    for row, band in enumerate(names):
        reflectance[row] *= _ratio(model, granule, band, look)
    reflectance = acquisition.sky.apply(reflectance, look.opacity[0], look.opacity[1], index)
    numbers = to_numbers(reflectance, granule.offset)
    numbers[:, look.detectors == 0] = 0
    return dict(zip(names, numbers, strict=True))


def _content(classes: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Percentages as in Image_Content_QI, of the rendered window; cloud and cover classes relative to valid pixels."""
    share = np.bincount(classes.ravel(), minlength=12) / classes.size * 100.0
    valid = max(100.0 - share[0], 1e-9)
    share[1:] *= 100.0 / valid
    return {
        "CLOUDY_PIXEL_PERCENTAGE": float(share[[8, 9, 10]].sum()),
        "DEGRADED_MSI_DATA_PERCENTAGE": 0.0,
        "NODATA_PIXEL_PERCENTAGE": float(share[0]),
        "SATURATED_DEFECTIVE_PIXEL_PERCENTAGE": 0.0,
        "DARK_FEATURES_PERCENTAGE": 0.0,
        "CLOUD_SHADOW_PERCENTAGE": float(share[3]),
        "VEGETATION_PERCENTAGE": float(share[4]),
        "NOT_VEGETATED_PERCENTAGE": float(share[5]),
        "WATER_PERCENTAGE": float(share[6]),
        "UNCLASSIFIED_PERCENTAGE": float(share[7]),
        "MEDIUM_PROBA_CLOUDS_PERCENTAGE": float(share[8]),
        "HIGH_PROBA_CLOUDS_PERCENTAGE": float(share[9]),
        "THIN_CIRRUS_PERCENTAGE": float(share[10]),
        "SNOW_ICE_PERCENTAGE": float(share[11]),
    }


def render(model: Model, granule: Granule, root: Path, folder: str) -> Rendered:
    """Write all files of one granule below ``root/folder`` and say what they are."""
    (root / folder).mkdir(parents=True)
    tile = granule.tile
    stem = f"T{tile.name}_{granule.acquisition.start:%Y%m%dT%H%M%S}"
    files: dict[str, str] = {}
    sizes: dict[str, int] = {}

    def put(key: str, name: str, pixels: Array, resolution: int, *, overview: int | None = 4) -> None:
        files[key] = f"{folder}/{name}"
        transform = window.transform(resolution)
        sizes[key] = write_cog(root / files[key], pixels, transform, tile.epsg, nodata=0, overview=overview)

    looks = {resolution: _look(model, granule, resolution) for resolution in (10, 20)}
    window = looks[10].stage.window
    for resolution, look in looks.items():
        for band, numbers in _bands(model, granule, look).items():
            put(band, f"{stem}_{band}_{resolution}m.tif", numbers, resolution)
        name = f"MSK_DETFOO_{resolution}m"
        put(name, f"{name}.tif", look.detectors, resolution, overview=None)
    classes = model.classes(granule, looks[20].stage.surface, looks[20].detectors, looks[20].opacity)
    put("SCL", f"{stem}_SCL_20m.tif", classes, 20)
    content, views = _content(classes), _views(tile.name, granule.acquisition.track)
    document, sun = granule_xml(granule, views, content)
    files["granule-metadata"] = f"{folder}/MTD_TL.xml"
    sizes["granule-metadata"] = (root / files["granule-metadata"]).write_bytes(document)
    return Rendered(granule, window, files, sizes, content, sun, views[1])
