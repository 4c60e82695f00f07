"""What a run says it does, in the folder of the batch, so that no other run does the same at the same time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from types import TracebackType
from typing import Any

from cubekit.batch._folder import BatchFolder
from cubekit.batch._jobs import Plan
from cubekit.batch._task import now
from cubekit.errors import CommitError, CubekitError

__all__ = ["Claim"]

BEAT = 5.0
"""Seconds between signs of life."""

SILENCE = 30.0
"""Seconds without one, watched by ourselves, after which a run is believed dead; the clocks of machines need not agree."""

_LOOK = 1.0
"""Seconds between looks at what may change."""


class Claim:
    """The sites of a run, claimed from its begin to its end; a context.

    ``runs/TOKEN.json`` names host, process, begin and sites; ``runs/TOKEN.beat`` holds a count that moves while the run is alive, and
    whether it is still asking. A run writes both first and looks for others then, so of two that begin at the same time at least one
    sees the other: the one with the greater token gives way, the other waits until it has.
    A run whose process is gone from this machine is dead; another is if its count stands still for `SILENCE` seconds.

    Parameters
    ----------
    jobs
        The plan, or the shard of it, whose sites are claimed.
    """

    def __init__(self, jobs: Plan) -> None:
        self._folder, self._ids, self._root = BatchFolder(jobs.root, hasty=True), [job.id for job in jobs], jobs.root
        self._token, self._state = uuid.uuid4().hex, "asking"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="cubekit-claim", daemon=True)
        self.lost = ""
        """Why the claim is none any more: empty while it is one."""

    def __enter__(self) -> Claim:
        record = {"host": socket.gethostname(), "pid": os.getpid(), "since": now(), "sites": self._ids}
        try:
            self._folder.put(_sign(self._token), self._state.encode())
            self._folder.put(_record(self._token), json.dumps(record).encode())
            self._thread.start()
            mine = set(self._ids)
            for name in self._folder.names("runs"):
                token = name.removesuffix(".json")
                if name.endswith(".json") and token != self._token:
                    self._exclude(token, mine)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self._state = "running"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._remove(self._token)

    def _exclude(self, token: str, mine: set[str]) -> None:
        """Raise `CommitError` where another run has one of our sites and is alive."""
        try:
            other: dict[str, Any] = json.loads(self._folder.get(_record(token)) or b"")
            common = len(mine.intersection(other["sites"]))
            who = f"process {other['pid']} on {other['host']} since {other['since']}"
        except (ValueError, KeyError, TypeError):  # it ended meanwhile
            return
        if not common:
            return
        if self._alive(token, other):
            raise CommitError(
                f"{common} of these {len(mine)} sites are being done in {self._root} by another run: {who}",
                remedy="Wait for it, stop it, or give another --shard",
                target=self._root,
            )
        self._remove(token)

    def _alive(self, token: str, other: dict[str, Any]) -> bool:
        if other["host"] == socket.gethostname() and not _exists(int(other["pid"])):
            return False
        first = last = self._folder.get(_sign(token))
        moved = time.monotonic()
        while last is not None and time.monotonic() - moved < SILENCE:
            # One that asks too, with a greater token, sees us and gives way, or has not seen us and is running soon.
            if last != first and (token < self._token or not last.startswith(b"asking")):
                return True
            time.sleep(_LOOK / 2)
            if (sign := self._folder.get(_sign(token))) != last:
                last, moved = sign, time.monotonic()
        return False

    def _beat(self) -> None:
        count, last = 0, float("-inf")
        while not self._stop.is_set():
            due = time.monotonic() - last >= BEAT
            with contextlib.suppress(CubekitError, OSError):
                # In an object store a look is a request.
                if (due or "://" not in self._root) and not self._folder.exists(_record(self._token)):
                    self.lost = (
                        f"{self._root}/{_record(self._token)} is gone: the folder was removed, or another run took this one for dead"
                    )
                if due:
                    last, count = time.monotonic(), count + 1
                    self._folder.beat(_sign(self._token), f"{self._state} {count}".encode())
            self._stop.wait(_LOOK)

    def _remove(self, token: str) -> None:
        for key in (_record(token), _sign(token)):
            with contextlib.suppress(CubekitError, OSError):
                self._folder.delete(key)


def _record(token: str) -> str:
    return f"runs/{token}.json"


def _sign(token: str) -> str:
    return f"runs/{token}.beat"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0
