"""One reader, one job, one process: reads the window of all items and prints what it cost as JSON.

Runs in environments without cubekit (peers) and with it (``cubekit*``); called by ``read.py`` with a JSON file that describes the job.
The wall time counts from after the imports, for every reader alike; what they take stands beside it. The pixels come back as a digest of the (time, band, y, x) array of uint16.
"""

# ruff: noqa: E402  the clock starts before anything heavy is imported
from __future__ import annotations

import time

BEGIN = time.perf_counter()

import asyncio
import contextlib
import datetime as dt
import hashlib
import json
import os
import re
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

warnings.simplefilter("ignore")
os.environ |= {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_HTTP_MAX_RETRY": "5", "GDAL_HTTP_RETRY_DELAY": "0.2"}


def _threads(job):
    """Dask's own choice, or so many threads."""
    import dask

    return dask.config.set(scheduler="threads", num_workers=job["threads"]) if job["threads"] else contextlib.nullcontext()


def cubo(job):
    cube = cubo_cube(job)
    return lambda: cube().values


def cubo_cube(job):
    import cubo

    def run():
        with _threads(job):
            cube = cubo.create(
                lat=job["lat"], lon=job["lon"], collection="sentinel-2-l2a", bands=job["bands"], start_date="2019-01-01",
                end_date="2030-01-01", edge_size=job["edge"], resolution=job["resolution"], stac=job["stac"], stackstac_kw={},
            )  # fmt: skip
            return cube.compute()

    return run


def odc_stac(job):
    import odc.stac
    import pystac
    from odc.geo.geobox import GeoBox

    items = [pystac.Item.from_dict(item) for item in job["items"]]
    box = GeoBox.from_bbox(job["bounds"], crs=f"EPSG:{job['epsg']}", resolution=job["resolution"], tight=True)

    def run():
        with _threads(job):
            data = odc.stac.load(
                items, bands=job["bands"], geobox=box, chunks={"time": 1}, dtype="uint16", nodata=0, groupby="id"
            ).compute()
            return np.stack([data[band].values for band in job["bands"]], axis=1)

    return run


def stackstac(job):
    import stackstac as library

    def run():
        with _threads(job):
            return library.stack(
                job["items"], assets=job["bands"], epsg=job["epsg"], bounds=job["bounds"], resolution=job["resolution"], dtype="uint16",
                fill_value=np.uint16(0), rescale=False, xy_coords=False, properties=False, band_coords=False,
            ).values  # fmt: skip

    return run


def rasterio_pool(job):
    import rasterio
    from rasterio.vrt import WarpedVRT

    west, _, _, north = job["bounds"]
    edge, size = job["edge"], job["resolution"]

    def one(href):
        with (
            rasterio.open(href) as source,
            WarpedVRT(
                source, crs=f"EPSG:{job['epsg']}", transform=rasterio.Affine(size, 0, west, 0, -size, north), width=edge, height=edge
            ) as view,
        ):
            return view.read(1)

    def run():
        hrefs = [item["assets"][band]["href"] for item in job["items"] for band in job["bands"]]
        with ThreadPoolExecutor(job["threads"] or os.cpu_count()) as pool:
            return np.stack(list(pool.map(one, hrefs))).reshape(len(job["items"]), len(job["bands"]), edge, edge)

    return run


class _Items:
    """Stands in for lazycogs' DuckDB search where its spatial extension cannot be downloaded: the same answers, sooner."""

    def __init__(self, items):
        self._items = items

    def search(self, href, *, datetime=None, max_items=None, **_):
        found = self._items
        if datetime:
            first, _, last = datetime.partition("/")
            low, high = (self._time(text) for text in (first, last or first))
            found = [item for item in found if low <= self._time(item["properties"]["datetime"]) <= high]
        return found[:max_items]

    def search_to_arrow(self, href, **_):
        import pyarrow

        times = [self._time(item["properties"]["datetime"]) for item in self._items]
        return pyarrow.table({"datetime": times, "start_datetime": pyarrow.nulls(len(times))})

    @staticmethod
    def _time(text):
        return dt.datetime.fromisoformat(text.replace("Z", "+00:00"))


def lazycogs(job):
    import lazycogs as library
    import obstore.store
    import rustac

    path = Path(job["folder"]) / "items.parquet"

    async def save():
        await rustac.write(str(path), job["items"])

    asyncio.run(save())
    parts = urlsplit(job["url"])
    store = obstore.store.HTTPStore.from_url(f"{parts.scheme}://{parts.netloc}", client_options={"allow_http": True})
    settings = {"max_concurrent_reads": job["threads"]} if job["threads"] else {}
    try:
        rustac.DuckdbClient()
    except rustac.RustacError:
        settings["duckdb_client"] = _Items(job["items"])

    def run():
        cube = library.open(
            str(path), bbox=tuple(job["bounds"]), crs=f"EPSG:{job['epsg']}", resolution=job["resolution"], bands=job["bands"], nodata=0,
            dtype="uint16", time_period=None, store=store, **settings,
        )  # fmt: skip
        return cube.transpose("time", "band", "y", "x").values

    return run


def async_geotiff(job):
    import async_geotiff as library
    import obstore.store

    parts = urlsplit(job["url"])
    west, _, east, north = job["bounds"]
    limit = job["threads"] or 256

    async def all_of_them():
        store = obstore.store.HTTPStore.from_url(f"{parts.scheme}://{parts.netloc}", client_options={"allow_http": True})
        gate = asyncio.Semaphore(limit)

        async def one(href):
            async with gate:
                tiff = await library.GeoTIFF.open(urlsplit(href).path.lstrip("/"), store=store)
                image = tiff
                for overview in tiff.overviews:  # the coarsest that is not coarser than the cube, as cubekit chooses
                    if overview.transform.a <= job["resolution"]:
                        image = overview
                size, left, top = image.transform.a, image.transform.c, image.transform.f
                column, row = int((west - left) // size), int((top - north) // size)
                count = int(-(-(east - left) // size)) - column
                pixels = np.asarray((await image.read(window=library.Window(column, row, count, count))).data)[0]
                factor = round(size / job["resolution"])
                x, y = (
                    round((place - corner) / job["resolution"])
                    for place, corner in ((west, left + column * size), (top - row * size, north))
                )
                return pixels.repeat(factor, 0).repeat(factor, 1)[y : y + job["edge"], x : x + job["edge"]]

        hrefs = [item["assets"][band]["href"] for item in job["items"] for band in job["bands"]]
        return await asyncio.gather(*(one(href) for href in hrefs))

    def run():
        return np.stack(asyncio.run(all_of_them())).reshape(len(job["items"]), len(job["bands"]), job["edge"], job["edge"])

    return run


def cubekit(job):
    from cubekit.grid import Grid
    from cubekit.read import AssetRead, ReadOptions, read_assets

    grid = Grid(job["epsg"], float(job["resolution"]), job["bounds"][0], job["bounds"][3], job["edge"], job["edge"])
    settings = {"cache_dir": Path(job["cache_dir"])} if job.get("cache_dir") else {}
    if job["threads"]:
        settings["concurrency"] = job["threads"]

    def run():
        reads = [AssetRead(item["assets"][b]["href"], item["id"], b, "nearest", 0) for item in job["items"] for b in job["bands"]]
        out = np.empty((len(job["items"]), len(job["bands"]), job["edge"], job["edge"]), "uint16")
        flat = out.reshape(len(reads), job["edge"], job["edge"])
        outcomes = read_assets(reads, grid, flat, options=ReadOptions(**settings))
        run.notes = {
            "misses": sum(o.misses for o in outcomes),
            "retries": sum(o.retries for o in outcomes),
            "holes": sum(o.status.is_hole for o in outcomes),
            "cost": {"requests": sum(o.requests for o in outcomes), "bytes": sum(o.bytes for o in outcomes)},
        }
        return out

    return run


def cubo_nbar(job):
    """cubo, sen2nbar's c-factor of every date (its own functions, as its `nbar_stac` combines them), and a Zarr store."""
    import tempfile
    import urllib.request

    import xarray as xr
    from sen2nbar.c_factor import c_factor_from_metadata
    from sen2nbar.utils import _extrapolate_c_factor

    read = cubo_cube(job)

    def run():
        cube = read()
        with tempfile.TemporaryDirectory() as folder:
            factors = []
            for number, item in enumerate(sorted(job["items"], key=lambda item: item["properties"]["datetime"])):
                path = Path(folder) / f"{number}.xml"
                urllib.request.urlretrieve(item["assets"]["granule-metadata"]["href"], path)
                factor = _extrapolate_c_factor(c_factor_from_metadata(str(path)))
                factors.append(factor.interp(y=cube.y.values, x=cube.x.values, method="linear", kwargs={"fill_value": "extrapolate"}))
            factors = xr.concat(factors, dim="time")
            factors["time"] = cube.time.values
            bare = xr.DataArray(cube.values, dims=cube.dims, coords={name: cube[name].values for name in cube.dims})
            done = ((bare.where(bare > 0) - 1000) * factors).astype("float32")
            done.rename("nbar").to_dataset().to_zarr(str(Path(folder) / "cube.zarr"), mode="w")
            return done.values[:, :, :1, :1]

    return run


def cubekit_nbar(job):
    """The whole way with `cubekit.build`: search, pixels, scene classes, metadata, c-factors by detector, checks, Zarr store."""
    import shutil

    import dask.array  # noqa: F401  as all imports: not in the wall time
    import zarr  # noqa: F401

    import cubekit
    import cubekit.catalog._api
    import cubekit.layers.sentinel2
    import cubekit.nbar
    import cubekit.pipeline
    from cubekit.errors import ScienceWarning

    warnings.simplefilter("error", ScienceWarning)  # a scene that could not be corrected would be cheap

    def run():
        out = Path(job["folder"]) / "cube.zarr"
        shutil.rmtree(out, ignore_errors=True)
        cubekit.build(
            job["lat"], job["lon"], "2019-01-01", "2030-01-01", out=out, catalog=job["stac"], bands=job["bands"],
            edge_size=job["edge"], resolution=job["resolution"],
        )  # fmt: skip
        run.notes = {"store_mb": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6}
        return np.zeros((1, 1, 1, 1))

    return run


def cubekit_again(job):
    """The second read in one process, without its headers: what a notebook sees from the second site on."""
    from cubekit.read import forget_headers

    read = cubekit(job)
    read()
    forget_headers()

    def run():
        out = read()
        run.notes = {**read.notes, "counted": read.notes["cost"]}
        return out

    return run


def cubekit_create(job):
    """With the search, as cubo does it."""
    import dask.array  # noqa: F401  as all imports: not in the wall time
    import distributed  # noqa: F401  dask imports it before it computes anything, cubo with stackstac
    import pystac_client  # noqa: F401

    from cubekit import create

    def run():
        cube = create(
            lat=job["lat"], lon=job["lon"], collection="sentinel-2-l2a", bands=job["bands"], start_date="2019-01-01",
            end_date="2030-01-01", edge_size=job["edge"], resolution=job["resolution"], stac=job["stac"],
        )  # fmt: skip
        return cube.values

    return run


def main():
    name, path = sys.argv[1:3]
    job = json.loads(Path(path).read_text())
    job["items"] = json.loads(Path(job["items"]).read_text())["features"]
    run = globals()[name](job)
    imports = time.perf_counter() - BEGIN
    begin, used = time.perf_counter(), time.process_time()
    pixels = run()
    wall, cpu = time.perf_counter() - begin, time.process_time() - used
    # Not getrusage: its maximum is inherited from the process that started this one.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    pixels = np.ascontiguousarray(np.nan_to_num(pixels).astype("uint16"))
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()[:12]
    print(
        json.dumps(
            {
                "wall": wall,
                "imports": imports,
                "cpu": cpu,
                "peak_mb": peak,
                "digest": digest,
                "shape": pixels.shape,
                **getattr(run, "notes", {}),
            }
        )
    )


if __name__ == "__main__":
    main()
