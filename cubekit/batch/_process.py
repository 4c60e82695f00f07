"""A worker process with limits: what happens in it, a crash, a hang or a hunger for memory, costs one job and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe
from typing import Any

from cubekit.batch._folder import open_folder
from cubekit.batch._jobs import Job
from cubekit.batch._outcome import Outcome, Status, base, storage_failure
from cubekit.batch._task import Setup, now, resolve
from cubekit.errors import CubekitError
from cubekit.redact import redact

__all__ = ["Limits", "Stop", "WorkerProcess"]

_POLL = 0.1
_START = 120.0
_TAIL = 64_000
_LINES = 8
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "GDAL_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may use.

    Parameters
    ----------
    timeout
        Wall seconds; no limit without one.
    memory
        Resident bytes of the worker process and its children; no limit without one.
    """

    timeout: float | None = None
    memory: int | None = None


@dataclass(slots=True)
class Stop:
    """How a run is asked to end: `gently` starts nothing new, `now` ends what runs."""

    gently: threading.Event = field(default_factory=threading.Event)
    now: threading.Event = field(default_factory=threading.Event)


class WorkerProcess:
    """A process that does jobs one after the other and is started anew when it died.

    Parameters
    ----------
    setup
        Sent to the process once.
    limits
        Of each job.
    """

    def __init__(self, setup: Setup, limits: Limits) -> None:
        self._setup, self._limits = setup, limits
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._output: Any = None

    def run(self, job: Job, attempt: int = 1, stop: Stop | None = None) -> Outcome:
        """Do a job, whatever happens to the process; the outcome is kept in the folder of the batch."""
        began, started = time.monotonic(), now()
        try:
            self._start()
            # Starting a process is not the site's fault.
            began = time.monotonic()
            assert self._pipe is not None
            self._pipe.send((job, attempt))
            status, message = self._wait(began, stop or Stop())
            if not status:
                answer: Outcome = self._pipe.recv()
                return answer
        except (EOFError, OSError):
            status, message = Status.KILLED, ""
        said = self._end(kill=True)
        words = self._last_words()
        self.close(kill=True)
        outcome = Outcome(
            **base(job),
            status=status,
            error=str(status),
            message=message or said,
            remedy=_REMEDY.get(Status(status), ""),
            trace=words,
            attempts=attempt,
            seconds=round(time.monotonic() - began, 3),
            started=started,
            finished=now(),
            worker=f"{os.uname().nodename}:{os.getpid()}",
        )
        return self._record(job, outcome)

    def start(self) -> None:
        """Start the process before there is a job for it; one that dies of it is started anew for its first job."""
        with contextlib.suppress(EOFError, OSError):
            self._start()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self.close(kill=True)
        ours, theirs = Pipe()
        # Kept without a name, so that nothing stays behind; holds the last words of a process that crashed.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        if self._setup.threads:
            environment |= dict.fromkeys(_THREAD_VARIABLES, str(self._setup.threads))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cubekit.batch._worker", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=self._output,
                pass_fds=(theirs.fileno(),),
                env=environment,
                process_group=0,
            )
        finally:
            theirs.close()
        self._pipe = ours
        self._pipe.send(self._setup)
        if not self._pipe.poll(_START):
            raise EOFError
        problem = self._pipe.recv()
        if problem is not None:
            raise problem

    def _wait(self, began: float, stop: Stop) -> tuple[str, str]:
        """Wait for the answer; why the job has to be ended instead, if so."""
        assert self._pipe is not None
        while not self._pipe.poll(_POLL):
            if stop.now.is_set():
                return Status.STOPPED, "the batch was interrupted"
            taken = time.monotonic() - began
            if self._limits.timeout is not None and taken > self._limits.timeout:
                return Status.TIMEOUT, f"ended after {taken:.1f} s, more than the limit of {self._limits.timeout:g} s"
            if self._limits.memory is not None and (used := self._memory()) > self._limits.memory:
                return Status.MEMORY, f"ended at {used / 1e9:.2f} GB, more than the limit of {self._limits.memory / 1e9:.2f} GB"
        return "", ""

    def _memory(self) -> int:
        import psutil  # comes with distributed

        assert self._process is not None
        try:
            process = psutil.Process(self._process.pid)
            return int(process.memory_info().rss) + sum(int(child.memory_info().rss) for child in process.children(recursive=True))
        except psutil.Error:
            return 0

    def _record(self, job: Job, outcome: Outcome) -> Outcome:
        """Clear away what the dead writer left, and keep the outcome for it."""
        if self._setup.sweep:
            with contextlib.suppress(CubekitError, OSError):
                resolve(self._setup.sweep)(job.out)
        try:
            return open_folder(self._setup.root).write_outcome(outcome)
        except (CubekitError, OSError) as error:
            return replace(outcome, storage=storage_failure(error))

    def _last_words(self) -> tuple[str, ...]:
        if self._output is None:
            return ()
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _TAIL))
        return last_words(redact(self._output.read().decode("utf-8", "replace")))

    def close(self, *, kill: bool = False) -> None:
        """End the process: at once, or when it has put its things away."""
        self._end(kill=kill)
        if self._output is not None:
            self._output.close()
            self._output = None

    def _end(self, *, kill: bool) -> str:
        """End the process; says how it ended. Its last words stay."""
        process, self._process = self._process, None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if process is None:
            return ""
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        if not kill:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        ended = process.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        code = ended if ended is not None else code
        return f"the worker process died of {signal.Signals(-code).name}" if code < 0 else f"the worker process ended with code {code}"


_REMEDY = {
    Status.TIMEOUT: "Raise --timeout, or look whether the catalogue is slow",
    Status.MEMORY: "Raise --memory, use fewer workers, or make the cube smaller",
    Status.KILLED: "The other sites go on; if it happens again here, report it with the trace",
    Status.STOPPED: "Run the batch again",
}


def last_words(text: str) -> tuple[str, ...]:
    """The lines of a dead process's output that say most: of a crash its innermost frames, else the end."""
    # faulthandler ends with the names of all extension modules, kilobytes of them.
    lines = [line.strip()[:200] for line in text.splitlines() if line.strip() and not line.startswith("Extension modules:")]
    fatal = max((i for i, line in enumerate(lines) if line.startswith("Fatal Python error:")), default=None)
    if fatal is None:
        return tuple(lines[-_LINES:])
    current = next((i for i, line in enumerate(lines[fatal:], fatal) if line.startswith("Current thread")), fatal)
    return (lines[fatal], *lines[current + 1 : current + _LINES])


def stopped(job: Job) -> Outcome:
    """The outcome of a job that was never started."""
    return replace(Outcome(**base(job), status=Status.STOPPED), message="the batch was interrupted")
