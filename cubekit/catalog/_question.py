"""What is asked of a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np

from cubekit.errors import InputError
from cubekit.typing import JSON, BBox

__all__ = ["Moment", "Question", "Span", "moment", "stamp"]

Span = tuple[datetime, datetime]

Moment = str | date | datetime | np.datetime64 | None
"""A day (from its first or to its last moment) or an instant; without a zone it counts as UTC; None leaves that end open."""

_LAST = timedelta(days=1) - timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Question:
    """A search in the terms of STAC: one collection, boxes in degrees, a closed time span or none, a query."""

    collection: str
    boxes: tuple[BBox, ...]
    span: Span | None
    query: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_json(self) -> JSON:
        """The question as plain data: the key of its answer in a cache."""
        span = None if self.span is None else [stamp(edge) for edge in self.span]
        boxes = [list(box) for box in self.boxes]
        return {
            "collection": self.collection,
            "boxes": boxes,
            "span": span,
            "query": {key: dict(value) for key, value in self.query.items()},
        }


def stamp(instant: datetime) -> str:
    """RFC 3339 in UTC, with microseconds where there are any."""
    text = instant.astimezone(UTC).isoformat(timespec="microseconds" if instant.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def moment(value: Moment, name: str, *, last: bool) -> datetime | None:
    """UTC instant of a start or (`last`) an end.

    Raises
    ------
    InputError
        For what is no date.
    """
    if value is None:
        return None
    if isinstance(value, np.datetime64):
        if np.isnat(value):
            raise InputError(f"{name} is not a time (NaT)", remedy="Write it as YYYY-MM-DD")
        value = str(value)
    if isinstance(value, str):
        value = _parsed(value, name)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        midnight = datetime.combine(value, time(), UTC)
        return midnight + _LAST if last else midnight
    raise InputError(f"{name} {value!r} is not a date", remedy="Write it as YYYY-MM-DD")


def _parsed(text: str, name: str) -> date | datetime:
    try:
        return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{name} {text!r} is not a date", remedy="Write it as YYYY-MM-DD") from None
