"""Waiting that many share: when a server asks one of them for patience, all have it."""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

from cubekit import waiting
from cubekit.errors import CatalogError

__all__ = ["Throttle"]

_DOWN = "Try again later, or give a list of catalogues to fall back on"


class Throttle:
    """Moment before which nobody sharing this catalogue sends a request: one answer of 429 holds all threads back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._not_before = 0.0

    def hold(self, seconds: float, url: str = "") -> None:
        """Let everybody who asks the host of `url` wait for `seconds` from now."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)
        waiting.hold(_host(url), seconds)

    @staticmethod
    def _elsewhere(url: str) -> float:
        """Seconds that another process was asked to wait for."""
        return waiting.left(_host(url))

    def wait(self, deadline: float, url: str) -> None:
        """Sleep until requests are allowed again; `CatalogError` at once if that is beyond the deadline."""
        with self._lock:
            pause = max(self._not_before - time.monotonic(), self._elsewhere(url))
        if time.monotonic() + max(pause, 0.0) > deadline:
            shown = url.split("?", 1)[0]
            raise CatalogError(f"{shown} did not answer in the time allowed for a search", remedy=_DOWN, url=url)
        if pause > 0:
            time.sleep(pause)


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
