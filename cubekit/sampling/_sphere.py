"""Distances between sites on the sphere, without seams at the antimeridian or the poles."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cubekit.errors import InputError
from cubekit.typing import Float1D, Float2D, IntArray

__all__ = ["EARTH_RADIUS_KM", "chord", "connected", "distance_km", "neighbours", "unit_vectors"]

EARTH_RADIUS_KM = 6371.0088
"""Mean radius R1 of the Earth (IUGG), km."""

_PAIRS = 30_000_000


def unit_vectors(lon: Float1D, lat: Float1D) -> Float2D:
    """Points on the unit sphere, shape (n, 3), of longitudes and latitudes in degrees.

    Raises
    ------
    InputError
        If the arrays differ in length or hold a value outside [-180, 360] or [-90, 90].
    """
    lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    if lon.ndim != 1 or lon.shape != lat.shape:
        raise InputError(f"lon and lat have shapes {lon.shape} and {lat.shape}", remedy="Give one longitude and one latitude per site")
    outside = ~((np.abs(lat) <= 90) & (lon >= -180) & (lon <= 360))
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise InputError(f"Position {first} is at lon={lon[first]}, lat={lat[first]}", remedy="Give degrees east and north")
    across, up = np.radians(lon), np.radians(lat)
    return np.column_stack([np.cos(up) * np.cos(across), np.cos(up) * np.sin(across), np.sin(up)])


def chord(distance: float) -> float:
    """Straight distance through the unit sphere of two points `distance` km apart on the ground."""
    if not 0 <= distance < np.inf:
        raise InputError(f"Distance {distance} km makes no sense", remedy="Give kilometres, 0 or more")
    return float(2 * np.sin(min(distance / EARTH_RADIUS_KM, np.pi) / 2))


def distance_km(chords: Float1D | float) -> Float1D:
    """Great-circle distances in km of chords of the unit sphere."""
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(np.asarray(chords) / 2, 1)), dtype=np.float64)


def connected(first: IntArray, second: IntArray, n: int) -> IntArray:
    """Component number of each of `n` nodes, given the edges (`first`, `second`)."""
    edges = coo_matrix((np.ones(len(first), dtype=np.int8), (first, second)), shape=(n, n))
    return np.asarray(connected_components(edges, directed=False)[1], dtype=np.int64)


def neighbours(points: Float2D, reach: float) -> IntArray:
    """Pairs of points, shape (m, 2), whose links are enough to connect all points at most `reach` (a chord) apart.

    All pairs, unless there are too many of them to hold; then points of one small cell are chained and cells are compared as wholes.
    """
    tree = cKDTree(points)
    if (tree.count_neighbors(tree, reach) - len(points)) / 2 <= _PAIRS:
        return np.asarray(tree.query_pairs(reach, output_type="ndarray"), dtype=np.int64)
    return _cell_links(points, reach)


def _cell_links(points: Float2D, reach: float) -> IntArray:
    # Within a cell of this edge any two points are within reach.
    cells: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, cell in enumerate(map(tuple, np.floor(points / (max(reach, 1e-12) / np.sqrt(3.001))).astype(np.int64))):
        cells[cell].append(index)
    links = [np.column_stack([members[:-1], members[1:]]) for members in cells.values()]
    trees = {cell: cKDTree(points[members]) for cell, members in cells.items()}
    for cell, step in product(cells, product(range(-2, 3), repeat=3)):
        other = tuple(a + b for a, b in zip(cell, step, strict=True))
        if other > cell and other in cells:
            distances, found = trees[other].query(points[cells[cell]], distance_upper_bound=np.nextafter(reach, 3))
            nearest = int(np.argmin(distances))
            if distances[nearest] <= reach:
                links.append(np.array([[cells[cell][nearest], cells[other][found[nearest]]]]))
    return np.concatenate(links).astype(np.int64)
