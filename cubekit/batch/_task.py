"""One job, done: the only place where any error whatever becomes an outcome."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cubekit.batch._folder import BatchFolder, open_folder
from cubekit.batch._jobs import Job, effective_recipe
from cubekit.batch._outcome import Outcome, Status, base, failure, storage_failure
from cubekit.errors import CubekitError, InputError
from cubekit.recipe import Recipe, parse_recipe
from cubekit.redact import redact

if TYPE_CHECKING:
    from cubekit.layers import Session
    from cubekit.site import Site

__all__ = ["Build", "Built", "Setup", "Task", "callable_name", "now"]

_PACKAGES = ("cubekit", "numpy", "xarray", "zarr", "rasterio", "obstore")


class Built(Protocol):
    """What a builder returns; `cubekit.pipeline.BuildResult` is one."""

    @property
    def digest(self) -> str: ...
    @property
    def scenes(self) -> int: ...
    @property
    def holes(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def retries(self) -> int: ...


class Build(Protocol):
    """A builder; `cubekit.pipeline.build_cube` is one. It commits a cube to `out` or raises, and leaves nothing half-made."""

    def __call__(self, recipe: Recipe, site: Site, out: str, *, overwrite: bool, session: Session) -> Built: ...


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a worker needs besides its jobs: plain values, no secrets.

    Parameters
    ----------
    root
        Folder or URL of the batch.
    recipe
        Canonical JSON of the recipe.
    build, describe, sweep
        ``module:name`` of the builder; of a function that maps the path of a cube to its QA values; and of one that removes what a killed
        writer of a path left. The last two may be empty.
    engine, cache_dir, threads, memory
        Of the `cubekit.layers.Session`.
    waiting
        Folder by which the processes of a machine share the patience that a catalogue or a host of files asks for.
    """

    root: str
    recipe: str
    build: str
    describe: str = ""
    sweep: str = ""
    engine: str = "window"
    cache_dir: str = ""
    threads: int | None = None
    memory: int = 2 << 30
    waiting: str = ""


def callable_name(function: Callable[..., Any] | str) -> str:
    """``module:name`` of a function that other processes can import.

    Raises
    ------
    InputError
        If it lives in a script or notebook, or inside another function.
    """
    if isinstance(function, str):
        name = function
    else:
        module, qualified = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
        if module in (None, "__main__") or "<" in qualified or not qualified:
            raise InputError(
                f"{function!r} cannot be found by other processes", remedy="Define it at the top of a module that can be imported"
            )
        name = f"{module}:{qualified}"
    resolve(name)
    return name


def resolve(name: str) -> Callable[..., Any]:
    """The function behind ``module:name``."""
    module, _, qualified = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{name!r} cannot be imported: {error}", remedy="Give module:name of a function") from None
    if not callable(found):
        raise InputError(f"{name!r} is no function", remedy="Give module:name of a function")
    return found  # type: ignore[no-any-return]


class Task:
    """Runs jobs one after the other in this process; catalogues, headers and caches stay open between them."""

    def __init__(self, setup: Setup) -> None:
        from cubekit.layers import Session
        from cubekit.waiting import share_waiting

        share_waiting(setup.waiting or None)
        self._build = resolve(setup.build)
        self._describe = resolve(setup.describe) if setup.describe else None
        self._recipe = parse_recipe(json.loads(setup.recipe))
        self._recipes: dict[Any, Recipe] = {}
        self._session = Session(
            engine=setup.engine, cache_dir=Path(setup.cache_dir) if setup.cache_dir else None, threads=setup.threads, memory=setup.memory
        )
        self._folder: BatchFolder = open_folder(setup.root)

    def run(self, job: Job, attempt: int = 1) -> Outcome:
        """Do a job and keep its outcome; raises only what ends the process."""
        began, started = time.perf_counter(), now()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                outcome = self._built(job)
            except (Exception, MemoryError) as error:  # noqa: BLE001 - one bad site never stops the rest
                outcome = failure(job, error, software=software())
        outcome = replace(
            outcome,
            attempts=attempt,
            seconds=round(time.perf_counter() - began, 3),
            started=started,
            finished=now(),
            worker=f"{socket.gethostname()}:{os.getpid()}",
            warnings=tuple(dict.fromkeys(redact(str(entry.message))[:300] for entry in caught if _ours(entry)))[:10],
        )
        try:
            folder = BatchFolder(self._folder.root, hasty=True) if outcome.storage else self._folder
            return folder.write_outcome(outcome)
        except (CubekitError, OSError) as error:
            # The disk that could not hold the outcome: the caller still hears of it.
            if outcome.built:
                outcome = replace(failure(job, error), attempts=attempt, started=started, finished=now())
            return replace(outcome, storage=outcome.storage or storage_failure(error))

    def _built(self, job: Job) -> Outcome:
        from cubekit.batch._item import stac_item

        recipe = self._effective(job)
        result = self._build(recipe, job.site, job.out, overwrite=True, session=self._session)
        found = dict(self._describe(job.out)) if self._describe else {}
        return Outcome(
            **base(job),
            status=Status.BUILT,
            scenes=result.scenes,
            holes=result.holes,
            requests=result.requests,
            bytes=result.bytes,
            retries=result.retries,
            recipe_digest=recipe.digest,
            content_digest=result.digest,
            software=software(),
            item=stac_item(job, recipe, result, found, software()),
        )

    def _effective(self, job: Job) -> Recipe:
        if job.overrides not in self._recipes:
            if len(self._recipes) > 1000:
                self._recipes.clear()
            self._recipes[job.overrides] = effective_recipe(self._recipe, job.overrides)
        return self._recipes[job.overrides]


def _ours(entry: warnings.WarningMessage) -> bool:
    return entry.category.__module__.startswith("cubekit")


def now() -> str:
    """This moment, UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@cache
def software() -> dict[str, str]:
    """Versions that matter for a cube."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "source"
    return versions
