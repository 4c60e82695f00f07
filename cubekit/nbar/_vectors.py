"""Directions as tan-plane vectors, and their continuation over nodes that a detector did not see."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cubekit.nbar._scan import NODES
from cubekit.typing import FloatArray

__all__ = ["continue_vectors", "node_features", "tan_vectors"]

PRIOR_WEIGHT = 3e-4
"""Squared ratio of the angles' noise (0.0005 degrees) to how far detectors differ in shape over half a tile (0.03 degrees)."""


def tan_vectors(zenith: FloatArray, azimuth: FloatArray) -> FloatArray:
    """Tan-plane vectors ``tan(zenith) * (sin(azimuth), cos(azimuth))``, (east, north); shape (..., 2). Angles in degrees."""
    tangent = np.tan(np.radians(zenith))
    radians = np.radians(azimuth)
    return np.stack([tangent * np.sin(radians), tangent * np.cos(radians)], axis=-1)


def node_features(u: FloatArray, v: FloatArray) -> FloatArray:
    """Terms of a 2nd-order polynomial at node coordinates (column ``u``, row ``v``), centred and scaled; shape (..., 6)."""
    half = (NODES - 1) / 2
    a, b = u / half - 1.0, v / half - 1.0
    return np.stack([np.ones_like(a), a, b, a * a, a * b, b * b], axis=-1)


def _grid_features() -> FloatArray:
    rows, columns = np.mgrid[0:NODES, 0:NODES].astype(float)
    return node_features(columns.ravel(), rows.ravel())


FEATURES = _grid_features()


def continue_vectors(vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fit each grid's vectors by a 2nd-order polynomial and fill the nodes that have none.

    Parameters
    ----------
    vectors
        (grid, 23, 23, 2), NaN where not seen. Each grid has at least one seen node.

    Returns
    -------
    filled
        Same shape; seen nodes are untouched.
    coefficients
        (grid, 6, 2) of `node_features`.

    Notes
    -----
    Grids with few nodes borrow their shape from the others: a polynomial shared by all grids (each about its own mean) is the prior of a
    ridge regression whose weight is that of one node per 3000.
    """
    flat = vectors.reshape(len(vectors), -1, 2)
    seen = np.isfinite(flat[..., 0])
    weight = seen.astype(float)
    values = np.where(seen[..., None], flat, 0.0)
    count = weight.sum(axis=1)
    outer = (FEATURES[:, :, None] * FEATURES[:, None, :]).reshape(-1, 36)
    gram = (weight @ outer).reshape(-1, 6, 6)
    moment = np.einsum("nf,gnc->gfc", FEATURES, values, optimize=True)
    shared = _shared_shape(gram, moment, count)
    ridge = np.diag([0.0] + [PRIOR_WEIGHT] * 5)
    coefficients = np.linalg.solve(gram + ridge, moment + ridge @ shared)
    fitted = FEATURES @ coefficients
    filled = np.where(seen[..., None], flat, fitted).reshape(vectors.shape)
    return filled, coefficients


def _shared_shape(gram: FloatArray, moment: FloatArray, count: npt.NDArray[np.float64]) -> FloatArray:
    """Polynomial (6, 2), without constant, that fits all grids about their own means."""
    mean_features = gram[:, 0, :] / count[:, None]
    centred = gram - count[:, None, None] * mean_features[:, :, None] * mean_features[:, None, :]
    target = moment - mean_features[:, :, None] * moment[:, :1, :]
    system = centred[:, 1:, 1:].sum(axis=0)
    system += np.diag([1e-9, 1e-9, 1e-6, 1e-6, 1e-6]) * max(float(count.sum()), 1.0)
    shape = np.zeros((6, 2))
    shape[1:] = np.linalg.solve(system, target[:, 1:].sum(axis=0))
    return shape
