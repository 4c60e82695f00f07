"""One question to a server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """Method, address and JSON body (None for GET)."""

    method: str
    url: str
    body: str | None = None
