"""Waiting that many share: when a server asks one of them for patience, all have it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from cubekit.errors import CatalogError

__all__ = ["Throttle", "share_waiting"]

_DOWN = "Try again later, or give a list of catalogues to fall back on"
_LONGEST = 3600.0
_folder: Path | None = None


def share_waiting(folder: str | os.PathLike[str] | None) -> None:
    """Share waiting with all processes on this machine that name the same folder: one answer of 429 then holds back all of them.

    Parameters
    ----------
    folder
        Made if needed; None ends sharing. Counts for every catalogue of this process, also for those that are open.
    """
    global _folder
    _folder = Path(folder) if folder is not None else None
    if _folder is not None:
        _folder.mkdir(parents=True, exist_ok=True)


def _shared_moment(url: str) -> Path | None:
    host = urlsplit(url).netloc.rpartition("@")[2]
    return _folder / hashlib.sha256(host.encode()).hexdigest()[:16] if _folder is not None else None


class Throttle:
    """Moment before which nobody sharing this catalogue sends a request: one answer of 429 holds all threads back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._not_before = 0.0

    def hold(self, seconds: float, url: str = "") -> None:
        """Let everybody who asks the host of `url` wait for `seconds` from now."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)
        if (file := _shared_moment(url)) is not None and seconds > self._elsewhere(url):
            # The folder may be gone when those who shared it are.
            with contextlib.suppress(OSError):
                staged = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
                staged.write_text(repr(time.time() + seconds))
                staged.replace(file)

    @staticmethod
    def _elsewhere(url: str) -> float:
        """Seconds that another process was asked to wait for."""
        file = _shared_moment(url)
        try:
            left = float(file.read_text()) - time.time() if file is not None else 0.0
        except (OSError, ValueError):
            return 0.0
        return min(left, _LONGEST) if left > 0 else 0.0

    def wait(self, deadline: float, url: str) -> None:
        """Sleep until requests are allowed again; `CatalogError` at once if that is beyond the deadline."""
        with self._lock:
            pause = max(self._not_before - time.monotonic(), self._elsewhere(url))
        if time.monotonic() + max(pause, 0.0) > deadline:
            shown = url.split("?", 1)[0]
            raise CatalogError(f"{shown} did not answer in the time allowed for a search", remedy=_DOWN, url=url)
        if pause > 0:
            time.sleep(pause)
