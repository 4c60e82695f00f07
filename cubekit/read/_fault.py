"""Faults of one asset: raised anywhere below the engines, turned into an outcome at their top."""

from __future__ import annotations

from cubekit.read._types import ReadStatus
from cubekit.redact import redact

__all__ = ["ChangedError", "Fault", "ShortError"]


class Fault(Exception):
    """Ends the reading of one asset with a status and a message (freed of secrets)."""

    def __init__(self, status: ReadStatus, message: str) -> None:
        self.status = status
        self.message = redact(message)
        super().__init__(self.message)


class ChangedError(Fault):
    """The object is not the one its header came from: read anew once."""

    def __init__(self, message: str) -> None:
        super().__init__(ReadStatus.CORRUPT, message)


class ShortError(Exception):
    """More bytes of the file are needed: ``start`` to ``stop``."""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        super().__init__(f"bytes {start}-{stop} are needed")
