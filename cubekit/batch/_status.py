"""How a batch stands, from its outcomes alone or measured against a plan."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cubekit.batch._folder import open_folder
from cubekit.batch._jobs import Plan
from cubekit.batch._outcome import Outcome
from cubekit.batch._run import reasons
from cubekit.errors import NothingFoundError

__all__ = ["BatchStatus", "status"]


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """How a batch stands.

    Parameters
    ----------
    root
        Folder or URL.
    counts
        Outcomes by status.
    errors
        (message, number of sites), commonest first; numbers and ids are left out of messages when counting.
    failed
        Outcomes without a cube.
    todo
        With a plan: jobs that a run would do, by reason (``missing``, ``failed``, ``changed``, ``lost``).
    seconds, bytes
        Median seconds per cube and mean bytes per cube.
    """

    root: str
    counts: dict[str, int]
    errors: tuple[tuple[str, int], ...]
    failed: tuple[Outcome, ...]
    todo: dict[str, int]
    seconds: float
    bytes: float


def status(root: str, *, plan: Plan | None = None) -> BatchStatus:
    """Read how a batch stands; nothing is changed.

    Raises
    ------
    NothingFoundError
        If there are no outcomes and no plan to measure against.
    """
    folder = open_folder(root)
    outcomes = list(folder.outcomes().values())
    if not outcomes and plan is None:
        raise NothingFoundError(f"No outcomes in {folder.root}", remedy="Check the folder, or run the batch first")
    failed = [outcome for outcome in outcomes if not outcome.built]
    built = [outcome for outcome in outcomes if outcome.built]
    return BatchStatus(
        root=folder.root,
        counts=dict(Counter(outcome.status for outcome in outcomes).most_common()),
        errors=tuple(Counter(_kind(outcome) for outcome in failed).most_common(20)),
        failed=tuple(failed),
        todo=dict(Counter(reasons(plan, folder).values())) if plan is not None else {},
        seconds=sorted(outcome.seconds for outcome in built)[len(built) // 2] if built else 0.0,
        bytes=sum(outcome.bytes for outcome in built) / len(built) if built else 0.0,
    )


def _kind(outcome: Outcome) -> str:
    """The message without what differs from site to site."""
    words = [word for word in outcome.message.replace(outcome.id, "<site>").split() if not any(char.isdigit() for char in word)]
    return f"{outcome.error}: {' '.join(words)}"[:160]
