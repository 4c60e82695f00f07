"""sen2nbar's numbers, shortcuts included, for people who migrate.

What it does differently from `CField`: nodes half a cell (2500 m) too far east and south, the arithmetic mean of the detectors' zenith and
azimuth degrees, the nearest node's c where none is given, and bilinear interpolation that extrapolates without limit.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from cubekit.nbar._coefficients import parameters
from cubekit.nbar._granule import NODES, GranuleAngles
from cubekit.nbar._kernels import c_loop
from cubekit.typing import FloatArray

__all__ = ["compat_axes", "compat_c", "compat_pixels", "fill_nearest"]

SHIFT = 2500.0


def compat_axes(angles: GranuleAngles) -> tuple[FloatArray, FloatArray]:
    """(x, y) that sen2nbar gives the nodes, metres."""
    return angles.x + SHIFT, angles.y - SHIFT


def compat_c(angles: GranuleAngles, bands: Sequence[str], *, fill: bool = True, target_zenith: float = float("nan")) -> FloatArray:
    """c as sen2nbar has it, (band, 23, 23); NaN where no detector saw the node (unless filled) and where c is not positive."""
    out = np.full((len(bands), NODES, NODES), np.nan)
    nadir = np.full(NODES * NODES, np.tan(np.radians(target_zenith)))
    sun = np.zeros((NODES * NODES, 2))
    with np.errstate(invalid="ignore"):
        sun[:, 0] = np.tan(np.radians(angles.sun_zenith)).ravel()
    for k, band in enumerate(bands):
        grids = angles.grids(band)
        if not len(grids):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=RuntimeWarning)  # nodes that no detector saw
            zenith = np.nanmean(angles.view_zenith[grids], axis=0)
            azimuth = np.nanmean(angles.view_azimuth[grids], axis=0)
        tangent, relative = np.tan(np.radians(zenith)), np.radians(angles.sun_azimuth - azimuth)
        view = np.stack([tangent * np.cos(relative), tangent * np.sin(relative)], axis=-1).reshape(1, -1, 2)
        c_loop(sun, view, nadir, parameters([band]), out[k].reshape(1, -1))
    with np.errstate(invalid="ignore"):
        out[:, ~(angles.sun_zenith < 90.0)] = np.nan
    return fill_nearest(out, *compat_axes(angles)) if fill else out


def fill_nearest(c: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Give nodes without c that of the nearest node that has one, per band."""
    from scipy.interpolate import NearestNDInterpolator

    xx, yy = (grid.ravel() for grid in np.meshgrid(x, y))
    out = c.copy()
    for layer in out:
        known = np.isfinite(layer.ravel())
        if known.any() and not known.all():
            nearest = NearestNDInterpolator(np.column_stack([xx[known], yy[known]]), layer.ravel()[known])
            layer[:] = nearest(xx, yy).reshape(layer.shape)
    return out


def compat_pixels(c: FloatArray, nodes_x: FloatArray, nodes_y: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Bilinear c at 1-D pixel centres, extrapolated linearly beyond the nodes; (band, y, x)."""
    columns, a = _cells(nodes_x, np.asarray(x, dtype=np.float64))
    rows, b = _cells(nodes_y, np.asarray(y, dtype=np.float64))
    along = c[:, :, columns] + a * (c[:, :, columns + 1] - c[:, :, columns])
    return along[:, rows] + b[:, None] * (along[:, rows + 1] - along[:, rows])


def _cells(nodes: FloatArray, axis: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(cell, position in it) of each coordinate on evenly spaced nodes."""
    position = (axis - nodes[0]) / (nodes[1] - nodes[0])
    cell = np.clip(np.floor(position), 0, len(nodes) - 2).astype(np.intp)
    return cell, position - cell
