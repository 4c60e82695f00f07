"""A disk cache of arrays: complete or absent, safe between processes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

__all__ = ["DiskCache"]

_GIB = 2**30
_written: dict[Path, int] = {}
"""Bytes of chunks that this process has put below a root since it last looked how many there are."""


def _default_root() -> Path:
    return Path(os.environ.get("CUBEKIT_CACHE_DIR") or platformdirs.user_cache_path("cubekit")) / "climate"


@dataclass(frozen=True, slots=True)
class DiskCache:
    """Arrays and small texts by key, one file each below `root`.

    A file is written under another name and renamed, so a reader sees it whole or not at all; one that cannot be read is a miss.

    Parameters
    ----------
    root
        Folder; by default ``$CUBEKIT_CACHE_DIR/climate``, else the user's cache folder.
    chunk_bytes
        How much raw chunks may take; the least recently used go first. Processes that fill the cache together may each exceed it by 1/16.
    """

    root: Path = field(default_factory=_default_root)
    chunk_bytes: int = 20 * _GIB

    def path(self, *key: str) -> Path:
        """File of `key`; its first part, which may hold a URL, is hashed."""
        head = hashlib.sha256(key[0].encode()).hexdigest()[:20]
        return self.root.joinpath(head, *key[1:])

    def array(self, path: Path) -> npt.NDArray[Any] | None:
        """The stored array, or None."""
        try:
            array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            return None
        except (ValueError, EOFError, OSError):
            with suppress(OSError):
                path.unlink()
            return None
        return array

    def text(self, path: Path) -> str | None:
        """The stored text, or None."""
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def put(self, path: Path, value: npt.NDArray[Any] | str | bytes) -> None:
        """Store `value`; a full or read-only disk is no error, the value is then read again next time."""
        temporary = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
            with os.fdopen(handle, "wb") as file:
                if isinstance(value, np.ndarray):
                    np.save(file, value, allow_pickle=False)
                else:
                    file.write(value.encode() if isinstance(value, str) else value)
            os.replace(temporary, path)
        except OSError:
            if temporary:
                with suppress(OSError):
                    os.unlink(temporary)

    def put_bounded(self, path: Path, value: bytes) -> None:
        """Store a raw chunk, and make room where chunks take too much."""
        if len(value) > self.chunk_bytes:
            return
        self.put(path, value)
        written = _written.get(self.root, self.chunk_bytes) + len(value)
        if written > self.chunk_bytes // 16:
            self._trim()
            written = 0
        _written[self.root] = written

    def _trim(self) -> None:
        found = []
        for path in self.root.glob("*/chunks/*/*"):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        surplus = sum(size for _, size, _ in found) - self.chunk_bytes
        for _, size, path in sorted(found):
            if surplus <= 0:
                break
            with suppress(OSError):
                path.unlink()
            surplus -= size
