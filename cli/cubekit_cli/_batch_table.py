"""A batch while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cubekit_cli._words import bytes_

if TYPE_CHECKING:
    from cubekit.batch import Progress

__all__ = ["batch_progress", "span"]

_EVERY = 10.0
"""Seconds between plain lines."""


def span(seconds: float) -> str:
    """A time for people.

    >>> span(3725)
    '1 h 02 min'
    """
    if not math.isfinite(seconds):
        return "?"
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


@contextmanager
def batch_progress(quiet: bool = False) -> Iterator[Callable[[Progress], None]]:
    """Yield what `cubekit.batch.run` wants as `progress`."""
    if quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        yield from _table()
    else:
        yield _lines()


def _table() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.live import Live

    failures: list[str] = []
    with Live(console=Console(stderr=True), refresh_per_second=4) as live:

        def report(progress: Progress) -> None:
            if progress.last is not None and not progress.last.built:
                failures.append(f"{progress.last.id}: {progress.last.status}: {progress.last.message}"[:160])
                del failures[:-5]
            live.update(_render(progress, failures))

        yield report


def _render(progress: Progress, failures: list[str]) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    cells = _cells(progress)
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    bar = ProgressBar(total=progress.total, completed=progress.done, width=80)
    return Group(bar, table, *(Text(line, style="red", no_wrap=True, overflow="ellipsis") for line in failures))


def _cells(progress: Progress) -> dict[str, str]:
    held = f" (held {progress.held:.0f} s)" if progress.held > 0 else ""
    return {
        "sites": f"{progress.done}/{progress.total}",
        "built": str(progress.built),
        "failed": str(progress.failed),
        "rate": f"{progress.rate * 60:.1f}/min{held}",
        "read": f"{progress.bytes / 1e6 / max(progress.seconds, 1e-9):.1f} MB/s",
        "total": bytes_(progress.bytes),
        "retries": str(progress.retries),
        "holes": str(progress.holes),
        "left": span(progress.left),
    }


def _lines() -> Callable[[Progress], None]:
    last = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal last
        outcome = progress.last
        if outcome is not None and not outcome.built:
            sys.stderr.write(f"{outcome.id}: {outcome.status}: {outcome.message}\n")
        ended = progress.done == progress.total and outcome is not None
        if ended or (progress.done < progress.total and time.monotonic() - last >= _EVERY):
            last = time.monotonic()
            sys.stderr.write(", ".join(f"{name} {value}" for name, value in _cells(progress).items()) + "\n")
            sys.stderr.flush()

    return report
