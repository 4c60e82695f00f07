"""What a build has read so far, noted in a file until its cube is committed: one that was killed does not ask for it again."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from isal import isal_zlib

from cubekit.read._href import asset_key
from cubekit.read._types import AssetOutcome, ReadStatus
from cubekit.typing import JSON

if TYPE_CHECKING:
    from cubekit.read._layout import Use

__all__ = ["Journal"]

_FRAME = struct.Struct("<4sIQI")
"""Mark, length of the descriptions, length of the payloads, checksum of both."""
Version = tuple[str | None, int | None]
_MARK = b"ckj2"
_TOGETHER, _ENOUGH = 64, 1 << 20
"""Notes, and bytes of them, that do not wait for more."""
_LIMIT = 2 << 30
_AGE = 3 * 86400.0
_swept: set[Path] = set()


class Journal:
    """Finished reads of one build, in one file that only grows.

    A record holds the notes of one moment. It is written with one call and carries a checksum; what stands behind the last whole record
    is cut off when the file is opened again. Nothing is flushed to the disk: the kernel keeps what a killed process wrote. Whoever opens
    a journal that another process holds gets an empty one that notes nothing, and so does one that cannot be written.

    Parameters
    ----------
    path
        Made at the first note.
    limit
        Bytes beyond which nothing more is noted.
    max_age
        Seconds after which an old journal is thrown away: what it was read from may have changed since.
    """

    def __init__(self, path: Path, *, limit: int = _LIMIT, max_age: float = _AGE) -> None:
        self.path, self._limit, self._max_age = path, limit, max_age
        self._records: dict[tuple[str, str], tuple[JSON, int, int]] = {}
        self._waiting: list[tuple[JSON, memoryview]] = []
        self._bytes = 0
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._size, self._open = 0, True
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > max_age:
                path.unlink()
        if path.exists():
            self._begin()
            self._load()

    def __len__(self) -> int:
        return len(self._records)

    def names(self) -> list[str]:
        """Names of the objects that reads are noted of, sorted."""
        return sorted({str(meta["name"]) for meta, _, _ in self._records.values()})

    def get(self, name: str, question: object) -> tuple[JSON, bytes] | None:
        """What was noted for a question about an object: description and payload."""
        return self._get(name, _asked(question))

    def _get(self, name: str, asked: str) -> tuple[JSON, bytes] | None:
        with self._lock:
            found = self._records.get((name, asked))
            if found is None or self._fd is None:
                return None
            meta, at, size = found
            try:
                data = os.pread(self._fd, size, at)
            except OSError:
                return None
        return (meta, data) if len(data) == size else None

    def put(self, name: str, question: object, meta: Mapping[str, Any], payload: Any = b"") -> None:
        """Note the answer to a question about an object; without a word where that is not possible."""
        with self._lock:
            self._add(name, _asked(question), meta, payload)
            self._write()

    def _add(self, name: str, asked: str, meta: Mapping[str, Any], payload: Any) -> None:
        data = memoryview(payload).cast("B")
        self._waiting.append(({**meta, "name": name, "asked": asked, "size": len(data)}, data))
        self._bytes += len(data)

    def flush(self) -> None:
        """Write what is noted so far."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        notes, self._waiting, self._bytes = self._waiting, [], 0
        if not notes or not self._open:
            return
        text, payloads = json.dumps([meta for meta, _ in notes]).encode(), [data for _, data in notes]
        check, length = isal_zlib.crc32(text), 0
        for data in payloads:
            check, length = isal_zlib.crc32(data, check), length + len(data)
        size = _FRAME.size + len(text) + length
        if self._size + size > self._limit:
            return
        if self._fd is None:
            self._begin()
        if self._fd is None:
            return
        try:
            whole = os.writev(self._fd, [_FRAME.pack(_MARK, len(text), length, check), text, *payloads]) == size
        except OSError:
            whole = False
        if not whole:  # the next record would stand behind a torn one
            self._open = False
            return
        self._know([meta for meta, _ in notes], self._size + size - length)
        self._size += size

    def _know(self, notes: list[JSON], at: int) -> None:
        """Remember a record's notes, whose payloads begin at `at`."""
        for meta in notes:
            self._records[meta["name"], meta["asked"]] = meta, at, meta["size"]
            at += meta["size"]

    def restore(
        self, uses: Iterable[Use], engine: str, known: Mapping[int, tuple[str | None, int | None] | None]
    ) -> dict[int, AssetOutcome]:
        """Put pixels that are noted where they belong; the outcomes, by the index of the use.

        Parameters
        ----------
        uses
            What is to be read.
        engine
            Which reads.
        known
            (ETag, bytes) of the files by the index of the use, where they are known; what was noted of another version is not used.
        """
        found = {}
        for use in uses:
            noted = self._get(asset_key(use.read.href), _question(use, engine)) if self._records else None
            if noted is None or use.out is None:
                continue
            meta, data = noted
            if (version := known.get(use.index)) is not None and version[0] != meta["etag"]:
                continue
            if not data:
                use.out[...] = meta["fill"]
            else:
                use.out[...] = np.frombuffer(data, use.out.dtype).reshape(use.out.shape)
            found[use.index] = AssetOutcome(ReadStatus(meta["status"]), etag=meta["etag"])
        return found

    def note(self, name: str, uses: Iterable[Use], outcomes: Mapping[int, AssetOutcome], engine: str) -> int:
        """Note the pixels of reads of one object that are done; holes are not noted. They are written by `flush`, or with many others.

        Returns
        -------
        int
            How many notes wait to be written.
        """
        with self._lock:
            for use in uses:
                outcome = outcomes.get(use.index)
                if use.out is None or outcome is None or outcome.status.is_hole or "://" not in use.read.href:
                    continue
                meta: dict[str, Any] = {"status": int(outcome.status), "etag": outcome.etag}
                payload: Any = b""
                if outcome.status is ReadStatus.EMPTY:
                    meta["fill"] = use.out.flat[0].item()
                else:
                    payload = np.ascontiguousarray(use.out).reshape(-1).view(np.uint8).data
                self._add(name, _question(use, engine), meta, payload)
            if len(self._waiting) >= _TOGETHER or self._bytes >= _ENOUGH:
                self._write()
            return len(self._waiting)

    def close(self) -> None:
        """Let go of the file; it stays for the next build."""
        with self._lock:
            self._write()
            self._open = False
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def drop(self) -> None:
        """Remove the file: the cube is committed."""
        with self._lock:
            self._waiting = []
            if self._fd is not None:
                with contextlib.suppress(OSError):
                    self.path.unlink()
        self.close()

    def _begin(self) -> None:
        """Open and lock the file, or give up."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(self.path.parent, self._max_age)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            self._open = False
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fd = fd
        except OSError:
            os.close(fd)
            self._open = False

    def _load(self) -> None:
        """Find the whole records, and cut off what follows the last of them."""
        if self._fd is None:
            return
        at = 0
        try:
            while (record := self._record(at)) is not None:
                notes, payloads, end = record
                self._know(notes, payloads)
                at = end
            os.ftruncate(self._fd, at)
        except OSError:
            self._records, self._open = {}, False
        self._size = at

    def _record(self, at: int) -> tuple[list[JSON], int, int] | None:
        """Notes of the record at `at`, where their payloads begin, and where it ends."""
        assert self._fd is not None
        frame = os.pread(self._fd, _FRAME.size, at)
        if len(frame) < _FRAME.size:
            return None
        mark, length, size, check = _FRAME.unpack(frame)
        if mark != _MARK or length + size > self._limit:
            return None
        at += _FRAME.size
        data = os.pread(self._fd, length + size, at)
        if len(data) < length + size or isal_zlib.crc32(data) != check:
            return None
        notes: list[JSON] = json.loads(data[:length])
        return notes, at + length, at + length + size


def _asked(question: object) -> str:
    return hashlib.sha256(repr(question).encode()).hexdigest()[:32]


def _question(use: Use, engine: str) -> str:
    """All that decides the pixels of a read, beside the object itself."""
    read = use.read
    out = use.out.dtype.str if use.out is not None else ""
    nodata = None if read.nodata is None else float(read.nodata)
    return _digest(engine, read.index, read.resampling, nodata, read.epsg, read.shape, read.transform, use.grid, out)


@lru_cache(maxsize=1024)
def _digest(*question: Any) -> str:
    """Of a question whose last but one part is the grid."""
    *rest, grid, out = question
    return _asked((*rest, grid.epsg, tuple(grid.affine)[:6], grid.shape, out))


def _sweep(folder: Path, max_age: float) -> None:
    """Remove journals that nobody went on with; once in a process."""
    if folder in _swept:
        return
    _swept.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if time.time() - entry.stat().st_mtime > max_age:
                    os.unlink(entry.path)
