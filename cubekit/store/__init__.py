"""Commit cubes, open committed cubes, and summarise them for a registry."""

from __future__ import annotations

from cubekit.location import content_digest
from cubekit.store._open import open_cube
from cubekit.store._row import qa_row, stored_row
from cubekit.store._write import Committed, check_target, commit_cube, sweep, write_cube

__all__ = [
    "Committed",
    "check_target",
    "commit_cube",
    "content_digest",
    "open_cube",
    "qa_row",
    "stored_row",
    "sweep",
    "write_cube",
]
