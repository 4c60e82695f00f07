"""A STAC item as served becomes an `Item`: STAC 0.9 to 1.1, without trust."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cubekit.catalog import _sentinel2 as s2
from cubekit.catalog._generic import first_band
from cubekit.catalog._geometry import footprint_geometry
from cubekit.catalog._hrefs import checked_href, is_remote, scrub, without_signature
from cubekit.catalog._model import Asset, Item
from cubekit.catalog._profile import Profile
from cubekit.catalog._projection import HostileCrsError, epsg_of, shape_of, transform_of
from cubekit.errors import ReadError
from cubekit.typing import JSON

__all__ = ["BadItemError", "Origin", "instant", "parse_item"]

MAX_ASSETS = 2000
MAX_ID = 512
_FRACTION = re.compile(r"\.(\d+)")


class BadItemError(ValueError):
    """An entry that is no STAC item; the message says why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where items come from: `base` of relative hrefs (URL or folder), `root` below which local paths may lie, profile of an item."""

    profile: Callable[[JSON], Profile]
    base: str | None = None
    root: Path | None = None


Keep = Callable[[datetime, datetime, JSON | None, JSON], bool]
"""Decides by first and last moment, footprint and properties whether an item is wanted."""


def parse_item(raw: object, origin: Origin, keep: Keep = lambda *_: True) -> Item | None:
    """Make an `Item` of a decoded STAC item, which is changed in place: its hrefs lose their signatures; None if `keep` says so.

    Raises
    ------
    BadItemError
        If it is no STAC item: no id, no date, assets or properties that are no mapping.
    """
    item = _checked(raw)
    properties = item["properties"]
    first, last = _acquired(properties, item["id"])
    geometry = footprint_geometry(item.get("geometry"), item.get("bbox"))
    if not keep(first, last, geometry, properties):
        return None
    links = item.get("links")
    _strip(links if isinstance(links, list) else [])
    scrub(item)
    profile = origin.profile(item)
    epsg, refusal = _item_epsg(item)
    assets, refused = _assets(item, origin, epsg, refusal)
    return Item(
        id=item["id"],
        collection=str(item.get("collection") or ""),
        datetime=first,
        geometry=geometry,
        bbox=_bbox(item.get("bbox")),
        epsg=epsg if epsg is not None else _assets_epsg(assets, item, refusal),
        properties=properties,
        assets=assets,
        raw=item,
        profile=profile,
        refused=refused,
        product=s2.product_uri(item) if s2.is_sentinel2(item) else None,
    )


def _checked(raw: object) -> JSON:
    if not isinstance(raw, dict):
        raise BadItemError(f"an item is a JSON object, not {type(raw).__name__}")
    if not isinstance(identifier := raw.get("id"), str) or not 0 < len(identifier) <= MAX_ID:
        raise BadItemError(f"id {str(identifier)[:80]!r} is no text of 1 to {MAX_ID} characters")
    for key in ("properties", "assets"):
        if not isinstance(raw.get(key), dict):
            raise BadItemError(f"item {identifier!r} has no {key}")
    if len(raw["assets"]) > MAX_ASSETS:
        raise BadItemError(f"item {identifier!r} has {len(raw['assets'])} assets, more than {MAX_ASSETS}")
    return raw


def _acquired(properties: Mapping[str, Any], identifier: str) -> tuple[datetime, datetime]:
    """First and last moment: the same unless an item has an interval only."""
    if (value := properties.get("datetime")) is not None:
        moment = instant(value, identifier)
        return moment, moment
    edges = [instant(value, identifier) for key in ("start_datetime", "end_datetime") if (value := properties.get(key)) is not None]
    if not edges:
        raise BadItemError(f"item {identifier!r} has no datetime")
    return edges[0], edges[-1]


def instant(value: object, identifier: str = "") -> datetime:
    """UTC time of an RFC 3339 text; a time without zone counts as UTC, digits beyond microseconds are dropped."""
    try:
        text = _FRACTION.sub(lambda match: "." + match[1][:6].ljust(6, "0"), str(value).strip().replace(" ", "T", 1))
        parsed = datetime.fromisoformat(text)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadItemError(f"item {identifier!r} has datetime {str(value)[:40]!r}, which is no RFC 3339 time") from None


def _bbox(value: object) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) not in (4, 6) or not all(isinstance(n, (int, float)) for n in value):
        return None
    half = len(value) // 2
    return float(value[0]), float(value[1]), float(value[half]), float(value[half + 1])


def _item_epsg(item: JSON) -> tuple[int | None, str]:
    try:
        return epsg_of(item["properties"]), ""
    except HostileCrsError as error:
        return None, str(error)


def _assets_epsg(assets: Mapping[str, Asset], item: JSON, refusal: str) -> int | None:
    """CRS from the assets if they agree, else from the tile; none where the item's own was refused."""
    if refusal:
        return None
    codes = {asset.epsg for asset in assets.values() if asset.epsg is not None}
    if len(codes) == 1:
        return codes.pop()
    return s2.tile_epsg(s2.tile(item)) if not codes and s2.is_sentinel2(item) and "proj:wkt2" not in item["properties"] else None


def _assets(item: JSON, origin: Origin, epsg: int | None, refusal: str) -> tuple[dict[str, Asset], dict[str, str]]:
    accepted: dict[str, Asset] = {}
    refused: dict[str, str] = {}
    base = _base(item, origin)
    for key, fields in item["assets"].items():
        if not isinstance(fields, dict):
            refused[key] = "it is no JSON object"
            continue
        try:
            href = checked_href(fields.get("href"), base=base, root=origin.root)
            own = epsg_of(fields)
        except ReadError as error:
            refused[key] = str(error)
            _strip([fields])
            continue
        _strip([fields])
        if refusal:
            refused[key] = refusal
            continue
        accepted[key] = _asset(key, href, fields, own or epsg, item["properties"])
    return accepted, refused


def _asset(key: str, href: str, fields: JSON, epsg: int | None, properties: Mapping[str, Any]) -> Asset:
    declared = first_band(fields)
    size, checksum, kind = fields.get("file:size"), fields.get("file:checksum"), fields.get("type")
    return Asset(
        key=key,
        href=href,
        epsg=epsg,
        shape=shape_of(fields.get("proj:shape")) or shape_of(properties.get("proj:shape")),
        transform=transform_of(fields.get("proj:transform")) or transform_of(properties.get("proj:transform")),
        nodata=_number(declared.get("nodata")),
        scale=_number(declared.get("scale")),
        offset=_number(declared.get("offset")),
        size=size if isinstance(size, int) and size >= 0 else None,
        checksum=checksum if isinstance(checksum, str) and len(checksum) <= 256 else None,
        media_type=kind if isinstance(kind, str) and len(kind) <= 256 else None,
    )


def _number(value: object) -> float | None:
    if isinstance(value, str) and value.lower() in ("nan", "inf", "-inf"):
        return float(value)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _base(item: JSON, origin: Origin) -> str | None:
    """What relative hrefs are relative to: the item's own address if it is of the catalogue's kind (URL, path), else the catalogue's."""
    links = item.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") == "self" and isinstance(href := link.get("href"), str):
            if is_remote(href):
                return href if origin.root is None else origin.base
            if origin.root is not None and os.path.isabs(href) and Path(os.path.normpath(href)).is_relative_to(origin.root):
                return os.path.dirname(href)
    return origin.base


def _strip(entries: list[Any]) -> None:
    for entry in entries:
        if isinstance(entry, dict):
            if isinstance(href := entry.get("href"), str):
                entry["href"] = without_signature(href)
            if isinstance(alternate := entry.get("alternate"), dict):
                _strip(list(alternate.values()))
