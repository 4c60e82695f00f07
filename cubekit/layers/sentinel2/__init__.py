"""Sentinel-2 surface reflectance: found, read, offset, adjusted to nadir, mosaicked by acquisition and described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import xarray as xr
from pydantic import Field, field_validator

from cubekit.errors import InputError, NothingFoundError
from cubekit.layers._base import Layer, LayerPlan, LayerRequest
from cubekit.layers._session import Tally, provenance_hrefs
from cubekit.layers.sentinel2._correct import correct
from cubekit.layers.sentinel2._dataset import to_dataset
from cubekit.layers.sentinel2._metadata import fetch_angles
from cubekit.layers.sentinel2._options import BANDS, BandNames, CatalogNames, Classes, Nbar, NbarOption, Resampling
from cubekit.layers.sentinel2._period import period_days, to_period
from cubekit.layers.sentinel2._pixels import plan_stack, read_stack
from cubekit.layers.sentinel2._scenes import Scene, group_scenes
from cubekit.reflectance import CLEAR_CLASSES

if TYPE_CHECKING:
    from cubekit.catalog import Catalog, Item

__all__ = ["Nbar", "Resampling", "Sentinel2"]


class Sentinel2(BandNames, Layer):
    """Sentinel-2 Level-2A: one time step per acquisition, or a regular axis."""

    group: ClassVar[str] = "/"

    places: ClassVar[tuple[str, ...]] = ("catalog",)

    kind: Literal["sentinel2"] = "sentinel2"
    """Selects this layer."""

    catalog: CatalogNames = ("planetary-computer",)
    """Catalogue: `planetary-computer`, `earth-search`, `demo`, a URL or a path; a list means fallbacks in order."""

    collection: str = "sentinel-2-l2a"
    """Collection in the catalogue."""

    bands: Annotated[tuple[str, ...], Field(min_length=1)] = BANDS
    """Bands by product name (`B02`) or common name (`blue`)."""

    max_cloud_cover: Annotated[float, Field(ge=0, le=100)] | None = None
    """Leave out scenes whose granules are all cloudier than that, percent of the granule as the catalogue has it."""

    clear: Classes = CLEAR_CLASSES
    """Scene classes that count as clear in `cloud_mask` and `clear_fraction`."""

    mask: Literal["flag", "apply"] = "flag"
    """Whether pixels that are not clear are only flagged, or emptied with the status `masked`."""

    nbar: NbarOption = Nbar()
    """Adjustment to nadir view: `c-factor`, `none`, or a mapping of options."""

    resampling: Resampling = Resampling()
    """How bands come onto the grid when their pixels cannot be copied."""

    period: str | None = None
    """Regular time axis such as `5D` with the clearest scene of every bin; by default all acquisitions at their own times."""

    dtype: Literal["int16", "float32"] = "int16"
    """Stored type of reflectance: packed with scale 1e-4, or float."""

    max_holes: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of asset reads that may fail."""

    @field_validator("period")
    @classmethod
    def _period(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                period_days(value)
            except InputError as error:
                raise ValueError(str(error)) from None
        return value

    def load(self, request: LayerRequest) -> xr.Dataset:
        """Search, read, correct and describe; see `Layer.load`.

        Returns
        -------
        Dataset
            Bands (time, y, x) as int16 of scale 1e-4 and fill -32768, or float32 reflectance; `SCL`, `cloud_mask`, `pixel_status`;
            `nbar_status` and `read_status` (time, band); what is known of every scene as coordinates along time.
        """
        catalog, scenes = self._scenes(request)
        angles = fetch_angles(self, [item for scene in scenes for item in scene.items], request, catalog)
        stack = read_stack(self, scenes, request, catalog)
        corrected = correct(self, scenes, stack, angles, request)
        ds = to_dataset(self, scenes, stack, corrected, angles, request)
        if ds.sizes["time"] == 0:
            raise NothingFoundError(
                f"None of the {len(scenes)} scenes at {request.site.id} has a pixel to keep",
                remedy="Choose another place or time, or nbar.missing: flag",
            )
        ds.attrs |= self._provenance(scenes, catalog)
        return to_period(ds, request, self.period) if self.period else ds

    def plan(self, request: LayerRequest) -> LayerPlan:
        """Scenes, requests and bytes of `load`; reads headers and granule metadata, but no pixels."""
        catalog, scenes = self._scenes(request)
        items = [item for scene in scenes for item in scene.items]
        plan, assets = plan_stack(self, scenes, request, catalog)
        metadata = Tally()
        fetch_angles(self, items, replace(request, tally=metadata), catalog)
        notes = tuple(f"{outcome.status.name.lower()}: {outcome.message}" for outcome in list(plan.outcomes.values())[:5])
        if (engine := request.session.engine) != "window":
            notes += (f"requests and bytes are those of the engine window; under {engine} GDAL asks for more",)
        memory = plan.memory + self._memory(len(scenes), len(items), request)
        requests, size = plan.requests + metadata.requests, plan.bytes + metadata.bytes
        return LayerPlan(self.kind, len(scenes), len(items), assets + metadata.requests, requests, size, memory, notes)

    def _memory(self, scenes: int, items: int, request: LayerRequest) -> int:
        """Bytes of the arrays that hold the result while it is made."""
        bands, pixels = len(self.bands), request.grid.width * request.grid.height
        floats = (0 if self.dtype == "int16" else bands) + (bands if self.nbar.factors else 0) + (3 if self.nbar.angles else 0)
        return pixels * (items * (2 * bands + 1) + scenes * (2 + 4 * floats))

    def pin(self, request: LayerRequest) -> None:
        """Search, read headers and granule metadata."""
        catalog, scenes = self._scenes(request)
        plan_stack(self, scenes, request, catalog)
        fetch_angles(self, [item for scene in scenes for item in scene.items], request, catalog)

    def _scenes(self, request: LayerRequest) -> tuple[Catalog, list[Scene]]:
        request.session.progress("search", 0, 1)
        catalog, items = request.session.search(self.catalog, self.collection, request.grid.search_boxes(), request.time)
        scenes = group_scenes(items, request.grid)
        found = len(scenes)
        if (limit := self.max_cloud_cover) is not None:
            scenes = [s for s in scenes if any(item.cloud_cover is None or item.cloud_cover <= limit for item in s.items)]
        request.session.progress("search", 1, 1)
        if not scenes:
            lon, lat = request.grid.center_lonlat
            clouds = f" ({found} with more clouds than {self.max_cloud_cover:g} %)" if found else ""
            raise NothingFoundError(
                f"No scene of {self.collection} at {catalog.name} over lat={lat:.5f}, lon={lon:.5f} in {request.time}{clouds}",
                remedy="Raise max_cloud_cover" if found else "Check place, time and collection",
            )
        self._check_bands([item for scene in scenes for item in scene.items])
        return catalog, scenes

    def _check_bands(self, items: Sequence[Item]) -> None:
        """InputError for a band that no item has; what some lack are holes."""
        for band in (*self.bands, "SCL"):
            if not any(band in item.profile.bands for item in items):
                items[0].profile.band(band)

    def _provenance(self, scenes: Sequence[Scene], catalog: Catalog) -> dict[str, str]:
        items = [item for scene in scenes for item in scene.items]
        ruled = [(item, next((band for band in self.bands if band in item.profile.bands), None)) for item in items]
        decisions = dict.fromkeys(item.offset_decision(band)[1:] for item, band in ruled if band is not None)
        return {
            "sentinel2_catalog": catalog.public_name,
            "sentinel2_collection": self.collection,
            "item_hrefs": provenance_hrefs((href for item in items if (href := self._href(item)) is not None), catalog),
            "sentinel2_offset_policy": "; ".join(f"{policy}: {reason}" for policy, reason in decisions),
            "sentinel2_nbar": self.nbar.model_dump_json(),
        }

    def _href(self, item: Item) -> str | None:
        """Of the first band that the item has."""
        keys = (key for band in self.bands if band in item.profile.bands for key in item.profile.band(band).keys)
        return next((item.assets[key].href for key in keys if key in item.assets), None)
