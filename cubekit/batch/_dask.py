"""Executor on dask.distributed: a running scheduler, or a cluster made for the run. Only coarse tasks: one job each."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any

from cubekit.batch._jobs import Job
from cubekit.batch._local import TICK, Settle
from cubekit.batch._outcome import Outcome, Status, base
from cubekit.batch._process import Limits, Stop, WorkerProcess
from cubekit.batch._queue import JobQueue
from cubekit.batch._task import Setup
from cubekit.errors import InputError

__all__ = ["run_dask", "run_in_child"]

_CHILDREN: dict[tuple[int, Setup, Limits], WorkerProcess] = {}
_LOCK = threading.Lock()


def run_in_child(setting: dict[str, Any], timeout: float | None, memory: int | None, job: Job, attempt: int) -> Outcome:
    """Do a job in a child of the dask worker, one child per thread, so that a crash or a limit ends the child and not the worker."""
    setup, limits = Setup(**setting), Limits(timeout, memory)
    key = (threading.get_ident(), setup, limits)
    with _LOCK:
        for other in [known for known in _CHILDREN if known[0] == key[0] and known != key]:
            _CHILDREN.pop(other).close()
        child = _CHILDREN.setdefault(key, WorkerProcess(setup, limits))
    return child.run(job, attempt)


def close_children() -> None:
    """End the children of this dask worker."""
    with _LOCK:
        while _CHILDREN:
            _CHILDREN.popitem()[1].close(kill=True)


def _version() -> str:
    from cubekit import __version__

    return __version__


def run_dask(
    queue: JobQueue, setup: Setup, limits: Limits, stop: Stop, settle: Settle, *, scheduler: str = "", workers: int = 1
) -> Generator[Outcome | None]:
    """Jobs on dask workers; yields outcomes as they come, and None now and then.

    Parameters
    ----------
    scheduler
        Address such as ``tcp://10.0.0.1:8786``; without one a cluster of `workers` processes is made for the run.
    """
    dask: Any = import_module("distributed")

    if scheduler:
        try:
            client = dask.Client(scheduler, timeout="20s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"No dask scheduler answers at {scheduler}: {error}", remedy="Check the address, or leave it out") from None
        with client:
            yield from _feed(client, queue, setup, limits, stop, settle)
        return
    with (
        dask.LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0) as cluster,
        dask.Client(cluster, set_as_default=False) as client,
    ):
        yield from _feed(client, queue, setup, limits, stop, settle)


def _feed(client: Any, queue: JobQueue, setup: Setup, limits: Limits, stop: Stop, settle: Settle) -> Iterator[Outcome | None]:
    """Keep every thread of every worker busy with one job, and no more: a worker that dies takes no waiting job with it."""
    _same_version(client)
    under_way: dict[Any, tuple[str, Job, int]] = {}
    try:
        while True:
            if not stop.gently.is_set():
                _submit(client, queue, setup, limits, under_way)
            if not under_way and (stop.gently.is_set() or len(queue) == 0):
                return
            if stop.now.is_set():
                return
            yield from _settled(under_way, settle)
    finally:
        client.cancel(list(under_way), force=True)
        if stop.now.is_set():
            client.run(close_children)


def _same_version(client: Any) -> None:
    client.wait_for_workers(1, timeout=60)
    try:
        versions = set(client.run(_version).values())
    except (ImportError, AttributeError) as error:
        raise InputError(f"cubekit is not installed on the dask workers: {error}", remedy="Install it there") from None
    if versions != {_version()}:
        raise InputError(
            f"dask workers have cubekit {sorted(versions)}, this is {_version()}", remedy="Install the same version everywhere"
        )


def _submit(client: Any, queue: JobQueue, setup: Setup, limits: Limits, under_way: dict[Any, tuple[str, Job, int]]) -> None:
    busy = [address for address, _, _ in under_way.values()]
    for address, info in client.scheduler_info(n_workers=-1)["workers"].items():
        for _ in range(int(info["nthreads"]) - busy.count(address)):
            taken = queue.poll(address)
            if taken is None:
                return
            job, attempt = taken
            future = client.submit(
                run_in_child,
                asdict(setup),
                limits.timeout,
                limits.memory,
                job,
                attempt,
                key=f"cubekit-{job.digest[:16]}-{attempt}",
                workers=[address],
                allow_other_workers=True,
                pure=False,
            )
            under_way[future] = (address, job, attempt)


def _settled(under_way: dict[Any, tuple[str, Job, int]], settle: Settle) -> Iterator[Outcome | None]:
    wait: Any = import_module("distributed").wait

    if not under_way:
        threading.Event().wait(TICK)
        yield None
        return
    try:
        done = wait(list(under_way), timeout=TICK, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        yield None
        return
    for future in done:
        _, job, attempt = under_way.pop(future)
        yield settle(_outcome(future, job, attempt))


def _outcome(future: Any, job: Job, attempt: int) -> Outcome:
    if future.status == "finished":
        outcome: Outcome = future.result()
        return outcome
    error = future.exception() if future.status == "error" else None
    lost = Outcome(**base(job), status=Status.KILLED, error=type(error).__name__, message=f"dask lost the job: {str(error)[:300]}")
    return replace(lost, attempts=attempt, remedy="Look into the logs of the dask workers")
