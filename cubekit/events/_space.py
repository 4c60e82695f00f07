"""The latitude-longitude grid: orientation, periodicity, areas on the sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cubekit.errors import InputError
from cubekit.typing import Float1D, FloatArray

__all__ = ["EARTH_RADIUS_KM", "LatLonGrid"]

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG), km."""


@dataclass(frozen=True, slots=True, eq=False)
class LatLonGrid:
    """A rectilinear grid of cell centres, as given: rows by latitude (either way), columns eastward.

    Parameters
    ----------
    lat
        Latitudes of the rows, degrees north, monotonic; shape (ny,).
    lon
        Longitudes of the columns, degrees east, any convention, going east (one jump at 180 or 360 is understood); shape (nx,).

    Raises
    ------
    InputError
        If latitudes leave -90..90 or are not monotonic, or longitudes do not go east or go round more than once.
    """

    lat: Float1D
    lon: Float1D

    def __post_init__(self) -> None:
        lat, lon = np.asarray(self.lat, dtype=np.float64), np.asarray(self.lon, dtype=np.float64)
        _check_lat(lat)
        object.__setattr__(self, "lat", lat)
        object.__setattr__(self, "lon", _unwrapped(lon))

    @classmethod
    def of(cls, ds: Any) -> LatLonGrid:
        """The grid of a dataset with coordinates ``latitude`` and ``longitude`` (scalars count as one cell)."""
        for name in ("latitude", "longitude"):
            if name not in ds.coords:
                raise InputError(f"coordinate {name!r} is missing (there are {sorted(map(str, ds.coords))})", remedy="Rename or assign it.")
        return cls(np.atleast_1d(ds["latitude"].values), np.atleast_1d(ds["longitude"].values))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.lat.size, self.lon.size

    @property
    def lon_step(self) -> float:
        """Mean width of a column in degrees; of a single column the height of a row, else 0."""
        if self.lon.size > 1:
            return float((self.lon[-1] - self.lon[0]) / (self.lon.size - 1))
        return float(np.abs(np.diff(self.lat)).mean()) if self.lat.size > 1 else 0.0

    @property
    def periodic(self) -> bool:
        """Whether the last column touches the first: the columns go round the globe exactly once."""
        return self.lon.size > 2 and abs(self.lon_step * self.lon.size - 360) < 0.5 * self.lon_step

    def lat_edges(self) -> Float1D:
        """Edges of the rows, shape (ny + 1,): half-way between centres, within -90..90."""
        return np.clip(_edges(self.lat, self.lon_step), -90.0, 90.0)

    def lon_edges(self) -> Float1D:
        """Edges of the columns, shape (nx + 1,), unwrapped."""
        return _edges(self.lon, self.lon_step)

    def row_areas(self) -> Float1D:
        """Area in km2 of a cell of each row on the sphere, shape (ny,): R2 dlon (sin north - sin south).

        Columns of unequal width are weighted by :meth:`lon_weights`.
        """
        sines = np.sin(np.deg2rad(self.lat_edges()))
        areas: Float1D = EARTH_RADIUS_KM**2 * np.deg2rad(self.lon_step) * np.abs(np.diff(sines))
        return areas

    def lon_weights(self) -> Float1D:
        """Width of each column over the mean width, shape (nx,)."""
        if self.lon.size == 1:
            return np.ones(1)
        return np.diff(self.lon_edges()) / self.lon_step

    def order(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rank of each row from the north and of each column from 180 W: an order that no orientation changes."""
        west = wrap(self.lon)
        rows, columns = np.empty(self.lat.size, np.int64), np.empty(self.lon.size, np.int64)
        rows[np.argsort(-self.lat, kind="stable")] = np.arange(self.lat.size)
        columns[np.argsort(west, kind="stable")] = np.arange(self.lon.size)
        return rows, columns

    def nearest(self, lon: float, lat: float) -> tuple[int, int]:
        """(row, column) of the cell whose centre is nearest; raises InputError more than one cell outside the grid."""
        gap = np.abs((self.lon - lon + 180.0) % 360.0 - 180.0)
        row, column = int(np.abs(self.lat - lat).argmin()), int(gap.argmin())
        reach = max(self.lon_step, float(np.abs(np.diff(self.lat)).max()) if self.lat.size > 1 else 0.0) or np.inf
        if gap[column] > reach or abs(self.lat[row] - lat) > reach:
            raise InputError(
                f"the point ({lon}, {lat}) is outside the grid (latitude {self.lat.min():g} to {self.lat.max():g}, "
                f"longitude {self.lon[0]:g} to {self.lon[-1]:g})",
                remedy="Choose a point inside it.",
            )
        return row, column


def wrap(lon: FloatArray) -> FloatArray:
    """Longitudes in [-180, 180), rounded to 1e-9 degrees so that both conventions agree."""
    return np.round((np.asarray(lon, dtype=np.float64) + 180.0) % 360.0, 9) % 360.0 - 180.0


def _check_lat(lat: Float1D) -> None:
    steps = np.diff(lat)
    if lat.ndim != 1 or lat.size == 0 or not np.isfinite(lat).all() or np.abs(lat).max() > 90 + 1e-6:
        raise InputError(
            f"latitudes must be a vector within -90..90, not {lat.tolist()[:5]}...", remedy="Check the coordinate's name and units."
        )
    if not ((steps > 0).all() or (steps < 0).all()):
        raise InputError("latitudes are not monotonic", remedy="Sort the data by latitude.")


def _unwrapped(lon: Float1D) -> Float1D:
    if lon.ndim != 1 or lon.size == 0 or not np.isfinite(lon).all():
        raise InputError(f"longitudes must be a vector of degrees, not {lon.tolist()[:5]}...", remedy="Check the coordinate.")
    steps = np.diff(lon)
    steps = np.where(steps < 0, steps + 360.0, steps)
    mean = steps.mean() if steps.size else 0.0
    if steps.size and (steps.min() <= 0 or steps.max() >= 180 or steps.sum() + mean > 360 + 0.5 * mean):
        raise InputError(
            f"longitudes do not go east once round the globe: {lon[0]:g}, {lon[min(1, lon.size - 1)]:g} ... {lon[-1]:g}",
            remedy="Sort the data by longitude and drop doubled columns.",
        )
    return lon + 360.0 * np.concatenate([[0], np.cumsum(np.diff(lon) < 0)])


def _edges(centres: Float1D, step: float) -> Float1D:
    if centres.size == 1:
        return np.array([centres[0] - step / 2, centres[0] + step / 2])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
