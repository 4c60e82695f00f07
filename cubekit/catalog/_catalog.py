"""The one way to ask for items, whatever the source."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from shapely.geometry.base import BaseGeometry

from cubekit.catalog._cache import SearchCache, tile_boxes
from cubekit.catalog._files import FileSource
from cubekit.catalog._generic import profile_of
from cubekit.catalog._geometry import Area, Ground, area_of, search_boxes
from cubekit.catalog._hrefs import below_root, is_remote
from cubekit.catalog._model import Item
from cubekit.catalog._parse import BadItemError, Origin, parse_item
from cubekit.catalog._profile import Profile
from cubekit.catalog._question import Moment, Question, Span, moment
from cubekit.catalog._select import Wanted, check_query, without_duplicates
from cubekit.catalog._signing import Signer
from cubekit.catalog._tables import known_profile
from cubekit.errors import CatalogError, CubekitWarning, InputError
from cubekit.redact import placeless
from cubekit.typing import JSON

__all__ = ["Catalog", "Source"]

REMEMBERED = 4000
"""Entries that a catalogue keeps at most, so that neighbours need not parse them again."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Source(Protocol):
    """Where undecoded items come from."""

    def fetch(self, question: Question) -> list[Any]:
        """Items for a question; more than asked for is fine, less is not."""
        ...


class Catalog:
    """A source of items and what is known about it.

    Made by `open_catalog`. Searching is safe from several threads at once.

    Attributes
    ----------
    name : str
        ``"planetary-computer"``, ``"earth-search"``, ``"demo"``, or the URL or path it was opened with.
    public_name : str
        The same without the folder of a file: what is written into cubes.
    local_root : pathlib.Path or None
        Folder below which its assets may lie in the file system; None for catalogues on the network.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        base: str | None = None,
        local_root: Path | None = None,
        table: str | None = None,
        profiles: Mapping[str, Profile] | None = None,
        signer: Signer | None = None,
        cache: SearchCache | None = None,
        share: Literal["area", "tile"] = "area",
    ) -> None:
        self.name, self.local_root, self.public_name = name, local_root, placeless(name)
        self._source, self._signer, self._cache, self._share = source, signer, cache, share
        self._table, self._profiles = table, dict(profiles or {})
        self._origin = Origin(self._profile, base, local_root)
        self._parses: dict[int, _Parsed] = {}

    def __repr__(self) -> str:
        return f"<Catalog {self.name}>"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parses": {}}

    def search(
        self,
        collection: str,
        area: Area,
        start: Moment = None,
        end: Moment = None,
        *,
        max_items: int | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> list[Item]:
        """All items of a collection that touch an area within a time.

        Parameters
        ----------
        collection
            Collection id.
        area
            Shapely geometry in degrees (lon, lat), `Grid`, box (west, south, east, north) or several boxes.
        start, end
            First and last day, or instants, both included, UTC; None leaves that end open.
        max_items
            Keep the first so many in the order of the result.
        query
            Conditions on properties in the form of the STAC query extension, ``{"eo:cloud_cover": {"lt": 40}}``; applied here too,
            for catalogues that ignore it.

        Returns
        -------
        list of Item
            De-duplicated, sorted by (datetime, id), the same for any order of arrival; empty where nothing fits.

        Raises
        ------
        InputError
            For arguments that cannot be meant.
        AccessDeniedError
            If the catalogue wants other credentials.
        CatalogError
            If it is down, answers what is no STAC, or withholds items.

        Warns
        -----
        CubekitWarning
            For entries that are no valid item; they are left out.
        """
        if not isinstance(collection, str) or not collection:
            raise InputError(f"Collection {collection!r} is no id", remedy="Give for example 'sentinel-2-l2a'")
        if max_items is not None and max_items < 1:
            raise InputError(f"max_items must be at least 1, got {max_items!r}", remedy="Give 1 or more, or None for all")
        geometry = area_of(area)
        first, last = moment(start, "start", last=False), moment(end, "end", last=True)
        if first is not None and last is not None and first > last:
            raise InputError(f"end {end} is before start {start}", remedy="Give start <= end")
        conditions = check_query(query)
        raw = self._fetch(Question(collection, tuple(search_boxes(geometry)), _span(first, last), conditions), geometry)
        return without_duplicates(self._parsed(raw, collection, Wanted(geometry, first, last, conditions)))[:max_items]

    def sign(self, href: str, fresh: bool = False) -> str:
        """Href that can be read now: signed where this catalogue's hosts want it, links in the file system resolved.

        Parameters
        ----------
        href
            An asset's href. With `fresh`, the signed one that was refused may be given: it is not replaced twice.
        fresh
            Ask for a new token even if the one in use has not expired.

        Raises
        ------
        ReadError
            For a local path that leads outside the catalogue's folder, or any if the catalogue is not local.
        AccessDeniedError, CatalogError
            If no token can be had.
        """
        if not is_remote(href):
            if self.local_root is None:
                raise CatalogError(
                    f"{self.name} has no local files, but is asked for {href!r}", remedy="Read items of this catalogue only", href=href
                )
            return below_root(href, self.local_root)
        return self._signer.sign(href, fresh=fresh) if self._signer is not None else href

    def signs(self, href: str) -> bool:
        """Whether `sign` may change an href or refuse it; known without asking anybody."""
        return not is_remote(href) or (self._signer is not None and self._signer.signs(href))

    def pinned(self, items: Mapping[str, list[JSON]]) -> Catalog:
        """The same catalogue with a fixed answer: the given STAC items by collection, and nothing is asked of anybody."""
        fixed = copy(self)
        fixed._source, fixed._cache, fixed._share = _Fixed(items), None, "area"
        return fixed

    def days(self, collection: str) -> tuple[str, str] | None:
        """First and last day (ISO, UTC) that a catalogue in a file has items of a collection for; None for an API, or without items."""
        return self._source.days(collection) if isinstance(self._source, FileSource) else None

    def profile(self, collection: str) -> Profile | None:
        """The table of a collection here; None where it is deduced from each item."""
        return self._profiles.get(collection) or (known_profile(self._table, collection) if self._table else None)

    def _profile(self, item: JSON) -> Profile:
        collection = str(item.get("collection") or "")
        return self._profiles.get(collection) or self._profiles.get("*") or profile_of(item, self._table)

    def _fetch(self, question: Question, area: BaseGeometry) -> list[Any]:
        if self._share == "tile" and (shared := tile_boxes(area)):
            question = replace(question, boxes=shared)
        if self._cache is None:
            return self._source.fetch(question)
        return self._cache.get({"catalogue": self.name, **question.as_json()}, lambda: self._source.fetch(question))

    def _remember(self, parsed: _Parsed) -> None:
        """Keep what an entry became, where neighbours will be given the same entry: out of a file, or of a kept answer."""
        if self._cache is None and not isinstance(self._source, FileSource):
            return
        self._parses[id(parsed.entry)] = parsed
        if len(self._parses) > REMEMBERED:
            for old in list(self._parses)[: REMEMBERED // 2]:
                self._parses.pop(old, None)

    def _parsed(self, raw: list[Any], collection: str, wanted: Wanted) -> list[Item]:
        items: list[Item] = []
        bad: list[str] = []
        for entry in raw:
            if isinstance(entry, dict) and (entry.get("collection") or collection) != collection:
                continue
            if (known := self._parses.get(id(entry))) is not None:
                if not known.fits(wanted):
                    continue
                if known.item is not None:
                    items.append(known.item)
                    continue
            try:
                keep = _Noted(entry, wanted)
                named = {**entry, "collection": collection} if isinstance(entry, dict) and entry.get("collection") is None else entry
                if (item := parse_item(named, self._origin, keep)) is not None:
                    items.append(item)
                # Of a long answer, what was left out would push out what was not.
                if keep.noted is not None and (item is not None or len(raw) <= REMEMBERED // 2):
                    self._remember(replace(keep.noted, item=item))
            except BadItemError as error:
                bad.append(str(error))
        if bad:
            shown = "; ".join(bad[:3])
            warnings.warn(f"{self.name}: {len(bad)} entries are no valid items and are left out: {shown}", CubekitWarning, stacklevel=3)
        return items


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What is known of an entry: all that is asked of it, and the item, if it was ever wanted."""

    entry: Any
    first: datetime
    last: datetime
    ground: Ground | None
    properties: JSON
    item: Item | None = None

    def fits(self, wanted: Wanted) -> bool:
        return wanted(self.first, self.last, self.ground, self.properties)


class _Noted:
    """Passes a question on and notes what it was asked about."""

    def __init__(self, entry: Any, wanted: Wanted) -> None:
        self._entry, self._wanted = entry, wanted
        self.noted: _Parsed | None = None

    def __call__(self, first: datetime, last: datetime, footprint: JSON | None, properties: JSON) -> bool:
        self.noted = _Parsed(self._entry, first, last, Ground.of(footprint), properties)
        return self.noted.fits(self._wanted)


class _Fixed:
    """A source that answers from what was written down."""

    def __init__(self, items: Mapping[str, list[JSON]]) -> None:
        self._items = items

    def fetch(self, question: Question) -> list[Any]:
        return list(self._items.get(question.collection, []))


def _span(first: datetime | None, last: datetime | None) -> Span | None:
    if first is None and last is None:
        return None
    return first or EPOCH, last or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=2)
