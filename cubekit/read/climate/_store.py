"""Sources that are Zarr stores or NetCDF files with ERA5(-Land) names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cubekit.climate import HOURLY, Cell, Convention, great_circle_km, nearest_land_cell, wrap_longitude
from cubekit.errors import CubekitError, InputError, NothingFoundError, ReadError
from cubekit.read.climate._base import CELL_ATTRS, Hourly, hours_around
from cubekit.read.climate._cache import DiskCache
from cubekit.read.climate._chunks import ChunkReader, Place
from cubekit.read.climate._open import READ_ERRORS, as_read_error, cell_heights, is_remote, open_era5, open_raw
from cubekit.redact import unsigned
from cubekit.site import Site, TimeRange

__all__ = ["StoreSource"]

_ROUND_THE_EARTH = 20_100.0
"""More than half of the Earth's circumference, km."""

_SEARCH_BYTES = 256 * 2**20
"""What may be read to tell an ocean site how far land is."""


@dataclass(frozen=True)
class StoreSource:
    """ERA5(-Land) in Zarr or NetCDF, local or remote.

    Parameters
    ----------
    paths
        One entry per store that holds some of the variables; an entry is a path, URL, pattern or folder, or a list of those.
    name
        Name of the source.
    convention
        How accumulated variables are stored, or ``auto``.
    storage_options
        For remote paths: ``headers``, ``anon``, ``key``, ``secret``, ``token``, ``endpoint_url``, ``region``; or obstore's own ``config``,
        ``client_options``, ``retry_config``.
    headers
        Called when a store is opened, for headers with credentials: nothing is kept.
    cache
        Disk cache for remote series; local stores are not cached.
    max_distance
        Farthest that a land cell may be, km.
    orography
        NetCDF or Zarr with the grid's elevation (``elevation``, ``orography`` in m) or geopotential (``z``, m2 s-2).
    description
        Goes into the attributes of what is read.
    """

    paths: tuple[str | Path | list[str | Path], ...]
    name: str = "path"
    convention: Convention | str = "auto"
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Callable[[], dict[str, str]] | None = field(default=None, repr=False)
    cache: DiskCache | None = None
    max_distance: float = 25.0
    orography: str | None = None
    description: str = ""

    @cached_property
    def readers(self) -> list[ChunkReader]:
        """One reader per store, opened on first use."""
        options = dict(self.storage_options)
        if self.headers is not None:
            options["headers"] = {**dict(options.get("headers") or {}), **self.headers()}
        return [self._reader(entry, options) for entry in self.paths]

    def _reader(self, entry: str | Path | list[str | Path], options: Mapping[str, Any]) -> ChunkReader:
        data, heights = open_era5(entry, options, self.cache)
        label = unsigned(str(entry)) if isinstance(entry, (str, Path)) else " ".join(unsigned(str(e)) for e in entry)
        remote = isinstance(entry, (str, Path)) and is_remote(str(entry))
        times = data["time"].values
        if times.size == 0:
            raise ReadError(f"{label} holds no hour", remedy="Check the store", href=label)
        axes = [data[name].values for name in ("latitude", "longitude") if name in data.dims]
        identity = " ".join([label, *(f"{axis.size} from {axis[0]:g}" for axis in axes), str(times[0])])
        return ChunkReader(data, label, identity, heights, self.cache if remote else None)

    @cached_property
    def _masks(self) -> dict[tuple[int, int], np.ndarray]:
        """Land within spatial chunks of the first store, as far as they were looked at."""
        return {}

    @cached_property
    def _orography(self) -> xr.DataArray | None:
        """Elevation of the grid that `orography` names."""
        if not self.orography:
            return None
        raw = open_raw(self.orography, self.storage_options, self.cache)
        heights = cell_heights(raw)
        if heights is None:
            raise InputError(f"{self.orography} has none of elevation, orography, z", remedy="Give ERA5-Land's geopotential")
        return heights

    def read_many(self, sites: Sequence[Site], period: TimeRange) -> list[Hourly]:
        """See `ClimateSource.read_many`; sites that share a stored chunk share its read."""
        readers = self.readers
        window = [_span(reader.data, period) for reader in readers]
        cells = [self._cell(readers[0], site) for site in sites]
        chosen = [(i, cell) for i, cell in enumerate(cells) if isinstance(cell, Cell)]
        result: list[Hourly] = [cell if isinstance(cell, CubekitError) else xr.Dataset() for cell in cells]
        if not chosen:
            return result
        parts: list[list[xr.Dataset]] = [[] for _ in chosen]
        for reader, (start, stop) in zip(readers, window, strict=True):
            if stop <= start:
                continue
            for k, part in enumerate(self._series(reader, start, stop, [cell for _, cell in chosen])):
                parts[k].append(part)
        for k, (i, cell) in enumerate(chosen):
            result[i] = self._assemble(parts[k], cell, period)
        return result

    def _series(self, reader: ChunkReader, start: int, stop: int, cells: Sequence[Cell]) -> list[xr.Dataset]:
        data = reader.data
        names = [str(name) for name in data.data_vars if str(name) in HOURLY and "time" in data[name].dims]
        places = [_place(data, cell) for cell in cells]
        try:
            series = reader.series(names, start, stop, places)
        except READ_ERRORS as error:
            raise as_read_error(error, reader.label) from None
        times = data["time"].values[start:stop].astype("datetime64[ns]")
        extra = {n: ("time", c.values[start:stop]) for n, c in data.coords.items() if n != "time" and c.dims == ("time",)}
        attrs = {
            name: {k: data[name].attrs[k] for k in ("units", "GRIB_units", "source_units", "cell_amount") if k in data[name].attrs}
            for name in names
        }
        return [
            xr.Dataset({name: ("time", series[name][:, i], attrs[name]) for name in names}, coords={"time": times, **extra})
            for i in range(len(cells))
        ]

    def _assemble(self, parts: list[xr.Dataset], cell: Cell, period: TimeRange) -> Hourly:
        if not parts:
            first, last = self.readers[0].data["time"].values[[0, -1]].astype("datetime64[h]")
            return NothingFoundError(
                f"{self.name} holds no hour of {period}: it goes from {first} to {last}",
                remedy="Choose days within the record",
            )
        hours = parts[0] if len(parts) == 1 else xr.merge(parts, join="outer", compat="override", combine_attrs="override")
        values = {"cell_latitude": cell.latitude, "cell_longitude": cell.longitude, "cell_distance": cell.distance}
        height = self._height(cell)
        if height is not None:
            values["cell_elevation"] = height
        hours.attrs = {"source": self.name, "source_description": self.description}
        return hours.assign_coords({name: ((), value, CELL_ATTRS[name]) for name, value in values.items()})

    def _height(self, cell: Cell) -> float | None:
        """Elevation of a cell in m, if `orography` or the store itself tells it."""
        heights, row, column = self.readers[0].heights, cell.row, cell.column
        if self._orography is not None:
            heights = self._orography
            found = nearest_land_cell(cell.latitude, cell.longitude, _everywhere(heights), max_distance=self.max_distance)
            row, column = found.row, found.column
        if heights is None:
            return None
        height = float(heights.isel(latitude=row, longitude=column)) * float(heights.attrs["factor"])
        return height if np.isfinite(height) else None

    def _cell(self, reader: ChunkReader, site: Site) -> Cell | CubekitError:
        """The nearest land cell; the neighbours are looked at only where the nearest cell is no land."""
        data = reader.data
        if "latitude" not in data.dims or "longitude" not in data.dims:
            return self._only_cell(data, site)
        probe = "t2m" if "t2m" in data else next(iter(map(str, data.data_vars)))
        rows, columns, distance = _candidates(data, site, self.max_distance)
        try:
            if rows.size:
                nearest = np.unravel_index(int(np.argmin(distance)), distance.shape)
                for r, c in ((np.asarray([rows[nearest[0]]]), np.asarray([columns[nearest[1]]])), (rows, columns)):
                    mask = self._land(reader, probe, r, c)
                    if mask.values.any():
                        found = nearest_land_cell(site.lat, site.lon, mask, max_distance=self.max_distance)
                        return Cell(int(r[found.row]), int(c[found.column]), found.latitude, found.longitude, found.distance)
            return self._no_land(reader, site, probe)
        except CubekitError as error:
            return error

    def _only_cell(self, data: xr.Dataset, site: Site) -> Cell | CubekitError:
        if "latitude" not in data.coords or "longitude" not in data.coords:
            return InputError("The data say nothing of where they are", remedy="Add coordinates latitude and longitude")
        lat, lon = float(np.ravel(data["latitude"].values)[0]), float(np.ravel(data["longitude"].values)[0])
        mask = xr.DataArray([[True]], dims=("latitude", "longitude"), coords={"latitude": [lat], "longitude": [lon]})
        try:
            return nearest_land_cell(site.lat, site.lon, mask, max_distance=self.max_distance)
        except NothingFoundError as error:
            return error

    def _no_land(self, reader: ChunkReader, site: Site, probe: str) -> NothingFoundError:
        """The distance to the nearest land is sought in growing windows, as far as a message is worth reading for."""
        data = reader.data
        beyond = self.max_distance
        for reach in (4.0 * self.max_distance, 20.0 * self.max_distance, _ROUND_THE_EARTH):
            rows, columns, _ = _candidates(data, site, reach)
            if rows.size == 0 or columns.size == 0:
                continue
            hours, tall, wide = reader.chunk_shape(probe)
            chunks = np.unique(rows // tall).size * np.unique(columns // wide).size
            if 4 * hours * tall * wide * chunks > _SEARCH_BYTES:
                break
            mask = self._land(reader, probe, rows, columns)
            if mask.values.any():
                try:
                    nearest_land_cell(site.lat, site.lon, mask, max_distance=self.max_distance)
                except NothingFoundError as error:
                    return error
            beyond = reach
        where = (
            f"the nearest land cell is more than {beyond:g} km away" if beyond < _ROUND_THE_EARTH else "the data hold no land cell at all"
        )
        return NothingFoundError(
            f"No land cell within {self.max_distance:g} km of latitude {site.lat:g}, longitude {site.lon:g}: {where}",
            remedy="Move the site onto land, or leave the climate layer out",
            site=site.id,
        )

    def _land(self, reader: ChunkReader, probe: str, rows: np.ndarray, columns: np.ndarray) -> xr.DataArray:
        """Where the cells are land; every stored chunk that holds some of them is looked at once."""
        data = reader.data
        _, tall, wide = reader.chunk_shape(probe)
        mask = np.zeros((rows.size, columns.size), dtype=bool)
        for i in np.unique(rows // tall):
            for j in np.unique(columns // wide):
                if (i, j) not in self._masks:
                    self._masks[(i, j)] = self._chunk_mask(reader, probe, slice(i * tall, (i + 1) * tall), slice(j * wide, (j + 1) * wide))
                inside = np.ix_(rows // tall == i, columns // wide == j)
                mask[inside] = self._masks[(i, j)][np.ix_(rows[rows // tall == i] - i * tall, columns[columns // wide == j] - j * wide)]
        coords = {"latitude": data["latitude"].values[rows], "longitude": data["longitude"].values[columns]}
        return xr.DataArray(mask, dims=("latitude", "longitude"), coords=coords)

    @staticmethod
    def _chunk_mask(reader: ChunkReader, probe: str, rows: slice, columns: slice) -> np.ndarray:
        """Cells with a value in the middle of the record; where none has, in its first or last hour."""
        window = reader.data[probe].isel(latitude=rows, longitude=columns)
        count = window.sizes["time"]
        for hour in (count // 2, 0, count - 1):
            try:
                mask = np.isfinite(window.isel(time=hour).transpose("latitude", "longitude").values)
            except READ_ERRORS as error:
                raise as_read_error(error, reader.label) from None
            if mask.any():
                break
        return np.asarray(mask)


def _everywhere(heights: xr.DataArray) -> xr.DataArray:
    """A mask over the grid of `heights` that counts every cell; nothing is read."""
    shape = (heights.sizes["latitude"], heights.sizes["longitude"])
    coords = {name: heights[name].values for name in ("latitude", "longitude")}
    return xr.DataArray(np.ones(shape, dtype=bool), dims=("latitude", "longitude"), coords=coords)


def _candidates(data: xr.Dataset, site: Site, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns within `reach` km of the site, and the distances of their cells."""
    latitudes, longitudes = data["latitude"].values.astype(np.float64), data["longitude"].values.astype(np.float64)
    degrees = reach / 111.0
    rows = np.flatnonzero(np.abs(latitudes - site.lat) <= degrees)
    widest = np.cos(np.radians(min(np.max(np.abs(latitudes[rows])) if rows.size else 90.0, 89.9)))
    apart = np.abs(wrap_longitude(longitudes - site.lon))
    columns = np.flatnonzero(apart <= min(degrees / max(widest, 1e-3), 180.0))
    if rows.size == 0 or columns.size == 0:
        return np.empty(0, int), np.empty(0, int), np.empty((0, 0))
    distance = great_circle_km(site.lat, site.lon, latitudes[rows][:, None], longitudes[columns][None, :])
    return rows, columns, distance


def _place(data: xr.Dataset, cell: Cell) -> Place:
    """Where a cell, chosen in the first store, lies in `data`."""
    if "latitude" not in data.dims or "longitude" not in data.dims:
        return 0, 0
    rows = np.abs(data["latitude"].values.astype(np.float64) - cell.latitude)
    columns = np.abs(wrap_longitude(data["longitude"].values.astype(np.float64) - cell.longitude))
    row, column = int(np.argmin(rows)), int(np.argmin(columns))
    if rows[row] > 0.02 or columns[column] > 0.02:
        raise InputError(
            f"The stores are on different grids: no cell at latitude {cell.latitude:g}, longitude {cell.longitude:g} in one of them",
            remedy="Give stores of one product",
        )
    return row, column


def _span(data: xr.Dataset, period: TimeRange) -> tuple[int, int]:
    times = data["time"].values.astype("datetime64[ns]")
    first, last = hours_around(period)
    return int(np.searchsorted(times, first)), int(np.searchsorted(times, last, side="right"))
