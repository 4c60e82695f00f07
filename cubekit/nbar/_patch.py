"""c of a granule over a regular pixel grid, as nodes and seams.

Within one row of a granule c is piecewise linear between nodes and detector seams, so a row is a few runs ``gain + slope * column`` and no
array of c is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from cubekit.errors import InputError
from cubekit.nbar._coefficients import NBAR_BANDS, parameters
from cubekit.nbar._field import CField, Detectors, Int8Array
from cubekit.nbar._kernels import c_tan
from cubekit.nbar._pixels import seam_value
from cubekit.nbar._status import NbarStatus
from cubekit.nbar._target import SUN_LIMIT, TargetSun, target_zenith
from cubekit.typing import FloatArray

__all__ = ["CPatch", "patch", "patches"]

FACTORS = dict(zip(NBAR_BANDS, parameters(NBAR_BANDS), strict=True))


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
    return _patch(cfield, bands, *_regular(x, y), detectors, target)


def patches(
    cfields: Sequence[CField | NbarStatus],
    bands: Sequence[str],
    x: FloatArray,
    y: FloatArray,
    *,
    detectors: Detectors = "seen",
    target: TargetSun = "observed",
) -> list[CPatch | NbarStatus]:
    """`patch` of several granules over one grid; a status stays what it is."""
    axes = _regular(x, y)
    return [_patch(one, bands, *axes, detectors, target) if isinstance(one, CField) else one for one in cfields]


def _patch(cfield: CField, bands: Sequence[str], across: Axis, down: Axis, detectors: Detectors, target: TargetSun) -> CPatch:
    step = cfield.angles.step
    origin = -(down.first - cfield.angles.uly) / step, (across.first - cfield.angles.ulx) / step
    pitch = -down.pitch / step, across.pitch / step
    right, bottom = origin[1] + pitch[1] * (across.size - 1.0), origin[0] + pitch[0] * (down.size - 1.0)
    u, v = np.array([[origin[1], right], [origin[1], right]]), np.array([[origin[0], origin[0]], [bottom, bottom]])
    status = cfield.status(bands, u, v)
    rows, columns = cfield.window(u, v)
    applied = (status == NbarStatus.applied.value).tolist()
    views = [cfield.view(band, detectors) if use else None for band, use in zip(bands, applied, strict=True)]
    depth = max((len(view.vectors) for view in views if view is not None), default=1)
    nodes = np.full((len(bands), depth, rows[1] - rows[0], columns[1] - columns[0]), np.nan)
    seams = np.zeros((len(bands), depth - 1, 6))
    seams[..., 0] = -1.0
    nadir = math.tan(math.radians(target_zenith(cfield.angles, target)))
    corner, deepest = (rows[0], columns[0]), 1
    for k, view in enumerate(views):
        if view is not None and cfield.sun is not None:
            factors = FACTORS[bands[k]]
            zenith = cfield.angles.sun_zenith
            deepest = max(deepest, _fill(view.vectors, view.seams, cfield.sun, zenith, nadir, factors, u, v, corner, k, nodes, seams))
    return CPatch(nodes[:, :deepest].copy(), seams[:, : deepest - 1].copy(), origin, pitch, corner, status)


@njit(cache=True, nogil=True)
def _fill(vectors, lines, sun, zenith, nadir, factors, u, v, corner, k, nodes, seams):  # type: ignore[no-untyped-def]
    """c and seams of the detectors of band ``k`` that a window given by its corner coordinates meets; returns how many these are."""
    first, last = _crossed(lines, u, v)
    for d in range(first, last + 1):
        for r in range(nodes.shape[2]):
            for c in range(nodes.shape[3]):
                i, j = r + corner[0], c + corner[1]
                if zenith[i, j] <= SUN_LIMIT:
                    x, y = vectors[d, i, j, 0], vectors[d, i, j, 1]
                    nodes[k, d - first, r, c] = c_tan(sun[i, j, 0], sun[i, j, 1], x, y, nadir, factors[0], factors[1], factors[2])
    for s in range(first, last):
        for j in range(6):
            seams[k, s - first, j] = lines[s, j]
    return last - first + 1


class Axis(NamedTuple):
    """Evenly spaced pixel centres: the first, the distance to the next, and their number."""

    first: float
    pitch: float
    size: int


def _regular(x: FloatArray, y: FloatArray) -> tuple[Axis, Axis]:
    """The axes (x, y) of a regular grid."""
    axes = []
    for name, axis in (("y", y), ("x", x)):
        axis = np.asarray(axis, dtype=np.float64)
        if axis.ndim != 1 or not axis.size or not np.isfinite(axis).all():
            raise InputError(f"{name} of shape {axis.shape}", remedy="Give finite 1-D pixel centres in the granule's CRS.")
        pitch = (axis[-1] - axis[0]) / (axis.size - 1) if axis.size > 1 else 0.0
        if np.abs(axis - (axis[0] + pitch * np.arange(axis.size))).max() > 0.01 * max(abs(pitch), 1e-9):
            raise InputError(f"{name} is not evenly spaced", remedy="Use CField.c and apply_c for irregular pixels.")
        axes.append(Axis(float(axis[0]), float(pitch), axis.size))
    if axes[1].pitch < 0:
        raise InputError("x must ascend", remedy="Flip the x axis.")
    return axes[1], axes[0]


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
