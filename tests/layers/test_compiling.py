"""What is said while kernels are compiled."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from numba import njit

from cubekit.layers import Session
from cubekit.layers._compiling import told


def test_compilation_is_told_and_ends() -> None:
    inner: Any = njit(lambda x: x + 1.0)
    outer: Any = njit(lambda x: inner(x) * 2.0)
    said: list[tuple[str, int, int]] = []
    with told(lambda *what: said.append(what)):
        assert outer(3.0) == 8.0
    first, *between, last = said
    assert first == ("compile once", 0, 1)
    assert all(done < total for _, done, total in between)
    assert last[1] == last[2] >= 2
    said.clear()
    with told(lambda *what: said.append(what)):
        assert outer(3.0) == 8.0
    assert outer(3) == 8  # compiled for another type, when nobody listens any more
    assert said == []


def test_a_session_tells_it_of_its_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    function: Any = njit(lambda x: x - 1.0)
    said: list[str] = []
    session = Session(progress=lambda stage, *_: said.append(stage))
    with pytest.raises(KeyError), session.building("somewhere.zarr"):
        function(1.0)
        raise KeyError
    assert set(said) == {"compile once"}
    said.clear()
    with session.building("somewhere.zarr"):
        function(1.0)
    monkeypatch.delitem(sys.modules, "numba")
    with session.building("somewhere.zarr"):
        pass
    assert said == []
