"""Local stores and servers of exactly the layouts that the public archives document."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import xarray as xr

from tests.climate.conftest import make_hours, running_totals


def world(days: int = 12, latitudes=None, longitudes=None, *, ocean=(), start="2018-06-01") -> xr.Dataset:
    """Hourly amounts on a grid whose cells all differ, NaN in `ocean` cells (row, column)."""
    latitudes = np.round(np.arange(52.0, 50.95, -0.1), 1) if latitudes is None else np.asarray(latitudes)
    longitudes = np.round(np.arange(11.0, 13.05, 0.1), 1) if longitudes is None else np.asarray(longitudes)
    base = make_hours(days, start=np.datetime64(start, "ns")).drop_vars(["latitude", "longitude"])
    rows, columns = np.meshgrid(np.arange(len(latitudes)), np.arange(len(longitudes)), indexing="ij")
    factor = xr.DataArray(1.0 + 1e-4 * rows + 1e-6 * columns, dims=("latitude", "longitude"))
    for row, column in ocean:
        factor[row, column] = np.nan
    grid = xr.Dataset({name: (array * factor).astype(np.float32).assign_attrs(array.attrs) for name, array in base.data_vars.items()})
    return grid.assign_coords(latitude=latitudes, longitude=longitudes).transpose("time", "latitude", "longitude")


def era5_land(days: int = 12, **options) -> xr.Dataset:
    """`world` with running totals, as ERA5-Land has them."""
    grid = world(days, **options)
    result = grid.copy()
    for name in ("tp", "ssrd", "ssr", "e", "pev", "slhf", "sshf"):
        totals = running_totals(grid[name].values.astype(np.float64), grid["time"].values)
        result[name] = grid[name].copy(data=totals.astype(np.float32))
    return result


def write_zarr(data: xr.Dataset, path: Path, chunks: tuple[int, int, int], zarr_format: int = 3, consolidated: bool = True) -> Path:
    encoding = {name: {"chunks": tuple(min(c, s) for c, s in zip(chunks, data[name].shape, strict=True))} for name in data.data_vars}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr: consolidated metadata is no part of version 3, but the archives have it
        data.drop_encoding().to_zarr(path, mode="w", encoding=encoding, zarr_format=zarr_format, consolidated=consolidated)
    return path


ARCO_VARIABLES = {
    "sfc-2m-temperature": (7, ("t2m", "d2m")),
    "sfc-wind": (8, ("u10", "v10")),
    "sfc-pressure-precipitation": (9, ("sp", "tp")),
    "sfc-radiation-heat": (10, ("ssrd",)),
    "sfc-soil-water": (5, ("swvl1", "swvl2", "swvl3", "swvl4")),
}


def write_arco(grid: xr.Dataset, root: Path, chunks=(33_792, 4, 8)) -> None:
    """ECMWF's ARCO: one Zarr v2 store per group, ascending latitude, longitude -179.9 to 180, hourly amounts."""
    data = grid.sortby("latitude").assign_coords(longitude=(grid["longitude"] + 180) % 360 - 180).sortby("longitude")
    for group, (number, names) in ARCO_VARIABLES.items():
        path = root / f"cadl-arco-geo-{number:03d}" / "arco" / "reanalysis_era5_land" / group / "geoChunked.zarr"
        path.parent.mkdir(parents=True)
        part = data[list(names)]
        part["time"].encoding = {"units": "hours since 1970-01-01", "dtype": "int64"}
        write_zarr(part, path, chunks, zarr_format=2)


def write_earthdatahub(grid: xr.Dataset, root: Path, chunks=(1440, 50, 100)) -> Path:
    """Earth Data Hub: one Zarr v3 store, valid_time, longitude 0 to 360, scalar GRIB coordinates, running totals."""
    data = grid.assign_coords(longitude=grid["longitude"] % 360).sortby("longitude").rename(time="valid_time")
    data = data.assign_coords(number=0, surface=0.0, depthBelowLandLayer=0.0)
    path = root / "era5" / "era5-land-v0.zarr"
    path.parent.mkdir(parents=True)
    return write_zarr(data, path, chunks)


class Handler(SimpleHTTPRequestHandler):
    """Serves files, to those who send the expected Authorization header only; keeps a log of what was asked."""

    def do_GET(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        if server.authorization and self.headers.get("Authorization") != server.authorization:
            self.send_error(401)
            return
        with server.lock:
            server.requests.append(self.path)
        if server.answer is not None:
            status, headers, body = server.answer(self.path)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)
            return
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    authorization = ""
    answer = None

    def __init__(self, root: Path) -> None:
        self.requests: list[str] = []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(root)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def chunks(self, name: str) -> list[str]:
        """Chunk requests of a variable."""
        return [
            r for r in self.requests if f"/{name}/" in r and not r.endswith(("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"))
        ]


@contextmanager
def serve(root: Path, authorization: str = "", answer=None) -> Iterator[Server]:
    server = Server(root)
    server.authorization, server.answer = authorization, answer
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
