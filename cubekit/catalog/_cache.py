"""Answers of catalogues kept on disk, so that a batch asks once per granule tile."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry.base import BaseGeometry

from cubekit.catalog._hrefs import scrub, without_signature
from cubekit.grid import transformer, utm_epsg
from cubekit.typing import JSON, BBox

__all__ = ["SearchCache", "tile_boxes"]

FORMAT = 1
RECENT, LONGEST = 4, 2000
"""Answers kept in memory, and items of the longest of them: sites come tile by tile, and a recipe asks for several collections."""
SQUARE = 100_000.0
"""Side of the squares of the military grid that Sentinel-2 tiles are laid out on, m."""


class SearchCache:
    """A folder of answers, each a gzipped JSON file named after the digest of its question.

    Parameters
    ----------
    folder
        Made when needed.
    max_age
        Seconds for which an answer is good.
    """

    def __init__(self, folder: Path, max_age: float) -> None:
        self.folder, self.max_age = folder, max_age
        self._locks: dict[str, threading.Lock] = {}
        self._recent: dict[str, tuple[int, list[JSON]]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return SearchCache, (self.folder, self.max_age)

    def get(self, question: JSON, fetch: Callable[[], list[JSON]]) -> list[JSON]:
        """The kept answer, or else the one of `fetch`, which is kept; threads with one question wait for one fetch."""
        digest = hashlib.sha256(json.dumps({"format": FORMAT, **question}, sort_keys=True).encode()).hexdigest()
        with self._lock:
            lock = self._locks.setdefault(digest, threading.Lock())
        with lock:
            path = self.folder / f"search-{digest[:32]}.json.gz"
            kept = self._again(path)
            if kept is not None:
                return kept
            features = fetch()
            self._write(path, {"question": question, "features": [unsigned_item(feature) for feature in features]})
            return features

    def _again(self, path: Path) -> list[JSON] | None:
        """What `_read` gives, and the same object as last time while the file is the same."""
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            return None
        if time.time() - stamp / 1e9 > self.max_age:
            return None
        known = self._recent.get(path.name)
        if known is None or known[0] != stamp:
            features = self._read(path)
            if features is None:
                return None
            known = stamp, features
        with self._lock:
            self._recent.pop(path.name, None)
            if len(known[1]) <= LONGEST:
                self._recent[path.name] = known
            while len(self._recent) > RECENT:
                self._recent.pop(next(iter(self._recent)))
        return known[1]

    def _read(self, path: Path) -> list[JSON] | None:
        """None for what is missing or damaged: it is asked for again."""
        try:
            features = json.loads(gzip.decompress(path.read_bytes()))["features"]
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            return None
        return features if isinstance(features, list) else None

    def _write(self, path: Path, answer: JSON) -> None:
        """Write beside and rename; a cache that cannot be written, or an answer too deep to be, is done without."""
        with contextlib.suppress(OSError, RecursionError):
            self._replace(path, answer)

    def _replace(self, path: Path, answer: JSON) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".search-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(gzip.compress(json.dumps(answer).encode(), 1, mtime=0))
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise


def unsigned_item(feature: JSON) -> JSON:
    """A copy of an item without signatures in its hrefs and without links, which name the caller's search."""
    assets = feature.get("assets")
    bare = {key: _unsigned(asset) for key, asset in assets.items()} if isinstance(assets, dict) else assets
    links = feature.get("links")
    own = [_unsigned(link) for link in links if isinstance(link, dict) and link.get("rel") == "self"] if isinstance(links, list) else []
    kept = {**feature, "assets": bare, "links": own}
    scrub(kept)
    return kept


def _unsigned(entry: object) -> object:
    if not isinstance(entry, dict):
        return entry
    bare = {key: _unsigned(value) if isinstance(value, dict) else value for key, value in entry.items()}
    if isinstance(href := entry.get("href"), str):
        bare["href"] = without_signature(href)
    return bare


def tile_boxes(area: BaseGeometry) -> tuple[BBox, ...]:
    """Box in degrees of the 100 km squares of the area's UTM zone that it touches: the same for all sites of one granule tile.

    Areas that cross the antimeridian or reach into UPS keep their own boxes (none are returned).
    """
    west, south, east, north = area.bounds
    if east - west > 6 or south < -80 or north > 84:
        return ()
    center = area.centroid
    epsg = utm_epsg(center.y, center.x)
    x, y = transformer(4326, epsg).transform([west, east, west, east], [south, south, north, north])
    left, right = math.floor(min(x) / SQUARE), math.floor(max(x) / SQUARE) + 1
    bottom, top = math.floor(min(y) / SQUARE), math.floor(max(y) / SQUARE) + 1
    along = np.linspace(0, 1, 21)
    edge_x = (left + (right - left) * np.concatenate([along, along, 0 * along, 0 * along + 1])) * SQUARE
    edge_y = (bottom + (top - bottom) * np.concatenate([0 * along, 0 * along + 1, along, along])) * SQUARE
    lon, lat = transformer(epsg, 4326).transform(edge_x, edge_y)
    if lon.max() - lon.min() > 180:
        return ()
    box = (lon.min() - 1e-3, lat.min() - 1e-3, lon.max() + 1e-3, lat.max() + 1e-3)
    return (tuple(round(float(value), 4) for value in box),)  # type: ignore[return-value]
