"""What does not change with time: elevation and land cover."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from affine import Affine

from cubekit.errors import HolesError, NothingFoundError
from cubekit.grid import Grid
from cubekit.layers._base import Layer, LayerPlan, LayerRequest
from cubekit.layers._lattice import bilinear
from cubekit.layers._session import Tally, provenance_hrefs
from cubekit.layers.sentinel2._options import CatalogNames
from cubekit.read import AssetOutcome, AssetRead, read_assets, read_native
from cubekit.typing import BBox

if TYPE_CHECKING:
    from cubekit.catalog import Catalog, Item

__all__ = ["Dem", "LandCover"]

MARGIN = 0.004
"""Degrees (about 400 m) read around the grid, more than one pixel of a DEM at any latitude below 85 degrees."""


class _Static(Layer):
    """What both layers share: a catalogue, and items that cover the grid."""

    group: ClassVar[str] = "/"

    places: ClassVar[tuple[str, ...]] = ("catalog",)

    catalog: CatalogNames = ("planetary-computer",)
    """Catalogue: name, URL or path; a list means fallbacks in order."""

    def plan(self, request: LayerRequest) -> LayerPlan:
        """What loading costs, by loading: a few small windows, of which nothing is kept."""
        seen = Tally()
        ds = self.load(replace(request, tally=seen))
        items = len(ds.attrs["item_hrefs"].split())
        return LayerPlan(self.kind, 0, items, seen.assets, seen.requests, seen.bytes, ds.nbytes)

    def _items(self, request: LayerRequest, collection: str, boxes: list[BBox]) -> tuple[Catalog, list[Item]]:
        catalog, items = request.session.search(self.catalog, collection, boxes)
        if not items:
            lon, lat = request.grid.center_lonlat
            raise NothingFoundError(
                f"No item of {collection} at {catalog.name} over lat={lat:.4f}, lon={lon:.4f}", remedy="Set missing: fill"
            )
        return catalog, items


def _widened(boxes: list[BBox]) -> list[BBox]:
    """The boxes and `MARGIN` around them: what two neighbouring posts of a point can lie in; cut again at the antimeridian."""
    west, east = boxes[0][0], boxes[-1][2]
    if len(boxes) > 1:
        west, east = max(box[0] for box in boxes), min(box[2] for box in boxes) + 360.0
    west, east = west - MARGIN, east + MARGIN
    south = max(min(box[1] for box in boxes) - MARGIN, -90.0)
    north = min(max(box[3] for box in boxes) + MARGIN, 90.0)
    if east - west >= 360.0:
        return [(-180.0, south, 180.0, north)]
    if west < -180.0:
        west, east = west + 360.0, east + 360.0
    if east > 180.0:
        return [(west, south, 180.0, north), (-180.0, south, east - 360.0, north)]
    return [(west, south, east, north)]


def _count(request: LayerRequest, outcomes: list[AssetOutcome], reads: list[AssetRead]) -> None:
    """Tally reads; a static layer has no other time step to make up for a hole, so any is an error."""
    holes = [(read, outcome) for read, outcome in zip(reads, outcomes, strict=True) if outcome.status.is_hole]
    request.tally.add(
        assets=len(reads),
        holes=len(holes),
        requests=sum(outcome.requests for outcome in outcomes),
        bytes=sum(outcome.bytes for outcome in outcomes),
        retries=sum(outcome.retries for outcome in outcomes),
        misses=sum(outcome.misses for outcome in outcomes),
    )
    if request.session.pins is not None:
        request.session.pins.see_reads(reads, [outcome.etag for outcome in outcomes])
    if holes:
        read, outcome = holes[0]
        raise HolesError(
            f"{read.item_id} {read.band}: {outcome.status.name.lower()}: {outcome.message}", item_id=read.item_id, band=read.band
        )


class Dem(_Static):
    """Copernicus DEM GLO-30 by bilinear interpolation between its posts, across the seams of its one-degree tiles."""

    kind: Literal["dem"] = "dem"
    """Selects this layer."""

    collection: str = "cop-dem-glo-30"
    """Collection in the catalogue."""

    def load(self, request: LayerRequest) -> xr.Dataset:
        """`cop_dem` (y, x), float32 m above the EGM2008 geoid; NaN where no tile has data (open sea has no tiles)."""
        boxes = _widened(request.grid.search_boxes())
        catalog, items = self._items(request, self.collection, boxes)
        reads = [_read(item, "DEM") for item in items]
        lon, lat = request.grid.lonlat()
        # Where the grid touches the antimeridian, longitudes run on beyond 180.
        turn = 360.0 if len(boxes) > 1 else 0.0
        parts = []
        for bounds in boxes:
            found = read_native(reads, bounds, sign=catalog.sign, options=request.session.read_options(catalog))
            _count(request, [part if isinstance(part, AssetOutcome) else part.outcome for part in found], reads)
            east = Affine.translation(turn if bounds[2] < 0 else 0.0, 0.0)
            parts += [
                (part.values, east * part.transform, part.nodata)
                for part in found
                if not isinstance(part, AssetOutcome) and part.values.size
            ]
        values = bilinear(parts, np.where(lon < 0, lon + turn, lon), lat)
        attrs = {
            "long_name": "elevation above the EGM2008 geoid, Copernicus DEM GLO-30",
            "standard_name": "surface_altitude",
            "units": "m",
            "comment": "bilinear between posts; a surface model: canopies and roofs included",
        }
        ds = xr.Dataset({"cop_dem": (("y", "x"), values.astype(np.float32), attrs)})
        ds.attrs = {
            "dem_catalog": catalog.public_name,
            "dem_collection": self.collection,
            "item_hrefs": provenance_hrefs((read.href for read in reads), catalog),
        }
        return ds


WORLDCOVER = {
    10: "tree_cover", 20: "shrubland", 30: "grassland", 40: "cropland", 50: "built_up", 60: "bare_or_sparse_vegetation",
    70: "snow_and_ice", 80: "permanent_water_bodies", 90: "herbaceous_wetland", 95: "mangroves", 100: "moss_and_lichen",
}  # fmt: skip
"""ESA WorldCover 10 m product user manual, version 2.0."""

CCI = {
    10: "cropland_rainfed", 11: "cropland_rainfed_herbaceous", 12: "cropland_rainfed_tree_or_shrub", 20: "cropland_irrigated",
    30: "mosaic_cropland", 40: "mosaic_natural_vegetation", 50: "tree_broadleaved_evergreen", 60: "tree_broadleaved_deciduous",
    61: "tree_broadleaved_deciduous_closed", 62: "tree_broadleaved_deciduous_open", 70: "tree_needleleaved_evergreen",
    71: "tree_needleleaved_evergreen_closed", 72: "tree_needleleaved_evergreen_open", 80: "tree_needleleaved_deciduous",
    81: "tree_needleleaved_deciduous_closed", 82: "tree_needleleaved_deciduous_open", 90: "tree_mixed", 100: "mosaic_tree_and_shrub",
    110: "mosaic_herbaceous", 120: "shrubland", 121: "shrubland_evergreen", 122: "shrubland_deciduous", 130: "grassland",
    140: "lichens_and_mosses", 150: "sparse_vegetation", 151: "sparse_tree", 152: "sparse_shrub", 153: "sparse_herbaceous",
    160: "tree_cover_flooded_fresh", 170: "tree_cover_flooded_saline", 180: "shrub_or_herbaceous_flooded", 190: "urban",
    200: "bare_areas", 201: "bare_areas_consolidated", 202: "bare_areas_unconsolidated", 210: "water", 220: "snow_and_ice",
}  # fmt: skip
"""ESA CCI land cover product user guide, version 2.0."""

_CLASSES = {"esa-worldcover": WORLDCOVER, "esa-cci-lc": CCI}
_BANDS = {"esa-worldcover": "map", "esa-cci-lc": "lccs_class"}


class LandCover(_Static):
    """Land cover classes by nearest neighbour: ESA WorldCover (10 m, 2020 or 2021) or ESA CCI (300 m, yearly)."""

    kind: Literal["landcover"] = "landcover"
    """Selects this layer."""

    collection: Literal["esa-worldcover", "esa-cci-lc"] = "esa-worldcover"
    """Collection in the catalogue."""

    version: int = 2021
    """Year of the map: 2020 (product version 1.0.0) or 2021 (2.0.0) for WorldCover, 1992 to 2022 for CCI."""

    def load(self, request: LayerRequest) -> xr.Dataset:
        """`land_cover` (y, x), uint8 classes, 0 where there is no data."""
        catalog, found = self._items(request, self.collection, request.grid.search_boxes())
        items = [item for item in found if item.datetime.year == self.version]
        if not items:
            years = ", ".join(map(str, sorted({item.datetime.year for item in found})))
            raise NothingFoundError(
                f"{self.collection} has no map of {self.version} here (there are {years})", remedy="Choose another version"
            )
        reads = [_read(item, _BANDS[self.collection]) for item in items]
        arrays = [np.zeros(request.grid.shape, np.uint8) for _ in reads]
        outcomes = read_assets(reads, request.grid, arrays, sign=catalog.sign, options=request.session.read_options(catalog))
        _count(request, outcomes, reads)
        classes = _CLASSES[self.collection]
        attrs = {
            "long_name": f"land cover, {self.collection} {self.version}",
            "flag_values": np.array(list(classes), np.uint8),
            "flag_meanings": " ".join(classes.values()),
        }
        ds = xr.Dataset({"land_cover": (("y", "x"), _mosaic(arrays, request.grid), attrs)})
        hrefs = provenance_hrefs((read.href for read in reads), catalog)
        ds.attrs = {"landcover_catalog": catalog.public_name, "landcover_collection": self.collection, "item_hrefs": hrefs}
        return ds


def _mosaic(arrays: list[npt.NDArray[np.uint8]], grid: Grid) -> npt.NDArray[np.uint8]:
    whole = np.zeros(grid.shape, np.uint8)
    for array in arrays:
        np.copyto(whole, array, where=(whole == 0) & (array != 0))
    return whole


def _read(item: Item, band: str) -> AssetRead:
    asset: Any = item.asset(band)
    nodata = item.profile.band(band).nodata
    return AssetRead(asset.href, item.id, band, "nearest", nodata, asset.epsg or item.epsg, asset.shape, asset.transform)
