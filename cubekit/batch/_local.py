"""Executors on this machine: in this process, or on worker processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from queue import Empty, SimpleQueue

from cubekit.batch._outcome import Outcome
from cubekit.batch._process import Limits, Stop, WorkerProcess
from cubekit.batch._queue import JobQueue
from cubekit.batch._task import Setup, Task

__all__ = ["TICK", "run_processes", "run_serial"]

TICK = 0.5
"""Seconds between signs of life while no job ends."""

Settle = Callable[[Outcome], Outcome | None]
"""Takes an outcome; returns it if it stands, None if the job is tried again."""


def run_serial(queue: JobQueue, setup: Setup, stop: Stop, settle: Settle) -> Generator[Outcome | None]:
    """One job after the other in this process, without limits: for debugging, and as the reference for the others."""
    task = Task(setup)
    while not stop.gently.is_set() and (taken := queue.take("serial")) is not None:
        yield settle(task.run(*taken))


def run_processes(queue: JobQueue, setup: Setup, limits: Limits, stop: Stop, settle: Settle, workers: int) -> Generator[Outcome | None]:
    """Jobs on `workers` processes, each with a thread here that hands it jobs; yields outcomes as they come, and None now and then."""
    ended: SimpleQueue[Outcome | BaseException | None] = SimpleQueue()

    def serve(number: int) -> None:
        worker = WorkerProcess(setup, limits)
        try:
            worker.start()
            while not stop.gently.is_set() and (taken := queue.take(number)) is not None:
                ended.put(settle(worker.run(*taken, stop=stop)))
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits
            ended.put(error)
        finally:
            worker.close(kill=stop.now.is_set())

    threads = [threading.Thread(target=serve, args=(number,), name=f"cubekit-batch-{number}") for number in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield from _collect(ended, threads)
    except BaseException:
        # Whoever consumes the outcomes gave up; nobody waits for what runs.
        stop.gently.set()
        stop.now.set()
        raise
    finally:
        queue.close()
        for thread in threads:
            thread.join()


def _collect(ended: SimpleQueue[Outcome | BaseException | None], threads: list[threading.Thread]) -> Iterator[Outcome | None]:
    while True:
        alive = any(thread.is_alive() for thread in threads)
        try:
            outcome = ended.get(timeout=TICK if alive else 0.001)
        except Empty:
            if not alive:
                return
            yield None
            continue
        if isinstance(outcome, BaseException):
            raise outcome
        yield outcome
