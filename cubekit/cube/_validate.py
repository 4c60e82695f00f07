"""Check a cube and name what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import xarray as xr

from cubekit.cube._check_store import check_chunks, check_committed, check_complete, check_packing
from cubekit.cube._check_text import check_attributes, check_globals, check_provenance, check_variables
from cubekit.cube._check_values import check_flags, check_groups, check_space, check_status, check_times
from cubekit.cube._problem import Check, Problem, Subject, error
from cubekit.cube._source import open_packed
from cubekit.errors import CommitError
from cubekit.layout import ROOT_KEY
from cubekit.location import Location

__all__ = ["validate"]

_CHECKS: tuple[Check, ...] = (
    check_committed,
    check_complete,
    check_attributes,
    check_globals,
    check_provenance,
    check_space,
    check_times,
    check_variables,
    check_packing,
    check_chunks,
    check_flags,
    check_status,
    check_groups,
)


def validate(target: str | os.PathLike[str] | xr.DataTree, *, storage_options: Mapping[str, Any] | None = None) -> list[Problem]:
    """Check a cube against everything that a cube promises.

    Committed, complete and unchanged; attributes flat and free of secrets; CF, ACDD and Zarr conventions; axes, CRS and transforms that
    agree; times sorted and unique; units; packing and chunks; flags; every pixel accounted for; provenance; groups that go together.

    Parameters
    ----------
    target
        Path or URL, or a tree as `assemble` returns it (which is checked but for its store).
    storage_options
        Settings of the object store, see obstore.

    Returns
    -------
    list of Problem
        Empty if nothing is wrong.

    Raises
    ------
    InputError
        Where there is nothing at all.
    """
    if isinstance(target, xr.DataTree):
        subject: Subject | Problem = Subject(target)
    else:
        subject = _open(Location.parse(target, storage_options))
    if isinstance(subject, Problem):
        return [subject]
    return [problem for check in _CHECKS for problem in check(subject)]


def _open(location: Location) -> Subject | Problem:
    if location.get(ROOT_KEY) is None:
        try:
            location.committed_root()
        except CommitError as problem:
            return error("/", problem.message, problem.remedy)
    try:
        tree, root, documents = open_packed(location)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as problem:
        return error("/", f"cannot be opened: {type(problem).__name__}: {str(problem)[:200]}")
    return Subject(tree, location, root, documents)
