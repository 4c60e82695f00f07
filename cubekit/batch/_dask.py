"""Executor on dask.distributed: a running scheduler, or a cluster made for the run. Only coarse tasks: one job each."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Generator
from dataclasses import asdict, replace
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any

from cubekit.batch._folder import BatchFolder
from cubekit.batch._jobs import Job
from cubekit.batch._local import TICK, Settle
from cubekit.batch._outcome import Outcome, Status, base
from cubekit.batch._process import Limits, Stop, WorkerProcess
from cubekit.batch._queue import JobQueue
from cubekit.batch._task import Setup
from cubekit.errors import CubekitError, InputError

__all__ = ["run_dask", "run_in_child"]

CONNECT = 20.0
"""Seconds that a scheduler has to answer."""

PATIENCE = 60.0
"""Seconds for which workers may be on their way to a scheduler that has none."""

_KEEP = {"distributed.deploy.lost-worker-timeout": "1000 weeks"}
"""A cluster looks some time after a death whether that worker is back, and gives it up even if it just died once more."""

_CHILDREN: dict[tuple[str, int], WorkerProcess] = {}
_LOCK = threading.Lock()


def run_in_child(token: str, setting: dict[str, Any], timeout: float | None, memory: int | None, job: Job, attempt: int) -> Outcome:
    """Do a job in a child of the dask worker, so that a crash or a limit ends the child and not the worker.

    Parameters
    ----------
    token
        Of the run; each run has one child per thread of the worker.
    setting, timeout, memory
        Of `Setup` and `Limits`, as plain values.
    job, attempt
        What to do, and how often it was tried, with this one.
    """
    with _LOCK:
        child = _CHILDREN.setdefault((token, threading.get_ident()), WorkerProcess(Setup(**setting), Limits(timeout, memory)))
    return child.run(job, attempt)


def close_children(token: str) -> None:
    """End the children that this dask worker has for a run."""
    with _LOCK:
        for key in [known for known in _CHILDREN if known[0] == token]:
            _CHILDREN.pop(key).close(kill=True)


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
        if not re.search(r"[^/]:\d+$", scheduler):  # dask takes 40 s to give such an address up
            raise InputError(f"{scheduler!r} is no address of a dask scheduler", remedy="Write it as tcp://10.0.0.1:8786")
        try:
            client = dask.Client(scheduler, timeout=CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"No dask scheduler answers at {scheduler}: {error}", remedy="Check the address, or leave it out") from None
        with client:
            yield from _Feed(client, queue, setup, limits, stop, settle).run()
        return
    with (
        import_module("dask").config.set(_KEEP),
        dask.LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0) as cluster,
        dask.Client(cluster, set_as_default=False) as client,
    ):
        yield from _Feed(client, queue, setup, limits, stop, settle).run()


class _Feed:
    """Keeps every thread of every worker busy with one job, and no more: a worker that dies takes no waiting job with it."""

    def __init__(self, client: Any, queue: JobQueue, setup: Setup, limits: Limits, stop: Stop, settle: Settle) -> None:
        self._client, self._queue, self._stop, self._settle = client, queue, stop, settle
        self._token = uuid.uuid4().hex
        self._fixed = (self._token, asdict(setup), limits.timeout, limits.memory)
        self._under_way: dict[Any, tuple[str, Job, int]] = {}
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._folder: BatchFolder | None = BatchFolder(setup.root, hasty=True)

    def run(self) -> Generator[Outcome | None]:
        """Feed until nothing is left, or somebody stops it."""
        _check_version(self._client)
        try:
            while not self._stop.now.is_set():
                if not self._stop.gently.is_set():
                    self.submit()
                if not self._under_way and (self._stop.gently.is_set() or len(self._queue) == 0):
                    return
                outcome = self._next()
                yield outcome
                if outcome is None:
                    yield from self._lost()
        finally:
            self._client.cancel(list(self._under_way), force=True)
            self._client.run(close_children, self._token, on_error="ignore")

    def submit(self) -> None:
        """Give every free thread a job."""
        busy = [address for address, _, _ in self._under_way.values()]
        for address, info in self._client.scheduler_info(n_workers=-1)["workers"].items():
            for _ in range(int(info["nthreads"]) - busy.count(address)):
                taken = self._queue.poll(address)
                if taken is None:
                    break
                job, attempt = taken
                key = f"cubekit-{self._token[:8]}-{job.digest[:16]}-{attempt}"
                # Elsewhere only through `_lost`: dask forgets tasks that prefer a worker which was the last to die.
                where = {"workers": [address], "allow_other_workers": False}
                future = self._client.submit(run_in_child, *self._fixed, job, attempt, key=key, pure=False, **where)
                self._under_way[future] = (address, job, attempt)
                future.add_done_callback(self._ended.put)

    def _next(self) -> Outcome | None:
        try:
            future = self._ended.get(timeout=TICK)
        except Empty:
            return None
        if future not in self._under_way:  # given up for lost
            return None
        _, job, attempt = self._under_way.pop(future)
        return self._settled(_outcome(future, job, attempt))

    def _settled(self, outcome: Outcome) -> Outcome | None:
        """Settle an outcome, and keep it where its worker could not: it is gone, or may not write there."""
        settled = self._settle(outcome)
        if settled is not None and (settled.storage or settled.status == Status.KILLED) and self._folder is not None:
            try:
                return self._folder.write_outcome(settled)
            except (CubekitError, OSError):
                self._folder = None  # not for us either: asked once, not once per site
        return settled

    def _lost(self) -> Generator[Outcome | None]:
        """Settle the jobs of workers that are gone."""
        addresses = self._client.scheduler_info(n_workers=-1)["workers"]
        for future, (address, job, attempt) in list(self._under_way.items()):
            if address not in addresses and not future.done():
                del self._under_way[future]
                self._client.cancel([future], force=True)
                yield self._settled(_killed(job, attempt, f"the dask worker {address} is gone"))


def _check_version(client: Any) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise InputError(
            f"The dask scheduler has had no workers for {PATIENCE:g} s", remedy="Start some: dask worker tcp://10.0.0.1:8786"
        ) from None
    try:
        versions = set(client.run(_version).values())
    except (ImportError, AttributeError) as error:
        raise InputError(f"cubekit is not installed on the dask workers: {error}", remedy="Install it there") from None
    if versions != {_version()}:
        raise InputError(
            f"dask workers have cubekit {sorted(versions)}, this is {_version()}", remedy="Install the same version everywhere"
        )


def _outcome(future: Any, job: Job, attempt: int) -> Outcome:
    if future.status == "finished":
        outcome: Outcome = future.result()
        return outcome
    error = future.exception() if future.status == "error" else None
    return replace(_killed(job, attempt, f"dask lost the job: {str(error)[:300]}"), error=type(error).__name__)


def _killed(job: Job, attempt: int, message: str) -> Outcome:
    lost = Outcome(**base(job), status=Status.KILLED, error="killed", message=message, attempts=attempt)
    return replace(lost, remedy="Look into the logs of the dask workers")
