"""Type aliases shared by all rooms."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["JSON", "BBox", "Bool2D", "Float1D", "Float2D", "FloatArray", "IntArray", "Resampling", "UInt8Array"]

BBox: TypeAlias = tuple[float, float, float, float]
"""(west, south, east, north), degrees or metres."""

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Float1D: TypeAlias = npt.NDArray[np.float64]
Float2D: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.integer[Any]]
UInt8Array: TypeAlias = npt.NDArray[np.uint8]
Bool2D: TypeAlias = npt.NDArray[np.bool_]
JSON: TypeAlias = dict[str, Any]
Resampling: TypeAlias = Literal["nearest", "bilinear", "average"]
