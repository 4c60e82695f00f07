"""A finished figure onto the disk: whole or not at all, in a format that its name tells."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from cubekit.errors import CommitError, InputError

__all__ = ["picture_path", "save"]

_FORMATS = (".png", ".pdf", ".svg")


def picture_path(path: str | os.PathLike[str]) -> Path:
    """The path of a picture, checked before anything is drawn.

    Raises
    ------
    InputError
        For a name that does not end in a format that can be written.
    """
    found = Path(path)
    if found.suffix.lower() not in _FORMATS:
        raise InputError(f"{found} is no name of a picture", remedy=f"Let it end in {', '.join(_FORMATS)}")
    return found


def save(figure: Any, path: str | os.PathLike[str], *, dpi: int | None = None) -> Path:
    """Write a matplotlib figure; folders are made.

    Raises
    ------
    InputError
        As `picture_path`.
    CommitError
        If it cannot be written; nothing is left then.
    """
    found = picture_path(path)
    kind = found.suffix.lower()[1:]
    options: dict[str, Any] = {"metadata": {"Software": "cubekit"}} if kind == "png" else {}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, **({"dpi": dpi} if dpi is not None else {}), **options)
    partial = found.with_name(f".{found.name}.{os.getpid()}.partial")
    try:
        found.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(buffer.getvalue())
            partial.replace(found)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommitError(f"Cannot write {found}: {reason}", remedy="Check that the folder exists and may be written") from None
    return found
