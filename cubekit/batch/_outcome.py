"""What became of a job: one small record, written so that it survives any crash."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from cubekit.batch._jobs import Job
from cubekit.errors import AccessDeniedError, CubekitError, InputError, NothingFoundError
from cubekit.redact import redact

__all__ = ["Outcome", "Status", "failure"]

_TRACE = 12
_Bytes = bytes


class Status(StrEnum):
    """How a job ended."""

    BUILT = "built"
    """The cube is committed."""
    FAILED = "failed"
    """A catalogue, a read, a layer or the store failed, or there were more holes than allowed."""
    NOTHING = "nothing"
    """The catalogue has nothing for this place and time."""
    DENIED = "denied"
    """A catalogue or store refused the credentials."""
    USAGE = "usage"
    """Recipe and site do not go together."""
    INTERNAL = "internal"
    """An error that cubekit does not know."""
    TIMEOUT = "timeout"
    """The job took longer than the limit and was ended."""
    MEMORY = "memory"
    """The job needed more memory than the limit and was ended."""
    KILLED = "killed"
    """The worker process died under the job."""
    STOPPED = "stopped"
    """The batch was interrupted; the job was ended on the way."""

    @property
    def exit_code(self) -> int:
        """Exit code of a batch in which all jobs ended so."""
        return {"built": 0, "nothing": 4, "denied": 5, "usage": 2, "internal": 1}.get(self.value, 3)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The record of a job; all fields are plain JSON values, free of secrets.

    Parameters
    ----------
    id, lat, lon, tile, path, digest
        Of the job.
    status
        A `Status`.
    error, message, remedy, trace
        Type and text of the error, what to do, and where it was raised (innermost last); empty for a built cube.
    attempts
        How often the job was tried in this run.
    seconds, scenes, holes, requests, bytes, retries
        Cost and result of the last try; wall seconds.
    started, finished
        UTC, ISO 8601.
    worker
        Host and process.
    retry_after
        Seconds that a throttling service asked to wait; None otherwise.
    storage
        How the place of the cubes itself failed, with what to do; empty where it did not.
    warnings
        Distinct warnings of the build.
    recipe_digest, content_digest
        Of the recipe with the site's overrides, and of the cube's content.
    software
        Versions.
    properties, overrides
        Of the site table.
    item
        STAC item of the cube, for the registry; empty unless built.
    """

    id: str
    lat: float
    lon: float
    tile: str
    path: str
    digest: str
    status: str
    error: str = ""
    message: str = ""
    remedy: str = ""
    trace: tuple[str, ...] = ()
    attempts: int = 1
    seconds: float = 0.0
    scenes: int = 0
    holes: int = 0
    requests: int = 0
    bytes: int = 0
    retries: int = 0
    started: str = ""
    finished: str = ""
    worker: str = ""
    retry_after: float | None = None
    storage: str = ""
    warnings: tuple[str, ...] = ()
    recipe_digest: str = ""
    content_digest: str = ""
    software: dict[str, str] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    item: dict[str, Any] = field(default_factory=dict)

    @property
    def built(self) -> bool:
        """Whether there is a cube."""
        return self.status == Status.BUILT

    def to_json(self) -> _Bytes:
        """As one JSON document; every text goes through the redactor."""
        return json.dumps(_clean(asdict(self)), ensure_ascii=False, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: _Bytes) -> Outcome:
        """Read what `to_json` wrote; ValueError for anything else."""
        record = json.loads(content)
        known = {entry.name for entry in fields(cls)}
        if not isinstance(record, dict) or not {"id", "digest", "status"} <= set(record):
            raise ValueError("no outcome")
        for name in ("trace", "warnings"):
            record[name] = tuple(record.get(name, ()))
        try:
            return cls(**{key: value for key, value in record.items() if key in known})
        except TypeError as error:
            raise ValueError(f"no outcome: {error}") from None


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


def base(job: Job) -> dict[str, Any]:
    """The fields that an outcome takes over from its job."""
    return {
        "id": job.id,
        "lat": job.lat,
        "lon": job.lon,
        "tile": job.tile,
        "path": job.out,
        "digest": job.digest,
        "properties": dict(job.properties),
        "overrides": dict(job.overrides),
    }


def failure(job: Job, error: BaseException, **more: Any) -> Outcome:
    """The outcome of a job that ended with an error."""
    known = isinstance(error, CubekitError)
    message = error.message if isinstance(error, CubekitError) else str(error)
    return Outcome(
        **base(job),
        status=_status(error),
        error=type(error).__name__,
        message=redact(message)[:2000],
        remedy=error.remedy if isinstance(error, CubekitError) else "",
        trace=() if known and not error.__cause__ else trace(error),
        retry_after=_retry_after(error),
        storage=storage_failure(error),
        **more,
    )


def storage_failure(error: BaseException) -> str:
    """How the place of the cubes failed, if it is that which an error tells."""
    return redact(str(error))[:500] if isinstance(error, CubekitError) and error.context.get("storage") else ""


def _status(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return Status.MEMORY
    for kind, status in ((NothingFoundError, Status.NOTHING), (AccessDeniedError, Status.DENIED), (InputError, Status.USAGE)):
        if isinstance(error, kind):
            return status
    return Status.FAILED if isinstance(error, CubekitError | OSError) else Status.INTERNAL


def _retry_after(error: BaseException) -> float | None:
    context = error.context if isinstance(error, CubekitError) else {}
    if isinstance(context.get("retry_after"), int | float):
        return float(min(max(context["retry_after"], 0), 3600))
    return 30.0 if context.get("status") in (429, 503) else None


def trace(error: BaseException) -> tuple[str, ...]:
    """Where an error was raised, innermost last, then its causes; file names without folders, no values of variables."""
    import traceback

    lines: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(lines) < _TRACE:
        frames = traceback.extract_tb(seen.__traceback__)[-_TRACE // 2 :]
        lines.extend(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} in {frame.name}" for frame in frames)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
        if seen is not None:
            lines.append(redact(f"caused by {type(seen).__name__}: {seen}")[:300])
    return tuple(lines)
