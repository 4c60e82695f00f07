"""How a build is run: engine, open catalogues, caches and progress; nothing that changes a result."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from cubekit.errors import CommitError, InputError
from cubekit.layers._compiling import told
from cubekit.layers._pins import Pins
from cubekit.redact import unsigned
from cubekit.site import TimeRange
from cubekit.typing import BBox

if TYPE_CHECKING:
    from cubekit.catalog import Catalog, Item
    from cubekit.read import Journal, ReadOptions

ENGINES = ("window", "odc", "stackstac", "rasterio")

__all__ = ["Progress", "Session", "Tally"]

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


T = TypeVar("T")
_REMEMBERED = 16


def _quiet(stage: str, done: int, total: int) -> None:
    pass


@dataclass(eq=False)
class Session:
    """State shared by the layers of one or many builds in a process.

    Parameters
    ----------
    engine
        Read engine: ``"window"``, ``"odc"``, ``"stackstac"`` or ``"rasterio"``.
    cache_dir
        Folder for searches, headers and metadata; nothing is kept between processes without one. With one, catalogues are asked for
        whole squares of 100 km, so that all sites of a granule tile share an answer.
    threads
        Threads for decoding and correction; all cores by default.
    progress
        Receives (stage, done, total).
    memory
        Bytes beyond which a stack of pixels is kept in a temporary file (in `$TMPDIR`) instead of memory.
    pins
        Notes items and versions of files for a lock, or holds the build to one.
    """

    engine: str = "window"
    cache_dir: Path | None = None
    threads: int | None = None
    progress: Progress = _quiet
    pins: Pins | None = None
    memory: int = 2 << 30
    _journal: Journal | None = field(default=None, repr=False)
    _catalogs: dict[tuple[str, ...], Catalog] = field(default_factory=dict, repr=False)
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(f"engine {self.engine!r} is unknown", remedy=f"Use one of {', '.join(ENGINES)}")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads {self.threads!r} is not positive", remedy="Give 1 or more, or None for one per core")

    def catalog(self, names: tuple[str, ...]) -> Catalog:
        """The catalogue of that name, URL or path (several: fallbacks in order), opened once."""
        from cubekit.catalog import open_catalog

        with self._lock:
            if names not in self._catalogs:
                where = [open_demo() if name == "demo" else name for name in names]
                self._catalogs[names] = open_catalog(where, cache_dir=self.cache_dir, share="area" if self.cache_dir is None else "tile")
            return self._catalogs[names]

    def search(
        self, names: tuple[str, ...], collection: str, boxes: Sequence[BBox], time: TimeRange | None = None
    ) -> tuple[Catalog, list[Item]]:
        """Ask a catalogue for items, or, where the session holds to a lock, take those that are noted there."""
        catalog = self.catalog(names)
        where = ", ".join(names)
        if self.pins is not None and self.pins.held:
            catalog = catalog.pinned({collection: self.pins.answer(where, collection)})
        limits = (None, None) if time is None else (time.start, time.end)
        items = catalog.search(collection, list(boxes), *limits)
        if self.pins is not None and not self.pins.held:
            self.pins.note_items(where, collection, items)
        return catalog, items

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives; made once for a key while it is among the few last asked for, so that layers share what they read."""
        with self._lock:
            if key in self._made:
                self._made[key] = self._made.pop(key)
                return self._made[key]  # type: ignore[no-any-return]
        made = make()
        with self._lock:
            self._made[key] = made
            while len(self._made) > _REMEMBERED:
                self._made.pop(next(iter(self._made)))
        return made

    def allocate(self, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """Zeros: in memory, or, where they would take more than `memory`, in a nameless temporary file that the system pages in and out.

        Raises
        ------
        CommitError
            If the disk has no room for the file.
        """
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size <= self.memory:
            return np.zeros(shape, kind)
        with tempfile.TemporaryFile(prefix="cubekit-") as file:
            _reserve(file.fileno(), size)
            return np.memmap(file, kind, "w+", shape=shape)

    def read_options(self, catalog: Catalog) -> ReadOptions:
        """Options of the read room for files of `catalog`."""
        from cubekit.read import ReadOptions

        return ReadOptions(
            engine=self.engine,  # type: ignore[arg-type]
            threads=self.threads,
            cache_dir=self.cache_dir,
            local_root=catalog.local_root,
            journal=self._journal,
        )

    @contextmanager
    def building(self, target: str) -> Iterator[Session]:
        """This session for the build of one cube.

        With a cache folder, what the build reads is noted there until it ends. A build that was killed finds the notes of the one before
        and asks only for the rest; one that fails, or that commits its cube, leaves none.
        """
        with told(self.progress):
            yield from self._noted(target)

    def _noted(self, target: str) -> Iterator[Session]:
        if self.cache_dir is None:
            yield self
            return
        from cubekit.read import Journal

        name = hashlib.sha256(target.encode()).hexdigest()[:32]
        own = copy(self)
        own._journal = journal = Journal(Path(self.cache_dir) / "journals" / name)
        try:
            yield own
        except Exception:
            journal.drop()
            raise
        except BaseException:
            journal.close()
            raise
        journal.drop()


def _reserve(file: int, size: int) -> None:
    """Take the room of a file now: a page that finds none later ends the process without a word."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size < free:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # a file system that cannot
                return
    raise CommitError(
        f"The pixels take {size / 1e9:.1f} GB, and {tempfile.gettempdir()} has {free / 1e9:.1f} GB free",
        remedy="Ask for fewer days, bands or pixels, or set TMPDIR to a larger disk",
    )


def provenance_hrefs(hrefs: Iterable[str], catalog: Catalog) -> str:
    """Hrefs for an attribute: unsigned, without repeats; those of a local catalogue relative to its folder, so that it may be moved."""
    root = catalog.local_root
    names = (os.path.relpath(href, root) if root is not None and "://" not in href else unsigned(href) for href in hrefs)
    return " ".join(dict.fromkeys(name.replace(" ", "%20") for name in names))


def open_demo() -> Catalog:
    """The catalogue of the simulated world, which is written first if it is not there."""
    from cubekit.catalog import open_catalog
    from cubekit.demo import ensure_world

    return open_catalog("demo", root=ensure_world().root)


@dataclass(eq=False)
class Tally:
    """What the reads of one build cost; layers add to it from any thread."""

    assets: int = 0
    holes: int = 0
    requests: int = 0
    bytes: int = 0
    retries: int = 0
    misses: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, assets: int = 0, holes: int = 0, requests: int = 0, bytes: int = 0, retries: int = 0, misses: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            self.assets += assets
            self.holes += holes
            self.requests += requests
            self.bytes += bytes
            self.retries += retries
            self.misses += misses
