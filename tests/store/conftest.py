from __future__ import annotations

import os

import pytest


def keys_of(url: str) -> list[str]:
    """All keys below a URL."""
    from obstore.store import from_url

    return sorted(item["path"] for page in from_url(url).list() for item in page)


@pytest.fixture
def repository() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
