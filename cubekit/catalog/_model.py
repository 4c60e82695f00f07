"""Items and assets as the rest of cubekit sees them: one shape for every catalogue and every version of STAC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from cubekit.catalog import _sentinel2 as s2
from cubekit.catalog._hrefs import requester_pays
from cubekit.catalog._profile import Profile
from cubekit.errors import CatalogError, ReadError
from cubekit.typing import JSON

__all__ = ["Asset", "Item", "OffsetDecision"]


class OffsetDecision(NamedTuple):
    """The offset of a band and why it is that.

    Attributes
    ----------
    value : float
        Digital numbers to add before scaling: ``value = (DN + offset) * scale``.
    policy : str
        Rule that decided: ``by-baseline``, ``declared``, ``fixed`` or ``none`` (class codes and unscaled data).
    reason : str
        In words, for provenance.
    """

    value: float
    policy: str
    reason: str


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of an item.

    Parameters
    ----------
    key
        Name in the item.
    href
        Unsigned absolute address, or a path below the root of a local catalogue.
    epsg, shape, transform
        Projection where the catalogue gives it: EPSG code, (height, width), affine coefficients (a, b, c, d, e, f).
    nodata, scale, offset
        As declared (``raster:bands`` or STAC 1.1 fields): informational; `Item.offset` decides.
    size
        Bytes.
    checksum
        Multihash as in the STAC file extension, hexadecimal.
    media_type
        Such as ``"image/tiff; application=geotiff; profile=cloud-optimized"``.
    """

    key: str
    href: str
    epsg: int | None = None
    shape: tuple[int, int] | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None
    size: int | None = None
    checksum: str | None = None
    media_type: str | None = None

    @property
    def requester_pays(self) -> bool:
        """True where reading is charged to the reader's own account, as for ``s3://sentinel-s2-l2a``."""
        return requester_pays(self.href)


@dataclass(frozen=True)
class Item:
    """One entry of a catalogue: for Sentinel-2 a granule, the product of one tile.

    Parameters
    ----------
    id, collection
        As the catalogue writes them.
    datetime
        Acquisition, UTC; the start where the item has an interval.
    geometry
        Footprint, GeoJSON in degrees (lon, lat), split at the antimeridian; None where the item has none.
    bbox
        (west, south, east, north), degrees; west > east where it crosses the antimeridian.
    epsg
        CRS of the pixels; None where the item does not tell.
    properties
        As served.
    assets
        By key, without those whose href or CRS is refused.
    raw
        The STAC item, hrefs without signatures.
    profile
        What is true of this item's collection at its catalogue.
    refused
        Why an asset may not be opened, by key.
    """

    id: str
    collection: str
    datetime: datetime
    geometry: JSON | None = field(compare=False)
    bbox: tuple[float, float, float, float] | None = field(compare=False)
    epsg: int | None = field(compare=False)
    properties: JSON = field(compare=False, repr=False)
    assets: Mapping[str, Asset] = field(compare=False, repr=False)
    raw: JSON = field(compare=False, repr=False)
    profile: Profile = field(compare=False, repr=False)
    refused: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    product: str | None = None

    def asset(self, band: str) -> Asset:
        """The asset that holds a band (name as in the profile, such as ``"B04"`` or ``"SCL"``).

        Raises
        ------
        InputError
            If the collection has no such band.
        ReadError
            If this item lacks the asset, or its address or CRS is refused.
        """
        keys = self.profile.band(band).keys
        for key in keys:
            if key in self.assets:
                return self.assets[key]
        for key in keys:
            if key in self.refused:
                raise ReadError(
                    f"Asset {key!r} of item {self.id} may not be opened: {self.refused[key]}", remedy="", item_id=self.id, band=band
                )
        raise ReadError(
            f"Item {self.id} has no asset {' or '.join(map(repr, keys))} for band {band}",
            remedy="The catalogue lacks this file",
            item_id=self.id,
            band=band,
        )

    def offset(self, band: str) -> float:
        """Digital numbers to add to a band before scaling; see `offset_decision`."""
        return self.offset_decision(band).value

    def offset_decision(self, band: str) -> OffsetDecision:
        """Offset of a band with the rule that decided it.

        Raises
        ------
        InputError
            If the collection has no such band.
        CatalogError
            If it depends on the processing baseline and the item does not tell it.
        """
        if band not in self._offsets:
            self._offsets[band] = self._decided_offset(band)
        return self._offsets[band]

    @cached_property
    def _offsets(self) -> dict[str, OffsetDecision]:
        """By band, as far as they were asked for: every site of a granule asks again."""
        return {}

    def _decided_offset(self, band: str) -> OffsetDecision:
        rule, profile = self.profile.band(band), self.profile
        if rule.classes:
            return OffsetDecision(0.0, "none", "class codes")
        if rule.fixed_offset is not None:
            return OffsetDecision(rule.fixed_offset, "fixed", f"profile of {band}")
        if profile.offset == "fixed":
            return OffsetDecision(profile.fixed_offset, "fixed", f"profile {profile.catalogue}/{profile.collection}")
        if profile.offset == "declared" and (declared := self._declared_offset(band)) is not None:
            return declared
        if profile.offset == "declared" and not s2.is_sentinel2(self.raw):
            return OffsetDecision(0.0, "none", "nothing declared")
        return self._offset_by_baseline(band)

    def _declared_offset(self, band: str) -> OffsetDecision | None:
        asset = next((self.assets[key] for key in self.profile.band(band).keys if key in self.assets), None)
        if asset is None or asset.offset is None:
            return None
        scale = asset.scale or 1.0
        return OffsetDecision(round(asset.offset / scale, 6), "declared", f"item declares offset {asset.offset:g}, scale {scale:g}")

    def _offset_by_baseline(self, band: str) -> OffsetDecision:
        baseline = self.processing_baseline
        if baseline is None:
            raise CatalogError(
                f"Item {self.id} does not tell its processing baseline, so the offset of {band} is unknown",
                remedy="Open the catalogue with a profile that fixes the offset",
                item_id=self.id,
                band=band,
            )
        major, minor = (int(part) for part in baseline.split("."))
        value = -1000.0 if (major, minor) >= s2.OFFSET_BASELINE else 0.0
        return OffsetDecision(value, "by-baseline", f"processing baseline {baseline}")

    def scale(self, band: str) -> float:
        """Physical value per digital number of a band: declared by the item where the profile says so, else the profile's."""
        rule = self.profile.band(band)
        if self.profile.offset == "declared" and not rule.classes:
            asset = next((self.assets[key] for key in rule.keys if key in self.assets), None)
            if asset is not None and asset.scale:
                return asset.scale
        return rule.scale

    @cached_property
    def tile(self) -> str | None:
        """MGRS tile such as ``"32UPC"``."""
        return s2.tile(self.raw)

    @cached_property
    def platform(self) -> str | None:
        """In lower case, such as ``"sentinel-2a"``."""
        return s2.platform(self.raw)

    @cached_property
    def datatake(self) -> str:
        """What was acquired in one go, the same for all tiles: ``"S2B_20240419T095549"`` (unit, start of sensing).

        Where no property or name gives it: platform and `datetime` to the second.
        """
        found = s2.datatake(self.raw)
        return found or f"{self.platform or self.collection}_{self.datetime:%Y%m%dT%H%M%S}"

    @cached_property
    def relative_orbit(self) -> int | None:
        """Relative orbit number."""
        return s2.relative_orbit(self.raw)

    @cached_property
    def processing_baseline(self) -> str | None:
        """Sentinel-2 processing baseline such as ``"05.10"``; None where it is not told."""
        return s2.baseline(self.raw) if s2.is_sentinel2(self.raw) else None

    @property
    def cloud_cover(self) -> float | None:
        """Share of clouds in percent, as the catalogue has it."""
        value = self.properties.get("eo:cloud_cover")
        return float(value) if isinstance(value, (int, float)) else None

    @property
    def sun_zenith(self) -> float | None:
        """Mean sun zenith angle of the item, degrees."""
        return s2.zenith(self.properties, "sun")

    @property
    def view_zenith(self) -> float | None:
        """Mean view zenith angle of the item, degrees."""
        return s2.zenith(self.properties, "view")

    @property
    def granule_metadata(self) -> str | None:
        """Href of the granule metadata (MTD_TL.xml); None where the item has none or its address is refused."""
        return next((self.assets[key].href for key in self.profile.metadata_assets if key in self.assets), None)


def sort_key(item: Item) -> tuple[Any, ...]:
    """Items are ordered by (datetime, id); the product tells apart items that share both."""
    return item.datetime, item.id, item.product or ""
