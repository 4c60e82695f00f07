"""Telling that kernels are compiled: numba does it where one is first used on a machine, silently, and it takes a while."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["told"]

_STAGE = "compile once"


@contextmanager
def told(progress: Callable[[str, int, int], None]) -> Iterator[None]:
    """Report compilation as a stage; how much there will be is not known before its end."""
    if "numba" not in sys.modules:  # nothing that could be compiled was imported
        yield
        return
    from numba.core import event

    listener: Any = _listener(event, progress)
    with event.install_listener("numba:compile", listener):
        yield
    if listener.done:
        progress(_STAGE, listener.done, listener.done)


def _listener(event: Any, progress: Callable[[str, int, int], None]) -> Any:
    class Listener(event.Listener):  # type: ignore[misc]
        done = 0

        def on_start(self, of: Any) -> None:
            progress(_STAGE, self.done, self.done + 1)

        def on_end(self, of: Any) -> None:
            self.done += 1

    return Listener()
