"""Run a plan: what is missing, failed or changed, on the executor of choice, until it is done or somebody stops it."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cubekit.batch._claim import Claim
from cubekit.batch._folder import BatchFolder, open_folder
from cubekit.batch._jobs import Job, Plan
from cubekit.batch._local import run_processes, run_serial
from cubekit.batch._outcome import Outcome, Status
from cubekit.batch._process import Limits, Stop
from cubekit.batch._queue import JobQueue
from cubekit.batch._task import Build, Setup, callable_name
from cubekit.errors import InputError

__all__ = ["BatchReport", "Progress", "RunOptions", "reasons", "run"]

_THROTTLED = 3
"""Attempts of a job that a service keeps turning away."""

_PATIENCE = 3
"""Jobs in a row that a service turned away for good, after which nobody asks it any more."""

_LOST = 3
"""Jobs in a row whose cubes or outcomes could not be kept, after which no other is begun."""

_GRACE = 20.0
"""Seconds that running jobs have after SIGTERM, as batch systems send it before they kill."""


_ALONE = 60.0
"""Seconds that the first site of a tile has to ask for what its neighbours share, before others help with that tile."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a batch is run; nothing here changes a cube.

    Parameters
    ----------
    executor
        ``"local"`` (worker processes), ``"dask"`` or ``"serial"`` (in this process, without limits).
    workers
        Worker processes of ``local``, or of the cluster that ``dask`` makes for the run; one per core by default.
    scheduler
        Address of a running dask scheduler.
    threads
        Threads of a worker for decoding; by default the cores divided by the workers of this machine, at least 1.
    timeout
        Wall seconds that one site may take.
    memory
        Bytes that one worker may hold; by default 90 % of the machine's memory divided by its workers, no limit if 0.
    retries
        Further attempts of a job whose worker died.
    engine, cache_dir
        As in `cubekit.layers.Session`; by default the cache is in the batch's folder if that is local.
    only_failed
        Do only what failed before.
    limit
        Do at most so many jobs.
    """

    executor: Literal["local", "dask", "serial"] = "local"
    workers: int | None = None
    scheduler: str = ""
    threads: int | None = None
    timeout: float | None = None
    memory: int | None = None
    retries: int = 1
    engine: str = "window"
    cache_dir: str = ""
    only_failed: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.executor not in ("local", "dask", "serial"):
            raise InputError(f"Executor {self.executor!r} is unknown", remedy="Use local, dask or serial")
        if self.scheduler and self.executor != "dask":
            raise InputError(f"A scheduler ({self.scheduler}) needs executor 'dask', not {self.executor!r}", remedy="Use --executor dask")
        for name, least in (("workers", 1), ("threads", 1), ("timeout", 0.001), ("memory", 0), ("retries", 0), ("limit", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise InputError(f"{name} is {value}", remedy=f"Give {least:g} or more")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Parameters
    ----------
    total, done, built, failed
        Jobs of this run.
    bytes, retries, holes
        Sums over the outcomes so far.
    seconds
        Since the run began.
    held
        Seconds for which a throttling service is left alone.
    last
        Outcome that was settled last; None for a sign of life.
    """

    total: int
    done: int
    built: int
    failed: int
    bytes: int
    retries: int
    holes: int
    seconds: float
    held: float
    last: Outcome | None

    @property
    def rate(self) -> float:
        """Sites per second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float:
        """Seconds to go at this rate; infinite before the first job has ended."""
        return (self.total - self.done) / self.rate if self.rate else float("inf")


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a run did.

    Parameters
    ----------
    planned, skipped
        Jobs of the plan, and those that were done already.
    outcomes
        Of the jobs of this run that were started, in the order in which they ended.
    seconds
        Wall time.
    interrupted
        Whether somebody stopped it.
    gave_up
        Why the run stopped itself, such as a catalogue that turns everybody away; empty if it did not.
    storage_failed
        Whether it stopped itself because nothing could be kept any more.
    """

    planned: int
    skipped: int
    outcomes: tuple[Outcome, ...]
    seconds: float
    interrupted: bool = False
    gave_up: str = ""
    storage_failed: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Jobs of this run by status."""
        return dict(Counter(outcome.status for outcome in self.outcomes).most_common())

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Outcomes without a cube."""
        return tuple(outcome for outcome in self.outcomes if not outcome.built)

    @property
    def exit_code(self) -> int:
        """0 all built; 130 interrupted; the code that all failures share if nothing was built at all (4 nothing found, 5 access denied, 2
        usage, 1 internal); else 3.
        """
        if self.interrupted:
            return 130
        if self.gave_up:
            return 3
        codes = {Status(outcome.status).exit_code for outcome in self.failed}
        if not codes:
            return 0
        return codes.pop() if len(codes) == 1 and len(self.failed) == self.planned else 3


def reasons(jobs: Plan | tuple[Job, ...], folder: BatchFolder, *, only_failed: bool = False) -> dict[str, str]:
    """Why jobs have to be done, by site id: ``"missing"``, ``"failed"``, ``"changed"`` or ``"lost"`` (the cube is gone).

    Sites that are not in it have a cube of the same digest.
    """
    outcomes = folder.outcomes()
    built = [job.id for job in jobs if (known := outcomes.get(job.id)) is not None and known.built and known.digest == job.digest]
    there = folder.cubes(built)
    found: dict[str, str] = {}
    for job in jobs:
        known = outcomes.get(job.id)
        if known is None:
            found[job.id] = "missing"
        elif not known.built:
            found[job.id] = "failed"
        elif known.digest != job.digest:
            found[job.id] = "changed"
        elif job.id not in there:
            found[job.id] = "lost"
    return {name: reason for name, reason in found.items() if reason == "failed" or not only_failed}


def run(
    jobs: Plan,
    options: RunOptions | None = None,
    *,
    build: Build | str = "cubekit.pipeline:build_cube",
    describe: Callable[[str], dict[str, Any]] | str = "cubekit.batch._item:cube_quality",
    sweep: Callable[[str], Any] | str = "cubekit.store:sweep",
    progress: Callable[[Progress], None] | None = None,
    stop: Stop | None = None,
) -> BatchReport:
    """Build the cubes of a plan; one bad site never stops the rest.

    Parameters
    ----------
    jobs
        From `plan`, or a shard of it.
    options
        How to run.
    build
        Builder, as a function that can be imported or its ``module:name``.
    describe
        Function from the path of a cube to its QA values, which go into the registry.
    sweep
        Function that removes what a killed writer of a path left behind.
    progress
        Called after every outcome, and about twice a second in between.
    stop
        To end the run from elsewhere. Without one, Ctrl-C ends it: once to let running sites finish, twice to end them.

    Returns
    -------
    BatchReport
        Outcomes are also kept in ``<root>/outcomes``, one file each; `merge` makes the registry of them.

    Raises
    ------
    InputError
        For a builder that cannot be imported, or a scheduler that does not answer.
    CommitError, AccessDeniedError
        Where the folder of the batch cannot be written, or another run does some of the sites at the moment.
    """
    options = options or RunOptions()
    began = time.monotonic()
    folder = open_folder(jobs.root)
    folder.check()
    with Claim(jobs) as claim:
        why = reasons(jobs, folder, only_failed=options.only_failed)
        todo = [job for job in jobs if job.id in why][: options.limit]
        skipped = len(jobs) - len(why) if not options.only_failed else 0
        if not todo:
            return BatchReport(len(jobs), skipped, (), time.monotonic() - began)
        # Without a shared folder there is nothing that the first site of a tile could leave to the others.
        settler = _Settler(todo, options, progress, _ALONE if _cache(jobs, options) else 0.0)
        with tempfile.TemporaryDirectory(prefix="cubekit-batch-") as waiting, _signals(stop) as stopping:
            setup = _setup(jobs, options, waiting, build, describe, sweep)
            with closing(_execute(settler, setup, options, stopping)) as outcomes:
                for outcome in outcomes:
                    settler.report(outcome)
                    if claim.lost:
                        settler.give_up(claim.lost, storage=True)
                    if settler.gave_up:
                        stopping.gently.set()
                    if stopping.gently.is_set():
                        settler.queue.close()
            ended = sum(outcome.status != Status.STOPPED for outcome in settler.outcomes)
            interrupted = stopping.gently.is_set() and ended < len(todo) and not settler.gave_up
    return BatchReport(
        len(jobs), skipped, tuple(settler.outcomes), time.monotonic() - began, interrupted, settler.gave_up, settler.storage_failed
    )


def _setup(jobs: Plan, options: RunOptions, waiting: str, build: Any, describe: Any, sweep: Any) -> Setup:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = options.threads or (max(1, cores // _workers(options)) if not options.scheduler else None)
    return Setup(
        root=jobs.root,
        recipe=jobs.recipe.canonical(),
        build=callable_name(build),
        describe=callable_name(describe) if describe else "",
        sweep=callable_name(sweep) if sweep else "",
        engine=options.engine,
        cache_dir=_cache(jobs, options),
        threads=threads,
        memory=_stack_memory(options),
        waiting=waiting,
    )


def _cache(jobs: Plan, options: RunOptions) -> str:
    # Workers elsewhere have another current folder.
    if options.cache_dir:
        return str(Path(options.cache_dir).absolute())
    return "" if "://" in jobs.root else f"{jobs.root}/cache"


def _stack_memory(options: RunOptions) -> int:
    """Bytes of pixels that a worker keeps in memory before it uses a file: well below its limit."""
    limit = _limits(options).memory
    return min(2 << 30, limit // 3) if limit else 2 << 30


def _workers(options: RunOptions) -> int:
    if options.executor == "serial":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return options.workers or cores


def _limits(options: RunOptions) -> Limits:
    memory = options.memory
    if memory is None and not options.scheduler:
        import psutil  # comes with distributed

        memory = int(psutil.virtual_memory().total * 0.9 / _workers(options))
    return Limits(options.timeout, memory or None)


def _execute(settler: _Settler, setup: Setup, options: RunOptions, stop: Stop) -> Generator[Outcome | None]:
    queue, workers = settler.queue, _workers(options)
    if options.executor == "serial":
        return run_serial(queue, setup, stop, settler.settle)
    if options.executor == "local":
        return run_processes(queue, setup, _limits(options), stop, settler.settle, min(workers, settler.total))
    from cubekit.batch._dask import run_dask

    return run_dask(queue, setup, _limits(options), stop, settler.settle, scheduler=options.scheduler, workers=workers)


class _Settler:
    """Decides what an outcome means for the rest of the run, and keeps count."""

    def __init__(self, todo: list[Job], options: RunOptions, progress: Callable[[Progress], None] | None, alone: float) -> None:
        self.queue, self.total = JobQueue(todo, alone), len(todo)
        self.outcomes: list[Outcome] = []
        self._jobs = {job.id: job for job in todo}
        self._options, self._progress = options, progress
        self._sums: Counter[str] = Counter()
        self._began = time.monotonic()
        self._turned_away = self._unkept = 0
        self.gave_up, self.storage_failed = "", False

    def settle(self, outcome: Outcome) -> Outcome | None:
        """The outcome, or None where its job is tried again; called from any thread."""
        if outcome.retry_after is not None and not self.gave_up:
            self.queue.hold(outcome.retry_after)
        again = outcome.retry_after is not None and outcome.attempts < _THROTTLED
        again |= outcome.status == Status.KILLED and outcome.attempts <= self._options.retries
        if again:
            self.queue.again(self._jobs[outcome.id], outcome.attempts + 1)
            return None
        self.queue.done(self._jobs[outcome.id])
        self._turned_away = self._turned_away + 1 if outcome.retry_after is not None else 0
        if self._turned_away >= _PATIENCE:
            self.give_up(f"{_PATIENCE} sites in a row were turned away: {outcome.message}")
        self._unkept = self._unkept + 1 if outcome.storage else 0
        if self._unkept >= _LOST:
            self.give_up(f"{_LOST} sites in a row could not be kept: {outcome.storage}", storage=True)
        return replace(outcome, item={})

    def give_up(self, why: str, *, storage: bool = False) -> None:
        """Begin no other job; the first reason stands."""
        if not self.gave_up:
            self.gave_up, self.storage_failed = why, storage
            self.queue.close()

    def report(self, outcome: Outcome | None) -> None:
        """Count a settled outcome (None: a sign of life) and tell the caller."""
        if outcome is not None:
            self.outcomes.append(outcome)
            self._sums.update(built=int(outcome.built), bytes=outcome.bytes, retries=outcome.retries, holes=outcome.holes)
        if self._progress is None:
            return
        done, sums = len(self.outcomes), self._sums
        self._progress(
            Progress(
                total=self.total,
                done=done,
                built=sums["built"],
                failed=done - sums["built"],
                bytes=sums["bytes"],
                retries=sums["retries"],
                holes=sums["holes"],
                seconds=time.monotonic() - self._began,
                held=self.queue.held,
                last=outcome,
            )
        )


@contextmanager
def _signals(stop: Stop | None) -> Iterator[Stop]:
    """Ctrl-C once: start nothing new; twice: end what runs. SIGTERM: once, and twice after a while."""
    stopping = stop or Stop()
    if stop is not None or threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def interrupted(number: int, frame: Any) -> None:
        if stopping.gently.is_set():
            stopping.now.set()
        stopping.gently.set()

    def terminated(number: int, frame: Any) -> None:
        stopping.gently.set()
        timer = threading.Timer(_GRACE, stopping.now.set)
        timer.daemon = True
        timer.start()

    before = {signal.SIGINT: signal.signal(signal.SIGINT, interrupted), signal.SIGTERM: signal.signal(signal.SIGTERM, terminated)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
