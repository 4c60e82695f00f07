"""Item collections in files: JSON, newline-delimited JSON and stac-geoparquet."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cubekit.catalog._question import Question
from cubekit.errors import CatalogError, InputError
from cubekit.typing import JSON

__all__ = ["SUFFIXES", "FileSource", "read_items"]

SUFFIXES = (".json", ".geojson", ".ndjson", ".jsonl", ".geojsonl", ".parquet", ".geoparquet")
MAX_LINE = 16 * 2**20
MAX_FILE = 4 * 2**30


class FileSource:
    """An item collection in a file, read once when it is first asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._items: list[Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return FileSource, (self.path,)

    def fetch(self, question: Question) -> list[Any]:
        """Items of the collection near the boxes; what is no item is passed on, to be reported."""
        with self._lock:
            if self._items is None:
                self._items = read_items(self.path)
        return [entry for entry in self._items if not isinstance(entry, dict) or _may_fit(entry, question)]

    def days(self, collection: str) -> tuple[str, str] | None:
        """First and last day (ISO, UTC) of the collection's items; None where there are none."""
        everywhere = Question(collection, ((-180.0, -90.0, 180.0, 90.0),), None)
        days = sorted(day for entry in self.fetch(everywhere) if isinstance(entry, dict) and (day := _day(entry)))
        return (days[0], days[-1]) if days else None


def _may_fit(entry: JSON, question: Question) -> bool:
    """A cheap test that never leaves out what the exact ones would keep."""
    if (entry.get("collection") or question.collection) != question.collection:
        return False
    bbox = entry.get("bbox")
    if not isinstance(bbox, list) or len(bbox) not in (4, 6) or not all(isinstance(edge, (int, float)) for edge in bbox):
        return True
    west, south, east, north = bbox[0], bbox[1], bbox[len(bbox) // 2], bbox[len(bbox) // 2 + 1]
    if west > east or east - west > 180 or west < -180 or east > 180:
        return any(box[1] - 1 <= north and south <= box[3] + 1 for box in question.boxes)
    return any(west <= box[2] + 1 and box[0] - 1 <= east and south <= box[3] + 1 and box[1] - 1 <= north for box in question.boxes)


def _day(entry: JSON) -> str | None:
    """UTC day of an item; None where its datetime is missing or is none."""
    properties = entry.get("properties")
    text = properties.get("datetime") or properties.get("start_datetime") if isinstance(properties, dict) else None
    try:
        when = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return None if when is None else when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC).date().isoformat()


def read_items(path: Path) -> list[Any]:
    """Decode the items of a file, unchecked.

    Raises
    ------
    InputError
        For a file that is no item collection, by name or content.
    CatalogError
        For a file that cannot be read or decoded, or needs a package that is not installed.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise CatalogError(
                f"Catalogue {path} has more than {MAX_FILE} bytes", remedy="Split it, or serve it by a STAC API", path=str(path)
            )
        if path.suffix.lower() in (".parquet", ".geoparquet"):
            return _parquet(path)
        if path.suffix.lower() in (".ndjson", ".jsonl", ".geojsonl"):
            return list(_lines(path))
        return _document(path)
    except OSError as error:
        raise CatalogError(
            f"Catalogue {path} cannot be read: {error.strerror or error}", remedy="Check the path", path=str(path)
        ) from error


def _document(path: Path) -> list[Any]:
    try:
        decoded = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        # Newline-delimited items under the name .json are common enough.
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            return list(_lines(path))
        raise CatalogError(f"Catalogue {path} is no JSON: {error}", remedy="Give a STAC item collection", path=str(path)) from error
    if isinstance(decoded, list):
        return decoded
    kind = decoded.get("type") if isinstance(decoded, dict) else None
    if kind == "FeatureCollection" and isinstance(decoded.get("features"), list):
        features: list[Any] = decoded["features"]
        return features
    if kind == "Feature":
        return [decoded]
    raise InputError(
        f"{path} is no item collection but {kind or type(decoded).__name__!r}",
        remedy="Give a FeatureCollection of STAC items, one item, newline-delimited items or stac-geoparquet",
        path=str(path),
    )


def _lines(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise CatalogError(
                    f"Line {number} of {path} is longer than {MAX_LINE} bytes", remedy="Give one item per line", path=str(path)
                )
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise CatalogError(
                        f"Line {number} of {path} is no JSON: {error}", remedy="Give one item per line", path=str(path)
                    ) from error


def _parquet(path: Path) -> list[JSON]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from stac_geoparquet.arrow import stac_table_to_items
    except ImportError as error:
        raise CatalogError(
            f"Reading {path} needs the package {error.name}", remedy="Install cubekit[publish], or give the items as JSON", path=str(path)
        ) from error
    try:
        return list(stac_table_to_items(pq.read_table(path)))
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise CatalogError(
            f"Catalogue {path} is no stac-geoparquet: {error}", remedy="Write it with stac-geoparquet or rustac", path=str(path)
        ) from error
