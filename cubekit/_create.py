"""`create`: cubo's call, for notebooks. Arguments in cubo's words in, a lazy array of digital numbers out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from cubekit.catalog import Catalog, Item
from cubekit.errors import InputError, NothingFoundError, ReadError
from cubekit.grid import Grid, transformer
from cubekit.layers import Session
from cubekit.read import AssetRead, ReadOptions, lazy_stack
from cubekit.redact import redact
from cubekit.site import TimeRange

__all__ = ["create"]

PLANETARY_COMPUTER = "https://planetarycomputer.microsoft.com/api/stac/v1"


def create(
    lat: float,
    lon: float,
    collection: str | Sequence[str],
    start_date: str,
    end_date: str,
    bands: str | Sequence[str] | Mapping[str, Sequence[str] | str] | None = None,
    edge_size: float = 128,
    units: str = "px",
    resolution: float = 10,
    stac: str | os.PathLike[str] | Mapping[str, str | Sequence[str]] = PLANETARY_COMPUTER,
    gee: bool = False,
    stackstac_kw: Mapping[str, Any] | None = None,
    *,
    engine: str = "window",
    xy_coords: str = "center",
    dataset: bool = False,
    datatree: bool = False,
    session_options: ReadOptions | None = None,
    **kwargs: Any,
) -> xr.DataArray | xr.Dataset | xr.DataTree:
    """Create a lazy data cube on demand, with the arguments of `cubo.create` (2026.2.0, and several collections as in 2026.10.1).

    Nothing is corrected: values are the files' numbers, one time step per catalogue item, taken by nearest neighbour. For analysis-ready
    reflectance use `cubekit.build`.

    Parameters
    ----------
    lat, lon
        Centre, degrees.
    collection
        Collection id, or several.
    start_date, end_date
        First and last day, both included.
    bands
        Names of bands or asset keys; by default all rasters of the items. With several collections a mapping by collection.
    edge_size, units, resolution
        Size of the square, see `cubekit.grid.Grid.around`; the number of pixels is exactly what is asked for, even or odd.
    stac
        Catalogue: name (also ``"demo"``), URL or path; or a mapping of these to the collections they hold.
    gee
        Must be False: Google Earth Engine is not a catalogue of files.
    stackstac_kw
        Only with ``engine="stackstac"``: ``dtype``, ``fill_value`` and ``chunksize`` are honoured.
    engine
        ``"window"``, ``"odc"``, ``"stackstac"`` or ``"rasterio"``; the pixels are the same.
    xy_coords
        ``"center"`` (of the pixels) or ``"topleft"`` (their upper left corners, cubo's habit).
    dataset
        Return a Dataset with one variable per band.
    datatree
        Return a DataTree with one node per collection.
    session_options
        How to read.
    **kwargs
        `query` and `max_items` of the search.

    Returns
    -------
    DataArray
        Dims (time, band, y, x), float32, NaN where there is no data; dask-backed, one task per block of time steps. Attributes are those
        of cubo; the coordinate ``cubo:distance_from_center`` is (y, x), metres. Several collections are merged along ``band``.

    Raises
    ------
    InputError
        For arguments that cannot be meant, before any I/O.
    NothingFoundError
        Where a collection has no item for place and time.
    """
    if gee:
        raise InputError("gee=True is not supported", remedy="Use a STAC catalogue, or cubo itself for Google Earth Engine")
    if xy_coords not in ("center", "topleft"):
        raise InputError(f"xy_coords {xy_coords!r} is unknown", remedy="Use 'center' or 'topleft'")
    if stackstac_kw and engine != "stackstac":
        raise InputError(f"stackstac_kw {sorted(stackstac_kw)} without engine='stackstac'", remedy="Ask for that engine, or leave them out")
    if unknown := sorted(set(kwargs) - {"query", "max_items"}):
        raise InputError(f"Unknown argument {unknown[0]!r}", remedy="Of a search only query and max_items can be given")
    grid = Grid.around(lat, lon, edge_size, resolution, units)
    time = TimeRange(start_date, end_date)  # type: ignore[arg-type]
    options = session_options or ReadOptions(engine=engine)  # type: ignore[arg-type]
    settings = dict(stackstac_kw or {})
    session = Session()
    cubes = []
    for name, where, wanted in _requests(collection, stac, bands):
        catalog = session.catalog((where,))
        items = catalog.search(name, grid.search_boxes(), time.start, time.end, **kwargs)
        if not items:
            raise NothingFoundError(
                f"No items of {name} at {catalog.name} over lat={lat:g}, lon={lon:g} in {time}", remedy="Check place and time"
            )
        cube = _stack(items, wanted, grid, catalog, options, settings)
        cube.attrs = _attrs(name, where, grid, lat, lon, start_date, end_date)
        cube.name = name
        cubes.append(_locate(cube, grid, lat, lon, xy_coords))
    if datatree:
        return xr.DataTree.from_dict({str(cube.name): _as_dataset(cube) if dataset else cube.to_dataset(name="data") for cube in cubes})
    merged = cubes[0] if len(cubes) == 1 else _merge(cubes)
    return _as_dataset(merged) if dataset else merged


def _requests(collection: Any, stac: Any, bands: Any) -> list[tuple[str, str, list[str] | None]]:
    """One (collection, catalogue, bands) each."""
    names = [collection] if isinstance(collection, str) else list(collection)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise InputError(f"collection {collection!r} is not a name or distinct names", remedy="Give for example 'sentinel-2-l2a'")
    places = dict.fromkeys(names, os.fspath(stac) if isinstance(stac, os.PathLike) else stac)
    if isinstance(stac, Mapping):
        places = {name: where for where, held in stac.items() for name in ([held] if isinstance(held, str) else held)}
        if set(places) != set(names):
            raise InputError(f"stac maps {sorted(places)}, but the collections are {sorted(names)}", remedy="Map each collection once")
    if not isinstance(bands, Mapping) and bands is not None and len(names) > 1:
        raise InputError("Several collections share one list of bands", remedy="Give bands as a mapping by collection")
    chosen = dict(bands) if isinstance(bands, Mapping) else {names[0]: bands}
    if stray := sorted(set(chosen) - set(names)):
        raise InputError(f"bands names {stray[0]!r}, which is not among the collections", remedy=f"Use {', '.join(names)}")
    return [(name, places[name], _listed(chosen.get(name))) for name in names]


def _listed(bands: Any) -> list[str] | None:
    if bands is None:
        return None
    names = [bands] if isinstance(bands, str) else list(bands)
    if not names:
        raise InputError("The list of bands is empty", remedy="Name some, or leave it out for all")
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise InputError(f"Band {twice[0]!r} is asked for twice", remedy="Name each band once")
    return names


def _stack(
    items: Sequence[Item], bands: list[str] | None, grid: Grid, catalog: Catalog, options: ReadOptions, settings: Mapping[str, Any]
) -> xr.DataArray:
    names = bands or _rasters(items)
    reads = [[_read(item, band) for band in names] for item in items]
    if missing := [band for number, band in enumerate(names) if all(row[number] is None for row in reads)]:
        raise InputError(f"No item has a band {missing[0]!r}", remedy=f"Use any of: {', '.join(_rasters(items))}")
    if options.local_root is None:
        options = ReadOptions(**{**_fields(options), "local_root": catalog.local_root})
    dtype = np.dtype(settings.get("dtype", "float32"))
    data = lazy_stack(
        reads,
        grid,
        dtype,
        fill=settings.get("fill_value"),
        sign=catalog.sign,
        options=options,
        block=settings.get("chunksize"),
        mask=dtype.kind == "f",
    )
    per_item = {
        "id": [item.id for item in items],
        "platform": [item.platform or "" for item in items],
        "proj:code": [f"EPSG:{item.epsg}" if item.epsg else "" for item in items],
        "eo:cloud_cover": [np.nan if item.cloud_cover is None else item.cloud_cover for item in items],
    }
    times = np.array([np.datetime64(item.datetime.replace(tzinfo=None), "ns") for item in items])
    coords = {"time": times, "band": names, **{key: ("time", values) for key, values in per_item.items()}}
    return xr.DataArray(data, dims=("time", "band", "y", "x"), coords=coords)


def _fields(options: ReadOptions) -> dict[str, Any]:
    from dataclasses import fields

    return {field.name: getattr(options, field.name) for field in fields(options)}


def _rasters(items: Sequence[Item]) -> list[str]:
    """Bands of the collection's profile that an item has, else asset keys with a raster media type."""
    found = []
    for band, rule in items[0].profile.bands.items():
        if any(key in items[0].assets for key in rule.keys):
            found.append(band)
    return found or [
        key for key, asset in items[0].assets.items() if "tiff" in (asset.media_type or "") or "jp2" in (asset.media_type or "")
    ]


def _read(item: Item, band: str) -> AssetRead | None:
    """The read of a band (by band name or asset key) of an item; None where the item lacks it."""
    rule = item.profile.bands.get(band)
    nodata = rule.nodata if rule is not None else None
    try:
        asset = item.asset(band) if rule is not None else item.assets[band]
    except (ReadError, KeyError):
        return None
    return AssetRead(
        asset.href,
        item.id,
        band,
        "nearest",
        nodata if nodata is not None else asset.nodata,
        asset.epsg or item.epsg,
        asset.shape,
        asset.transform,
    )


def _attrs(name: str, where: str, grid: Grid, lat: float, lon: float, start: str, end: str) -> dict[str, Any]:
    x, y = transformer(4326, grid.epsg).transform(lon, lat)
    return {
        "collection": name,
        "stac": redact(where),
        "epsg": grid.epsg,
        "resolution": grid.resolution,
        "edge_size": grid.width,
        "edge_size_m": grid.width * grid.resolution,
        "central_lat": lat,
        "central_lon": lon,
        "central_y": y,
        "central_x": x,
        "time_coverage_start": start,
        "time_coverage_end": end,
    }


def _locate(cube: xr.DataArray, grid: Grid, lat: float, lon: float, xy_coords: str) -> xr.DataArray:
    half = grid.resolution / 2 if xy_coords == "topleft" else 0.0
    located = cube.assign_coords(
        {
            "x": grid.x - half,
            "y": grid.y + half,
            "epsg": grid.epsg,
            "cubo:distance_from_center": (("y", "x"), grid.distance_from(lat, lon)),
        }
    )
    return located.transpose("time", "band", "y", "x")


def _as_dataset(cube: xr.DataArray) -> xr.Dataset:
    ds = cube.drop_vars("collection", errors="ignore").to_dataset("band")
    ds.attrs = cube.attrs
    return ds


def _merge(cubes: Sequence[xr.DataArray]) -> xr.DataArray:
    """Several collections along ``band``, on the union of their times; NaN where a collection has nothing."""
    bands = [band for cube in cubes for band in cube.band.values.tolist()]
    if twice := sorted({band for band in bands if bands.count(band) > 1}):
        raise InputError(f"Band {twice[0]!r} is in more than one collection", remedy="Use datatree=True")
    keyed = [_unique_times(cube) for cube in cubes]
    shared = {"x", "y", "band", "time", "epsg", "cubo:distance_from_center"}
    plain = [cube.drop_vars([name for name in cube.coords if name not in shared]) for cube in keyed]
    tagged = [cube.assign_coords(collection=("band", [cube.name] * cube.sizes["band"])) for cube in plain]
    merged = xr.concat(tagged, dim="band", join="outer", combine_attrs="drop", coords="minimal", compat="override")
    merged.attrs = {**cubes[0].attrs, "collection": [cube.name for cube in cubes], "stac": [cube.attrs["stac"] for cube in cubes]}
    merged.name = None
    return merged


def _unique_times(cube: xr.DataArray) -> xr.DataArray:
    """Items of one moment (overlapping granules) are told apart by a nanosecond each, so that collections can be joined by time."""
    times = cube.time.values.copy()
    for place in range(1, len(times)):
        if times[place] <= times[place - 1]:
            times[place] = times[place - 1] + np.timedelta64(1, "ns")
    return cube.assign_coords(time=times)
