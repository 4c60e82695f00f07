"""One event loop in one background thread for the process, and the threads that decode beside it.

Its own thread, so that reading works the same from a script, from inside a notebook's running loop and in a worker's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from queue import SimpleQueue
from typing import Any, TypeVar

from cubekit.read._http import Client

__all__ = ["Background", "Decoders", "background"]

T = TypeVar("T")
_lock = threading.Lock()
_current: Background | None = None


class _Selector(selectors.DefaultSelector):
    """Knows whether the loop sleeps: only then does a thread that has something for it need to wake it, which costs two system calls."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeping = False
        self.busy: list[Callable[[], bool]] = []
        """Asked before and after each sleep: take what came in meanwhile, and tell whether there was anything."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.sleeping = True  # before the question: what comes after it wakes the loop
        try:
            for take in self.busy:
                if take():
                    timeout = 0
            found = super().select(timeout)
        finally:
            self.sleeping = False
        for take in self.busy:
            take()
        return found


class Decoders:
    """Threads that decode for one loop; answers are handed over together, and the loop is woken only where it sleeps."""

    def __init__(self, loop: asyncio.AbstractEventLoop, selector: _Selector, threads: int) -> None:
        self._loop = loop
        self._selector = selector
        self._jobs: SimpleQueue[tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._running: set[asyncio.Future[Any]] = set()
        selector.busy.append(self._deliver)
        for number in range(threads):
            threading.Thread(target=self._work, name=f"cubekit-decode-{number}", daemon=True).start()

    def run(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Have `work` called in a thread; to be called, and awaited, on the loop."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((future, work, arguments))
        return future

    async def settled(self, future: asyncio.Future[Any]) -> None:
        """Wait, whoever cancels, until a thread that had begun what `future`, now cancelled, stands for is done with it."""
        while future in self._running:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)

    def _work(self) -> None:
        while True:
            future, work, arguments = self._jobs.get()
            self._running.add(future)  # before the question: who cancels asks in the other order
            if future.cancelled():
                self._running.discard(future)
                continue
            result, problem = None, None
            try:
                result = work(*arguments)
            except BaseException as error:  # noqa: BLE001  raised where the answer is awaited
                problem = error
            self._running.discard(future)
            self._done.append((future, result, problem))
            del future, work, arguments, result, problem
            if self._selector.sleeping:
                self._selector.sleeping = False
                self._loop.call_soon_threadsafe(_nothing)

    def _deliver(self) -> bool:
        any_came = bool(self._done)
        while self._done:
            future, result, problem = self._done.popleft()
            if future.cancelled():
                continue
            if problem is not None:
                future.set_exception(problem)
            else:
                future.set_result(result)
        return any_came


def _nothing() -> None:
    """What a loop is given to do that only has to wake."""


class Background:
    """The loop, its client, and decoding threads by their number."""

    def __init__(self) -> None:
        self._selector = _Selector()
        self.loop = asyncio.SelectorEventLoop(self._selector)
        self.client = Client()
        self._decoders: dict[int, Decoders] = {}
        # Signing and local files wait, they do not compute: they get threads of their own.
        self.waiting = ThreadPoolExecutor(16, thread_name_prefix="cubekit-wait")
        # GDAL waits for the loop, and the loop for the threads above: never the same threads.
        self.gdal = ThreadPoolExecutor(32, thread_name_prefix="cubekit-gdal")
        self._thread = threading.Thread(target=self._run, name="cubekit-read", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def decoders(self, threads: int) -> Decoders:
        """So many decoding threads."""
        with _lock:
            if threads not in self._decoders:
                self._decoders[threads] = Decoders(self.loop, self._selector, threads)
            return self._decoders[threads]

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
