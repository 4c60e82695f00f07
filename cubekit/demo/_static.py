"""What does not change: elevation as Copernicus DEM GLO-30, land cover as ESA WorldCover, on their own grids and in their own tiles."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np

from cubekit.demo._cog import write_cog
from cubekit.demo._items import static_item
from cubekit.demo._model import Model
from cubekit.demo._place import CENTER, TILES, pixel_centres, to_lonlat, to_plane
from cubekit.typing import JSON

__all__ = ["write_elevation", "write_land_cover"]

_MARGIN = 0.004
_CLASSES = {10: "Tree cover", 30: "Grassland", 40: "Cropland", 50: "Built-up", 80: "Permanent water bodies", 90: "Herbaceous wetland"}


def _box(model: Model) -> tuple[float, float, float, float]:
    """(west, south, east, north) of the rendered windows with a margin, degrees."""
    lons, lats = [], []
    for tile in TILES.values():
        west, south, east, north = tile.window(model.parameters.size).bounds()
        lon, lat = to_lonlat(np.array([west, west, east, east]), np.array([south, north, south, north]), tile.epsg)
        lons += [float(lon.min()), float(lon.max())]
        lats += [float(lat.min()), float(lat.max())]
    return min(lons) - _MARGIN, min(lats) - _MARGIN, max(lons) + _MARGIN, max(lats) + _MARGIN


def _crop(
    origin: tuple[float, float], step: tuple[Fraction, Fraction], span: float, box: tuple[float, float, float, float]
) -> tuple[list[float], tuple[int, int]]:
    """Transform and shape of the part of a tile (upper-left corner `origin`, `span` degrees wide) within a box, on the tile's pixels."""
    left, top = origin
    dx, dy = float(step[0]), float(step[1])
    first = max(math.floor((box[0] - left) / dx), 0)
    last = min(math.ceil((box[2] - left) / dx), round(span / dx))
    upper, lower = math.floor((top - box[3]) / dy), math.ceil((top - box[1]) / dy)
    return [dx, 0.0, left + first * dx, 0.0, -dy, top - upper * dy], (lower - upper, last - first)


def write_elevation(model: Model, root: Path) -> list[JSON]:
    """Copernicus DEM: 1 degree tiles, float32, PixelIsPoint, 1" by 1.5" north of 50 degrees; a seam of two tiles crosses the world."""
    (root / "cop-dem-glo-30").mkdir()
    box, items = _box(model), []
    south = math.floor(CENTER[1])
    step = (Fraction(1, 2400), Fraction(1, 3600))
    for west in (math.floor(CENTER[0]) - 1, math.floor(CENTER[0])):
        origin = (west - float(step[0]) / 2, south + 1 + float(step[1]) / 2)
        transform, shape = _crop(origin, step, 1.0, box)
        height = model.landscape.elevation(*to_plane(*pixel_centres(transform, shape), 4326)).astype(np.float32)
        name = f"Copernicus_DSM_COG_10_N{south:02d}_00_E{west:03d}_00_DEM"
        href = f"cop-dem-glo-30/{name}.tif"
        write_cog(root / href, np.round(height, 2), transform, 4326, nodata=None, point=True)
        properties = {"datetime": "2021-04-22T00:00:00Z", "gsd": 30, "platform": "TanDEM-X"}
        title = {"title": f"N{south:02d}_00_E{west:03d}_00"}
        items.append(static_item(name, "cop-dem-glo-30", "data", href, transform, shape, properties, title))
    return items


def write_land_cover(model: Model, root: Path) -> list[JSON]:
    """ESA WorldCover of 2020 (v100) and 2021 (v200): 3 degree tiles of 1/12000 degree, uint8; again with a seam in the world."""
    (root / "esa-worldcover").mkdir()
    box, items = _box(model), []
    south, east = 3 * math.floor(CENTER[1] / 3), 3 * math.floor(CENTER[0] / 3)
    step = (Fraction(1, 12_000), Fraction(1, 12_000))
    for year, version in ((2020, "v100"), (2021, "v200")):
        for west in (east - 3, east):
            transform, shape = _crop((float(west), south + 3.0), step, 3.0, box)
            cover = model.landscape.land_cover(*to_plane(*pixel_centres(transform, shape), 4326), year)
            tile = f"N{south:02d}E{west:03d}"
            name = f"ESA_WorldCover_10m_{year}_{version}_{tile}"
            href = f"esa-worldcover/{name}_Map.tif"
            write_cog(root / href, cover, transform, 4326, nodata=0)
            properties = {
                "datetime": None,
                "start_datetime": f"{year}-01-01T00:00:00Z",
                "end_datetime": f"{year}-12-31T23:59:59Z",
                "esa_worldcover:product_tile": tile,
                "esa_worldcover:product_version": f"{version[1]}.0.0",
            }
            classes = [{"value": value, "description": text} for value, text in _CLASSES.items()]
            fields = {"title": "Land Cover Classes", "classification:classes": classes}
            items.append(static_item(name, "esa-worldcover", "map", href, transform, shape, properties, fields))
    return items
