"""Whether a target can be written at all, before any work is done for it."""

from __future__ import annotations

import os

from cubekit.errors import InputError
from cubekit.layout import ROOT_KEY
from cubekit.location import Location

__all__ = ["check_target"]


def check_target(target: str | os.PathLike[str], *, overwrite: bool = False) -> str:
    """Return the target's path or URL as text.

    Raises
    ------
    InputError
        For a target that cannot be meant, is read-only, or exists although `overwrite` is false.
    """
    location = Location.parse(target)
    if not location.writable:
        raise InputError(f"Cannot write to {location.url}", remedy="Use a local path, s3://, gs:// or az://", target=location.url)
    exists = location.path.exists() if location.local else location.get(ROOT_KEY) is not None
    if exists and not overwrite:
        raise InputError(f"{location.url} exists", remedy="Choose another output, or ask for overwrite", target=location.url)
    return location.url
