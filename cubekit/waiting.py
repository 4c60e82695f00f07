"""Patience shared by the processes of a machine: when a host asks one of them to wait, all of them do."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from pathlib import Path

__all__ = ["hold", "left", "share_waiting"]

_LONGEST = 3600.0
_folder: Path | None = None
_seen: dict[str, tuple[float, float]] = {}


def share_waiting(folder: str | os.PathLike[str] | None) -> None:
    """Share waiting with all processes on this machine that name the same folder: one answer of 429 then holds back all of them.

    Parameters
    ----------
    folder
        Made if needed; None ends sharing. Counts for searches and for reads of this process, also for catalogues that are open.
    """
    global _folder
    _folder = Path(folder) if folder is not None else None
    _seen.clear()
    if _folder is not None:
        _folder.mkdir(parents=True, exist_ok=True)


def _moment(host: str) -> Path | None:
    return _folder / hashlib.sha256(host.encode()).hexdigest()[:16] if _folder is not None else None


def hold(host: str, seconds: float) -> None:
    """Let every process wait so long before it asks a host; never shorter than another one was told."""
    file = _moment(host)
    if file is None or not seconds > left(host):
        return
    # The folder may be gone when those who shared it are.
    with contextlib.suppress(OSError):
        staged = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
        staged.write_text(repr(time.time() + seconds))
        staged.replace(file)


def left(host: str, *, known_for: float = 0.0) -> float:
    """Seconds that any of the processes was asked to wait for, at most an hour; what was looked up `known_for` seconds ago still counts."""
    if _folder is None:
        return 0.0
    now = time.monotonic()
    looked, until = _seen.get(host, (float("-inf"), 0.0))
    if now - looked >= known_for:
        file = _moment(host)
        try:
            until = float(file.read_text()) if file is not None else 0.0
        except (OSError, ValueError):
            until = 0.0
        _seen[host] = now, until
    pause = until - time.time()
    return min(pause, _LONGEST) if pause > 0 else 0.0
