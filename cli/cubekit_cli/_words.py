"""Numbers and records as words."""

from __future__ import annotations

import json
from typing import Any

import typer

__all__ = ["bytes_", "print_json"]


def bytes_(count: float) -> str:
    """A number of bytes for people, in powers of 1000.

    >>> bytes_(335_400_000)
    '335.4 MB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def print_json(content: Any) -> None:
    """Print `content` as JSON on stdout."""
    typer.echo(json.dumps(content, indent=2, default=str))
