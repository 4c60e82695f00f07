"""Progress on stderr: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cubekit.layers import Progress

__all__ = ["progress"]

_EVERY = 5.0
"""Seconds between plain lines of one stage."""


@contextmanager
def progress(quiet: bool = False) -> Iterator[Progress]:
    """Yield a callback for (stage, done, total)."""
    if quiet:
        yield lambda stage, done, total: None
    elif sys.stderr.isatty():
        yield from _bars()
    else:
        yield _lines()


def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, Any] = {}
    with Bars(*columns, console=Console(stderr=True), transient=False) as bars:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def _lines() -> Progress:
    last: dict[str, float] = {}

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if (done == total and total and last.get(stage) != -1.0) or now - last.get(stage, -_EVERY) >= _EVERY > 0 <= last.get(stage, 0.0):
            last[stage] = -1.0 if done == total else now
            sys.stderr.write(f"{stage}: {done}/{total}\n")
            sys.stderr.flush()

    return report
