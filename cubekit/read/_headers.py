"""Headers of assets: one request each, remembered for the life of the process and, if wanted, on disk."""

from __future__ import annotations

import json
import sqlite3
import struct
import threading
import zlib
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cubekit.read._fault import Fault, ShortError
from cubekit.read._ifd import Field, Pieces
from cubekit.read._tiff import Header, Level, sniff
from cubekit.read._transport import Source, Transport
from cubekit.read._types import ReadStatus

__all__ = ["FIRST", "HeaderCache", "load_header", "more_header"]

FIRST = 16 << 10
"""Bytes of the first request: holds the directories and the tile tables of a 10980 x 10980 image in tiles of 512."""

_MORE = 4 << 10
_LONGEST = 4 << 20
_VERSION = 3
_LEADER = 8
_FRAME = struct.Struct("<II")
_TABLES = """
CREATE TABLE IF NOT EXISTS makes (id INTEGER PRIMARY KEY, text TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS headers (key TEXT PRIMARY KEY, make INTEGER, blob BLOB) WITHOUT ROWID;
"""
_SHARED = ("order", "big", "following", "transform", "epsg", "reason", "maskless")
_PLAIN = ("width", "height", "tile_width", "tile_height", "samples", "planar", "dtype", "bits", "codec", "predictor", "order", "reason")


async def load_header(transport: Transport, source: Source) -> Header:
    """Read the beginning of a file; a header without levels but with a ``reason`` where GDAL has to read it."""
    head = await transport.get(source, 0, FIRST, ends=True)
    if len(head) < 16:
        raise Fault(ReadStatus.CORRUPT, f"{source.key} holds {len(head)} bytes, not a raster")
    pieces = Pieces()
    pieces.add(0, head)
    if sniff(head, source.key) == "jp2":
        header = Header("<", False, 0, pieces, reason="it is JPEG 2000")
    else:
        while True:
            try:
                header = _started(pieces)
                break
            except ShortError as short:
                await _fetch(transport, source, pieces, short)
    header.etag, header.size = source.etag, source.size
    return header


@dataclass(slots=True)
class _Known:
    """A header just started, and all the bytes that made it what it is."""

    header: Header
    spans: list[tuple[int, bytes]]

    def fits(self, head: bytes) -> bool:
        for start, part in self.spans:  # noqa: SIM110  asked for every file: half the time of a generator
            if not head.startswith(part, start):
                return False
        return True


# Files of one product share size, georeference and structure, byte by byte, but for their tile tables. Newest first.
_known: deque[_Known] = deque(maxlen=8)


def _started(pieces: Pieces) -> Header:
    """`Header.start`, or a copy of what it gave for the same bytes."""
    start, head = pieces.parts[0][0], bytes(pieces.parts[0][1])
    for known in tuple(_known) if start == 0 else ():
        if known.fits(head):
            return known.header.like(pieces)
    pieces.asked = []
    try:
        header = Header.start(pieces)
        spans = sorted(set(pieces.asked))
    finally:
        pieces.asked = None
    if all(stop <= len(head) for _, stop in spans):
        _known.appendleft(_Known(header.like(Pieces()), [(begin, head[begin:stop]) for begin, stop in spans]))
    return header


async def more_header(transport: Transport, source: Source, header: Header, short: ShortError) -> None:
    """Read what a `ShortError` asks for into the header's pieces."""
    await _fetch(transport, source, header.pieces, short)


async def _fetch(transport: Transport, source: Source, pieces: Pieces, short: ShortError) -> None:
    if source.size is not None and short.stop > source.size:
        raise Fault(ReadStatus.CORRUPT, f"{source.key} is truncated: its header points at byte {short.stop} of {source.size}")
    if short.stop - short.start > _LONGEST:
        raise Fault(ReadStatus.CORRUPT, f"{source.key}: its header claims a value of {short.stop - short.start} bytes")
    stop = max(short.stop, short.start + _MORE)
    pieces.add(short.start, await transport.get(source, short.start, stop, ends=True))


class HeaderCache:
    """Headers by asset key, in memory and in one SQLite file per folder; shared by all reads of a process.

    Those from disk stay packed until they are asked for: the first request need not wait for all of them.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._memory: OrderedDict[str, Header | Packed] = OrderedDict()
        self._limit = limit
        self._fresh: dict[Path, set[str]] = {}
        self._lock = threading.Lock()

    def unlock(self) -> None:
        """Start with a free lock, in a child that was forked while another thread held it."""
        self._lock = threading.Lock()

    def get(self, key: str) -> Header | None:
        """Header of an asset, None where it is not known."""
        with self._lock:
            known = self._memory.pop(key, None)
            header = unpack(known) if isinstance(known, Packed) else known
            if header is not None:
                self._memory[key] = header
            return header

    def put(self, key: str, header: Header, folder: Path | None) -> None:
        """Remember a header; `save` writes it to `folder`."""
        with self._lock:
            self._remember(key, header)
            if folder is not None:
                self._fresh.setdefault(Path(folder), set()).add(key)

    def _remember(self, key: str, header: Header | Packed) -> None:
        self._memory[key] = header
        while len(self._memory) > self._limit:
            self._memory.popitem(last=False)

    def drop(self, key: str) -> None:
        """Forget a header that proved wrong."""
        with self._lock:
            self._memory.pop(key, None)

    def clear(self) -> None:
        """Forget everything in memory."""
        with self._lock:
            self._memory.clear()
            self._fresh.clear()

    def warm(self, keys: Iterable[str], folder: Path) -> None:
        """Load those of `keys` that are on disk and not in memory."""
        with self._lock:
            wanted = [key for key in keys if key not in self._memory]
        database = _open(folder)
        if database is None:
            return
        try:
            for first in range(0, len(wanted), 500):
                some = wanted[first : first + 500]
                marks = ",".join("?" * len(some))
                found = database.execute(f"SELECT key, text, blob FROM headers JOIN makes ON make = id WHERE key IN ({marks})", some)
                rows = found.fetchall()
                with self._lock:
                    for key, *packed in rows:
                        if key not in self._memory:
                            self._remember(key, Packed(*packed))
        except sqlite3.Error:
            return
        finally:
            database.close()

    def save(self, folder: Path) -> None:
        """Write what was learnt since the last call; a cache that cannot be written is done without."""
        with self._lock:
            keys = self._fresh.pop(Path(folder), set())
            rows = [(key, *pack(header)) for key in keys if isinstance(header := self._memory.get(key), Header)]
        database = _open(folder) if rows else None
        if database is None:
            return
        try:
            with database:
                database.executemany("INSERT OR IGNORE INTO makes (text) VALUES (?)", {(make,) for _, make, _ in rows})
                database.executemany("INSERT OR REPLACE INTO headers VALUES (?, (SELECT id FROM makes WHERE text = ?), ?)", rows)
        except sqlite3.Error:
            return
        finally:
            database.close()


def _open(folder: Path) -> sqlite3.Connection | None:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(Path(folder) / f"headers-{_VERSION}.sqlite", timeout=5.0)
    except (sqlite3.Error, OSError):
        return None
    try:
        database.executescript(_TABLES)
    except sqlite3.Error:
        database.close()
        return None
    return database


class Packed(NamedTuple):
    """A header as it is kept: what files of one make share (JSON), and what is the file's own."""

    make: str
    blob: bytes
    """A checksum, the length of a JSON text, this text, and the tile tables."""


def pack(header: Header) -> Packed:
    """Header as texts and numbers; a tile table in GDAL's contiguous order keeps only its first offset.

    Nothing is deflated: to know headers has to cost less than to ask for them.
    """
    tables: list[bytes] = []
    levels = [*header.levels, *header.masks.values()]
    make: dict[str, Any] = {name: getattr(header, name) for name in _SHARED}
    make["nodata"] = None if header.nodata is None else repr(header.nodata)
    make["levels"] = [{**{name: getattr(level, name) for name in _PLAIN}, "places": level.places} for level in levels]
    make["masks"] = list(header.masks)
    if not levels:
        make["head"] = bytes(header.pieces.get(0, 12)).hex()
    own = {
        "etag": header.etag,
        "size": header.size,
        "hints": [[[tile, *hint] for tile, hint in level.hints.items()] for level in levels],
        "tables": [_pack_table(level, tables) for level in levels],
    }
    text = json.dumps(own).encode()
    content = b"".join([text, *tables])
    return Packed(json.dumps(make), _FRAME.pack(zlib.crc32(content), len(text)) + content)


def _pack_table(level: Level, tables: list[bytes]) -> tuple[int, int, int] | None:
    """Numbers of offsets and counts, and the first offset or -1; the tables themselves go to `tables`."""
    if level.offsets is None or level.counts is None:
        return None
    step = level.offsets[:-1] + level.counts[:-1] + np.uint64(_LEADER)
    contiguous = bool(len(level.offsets) == len(level.counts) and (level.offsets[1:] == step).all() and (level.counts < 1 << 32).all())
    tables.append(level.counts.astype("<u4" if contiguous else "<u8").tobytes())
    if not contiguous:
        tables.append(level.offsets.astype("<u8").tobytes())
    return len(level.offsets), len(level.counts), int(level.offsets[0]) if contiguous else -1


def unpack(packed: Packed) -> Header | None:
    """Header from `pack`; None where it is damaged."""
    blob = packed.blob
    try:
        check, length = _FRAME.unpack_from(blob)
        if zlib.crc32(memoryview(blob)[_FRAME.size :]) != check:
            return None
        header = _made(packed.make)
        at = _FRAME.size + length
        own = json.loads(str(blob[_FRAME.size : at], "ascii"))
        header.etag, header.size = own["etag"], own["size"]
        for level, hints, table in zip([*header.levels, *header.masks.values()], own["hints"], own["tables"], strict=True):
            level.hints = {tile: (rows, size) for tile, rows, size in hints}
            if table is not None:
                at = _unpack_table(level, table, blob, at)
    except (struct.error, ValueError, KeyError, TypeError):
        return None
    return header


def _made(text: str) -> Header:
    """A header of its own of the make that a text describes."""
    known = _prototype(text)
    return known.like(Pieces(list(known.pieces.parts)))


@lru_cache(maxsize=64)
def _prototype(text: str) -> Header:
    make = json.loads(text)
    levels = [
        Level(**{name: entry[name] for name in _PLAIN}, places=entry["places"] and tuple(Field(*place) for place in entry["places"]))
        for entry in make["levels"]
    ]
    count = len(levels) - len(make["masks"])
    header = Header(make["order"], make["big"], make["following"], Pieces(), levels[:count])
    header.masks = dict(zip(make["masks"], levels[count:], strict=True))
    header.transform = None if make["transform"] is None else tuple(make["transform"])
    header.nodata = None if make["nodata"] is None else float(make["nodata"])
    header.epsg, header.reason, header.maskless = make["epsg"], make["reason"], make["maskless"]
    if not levels:
        header.pieces.add(0, memoryview(bytes.fromhex(make["head"])))
    return header


def _unpack_table(level: Level, table: list[int], blob: bytes, at: int) -> int:
    """Set the tile table of a level out of what begins at `at`; returns where it ends."""
    offsets, counts, first = table
    size = 4 if first >= 0 else 8
    level.counts = np.frombuffer(blob, f"<u{size}", counts, at)
    at += counts * size
    if first >= 0:
        steps = level.counts + np.uint64(_LEADER)
        level.offsets = np.add.accumulate(steps) - steps
        level.offsets += np.uint64(first)
        return at
    level.offsets = np.frombuffer(blob, "<u8", offsets, at)
    return at + offsets * 8
