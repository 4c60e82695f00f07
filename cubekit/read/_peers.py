"""Engines ``odc`` and ``stackstac``: those libraries plan and chunk the arrays, this room reads their pixels.

Both take a reader from outside. Theirs approximate the coordinate transformation within 0.125 pixels, choose overviews by rules of
their own and turn some errors into nodata; ours is GDAL's WarpedVRT on this room's transport, so that every engine gives the same
pixels and the same statuses.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from cubekit.grid import Grid
from cubekit.read._types import AssetOutcome, AssetRead

__all__ = ["ReadOne", "odc_stack", "stackstac_stack"]

ReadOne = Callable[[AssetRead, Grid, np.ndarray], AssetOutcome]
"""Reads one asset into an array; decides itself what a hole means."""

Rows = Sequence[Sequence[AssetRead | None]]
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def _key(time: int, band: int) -> str:
    """What stands for a read in an item: neither library looks at it, nothing can open it."""
    return f"https://reads.invalid/{time}/{band}"


def _items(rows: Rows, grid: Grid) -> list[dict[str, Any]]:
    """Minimal items, one per time step: each asset claims the grid itself as its extent, so that every read is asked for whole."""
    west, south, east, north = grid.bounds
    corners = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
    projection = {
        "proj:epsg": grid.epsg,
        "proj:code": f"EPSG:{grid.epsg}",
        "proj:bbox": [west, south, east, north],
        "proj:shape": list(grid.shape),
        "proj:transform": list(grid.affine)[:6],
    }
    return [
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
            "id": f"step-{time}",
            "collection": "reads",
            "bbox": [0.0, 0.0, 1.0, 1.0],
            "geometry": {"type": "Polygon", "coordinates": [corners]},
            "properties": {"datetime": (_EPOCH + dt.timedelta(days=time)).strftime("%Y-%m-%dT%H:%M:%SZ"), **projection},
            "links": [],
            "assets": {
                f"b{band}": {"href": _key(time, band), "roles": ["data"], "type": "image/tiff; application=geotiff", **projection}
                for band in range(len(row))
            },
        }
        for time, row in enumerate(rows)
    ]


@dataclass(frozen=True)
class _Table:
    """Reads by the hrefs that stand for them."""

    rows: Rows
    read_one: ReadOne
    fill: float

    def read(self, href: str, grid: Grid, dtype: np.dtype) -> np.ndarray:
        time, band = (int(part) for part in href.rsplit("/", 2)[1:])
        read = self.rows[time][band]
        out = np.full(grid.shape, self.fill, dtype)
        if read is None:
            return out
        self.read_one(read, grid, out)
        return out


# -- stackstac -----------------------------------------------------------------------------------------------------------------


class _StackReader:
    """stackstac's reader protocol over a `_Table`."""

    def __init__(self, *, table: _Table, url: str, spec: Any, dtype: np.dtype, fill_value: float, **_: Any) -> None:
        self._table = table
        self._url = url
        self._spec = spec
        self._dtype = dtype
        self._fill = fill_value

    def read(self, window: Any, **_: Any) -> np.ndarray:
        spec = self._spec
        west, _, _, north = spec.bounds
        size = spec.resolutions_xy[0]
        part = Grid(spec.epsg, size, west + window.col_off * size, north - window.row_off * size, int(window.width), int(window.height))
        return self._table.read(self._url, part, self._dtype)

    def close(self) -> None:
        """Nothing stays open."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass(frozen=True)
class _ReaderOf:
    """Makes readers that know the table; pickles, as a class made on the spot would not."""

    table: _Table

    def __call__(self, **arguments: Any) -> _StackReader:
        return _StackReader(table=self.table, **arguments)


def stackstac_stack(rows: Rows, grid: Grid, dtype: np.dtype, fill: float, read_one: ReadOne, block: int) -> Any:
    """Dask array (time, band, y, x) by `stackstac.stack`, with everything given that it would otherwise guess."""
    import stackstac

    bands = [f"b{band}" for band in range(len(rows[0]))]
    array = stackstac.stack(
        _items(rows, grid),
        assets=bands,
        epsg=grid.epsg,
        bounds=grid.bounds,
        resolution=grid.resolution,
        dtype=dtype,
        fill_value=dtype.type(fill),
        rescale=False,
        snap_bounds=False,
        sortby_date=False,
        xy_coords=False,
        properties=False,
        band_coords=False,
        chunksize=(block, 1, grid.height, grid.width),
        reader=_ReaderOf(_Table(rows, read_one, fill)),
    )
    return array.data


# -- odc-stac ------------------------------------------------------------------------------------------------------------------


class _OdcReader:
    def __init__(self, table: _Table, href: str) -> None:
        self._table = table
        self._href = href

    def read(self, cfg: Any, dst_geobox: Any, *, dst: np.ndarray | None = None, selection: Any = None) -> tuple[Any, np.ndarray]:
        a, _, left, _, _, top, *_ = dst_geobox.affine
        height, width = dst_geobox.shape
        part = Grid(dst_geobox.crs.to_epsg(), a, left, top, int(width), int(height))
        dtype = np.dtype(cfg.dtype) if dst is None else dst.dtype
        pixels = self._table.read(self._href, part, dtype)
        if dst is not None:
            dst[...] = pixels
            pixels = dst
        return np.s_[0 : int(height), 0 : int(width)], pixels


class _OdcDriver:
    """odc's reader driver protocol over a `_Table`."""

    md_parser = None
    dask_reader = None
    aux_reader = None

    def __init__(self, table: _Table) -> None:
        self._table = table

    def new_load(self, geobox: Any, *, chunks: Any = None) -> Any:
        return None

    def finalise_load(self, load_state: Any) -> Any:
        return None

    def capture_env(self) -> dict[str, Any]:
        return {}

    @contextmanager
    def restore_env(self, env: dict[str, Any], load_state: Any) -> Any:
        yield None

    def open(self, src: Any, ctx: Any) -> _OdcReader:
        return _OdcReader(self._table, src.uri)


def odc_stack(rows: Rows, grid: Grid, dtype: np.dtype, fill: float, read_one: ReadOne, block: int) -> Any:
    """Dask array (time, band, y, x) by `odc.stac.load`."""
    import dask.array
    import odc.stac
    import pystac

    da: Any = dask.array
    bands = [f"b{band}" for band in range(len(rows[0]))]
    items = [pystac.Item.from_dict(item) for item in _items(rows, grid)]
    data = odc.stac.load(
        items,
        bands=bands,
        geobox=grid.geobox,
        dtype=dtype.name,
        nodata=fill,
        chunks={"time": 1, "y": grid.height, "x": grid.width},
        groupby="id",
        driver=_OdcDriver(_Table(rows, read_one, fill)),
        stac_cfg={"reads": {"assets": {"*": {"data_type": dtype.name, "nodata": fill}}}},
        fail_on_error=True,
    )
    stack = da.stack([data[band].data for band in bands], axis=1)
    return stack.rechunk((block, len(bands), *grid.shape))
