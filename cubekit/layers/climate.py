"""Climate and dry-hot events beside the imagery: the layers `era5land` and `events`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import xarray as xr
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cubekit.errors import NothingFoundError, ReadError
from cubekit.events import HALO_DAYS, TABLE_UNITS, cell_events, detect, pei_all, read_dheed, water_balance
from cubekit.layers._base import Layer, LayerRequest
from cubekit.site import TimeRange

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Era5Land", "Events", "Source"]


class Source(BaseModel):
    """Where hourly ERA5(-Land) data come from; written as a name or a path for the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    name: Literal["auto", "path", "ecmwf-arco", "earthdatahub", "open-meteo", "demo"] = "auto"
    """A source, or the first that is configured: a path (`$CUBEKIT_ERA5LAND`), a CDS key, an Earth Data Hub token, else Open-Meteo."""

    path: str | None = None
    """Zarr store, NetCDF file, folder or pattern, local or remote, for the source `path`."""

    convention: Literal["auto", "era5-land", "era5", "arco", "earthdatahub"] = "auto"
    """How accumulated variables are stored, for the source `path`."""

    max_distance: Annotated[float, Field(gt=0)] = 25.0
    """Farthest that the nearest land cell may be, km."""

    @model_validator(mode="after")
    def _path(self) -> Source:
        if self.path is not None and self.name not in ("auto", "path"):
            raise ValueError(f"a path was given, but the source is {self.name!r}")
        return self

    def open(self) -> Any:
        """The source as the read room knows it."""
        from cubekit.read.climate import open_source

        if self.name == "demo":
            from cubekit.demo import ensure_world

            return open_source("path", path=str(ensure_world().climate), max_distance=self.max_distance)
        name = "path" if self.path is not None else self.name
        return open_source(name, path=self.path, convention=self.convention, max_distance=self.max_distance)


NAMES = ("auto", "ecmwf-arco", "earthdatahub", "open-meteo", "demo")


def _source(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value} if value in NAMES else {"name": "path", "path": value}
    return value


SourceOption = Annotated[Source, BeforeValidator(_source)]


class _ClimateLayer(Layer):
    """What both layers share: the source and the daily table."""

    places: ClassVar[tuple[str, ...]] = ("source.path", "cube")

    source: SourceOption = Source()
    """Name of a source, path of a store, or a mapping of options."""

    day: Literal["utc", "solar"] = "utc"
    """Days in UTC, or in local solar time."""

    et0: Literal["fao56", "asce"] = "fao56"
    """Reference evapotranspiration: FAO-56 daily, or ASCE hourly and summed."""

    def _daily(self, request: LayerRequest, time: TimeRange) -> xr.Dataset:
        """The canonical daily table; read once per session for all layers that ask for the same days."""
        from cubekit.read.climate import site_climate

        options = self.source.model_dump_json()
        lat, lon = request.site.lat, request.site.lon

        def read() -> xr.Dataset:
            # Sites of one session share the opened store: its metadata, its land mask and what it caches.
            source = request.session.remember(("climate source", options), self.source.open)
            return site_climate(source, lat, lon, time.start, time.end, day=self.day, et0=self.et0)

        return request.session.remember(("climate", options, self.day, self.et0, lat, lon, str(time)), read)


class Era5Land(_ClimateLayer):
    """Daily climate of the nearest land cell of ERA5-Land, reference evapotranspiration and water balance."""

    group: ClassVar[str] = "/climate"

    kind: Literal["era5land"] = "era5land"
    """Selects this layer."""

    pei: bool = True
    """Whether to add `pei_30`, `pei_90` and `pei_180`, for which the 179 days before the first are read too."""

    def load(self, request: LayerRequest) -> xr.Dataset:
        """Daily table over ``time``; see `cubekit.climate.daily_table` for columns, units and signs."""
        request.session.progress("climate", 0, 1)
        asked = request.time
        if not self.pei:
            table = self._daily(request, asked)
        else:
            table = self._with_halo(request)
            balance = water_balance(table["tp"], table["et0"])
            table = table.assign(pei_all(balance).data_vars).sel(time=slice(asked.start, asked.end))
        request.session.progress("climate", 1, 1)
        return _flat(table, "era5land")

    def _with_halo(self, request: LayerRequest) -> xr.Dataset:
        """The days asked for and, where the record reaches back so far, those before them."""
        halo = TimeRange(request.time.start - np.timedelta64(HALO_DAYS, "D"), request.time.end)
        return self._daily(request, halo)


class Events(_ClimateLayer):
    """Dry-hot event codes and labels of the site's cell, and the table of the events that touch it."""

    group: ClassVar[str] = "/events"

    kind: Literal["events"] = "events"
    """Selects this layer."""

    cube: str | None = None
    """Event cube to take codes and labels from (made by `cubekit events detect`, or Dheed's); by default they are computed at the site."""

    mode: Literal["period", "doy"] = "period"
    """Ranks over the whole reference period, or over a window of days of the year."""

    reference: tuple[str, str] = ("1991-01-01", "2020-12-31")
    """First and last day of the reference period for ranks."""

    window: Annotated[int, Field(ge=1, le=365)] = 31
    """Length of the window of days of the year, for `mode: doy`."""

    min_duration: Annotated[int, Field(ge=1)] = 3
    """Shortest run of compound dry-hot days that counts as an event, days."""

    @model_validator(mode="before")
    @classmethod
    def _reference(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("reference"), list):
            return {**value, "reference": tuple(str(day) for day in value["reference"])}
        return value

    def load(self, request: LayerRequest) -> xr.Dataset:
        """``events`` (uint8 flags), ``event_labels`` and PEI over ``time``; the table on the dimension ``event``."""
        request.session.progress("events", 0, 1)
        asked = request.time
        ds = self._from_cube(request) if self.cube is not None else self._computed(request)
        ds = ds.sel(time=slice(asked.start, asked.end))
        if ds.sizes["time"] == 0:
            raise NothingFoundError(f"No day of {asked} in the events' record", remedy="Choose days within it", site=request.site.id)
        request.session.progress("events", 1, 1)
        return _flat(ds, "events")

    def _computed(self, request: LayerRequest) -> xr.Dataset:
        reference = TimeRange(*self.reference)  # type: ignore[arg-type]
        whole = TimeRange(min(reference.start, request.time.start - np.timedelta64(HALO_DAYS, "D")), max(reference.end, request.time.end))
        daily = self._daily(request, whole)
        cell = {name: float(daily[f"cell_{name}"]) for name in ("latitude", "longitude")}
        found = detect(
            daily[["t2m_max", "tp", "et0"]].assign_coords(cell),
            mode=self.mode,
            reference=self.reference,
            window=self.window,
            min_duration=self.min_duration,
        )
        ds = found.cube.isel(latitude=0, longitude=0, drop=True)
        ds["event_labels"].attrs["comment"] = "runs of compound days at this site, counted from the first day of the record"
        return _with_table(ds, found.tables.events, request.time).assign_attrs(
            reference_period=f"{reference}", rank_mode=self.mode, min_duration_days=self.min_duration
        )

    def _from_cube(self, request: LayerRequest) -> xr.Dataset:
        try:
            cube = _opened(str(self.cube))
        except (OSError, ValueError, KeyError) as error:
            raise ReadError(f"Event cube {self.cube} cannot be opened: {error}", remedy="Give the path of an event cube") from error
        if "layer" in cube:
            cube = read_dheed(cube)
        ds = cell_events(cube, request.site.lon, request.site.lat).load()
        cell = {f"cell_{name}": float(ds[name]) for name in ("latitude", "longitude")}
        return ds.drop_vars(["latitude", "longitude"], errors="ignore").assign_attrs(cell)


def _opened(path: str) -> xr.Dataset:
    """A Zarr group, lazily; xarray warns of one without consolidated metadata unless it is told which."""
    try:
        return xr.open_dataset(path, engine="zarr", chunks=None, consolidated=True)
    except (ValueError, KeyError):
        return xr.open_dataset(path, engine="zarr", chunks=None, consolidated=False)


_EXTENT = ("area_", "volume", "lon_", "lat_", "centroid_", "seed_", "n_cells", "cell_days")
"""Beginnings of the columns that tell how far an event reaches, which a single cell cannot know."""


def _with_table(ds: xr.Dataset, table: pd.DataFrame, time: TimeRange) -> xr.Dataset:
    """Add the rows of the events that touch the days asked for, one variable per column that means something at a site."""
    table = table[(table["end"] >= time.start) & (table["start"] <= time.end)]
    table = table[[name for name in table.columns if not str(name).startswith(_EXTENT)]]
    columns = {}
    for name in table.columns:
        values = table[name].to_numpy()
        if values.dtype.kind == "M":
            values = values.astype("datetime64[ns]")
        attrs = {"units": TABLE_UNITS[name]} if TABLE_UNITS.get(name) else {}
        columns[f"event_{name}"] = ("event", values, {"long_name": f"event: {name.replace('_', ' ')}", **attrs})
    return ds.assign(columns).assign_coords(
        event=("event", np.asarray(table.index, dtype=str), {"long_name": "persistent id of the event"})
    )


def _flat(table: xr.Dataset, prefix: str) -> xr.Dataset:
    """Name the attributes after the layer, so that layers of one group do not collide."""
    table = table.copy(deep=False)
    table.attrs = {f"{prefix}_{key}": value for key, value in table.attrs.items()}
    if "event_labels" in table:
        table["event_labels"].attrs.setdefault("units", "1")
    return table
