"""From what a source offers to what was asked for: filtered, without duplicates, in one order whatever the source's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from cubekit.catalog._geometry import Ground, touches
from cubekit.catalog._model import Item, sort_key
from cubekit.catalog._sentinel2 import granule_time, is_sentinel2
from cubekit.errors import InputError
from cubekit.typing import JSON

__all__ = ["OPERATORS", "Wanted", "check_query", "matches_query", "without_duplicates"]

Query = Mapping[str, Any]

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda have, want: have == want,
    "neq": lambda have, want: have != want,
    "lt": lambda have, want: have < want,
    "lte": lambda have, want: have <= want,
    "gt": lambda have, want: have > want,
    "gte": lambda have, want: have >= want,
    "in": lambda have, want: have in want,
    "startsWith": lambda have, want: str(have).startswith(want),
    "endsWith": lambda have, want: str(have).endswith(want),
    "contains": lambda have, want: want in have,
}
"""Operators of the STAC query extension."""

# A second product of the same tile, datatake and baseline is kept if it shows more than this share of its own area that the first does not.
NEW_AREA = 0.02


def check_query(query: Query | None) -> dict[str, dict[str, Any]]:
    """Bring a query to the form ``{property: {operator: value}}``; a bare value means ``eq``.

    Raises
    ------
    InputError
        For an unknown operator.
    """
    checked: dict[str, dict[str, Any]] = {}
    for key, condition in (query or {}).items():
        checked[key] = dict(condition) if isinstance(condition, Mapping) else {"eq": condition}
        for operator in checked[key]:
            if operator not in OPERATORS:
                raise InputError(f"Unknown operator {operator!r} in query of {key!r}", remedy=f"Use any of: {', '.join(OPERATORS)}")
    return checked


def matches_query(properties: Mapping[str, Any], query: Mapping[str, Mapping[str, Any]]) -> bool:
    """True if properties fulfil every condition; a missing property fulfils none."""
    for key, conditions in query.items():
        have = properties.get(key)
        if have is None:
            return False
        try:
            if not all(OPERATORS[operator](have, want) for operator, want in conditions.items()):
                return False
        except TypeError:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: the ground touches `area`, the time overlaps [`start`, `end`], the properties fulfil `query`."""

    area: BaseGeometry
    start: datetime | None
    end: datetime | None
    query: Mapping[str, Mapping[str, Any]]

    def __call__(self, first: datetime, last: datetime, ground: Ground | None, properties: JSON) -> bool:
        """True for an item that is wanted."""
        if (self.start is not None and last < self.start) or (self.end is not None and first > self.end):
            return False
        return matches_query(properties, self.query) and touches(ground, self.area)


def without_duplicates(items: Iterable[Item]) -> list[Item]:
    """One item per product, sorted by (datetime, id), independent of the order they came in.

    The same item twice (pages that overlap, ranges that share an end) counts once. Of Sentinel-2 products of one tile and datatake only
    the newest processing baseline stays; among those of the same baseline the newest product, and another only where it shows ground that
    the first does not (a datatake that was received in two pieces).
    """
    same: dict[tuple[Any, ...], list[Item]] = {}
    for item in items:
        same.setdefault((item.collection, item.id, item.product), []).append(item)
    groups: dict[tuple[Any, ...], list[Item]] = {}
    for copies in same.values():
        item = max(copies, key=_age) if len(copies) > 1 else copies[0]
        groups.setdefault(_acquisition(item), []).append(item)
    kept = [item for group in groups.values() for item in (_newest(group) if len(group) > 1 else group)]
    return sorted(kept, key=sort_key)


def _acquisition(item: Item) -> tuple[Any, ...]:
    if is_sentinel2(item.raw) and item.tile:
        return item.collection, item.tile, item.datatake
    return item.collection, item.id


def _age(item: Item) -> tuple[Any, ...]:
    """Order in which newer products come later; total, so that the result never depends on the order of arrival."""
    said = next((str(item.properties[key]) for key in ("updated", "created") if item.properties.get(key)), "")
    made = granule_time(item.raw) or str(item.properties.get("s2:generation_time", ""))
    return item.processing_baseline or "", made, said, item.id, json.dumps(_essence(item.raw), sort_keys=True, default=str)


def _essence(raw: JSON) -> JSON:
    return {key: raw.get(key) for key in ("id", "collection", "properties", "assets")}


def _newest(group: list[Item]) -> list[Item]:
    """The products of one acquisition that stay: of the newest baseline, each that shows new ground."""
    ordered = sorted(group, key=_age, reverse=True)
    kept: list[Item] = []
    _, same_baseline = next(groupby(ordered, key=lambda item: item.processing_baseline))
    for item in same_baseline:
        if not kept or _shows_more(item, kept):
            kept.append(item)
    return kept


def _shows_more(item: Item, kept: list[Item]) -> bool:
    if item.geometry is None or any(other.geometry is None for other in kept):
        return False
    rest = own = shape(item.geometry).buffer(0)
    for other in kept:
        rest = rest.difference(shape(other.geometry).buffer(0))
    return bool(own.area > 0 and rest.area > NEW_AREA * own.area)
