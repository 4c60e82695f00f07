"""What the fused pass stores: a float32 as int16, rounded and clipped, or itself.

Each function has a twin in plain Python, used when numba is disabled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int16
from numba.extending import overload

__all__ = ["FILL", "may_clip", "stored"]

FILL = -32768


def stored(value: Any, fill: Any) -> Any:
    """A float32 as the type of ``fill`` stores it: int16 rounded half to even and clipped, or itself.

    The addition of 1.5 * 2**23 rounds a float32 within +-2**22 to an integer, and vectorises where a call of rint does not.
    """
    if fill.dtype != np.int16:
        return value
    value = min(max(value, np.float32(-32767.0)), np.float32(32767.0))
    return np.int16(np.int32((value + np.float32(12582912.0)) - np.float32(12582912.0)))


@overload(stored)
def _typed_stored(value, fill):  # type: ignore[no-untyped-def]
    if fill != int16:
        return lambda value, fill: value

    def store(value, fill):  # type: ignore[no-untyped-def]
        limited = min(max(value, np.float32(-32767.0)), np.float32(32767.0))
        return np.int16(np.int32((limited + np.float32(12582912.0)) - np.float32(12582912.0)))

    return store


def may_clip(top: Any, offset: Any, largest: Any, fill: Any) -> Any:
    """Whether numbers up to ``top`` (negative: unknown) may, times a c up to ``largest``, exceed what int16 stores."""
    bound = np.float32(32767.0) / largest
    return fill.dtype == np.int16 and not (top >= 0 and np.float32(top) + offset <= bound and offset >= -bound)


@overload(may_clip)
def _typed_may_clip(top, offset, largest, fill):  # type: ignore[no-untyped-def]
    if fill != int16:
        return lambda top, offset, largest, fill: False

    def clip(top, offset, largest, fill):  # type: ignore[no-untyped-def]
        bound = np.float32(32767.0) / largest
        return not (top >= 0 and np.float32(top) + offset <= bound and offset >= -bound)

    return clip
