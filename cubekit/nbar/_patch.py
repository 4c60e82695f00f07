"""c of a granule over a regular pixel grid, as nodes and seams.

Within one row of a granule c is piecewise linear between nodes and detector seams, so a row is a few runs ``gain + slope * column`` and no
array of c is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from cubekit.errors import InputError
from cubekit.nbar._field import CField, Detectors, Int8Array
from cubekit.nbar._pixels import seam_value
from cubekit.nbar._status import NbarStatus
from cubekit.nbar._target import TargetSun
from cubekit.typing import FloatArray

__all__ = ["CPatch", "patch"]


@dataclass(frozen=True, slots=True, eq=False)
class CPatch:
    """c of one granule over one regular pixel grid, as nodes and seams: a few kilobytes instead of an array of c.

    Attributes
    ----------
    nodes
        (band, detector, row, column) c on a window of nodes; NaN for bands that are not adjusted.
    seams
        (band, detector - 1, 6) polynomials, see `BandView`; a seam that is never crossed is the constant -1.
    origin
        (row, column) node coordinates of the centre of pixel (0, 0).
    pitch
        (row, column) node distance per pixel.
    corner
        (row, column) of the window's first node.
    status
        (band,) `NbarStatus`.
    """

    nodes: FloatArray
    seams: FloatArray
    origin: tuple[float, float]
    pitch: tuple[float, float]
    corner: tuple[int, int]
    status: Int8Array


def patch(
    cfield: CField,
    bands: Sequence[str],
    x: FloatArray,
    y: FloatArray,
    *,
    detectors: Detectors = "seen",
    target: TargetSun = "observed",
) -> CPatch:
    """c of a granule over a regular grid in its own CRS; ``x``, ``y`` are 1-D pixel centres. See `CField.c` for the options."""
    origin, pitch = _regular(cfield, x, y)
    u, v = np.meshgrid(origin[1] + pitch[1] * np.array([0.0, len(x) - 1.0]), origin[0] + pitch[0] * np.array([0.0, len(y) - 1.0]))
    status = cfield.status(bands, u, v)
    rows, columns = cfield.window(u, v)
    parts: list[FloatArray] = []
    lines: list[FloatArray] = []
    for band, state in zip(bands, status, strict=True):
        if state != NbarStatus.applied:
            parts.append(np.full((1, rows[1] - rows[0], columns[1] - columns[0]), np.nan))
            lines.append(np.empty((0, 6)))
            continue
        nodes, seams = cfield.window_nodes(band, rows, columns, detectors=detectors, target=target)
        first, last = _crossed(seams, u, v)
        parts.append(nodes[first : last + 1])
        lines.append(seams[first:last])
    depth = max(len(part) for part in parts)
    nodes = np.full((len(bands), depth, *parts[0].shape[1:]), np.nan)
    seams = np.zeros((len(bands), depth - 1, 6))
    seams[..., 0] = -1.0
    for k, (part, line) in enumerate(zip(parts, lines, strict=True)):
        nodes[k, : len(part)] = part
        seams[k, : len(line)] = line
    return CPatch(nodes, seams, origin, pitch, (rows[0], columns[0]), status)


def _regular(cfield: CField, x: FloatArray, y: FloatArray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Node coordinates (row, column) of pixel (0, 0), and per pixel."""
    axes = []
    for name, axis, sign, zero in (("y", y, -1.0, cfield.angles.uly), ("x", x, 1.0, cfield.angles.ulx)):
        axis = np.asarray(axis, dtype=np.float64)
        if axis.ndim != 1 or not axis.size or not np.isfinite(axis).all():
            raise InputError(f"{name} of shape {axis.shape}", remedy="Give finite 1-D pixel centres in the granule's CRS.")
        pitch = (axis[-1] - axis[0]) / (axis.size - 1) if axis.size > 1 else 0.0
        if np.abs(axis - (axis[0] + pitch * np.arange(axis.size))).max() > 0.01 * max(abs(pitch), 1e-9):
            raise InputError(f"{name} is not evenly spaced", remedy="Use CField.c and apply_c for irregular pixels.")
        axes.append((sign * (axis[0] - zero) / cfield.angles.step, sign * pitch / cfield.angles.step))
    if axes[1][1] < 0:
        raise InputError("x must ascend", remedy="Flip the x axis.")
    return (axes[0][0], axes[1][0]), (axes[0][1], axes[1][1])


@njit(cache=True)
def _crossed(seams, u, v):  # type: ignore[no-untyped-def]
    """First and last detector within a window given by its corner coordinates (2, 2); a seam's curvature stays below 100 m a tile."""
    first, last = 0, seams.shape[0]
    for k in range(seams.shape[0]):
        lowest, highest = math.inf, -math.inf
        for i in range(u.shape[0]):
            for j in range(u.shape[1]):
                for side in (-0.02, 0.02):
                    value = seam_value(seams[k], u[i, j] + side, v[i, j])
                    lowest, highest = min(lowest, value), max(highest, value)
        if lowest > 0.0 and k == first:
            first = k + 1
        if highest <= 0.0:
            last = min(last, k)
    return first, max(last, first)
