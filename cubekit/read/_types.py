"""What is asked of this room and what it answers: small frozen types, checked when they are made."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

from cubekit.errors import InputError
from cubekit.typing import Resampling

if TYPE_CHECKING:
    from cubekit.read._journal import Journal

__all__ = ["AssetOutcome", "AssetRead", "Engine", "Progress", "ReadOptions", "ReadPlan", "ReadStatus", "Sign", "Signer"]

Engine: TypeAlias = Literal["window", "odc", "stackstac", "rasterio"]
Progress: TypeAlias = Callable[[int, int], None]


class ReadStatus(enum.IntEnum):
    """How the reading of one asset ended.

    ``OK`` and ``EMPTY`` (nothing of the asset lies in the grid, or every pixel there is nodata) are answers; everything else is a hole:
    ``MISSING`` (404, 410, no such file), ``DENIED`` (401, 403 after signing anew), ``CORRUPT`` (not the raster it should be: damaged,
    truncated, changed while being read, another CRS, a web page), ``TIMED_OUT`` (a deadline), ``FAILED`` (the server or the network,
    after all retries), ``REFUSED`` (an address or a content that is never opened).
    """

    OK = 0
    EMPTY = 1
    MISSING = 2
    DENIED = 3
    CORRUPT = 4
    TIMED_OUT = 5
    FAILED = 6
    REFUSED = 7

    @property
    def is_hole(self) -> bool:
        """Whether pixels are absent because reading did not work."""
        return self > ReadStatus.EMPTY


class Signer(Protocol):
    """Turns an unsigned href into one that may be read now; must be safe to call from several threads.

    ``fresh=True`` asks for a new signature, not a remembered one, after the server refused the last. The method of an object that has
    ``signs(href)`` is spared hrefs for which that is false, unless the server refuses them.
    """

    def __call__(self, href: str, *, fresh: bool = False) -> str: ...


Sign: TypeAlias = Signer | Callable[[str], str]


@dataclass(frozen=True, slots=True)
class AssetRead:
    """One band of one asset, to be read into one two-dimensional array.

    Parameters
    ----------
    href
        Unsigned address: http(s), s3, gs, az, or a local path below ``ReadOptions.local_root``.
    item_id, band
        Names for messages and outcomes.
    resampling
        What to do where source and target pixels do not coincide. Where they do, pixels are copied; where the target is finer by a
        whole factor on the same phase, they are repeated, whatever is given here.
    nodata
        Value of pixels without data, in the source and in the result. None: what the file declares; if it declares none, all source
        pixels are valid and the result is 0 (integer) or NaN (float) outside the image.
    epsg, shape, transform
        What the catalogue says of the asset, if it does: CRS code, (height, width), and the affine coefficients (a, b, c, d, e, f).
        A file with another CRS is ``CORRUPT``.
    index
        Number of the band in the file, from 1.
    """

    href: str
    item_id: str = ""
    band: str = ""
    resampling: Resampling = "nearest"
    nodata: float | None = None
    epsg: int | None = None
    shape: tuple[int, int] | None = None
    transform: tuple[float, ...] | None = None
    index: int = 1

    def __post_init__(self) -> None:
        if self.resampling not in get_args(Resampling):
            raise InputError(
                f"resampling {self.resampling!r} of band {self.band!r} is unknown", remedy=f"Use one of {', '.join(get_args(Resampling))}."
            )
        if self.index < 1:
            raise InputError(f"band index {self.index} of {self.band!r} is not positive", remedy="Band indexes start at 1.")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read.

    Parameters
    ----------
    engine
        ``window`` (default), ``odc``, ``stackstac`` or ``rasterio``; all give the same pixels.
    concurrency
        Requests in flight at once; lower it for servers that keep answering 429 or 503.
    threads
        Threads that decode; None: one per core.
    connect_timeout, first_byte_timeout, total_timeout
        Seconds: to connect (with TLS); of silence before and between pieces of an answer; for one request with all its retries.
    retries
        How often a transient fault (429, 500, 502, 503, 504, 408, a reset, a short or silent answer) of one request is tried again.
    backoff
        Seconds before the first retry; doubles each time, drawn at random between half and all of it. A longer Retry-After is kept to.
    memory
        Bytes of compressed and decoded data in flight at once, beside the result itself.
    cache_dir
        Folder of the header cache on disk; None: headers are remembered by this process only.
    local_root
        Folder below which local paths may be read; None: none.
    coalesce
        Neighbouring byte ranges with a gap of at most so many bytes become one request.
    journal
        Takes note of every read that is done, and gives back what an earlier run noted.
    """

    engine: Engine = "window"
    concurrency: int = 256
    threads: int | None = None
    connect_timeout: float = 10.0
    first_byte_timeout: float = 20.0
    total_timeout: float = 180.0
    retries: int = 5
    backoff: float = 0.05
    memory: int = 512 << 20
    cache_dir: Path | None = None
    local_root: Path | None = None
    coalesce: int = 16 << 10
    journal: Journal | None = None

    def __post_init__(self) -> None:
        if self.engine not in get_args(Engine):
            raise InputError(f"engine {self.engine!r} is unknown", remedy=f"Use one of {', '.join(get_args(Engine))}.")
        for name in ("concurrency", "connect_timeout", "first_byte_timeout", "total_timeout", "memory"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} {getattr(self, name)!r} is not positive", remedy=f"Give a {name} above 0.")
        for name in ("retries", "backoff", "coalesce"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} {getattr(self, name)!r} is negative", remedy=f"Give 0 or more {name}.")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads {self.threads!r} is not positive", remedy="Give 1 or more threads, or None for one per core.")

    @property
    def workers(self) -> int:
        """Number of decoding threads."""
        return self.threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


@dataclass(frozen=True, slots=True)
class AssetOutcome:
    """How one read ended and what it cost.

    ``requests`` and ``bytes`` (of answers' bodies) count everything asked for this asset, retries included; where several reads share
    an asset, the first of them carries the cost. ``misses`` are tiles whose leading part, asked for by estimate, was too short.
    """

    status: ReadStatus
    message: str = ""
    requests: int = 0
    bytes: int = 0
    retries: int = 0
    misses: int = 0
    etag: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """What a run will ask for, made by the code that runs it.

    Attributes
    ----------
    requests, bytes
        Of the whole job: ``header_requests`` + ``tile_requests`` and their bytes.
    header_requests, header_bytes
        Asked for while planning because the headers were not known; a run right after the plan does not ask again.
    tile_requests, tile_bytes
        Still to be asked for.
    memory
        Bytes in flight at most, without the result.
    outcomes
        Of the assets that cannot be read, by position in the list of reads: known already from their headers.
    """

    header_requests: int
    header_bytes: int
    tile_requests: int
    tile_bytes: int
    memory: int
    outcomes: dict[int, AssetOutcome] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """All requests."""
        return self.header_requests + self.tile_requests

    @property
    def bytes(self) -> int:
        """All bytes."""
        return self.header_bytes + self.tile_bytes
