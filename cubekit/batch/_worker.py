"""Entry of a worker process: ``python -m cubekit.batch._worker FD``."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

__all__ = ["main"]


def _watch_parent() -> None:
    """End when the parent does: its end of our standard input closes, however it dies."""
    sys.stdin.buffer.read()
    os._exit(70)


def main(descriptor: int) -> None:
    """Serve jobs that come through a pipe until it closes."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, daemon=True).start()
    pipe = Connection(descriptor)
    setup = pipe.recv()
    from cubekit.batch._task import Task
    from cubekit.errors import CubekitError

    try:
        task = Task(setup)
    except CubekitError as error:
        pipe.send(error)
        return
    pipe.send(None)
    first = True
    while True:
        try:
            job, attempt = pipe.recv()
        except EOFError:
            return
        pipe.send(task.run(job, attempt))
        if first:
            # Modules and caches are there to stay: searched for garbage again and again, they would cost a tenth of a small site.
            gc.collect()
            gc.freeze()
            first = False


if __name__ == "__main__":
    main(int(sys.argv[1]))
