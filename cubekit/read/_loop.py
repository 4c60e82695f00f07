"""One event loop in one background thread for the process, and the threads that decode beside it.

Its own thread, so that reading works the same from a script, from inside a notebook's running loop and in a worker's thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from cubekit.read._http import Client

__all__ = ["Background", "background"]

T = TypeVar("T")
_lock = threading.Lock()
_current: Background | None = None


class Background:
    """The loop, its client, and executors by number of threads."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = Client()
        self._executors: dict[int, ThreadPoolExecutor] = {}
        # Signing and local files wait, they do not compute: they get threads of their own.
        self.waiting = ThreadPoolExecutor(16, thread_name_prefix="cubekit-wait")
        # GDAL waits for the loop, and the loop for the threads above: never the same threads.
        self.gdal = ThreadPoolExecutor(32, thread_name_prefix="cubekit-gdal")
        self._thread = threading.Thread(target=self._run, name="cubekit-read", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def executor(self, threads: int) -> ThreadPoolExecutor:
        """Pool of so many decoding threads."""
        with _lock:
            if threads not in self._executors:
                self._executors[threads] = ThreadPoolExecutor(threads, thread_name_prefix="cubekit-decode")
            return self._executors[threads]

    def run(self, coroutine: Coroutine[Any, Any, T], tick: Callable[[], None] | None = None) -> T:
        """Run a coroutine on the loop and wait for it; `tick` is called in the waiting thread about ten times a second."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("cubekit.read was called from its own event loop")
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            while tick is not None:
                try:
                    return future.result(timeout=0.1)
                except FutureTimeoutError:
                    if future.done():
                        raise
                    tick()
            return future.result()
        except (KeyboardInterrupt, CancelledError):
            future.cancel()
            raise


def background() -> Background:
    """The process's own background loop, started at first use."""
    global _current
    with _lock:
        if _current is None:
            _current = Background()
        return _current


def _forget() -> None:
    """A forked child has the object but not its threads: it starts anew."""
    global _current, _lock
    _lock = threading.Lock()
    _current = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
