"""Helpers for tests of cubekit and of layers written for it: fakes, servers, tiny COGs and the shared reference data."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["shared_data"]


def shared_data(relative: str = "") -> Path:
    """Path of a file or folder of the shared reference data; skips the calling test, with the reason, where it is absent.

    Parameters
    ----------
    relative
        Path below the data folder, such as ``"nbar/golden"``.

    Notes
    -----
    The data folder is ``$CUBEKIT_SHARED/data``, or ``../shared/data`` seen from the repository.
    """
    import pytest

    root = Path(os.environ.get("CUBEKIT_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    path = root / "data" / relative
    if not path.exists():
        pytest.skip(f"shared reference data not found: {path} (set CUBEKIT_SHARED to the folder that holds data/)", allow_module_level=True)
    return path
