"""Run by the tests in a process of its own: kill writers at seeded moments and tell what they leave behind.

Each writer is a fork that dies by SIGKILL just before its n-th file operation (local) or request (object store) that concerns the target.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

import obstore.store  # noqa: F401  (imported once here, not in every child)
import xarray as xr
import zarr.storage  # noqa: F401

from cubekit.errors import CubekitError
from cubekit.location import Location, content_digest
from cubekit.store import open_cube, sweep, write_cube
from cubekit.testing.cubes import tiny_cube

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "ctypes.call_function", "os.scandir"}


def die_at(moment: int, target: str) -> Callable[[], int]:
    """Count what the process does to the target from now on, and kill it before operation number `moment`."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    if "://" in target:
        bucket = Location.bucket

        class Counted:
            def __init__(self, inner: Any) -> None:
                self.inner = inner

            def __getattr__(self, name: str) -> Any:
                step()
                return getattr(self.inner, name)

        Location.bucket = lambda self, **options: Counted(bucket(self, **options))  # type: ignore[method-assign,assignment]
    else:
        name = os.path.basename(target)

        def hook(event: str, arguments: Any) -> None:
            if event in EVENTS and (event.startswith("ctypes") or any(name in str(argument) for argument in arguments[:2])):
                step()

        sys.addaudithook(hook)
    return lambda: count


def in_fork(action: Callable[[], Any]) -> tuple[int, str]:
    """Run in a child; returns (signal that killed it or 0, what it said)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        os.write(write, str(action()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0), said


def visible(target: str) -> str:
    """Digest of what stands under the final name, checked against every byte; or why nothing does."""
    try:
        open_cube(target)
        stated, found = content_digest(target), content_digest(target, recompute=True)
        return stated if stated == found else "damaged"
    except CubekitError as error:
        return type(error).__name__


def look(target: str) -> str:
    """`visible`, in a child: threads of a client that this process once used would be missing in its later children."""
    return in_fork(lambda: visible(target))[1]


def main(target: str, overwrite: bool, moments: int, seed: int) -> None:
    xr.backends.list_engines()
    old, new = tiny_cube(6, 8, seed=1), tiny_cube(6, 8, seed=2)

    def write(tree: Any, path: str, replace: bool) -> str:
        write_cube(tree, path, overwrite=replace, workers=2)
        return content_digest(path)

    def counted(path: str) -> int:
        count = die_at(-1, path)
        write(new, path, overwrite)
        return count()

    def prepared(path: str) -> str:
        return in_fork(lambda: write(old, path, False))[1] if overwrite else ""

    before = prepared(f"{target}-0.zarr")
    total = int(in_fork(lambda: counted(f"{target}-0.zarr"))[1])
    goal = look(f"{target}-0.zarr")
    chosen = sorted({*random.Random(seed).sample(range(1, total), min(moments, total - 1)), total - 1, total - 2})
    results = []
    for moment in chosen:
        path = f"{target}-{moment}.zarr"
        prepared(path)

        def writer(path: str = path, moment: int = moment) -> None:
            die_at(moment, path)
            write(new, path, overwrite)

        killed, _ = in_fork(writer)
        seen = look(path)
        swept = in_fork(lambda path=path: sweep(path))[1] if moment % 2 else ""
        after_sweep = look(path)
        resumed = in_fork(lambda path=path: write(new, path, True))[1]
        results.append({"moment": moment, "killed": killed, "seen": seen, "swept": swept, "after_sweep": after_sweep, "resumed": resumed})
    print(json.dumps({"total": total, "before": before, "goal": goal, "results": results}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "overwrite", int(sys.argv[3]), int(sys.argv[4]))
