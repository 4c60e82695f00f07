"""Which worker does what next: tiles stay together, late workers help, and a throttling service is left alone by all."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Hashable, Iterable
from itertools import groupby

from cubekit.batch._jobs import Job

__all__ = ["JobQueue"]

_LOOK = 1.0
"""Seconds after which a worker that waits looks again, whether or not anything was said."""


class JobQueue:
    """Jobs by tile, handed out so that a worker stays with its tile; safe for threads.

    Parameters
    ----------
    jobs
        In the order of the plan.
    alone
        Seconds for which nobody helps with a tile whose first job has not ended: what it asks for, the others find in the cache.
    """

    def __init__(self, jobs: Iterable[Job], alone: float = 0.0) -> None:
        self._lock = threading.Condition()
        self._waiting: deque[deque[tuple[Job, int]]] = deque(
            deque((job, 1) for job in group) for _, group in groupby(jobs, key=lambda job: job.tile)
        )
        self._owned: dict[Hashable, deque[tuple[Job, int]]] = {}
        self._alone = alone
        self._begun: dict[str, float] = {}
        self._explored: set[str] = set()
        self._not_before = 0.0
        self._out = 0
        self._closed = False

    def take(self, worker: Hashable) -> tuple[Job, int] | None:
        """The next job of a worker and the number of its attempt; waits while a service wants to be left alone.

        Returns None when nothing is left, and nothing that is under way can come back, or the queue was closed.
        """
        with self._lock:
            while not self._closed:
                pause = self._not_before - time.monotonic()
                if pause <= 0 and (found := self._next(worker)) is not None:
                    self._out += 1
                    return found
                if self._out == 0 and not self._left():
                    return None
                self._lock.wait(max(pause, 0.01) if pause > 0 else _LOOK)
            return None

    def poll(self, worker: Hashable) -> tuple[Job, int] | None:
        """Like `take`, but returns None at once instead of waiting."""
        with self._lock:
            if self._closed or time.monotonic() < self._not_before or (found := self._next(worker)) is None:
                return None
            self._out += 1
            return found

    def _next(self, worker: Hashable) -> tuple[Job, int] | None:
        own = self._owned.get(worker)
        if not own:
            own = self._owned[worker] = self._another(worker)
        if not own:
            return None
        job, attempt = own.popleft()
        self._begun.setdefault(job.tile, time.monotonic())
        return job, attempt

    def _another(self, worker: Hashable) -> deque[tuple[Job, int]]:
        """A tile that nobody has begun, else the second half of the longest that is under way."""
        if self._waiting:
            return self._waiting.popleft()
        others = [queue for owner, queue in self._owned.items() if owner != worker and queue and not self._alone_on(queue[0][0].tile)]
        if not others:
            return deque()
        longest = max(others, key=len)
        share = (len(longest) + 1) // 2
        stolen = [longest.pop() for _ in range(share)]
        return deque(reversed(stolen))

    def _alone_on(self, tile: str) -> bool:
        return tile not in self._explored and time.monotonic() - self._begun.get(tile, 0.0) < self._alone

    def _left(self) -> bool:
        return bool(self._waiting) or any(self._owned.values())

    def done(self, job: Job) -> None:
        """Say that a job that was taken has ended and does not come back."""
        with self._lock:
            self._out -= 1
            self._explored.add(job.tile)
            self._lock.notify_all()

    def again(self, job: Job, attempt: int) -> None:
        """Give a job that was taken back, to be tried again after all others."""
        with self._lock:
            self._out -= 1
            self._explored.add(job.tile)
            self._waiting.append(deque([(job, attempt)]))
            self._lock.notify_all()

    def hold(self, seconds: float) -> None:
        """Hand out nothing for so long: a service that all workers use asked for it."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)
            self._lock.notify_all()

    @property
    def held(self) -> float:
        """Seconds for which nothing is handed out; 0 if nothing keeps it."""
        return max(0.0, self._not_before - time.monotonic())

    def close(self) -> list[Job]:
        """Hand out nothing more; returns what was left."""
        with self._lock:
            self._closed = True
            left = [job for queue in (*self._owned.values(), *self._waiting) for job, _ in queue]
            self._lock.notify_all()
            return left

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._waiting)) + sum(map(len, self._owned.values()))
