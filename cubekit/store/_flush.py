"""Bringing files to the disk while others are still being made."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from queue import SimpleQueue

__all__ = ["Flusher", "flush_one"]

_HANDS = 4
_PATIENCE = 0.05
"""Seconds that one thread has for what is left in the end; a disk that is slower gets all hands."""


class Flusher:
    """Flushes files and folders in the order in which they are given: in one thread, since more of them only get in each other's way,
    and in more at the end where the disk is slow to answer.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._pool = ThreadPoolExecutor(_HANDS, thread_name_prefix="cubekit-flush")
        self._hands = [self._pool.submit(self._serve)]
        self._stopped = False

    def add(self, path: str) -> None:
        """Flush a file or folder soon; safe for threads."""
        self._queue.put(path)

    def finish(self, paths: Iterable[str]) -> None:
        """Flush these too, and wait until all is on the disk; raises the first OSError there was."""
        for path in paths:
            self._queue.put(path)
        self._queue.put(None)
        if wait(self._hands, _PATIENCE).not_done:
            self._hands += [self._pool.submit(self._serve) for _ in range(1, _HANDS)]
        for hand in self._hands:
            hand.result()

    def stop(self) -> None:
        """Forget what is left, and let the threads end."""
        self._stopped = True
        self._queue.put(None)
        self._pool.shutdown()

    def _serve(self) -> None:
        while (path := self._queue.get()) is not None and not self._stopped:
            flush_one(path)
        # For the other hands.
        self._queue.put(None)


def flush_one(path: str | os.PathLike[str]) -> None:
    """Wait until a file or folder is on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
