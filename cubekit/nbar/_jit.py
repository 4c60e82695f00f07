"""One loop body, compiled twice."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from numba import njit

__all__ = ["serial_and_parallel"]


def serial_and_parallel(body: Callable[..., Any]) -> tuple[Any, Any]:
    """Compile a function whose outer loop is a ``prange`` without and with threads.

    numba's cache tells functions apart by name and line, not by options: the parallel one needs a name of its own.
    """
    assert isinstance(body, FunctionType)
    twin = FunctionType(body.__code__, body.__globals__, f"{body.__name__}_parallel")
    twin.__module__, twin.__qualname__, twin.__doc__ = body.__module__, f"{body.__qualname__}_parallel", body.__doc__
    return njit(cache=True, nogil=True)(body), njit(cache=True, nogil=True, parallel=True)(twin)
