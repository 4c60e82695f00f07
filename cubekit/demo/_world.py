"""The world on disk: found again, and able to tell the truth about itself."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from cubekit.demo._acquire import Granule
from cubekit.demo._model import Model, Parameters, band_indices, model
from cubekit.demo._place import SITES, to_plane
from cubekit.demo._weather import LATITUDES, LONGITUDES, PlantedEvent, at
from cubekit.errors import InputError

__all__ = ["CATALOG", "CLIMATE", "PARAMETERS", "World", "ensure_world", "open_world"]

CATALOG, CLIMATE, PARAMETERS = "catalog.json", "era5-land.zarr", "world.json"


@dataclass(frozen=True, slots=True)
class World:
    """A simulated world on disk, and the truth behind it.

    Positions are map coordinates of any EPSG code (pixel centres of any grid), as arrays of equal shape; ``epsg=4326`` takes
    longitude and latitude. Truth is a function of position and day: nothing is read from the rasters.

    Attributes
    ----------
    root : Path
        Folder with ``catalog.json``, the rasters, ``era5-land.zarr`` and ``world.json``.
    parameters : Parameters
        What it was made from.
    """

    root: Path
    parameters: Parameters

    @property
    def _model(self) -> Model:
        return model(self.parameters)

    @property
    def catalog(self) -> Path:
        """The STAC item collection; asset hrefs are relative to its folder."""
        return self.root / CATALOG

    @property
    def climate(self) -> Path:
        """The hourly climate, an ERA5-Land-shaped Zarr store."""
        return self.root / CLIMATE

    @property
    def digest(self) -> str:
        """Digest of the parameters and of the format."""
        return self.parameters.digest

    @property
    def sites(self) -> dict[str, tuple[float, float]]:
        """Named places, (lon, lat)."""
        return dict(SITES)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids of all Sentinel-2 items, in order of sensing."""
        return tuple(self._model.granules)

    @property
    def events(self) -> tuple[PlantedEvent, ...]:
        """The compound dry-hot events planted in the climate."""
        return self._model.events

    def granule(self, item_id: str) -> Granule:
        """The product behind an item; InputError for an unknown id."""
        try:
            return self._model.granules[item_id]
        except KeyError:
            raise InputError(f"no item {item_id!r} in this world", remedy="Take one of World.item_ids", item_id=item_id) from None

    def nadir_reflectance(
        self, bands: Sequence[str], x: npt.ArrayLike, y: npt.ArrayLike, epsg: int, date: str | np.datetime64
    ) -> npt.NDArray[np.float32]:
        """Reflectance seen from nadir under a clear sky on a day, (band, *shape of x): what NBAR must give."""
        surface = self._model.landscape.surface(*to_plane(x, y, epsg))
        return self._model.nadir(surface, _day(date), band_indices(bands))

    def c_factor(self, item_id: str, bands: Sequence[str], x: npt.ArrayLike, y: npt.ArrayLike, epsg: int) -> npt.NDArray[np.float64]:
        """Nadir over observed reflectance, (band, *shape of x), by the detector that saw each point; NaN outside the swath."""
        granule, (px, py) = self.granule(item_id), to_plane(x, y, epsg)
        detector = granule.acquisition.track.detector(px, py)
        band_indices(bands)
        c = np.stack([1.0 / self._model.ratio(granule, band, detector, px, py) for band in bands])
        return np.where(detector > 0, c, np.nan)

    def angles(self, item_id: str, band: str, x: npt.ArrayLike, y: npt.ArrayLike, epsg: int) -> tuple[npt.NDArray[np.float64], ...]:
        """Sun zenith, sun azimuth, view zenith, view azimuth, degrees; NaN outside the swath."""
        granule, (px, py) = self.granule(item_id), to_plane(x, y, epsg)
        detector = granule.acquisition.track.detector(px, py)
        band_indices([band])
        return tuple(np.where(detector > 0, angle, np.nan) for angle in self._model.angles(granule, band, detector, px, py))

    def detector(self, item_id: str, x: npt.ArrayLike, y: npt.ArrayLike, epsg: int) -> npt.NDArray[np.uint8]:
        """Number of the detector that saw each point, 0 outside the swath."""
        return self.granule(item_id).acquisition.track.detector(*to_plane(x, y, epsg))

    def observed_reflectance(
        self, item_id: str, bands: Sequence[str], x: npt.ArrayLike, y: npt.ArrayLike, epsg: int
    ) -> npt.NDArray[np.float32]:
        """Reflectance as the item's pixels hold it, but for their rounding: direction and sky included; NaN outside the swath."""
        granule, (px, py) = self.granule(item_id), to_plane(x, y, epsg)
        acquisition = granule.acquisition
        nadir = self.nadir_reflectance(bands, x, y, epsg, acquisition.day)
        toward = (nadir / self.c_factor(item_id, bands, x, y, epsg)).astype(np.float32)
        cloud, shadow, _ = acquisition.sky.opacity(px, py)
        return np.asarray(acquisition.sky.apply(toward, cloud, shadow, band_indices(bands)), np.float32)

    def scene_classes(self, item_id: str, x: npt.ArrayLike, y: npt.ArrayLike, epsg: int) -> npt.NDArray[np.uint8]:
        """Scene class (SCL) at each point, 0 outside the swath."""
        granule, (px, py) = self.granule(item_id), to_plane(x, y, epsg)
        track, sky = granule.acquisition.track, granule.acquisition.sky
        return self._model.classes(granule, self._model.landscape.surface(px, py), track.detector(px, py), sky.opacity(px, py))

    def cloud_mask(self, item_id: str, x: npt.ArrayLike, y: npt.ArrayLike, epsg: int) -> npt.NDArray[np.bool_]:
        """Whether a cloud or its shadow touches a point; a point that is not touched shows the land exactly."""
        px, py = to_plane(x, y, epsg)
        cloud, shadow, _ = self.granule(item_id).acquisition.sky.opacity(px, py)
        return np.asarray((cloud > 0) | (shadow > 0))

    def elevation(self, x: npt.ArrayLike, y: npt.ArrayLike, epsg: int) -> npt.NDArray[np.float64]:
        """Metres above the geoid."""
        return self._model.landscape.elevation(*to_plane(x, y, epsg))

    def land_cover(self, x: npt.ArrayLike, y: npt.ArrayLike, epsg: int, version: int = 2021) -> npt.NDArray[np.uint8]:
        """ESA WorldCover class of the map of 2020 or 2021."""
        return self._model.landscape.land_cover(*to_plane(x, y, epsg), version)

    def stress(self, date: str | np.datetime64) -> float:
        """Drought stress of the vegetation on a day of the climate, 0 to 1."""
        first, last = self.parameters.climate
        if not first <= _day(date) <= last:
            raise InputError(f"date {date} lies outside the climate {first} to {last}", remedy="Take a day within it")
        return float(at(self._model.weather.days, self._model.stress, _day(date)))

    def event_table(self) -> list[dict[str, Any]]:
        """The planted events as rows: dry_start, start, end (ISO days, inclusive), temperature of hot days (degC), cells (lat, lon)."""
        rows = []
        for event in self.events:
            cells = [(float(LATITUDES[row]), float(LONGITUDES[column])) for row, column in event.cells]
            days = {"dry_start": str(event.dry_start), "start": str(event.start), "end": str(event.end)}
            rows.append({**days, "temperature": event.temperature, "cells": cells})
        return rows


def _day(date: str | np.datetime64) -> np.datetime64:
    try:
        return np.datetime64(str(date), "D")
    except ValueError as error:
        raise InputError(f"date {date!r} is no date", remedy="Write YYYY-MM-DD") from error


def open_world(root: str | os.PathLike[str]) -> World:
    """The world that lies in a folder.

    Raises
    ------
    InputError
        No world there, or one that another version of this package wrote.
    """
    path = Path(root).absolute() / PARAMETERS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        parameters = Parameters(**content["parameters"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"no simulated world in {path.parent}", remedy="Write one with cubekit.demo.write_world", path=str(path)
        ) from error
    if content.get("digest") != parameters.digest:
        message = f"the world in {path.parent} has digest {content.get('digest')}, this version writes {parameters.digest}"
        raise InputError(message, remedy="Remove it and write it again", path=str(path))
    return World(path.parent, parameters)


def ensure_world(cache_dir: str | os.PathLike[str] | None = None) -> World:
    """The default world, from the cache; written on first use.

    Parameters
    ----------
    cache_dir
        Default: ``$CUBEKIT_CACHE_DIR``, or the user's cache folder.

    Notes
    -----
    The folder's name holds the digest of the parameters, so that a new version writes its own. Two processes may write at the same
    time: the first to finish wins.
    """
    base = Path(cache_dir or os.environ.get("CUBEKIT_CACHE_DIR") or platformdirs.user_cache_dir("cubekit"))
    target = base / f"world-{Parameters().digest}"
    if not (target / PARAMETERS).exists():
        # Writing needs libraries that take longer to import than the world takes to open.
        from cubekit.demo._write import write_world

        try:
            return write_world(target)
        except (InputError, OSError):
            if not (target / PARAMETERS).exists():
                raise
    return open_world(target)
