"""Per-pixel work of a granule: which detector, and c between the nodes."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from cubekit.nbar._scan import NODES
from cubekit.typing import FloatArray

__all__ = ["bilinear", "labels", "seam_value"]

HALF = 0.5 * (NODES - 1)


@njit(cache=True, inline="always")
def seam_value(seam, u, v):  # type: ignore[no-untyped-def]
    """Value of a seam's polynomial at node coordinates; positive to the east of the seam."""
    a = u / HALF - 1.0
    b = v / HALF - 1.0
    return seam[0] + a * (seam[1] + a * seam[3] + b * seam[4]) + b * (seam[2] + b * seam[5])


@njit(cache=True)
def _labels(u, v, seams, out):  # type: ignore[no-untyped-def]
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            k = 0
            while k < seams.shape[0] and seam_value(seams[k], u[i, j], v[i, j]) > 0.0:
                k += 1
            out[i, j] = k


def labels(u: FloatArray, v: FloatArray, seams: FloatArray) -> npt.NDArray[np.uint8]:
    """Index, west to east, of the detector that saw each pixel; ``u``, ``v`` (y, x) in node coordinates."""
    out = np.zeros(u.shape, dtype=np.uint8)
    if len(seams):
        _labels(u, v, seams, out)
    return out


@njit(cache=True)
def bilinear(u, v, label, nodes, row0, column0, margin, out):  # type: ignore[no-untyped-def]
    """c at pixels into ``out`` (y, x); ``nodes`` (detector, row, column) is the window of nodes that begins at (row0, column0)."""
    rows, columns = nodes.shape[1], nodes.shape[2]
    last = NODES - 1 + margin
    for i in range(u.shape[0]):
        for j in range(u.shape[1]):
            uu, vv = u[i, j], v[i, j]
            if not (uu >= -margin and uu <= last and vv >= -margin and vv <= last):
                out[i, j] = math.nan
                continue
            c0 = min(max(math.floor(uu) - column0, 0), columns - 2)
            r0 = min(max(math.floor(vv) - row0, 0), rows - 2)
            a, b = uu - (c0 + column0), vv - (r0 + row0)
            k = label[i, j]
            top = nodes[k, r0, c0] + a * (nodes[k, r0, c0 + 1] - nodes[k, r0, c0])
            bottom = nodes[k, r0 + 1, c0] + a * (nodes[k, r0 + 1, c0 + 1] - nodes[k, r0 + 1, c0])
            out[i, j] = top + b * (bottom - top)
