"""How patient and how eager a catalogue is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cubekit.errors import InputError

__all__ = ["ApiOptions"]


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """Limits for asking a STAC API.

    Parameters
    ----------
    connect_timeout, read_timeout
        Seconds until a connection stands, and between two bytes of an answer.
    total_timeout
        Seconds for a whole search with all its pages and retries.
    retries
        Further attempts per request after 408, 425, 429, 5xx, a reset, a timeout or a broken answer.
    backoff
        Seconds before the second retry; doubled for each further one.
    max_wait
        Longest single pause, seconds. A server that asks for more (Retry-After) counts as down.
    page_limit
        Items per page; None for the catalogue's own.
    ranges
        Time ranges that a search is split into, asked at once; 1 asks page after page.
    max_bytes
        Largest answer, bytes.
    headers
        Sent with every request (API keys); never logged or stored.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    total_timeout: float = 300.0
    retries: int = 6
    backoff: float = 0.5
    max_wait: float = 60.0
    page_limit: int | None = None
    ranges: int = 4
    max_bytes: int = 256 * 2**20
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "read_timeout", "total_timeout", "max_wait", "max_bytes"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)!r}", remedy="Give seconds or bytes above 0")
        if self.retries < 0 or self.backoff < 0:
            raise InputError(f"retries and backoff must not be negative, got {self.retries!r}, {self.backoff!r}", remedy="Give 0 or more")
        if self.ranges < 1 or (self.page_limit is not None and self.page_limit < 1):
            raise InputError(f"ranges and page_limit must be at least 1, got {self.ranges!r}, {self.page_limit!r}", remedy="Give 1 or more")
