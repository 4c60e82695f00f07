"""Every source gives the same table; chunks are shared, cached and never half written; credentials stay where they belong."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import xarray as xr

from cubekit import climate
from cubekit.errors import AccessDeniedError, InputError, NothingFoundError, ReadError
from cubekit.read.climate import (
    ClimateSource,
    DiskCache,
    OpenMeteoSource,
    StoreSource,
    configured_source,
    earthdatahub,
    ecmwf_arco,
    open_source,
    read_daily,
    read_hourly,
    site_climate,
)
from cubekit.site import Site, TimeRange
from tests.climate.stores import era5_land, serve, world, write_arco, write_earthdatahub, write_zarr

KEY = "0f1e2d3c-secret-key"
PERIOD = ("2018-06-03", "2018-06-10")
AT = (51.33, 12.38)  # nearest cell 51.3, 12.4


@pytest.fixture(autouse=True)
def _nowhere_configured(monkeypatch, tmp_path):
    for name in ("CDSAPI_KEY", "CUBEKIT_ERA5LAND"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CDSAPI_RC", str(tmp_path / "absent"))
    monkeypatch.setenv("NETRC", str(tmp_path / "absent"))
    monkeypatch.setenv("CUBEKIT_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def grid() -> xr.Dataset:
    return era5_land()


@pytest.fixture(scope="module")
def amounts() -> xr.Dataset:
    return world()


@pytest.fixture(scope="module")
def store(grid, tmp_path_factory):
    return write_zarr(grid, tmp_path_factory.mktemp("land") / "era5land.zarr", (100, 4, 5))


@pytest.fixture(scope="module")
def truth(grid) -> xr.Dataset:
    cell = grid.sel(latitude=51.3, longitude=12.4)
    return climate.daily_table(cell, "era5-land", start=PERIOD[0], end=PERIOD[1])


def assert_same(table: xr.Dataset, truth: xr.Dataset, rtol=2e-5) -> None:
    assert list(table.data_vars) == list(climate.DAILY)
    np.testing.assert_array_equal(table["time"], truth["time"])
    for name in truth.data_vars:
        if name not in table.attrs.get("absent_variables", "").split():
            np.testing.assert_allclose(table[name], truth[name], rtol=rtol, atol=1e-6, err_msg=name)


def test_local_zarr_with_cell_coordinates(store, truth):
    table = site_climate(str(store), *AT, *PERIOD, elevation=120.0)
    assert_same(table, truth, rtol=1e-6)
    assert float(table["cell_latitude"]) == pytest.approx(51.3)
    assert float(table["cell_longitude"]) == pytest.approx(12.4)
    assert float(table["cell_distance"]) == pytest.approx(climate.great_circle_km(*AT, 51.3, 12.4), abs=1e-3)
    assert float(table["cell_elevation"]) == pytest.approx(float(climate.elevation_from_pressure(table["sp"].mean() / 1e3)), rel=1e-4)
    assert float(table["cell_elevation_difference"]) == pytest.approx(float(table["cell_elevation"]) - 120)
    assert "estimated from mean surface pressure" in table["cell_elevation_difference"].attrs["comment"]
    assert table["tp"].notnull().all()
    assert isinstance(open_source("path", path=store), ClimateSource)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("remote", [False, True])
def test_zarr_without_consolidated_metadata(grid, truth, tmp_path, zarr_format, remote):
    write_zarr(grid, tmp_path / "plain.zarr", (100, 11, 21), zarr_format, consolidated=False)
    if not remote:
        assert_same(site_climate(str(tmp_path / "plain.zarr"), *AT, *PERIOD), truth, rtol=1e-6)
        return
    with serve(tmp_path) as server, pytest.raises(ReadError, match="consolidated"):
        site_climate(f"{server.url}/plain.zarr", *AT, *PERIOD)


def test_netcdf_monthly_files_and_folder_join(grid, truth, tmp_path):
    (tmp_path / "months").mkdir()
    half = grid.sizes["time"] // 2
    for i, part in enumerate((grid.isel(time=slice(0, half)), grid.isel(time=slice(half, None)))):
        part.to_netcdf(tmp_path / "months" / f"{i}.nc")
    assert_same(site_climate(str(tmp_path / "months"), *AT, *PERIOD), truth, rtol=1e-6)
    assert_same(site_climate(str(tmp_path / "months" / "*.nc"), *AT, *PERIOD), truth, rtol=1e-6)


def test_cds_pairs_of_instant_and_accumulated_files_merge(grid, truth, tmp_path):
    fluxes = ["tp", "ssrd", "ssr", "e", "pev"]
    number = grid.sizes["time"]
    for name, part in (("accum", grid[fluxes]), ("instant", grid.drop_vars(fluxes))):
        part = part.assign_coords(expver=("time", np.full(number, "0001")), number=0).rename(time="valid_time")
        part.to_netcdf(tmp_path / f"data_stream-oper_stepType-{name}.nc")
    table = site_climate(str(tmp_path), *AT, *PERIOD)
    assert_same(table, truth, rtol=1e-6)
    assert table["preliminary_hours"].values.tolist() == [0] * 8


def test_single_netcdf_with_unsorted_hours_and_packed_ints(grid, truth, tmp_path):
    encoding = {"t2m": {"dtype": "int16", "scale_factor": 0.002, "add_offset": 290.0, "_FillValue": -32768}}
    grid.isel(time=np.random.default_rng(0).permutation(grid.sizes["time"])).to_netcdf(tmp_path / "a.nc", encoding=encoding)
    table = site_climate(str(tmp_path / "a.nc"), *AT, *PERIOD)
    np.testing.assert_allclose(table["t2m_mean"], truth["t2m_mean"], atol=0.002)
    np.testing.assert_allclose(table["tp"], truth["tp"], rtol=1e-6)


def test_point_file_without_grid(grid, truth, tmp_path):
    grid.sel(latitude=51.3, longitude=12.4).to_netcdf(tmp_path / "p.nc")
    assert_same(site_climate(str(tmp_path / "p.nc"), *AT, *PERIOD), truth, rtol=1e-6)
    with pytest.raises(NothingFoundError, match="the nearest land cell is 2"):
        site_climate(str(tmp_path / "p.nc"), 48.9, 12.4, *PERIOD)


def test_solar_days_have_all_their_hours(store, grid):
    table = site_climate(str(store), *AT, *PERIOD, day="solar")
    assert table["tp"].notnull().all()
    expected = climate.daily_table(grid.sel(latitude=51.3, longitude=12.4), "era5-land", day="solar", start=PERIOD[0], end=PERIOD[1])
    np.testing.assert_allclose(table["tp"], expected["tp"], rtol=1e-6)


def test_site_at_the_edge_of_the_record_keeps_gaps(store):
    table = site_climate(str(store), *AT, "2018-05-30", "2018-06-14")
    assert np.flatnonzero(np.isnan(table["t2m_mean"])).tolist() == [0, 1, 14, 15]
    with pytest.raises(NothingFoundError, match=r"holds no hour of 2019-01-01/2019-01-05: it goes from 2018-06-01T00 to 2018-06-13T00"):
        site_climate(str(store), *AT, "2019-01-01", "2019-01-05")


def test_ocean_coast_and_far_sites(tmp_path):
    sea = [(r, c) for r in range(11) for c in range(15)]
    path = write_zarr(world(4, ocean=sea), tmp_path / "coast.zarr", (50, 3, 3))
    coast = site_climate(str(path), 51.5, 12.3, "2018-06-02", "2018-06-03")
    assert float(coast["cell_longitude"]) == pytest.approx(12.5)
    assert float(coast["cell_distance"]) == pytest.approx(0.2 * 111.195 * np.cos(np.radians(51.5)), abs=0.05)
    with pytest.raises(NothingFoundError, match=r"No land cell within 25 km .* the nearest land cell is 9[0-9]\.\d km away"):
        site_climate(str(path), 51.5, 11.2, "2018-06-02", "2018-06-03")
    with pytest.raises(NothingFoundError, match=r"the nearest land cell is 4\d\d\d\.\d km away"):
        site_climate(str(path), 20.0, -20.0, "2018-06-02", "2018-06-03")


def test_file_of_ocean_alone_says_so(tmp_path):
    world(4, latitudes=[51.0], longitudes=[12.0], ocean=[(0, 0)]).to_netcdf(tmp_path / "sea.nc")
    with pytest.raises(NothingFoundError, match="the data hold no land cell at all"):
        site_climate(str(tmp_path / "sea.nc"), 51.0, 12.0, "2018-06-02", "2018-06-03")


def test_longitude_wrap_across_180(tmp_path):
    data = world(3, latitudes=[-16.0, -16.1], longitudes=np.round(np.arange(179.5, 180.45, 0.1), 1))
    path = write_zarr(data, tmp_path / "fiji.zarr", (50, 2, 4))
    table = site_climate(str(path), -16.0, -179.8, "2018-06-02", "2018-06-02")
    assert float(table["cell_longitude"]) == pytest.approx(-179.8)
    edge = world(3, latitudes=[-16.0], longitudes=np.round(np.concatenate([np.arange(-180, -179.4, 0.1), np.arange(179.5, 180, 0.1)]), 1))
    path = write_zarr(edge, tmp_path / "wrap.zarr", (50, 1, 4))
    assert float(site_climate(str(path), -16.0, 179.99, "2018-06-02", "2018-06-02")["cell_distance"]) < 2


def test_orography_gives_the_elevation(store, grid, tmp_path):
    heights = xr.DataArray(
        np.full((11, 21), 250.0 * 9.80665), dims=("latitude", "longitude"), coords={k: grid[k] for k in ("latitude", "longitude")}
    )
    heights.expand_dims("time").to_dataset(name="z").to_netcdf(tmp_path / "z.nc")
    source = open_source("path", path=store, orography=str(tmp_path / "z.nc"))
    table = site_climate(source, *AT, *PERIOD, elevation=300.0)
    assert float(table["cell_elevation_difference"]) == pytest.approx(-50.0)
    assert table["cell_elevation"].attrs["comment"] == "elevation given by the source"


@pytest.mark.parametrize("static", [True, False])
def test_geopotential_in_the_store_itself_gives_the_elevation(grid, tmp_path, static):
    z = xr.DataArray(np.arange(231.0).reshape(11, 21) * 98.0665, dims=("latitude", "longitude"), attrs={"units": "m**2 s**-2"})
    whole = grid[["t2m", "sp"]].assign(z=z if static else z.expand_dims(time=grid["time"]))
    whole.to_netcdf(tmp_path / "a.nc")
    table = site_climate(str(tmp_path / "a.nc"), *AT, *PERIOD, elevation=1000.0)
    assert float(table["cell_elevation_difference"]) == pytest.approx((7 * 21 + 14) * 10 - 1000)


def test_one_bad_site_does_not_stop_the_rest(store):
    sites = [Site(*AT), Site(0.0, -30.0), Site(51.9, 11.1)]
    tables = read_daily(str(store), sites, TimeRange(*PERIOD), elevations=[None, 5.0, 100.0])
    assert isinstance(tables[1], NothingFoundError)
    assert float(tables[2]["cell_latitude"]) == pytest.approx(51.9)
    with pytest.raises(InputError, match="1 elevations for 3 sites"):
        read_daily(str(store), sites, TimeRange(*PERIOD), elevations=[1.0])


def test_hourly_keeps_the_stored_form(store, grid):
    hours = read_hourly(str(store), Site(*AT), TimeRange(*PERIOD))
    cell = grid.sel(latitude=51.3, longitude=12.4, time=hours["time"])
    np.testing.assert_array_equal(hours["tp"], cell["tp"])
    assert hours["time"].values[0] == np.datetime64("2018-06-02T11")
    assert hours["time"].values[-1] == np.datetime64("2018-06-11T13")


# Chunks and cache


def test_sites_sharing_a_chunk_share_its_read(store):
    rng = np.random.default_rng(5)
    sites = [Site(float(lat), float(lon)) for lat, lon in zip(rng.uniform(51, 52, 40), rng.uniform(11, 13, 40), strict=True)]
    source = StoreSource((str(store),))
    many = read_daily(source, sites, TimeRange(*PERIOD))
    reader = source.readers[0]
    rows, columns = reader.chunk_shape("tp")[1:]
    cells = {(round((52 - float(t["cell_latitude"])) * 10) // rows, round((float(t["cell_longitude"]) - 11) * 10) // columns) for t in many}
    assert sum(1 for name, *_ in reader.reads if name == "tp") == len(cells) < len(sites)
    for site, table in list(zip(sites, many, strict=True))[::9]:
        xr.testing.assert_identical(table, site_climate(str(store), site.lat, site.lon, *PERIOD))


@pytest.mark.parametrize("chunks", [(97, 1, 1), (24, 3, 50), (1000, 11, 21), (100, 2, 7)])
def test_any_chunking_gives_the_same_series(grid, tmp_path, chunks):
    grid = grid[["tp", "swvl2", "t2m"]].isel(longitude=slice(8, 18))
    path = write_zarr(grid, tmp_path / "c.zarr", chunks)
    hours = read_hourly(str(path), Site(*AT), TimeRange(*PERIOD))
    np.testing.assert_array_equal(hours["swvl2"], grid["swvl2"].sel(latitude=51.3, longitude=12.4, time=hours["time"]))


def test_remote_chunks_are_read_once_and_then_from_disk(grid, tmp_path, truth):
    write_zarr(grid, tmp_path / "web.zarr", (100, 6, 7))
    cache = DiskCache(tmp_path / "disk")
    with serve(tmp_path) as server:
        first = open_source("path", path=f"{server.url}/web.zarr", cache=cache)
        sites = [Site(51.31, 12.4), Site(51.2, 12.5), Site(51.29, 12.41)]
        tables = read_daily(first, sites, TimeRange(*PERIOD))
        assert len(server.chunks("tp")) == len(set(server.chunks("tp"))) == 3  # hours 0-299 of one spatial chunk
        assert_same(tables[0], truth, rtol=1e-6)
        server.requests.clear()
        again = read_daily(open_source("path", path=f"{server.url}/web.zarr", cache=cache), sites, TimeRange(*PERIOD))
        assert server.chunks("tp") == []
        xr.testing.assert_identical(again[1], tables[1])
        # All of this short record may still change: no series was kept, and chunks for a day.
        assert not list((tmp_path / "disk").rglob("*.npy"))
        yesterday = time.time() - 25 * 3600
        for path in (tmp_path / "disk").glob("*/chunks/*/*"):
            os.utime(path, (yesterday, yesterday))
        read_daily(open_source("path", path=f"{server.url}/web.zarr", cache=cache), sites, TimeRange(*PERIOD))
        assert len(server.chunks("tp")) == 3


def test_settled_hours_come_from_the_cache_even_after_a_torn_write(tmp_path):
    long = world(160, latitudes=[51.3, 51.2], longitudes=[12.4, 12.5])
    write_zarr(long, tmp_path / "web.zarr", (720, 2, 2))
    cache = DiskCache(tmp_path / "disk")
    period = TimeRange("2018-06-02", "2018-06-08")
    with serve(tmp_path) as server:

        def read() -> xr.Dataset:
            return read_hourly(StoreSource((f"{server.url}/web.zarr",), cache=cache), Site(51.3, 12.4), period)

        first = read()
        assert len(server.chunks("tp")) == 1
        server.requests.clear()
        xr.testing.assert_identical(read(), first)
        assert server.chunks("tp") == []
        kept = sorted((tmp_path / "disk").rglob("*.npy"))
        assert kept
        assert not list((tmp_path / "disk").rglob(".part-*"))
        for path in kept:
            path.write_bytes(path.read_bytes()[:40])
        xr.testing.assert_identical(read(), first)
        assert server.chunks("tp") == []  # the raw chunk is there still


BUILDS = """
import sys
from pathlib import Path
from cubekit.read.climate import DiskCache, StoreSource, read_hourly
from cubekit.site import Site, TimeRange
url, folder, *sites = sys.argv[1:]
for site in sites:
    at = Site(*map(float, site.split(",")))
    hours = read_hourly(StoreSource((url,), cache=DiskCache(Path(folder))), at, TimeRange("2018-06-02", "2018-11-08"))
    print(float(hours["tp"].sum()))
"""


def test_ten_sites_in_one_chunk_fetch_it_once_across_builds_and_processes(tmp_path):
    grid = world(165, latitudes=[51.4, 51.3, 51.2], longitudes=[12.4, 12.5, 12.6, 12.7])
    write_zarr(grid, tmp_path / "web.zarr", (720, 3, 4))
    sites = [f"{lat},{lon}" for lat in grid["latitude"].values for lon in grid["longitude"].values][:10]
    environment = {**os.environ, "PYTHONPATH": str(Path(climate.__file__).parents[2])}
    with serve(tmp_path) as server:
        words = [sys.executable, "-c", BUILDS, f"{server.url}/web.zarr", str(tmp_path / "disk")]
        runs = [subprocess.Popen([*words, *part], stdout=subprocess.PIPE, text=True, env=environment) for part in (sites[:5], sites[5:])]
        printed = [run.communicate(timeout=60)[0].split() for run in runs]
        assert [run.returncode for run in runs] == [0, 0]
        for name in ("tp", "swvl3", "t2m"):
            assert sorted(server.chunks(name)) == [f"/web.zarr/{name}/c/{i}/0/0" for i in range(6)], name
    sums = [float(text) for part in printed for text in part]
    here = [read_hourly(str(tmp_path / "web.zarr"), Site(*map(float, s.split(","))), TimeRange("2018-06-02", "2018-11-08")) for s in sites]
    assert sums == [float(hours["tp"].sum()) for hours in here]
    assert len(set(sums)) == 10
    assert not list((tmp_path / "disk").rglob("*.lock"))


def test_kept_chunks_are_bounded_and_the_least_recently_used_go_first(tmp_path):
    cache = DiskCache(tmp_path, chunk_bytes=1000)
    paths = [cache.path("https://host/x.zarr", "chunks", "tp", str(i)) for i in range(12)]
    for age, path in enumerate(paths):
        cache.put_bounded(path, b"x" * 100)
        os.utime(path, (1000 + age, 1000 + age))
    assert [path.exists() for path in paths] == [False] * 2 + [True] * 10
    cache.put_bounded(cache.path("x", "chunks", "tp", "huge"), b"x" * 2000)
    assert [path.exists() for path in paths] == [False] * 2 + [True] * 10
    assert not cache.path("x", "chunks", "tp", "huge").exists()


def test_a_record_that_grew_is_asked_for_its_last_chunk_again(tmp_path):
    grid = world(165, latitudes=[51.3], longitudes=[12.4])
    cache = DiskCache(tmp_path / "disk")
    with serve(tmp_path) as server:

        def read() -> xr.Dataset:
            source = StoreSource((f"{server.url}/web.zarr",), cache=cache)
            return read_hourly(source, Site(51.3, 12.4), TimeRange("2018-06-02", "2018-12-31"))

        write_zarr(grid.isel(time=slice(0, 3900)), tmp_path / "web.zarr", (720, 1, 1))
        read()
        server.requests.clear()
        write_zarr(grid, tmp_path / "web.zarr", (720, 1, 1))
        np.testing.assert_array_equal(read()["tp"], grid["tp"].sel(time=slice("2018-06-01T11", None))[:, 0, 0])
        assert f"/web.zarr/tp/c/{3900 // 720}/0/0" in server.chunks("tp")
        assert "/web.zarr/tp/c/0/0/0" not in server.chunks("tp")


def test_cache_on_a_full_or_readonly_disk_is_no_error(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    cache = DiskCache(blocker / "below")
    cache.put(cache.path("x", "y.npy"), np.arange(3))
    assert cache.array(cache.path("x", "y.npy")) is None
    assert cache.text(cache.path("x", "y.txt")) is None


# ECMWF's ARCO and the Earth Data Hub, on local servers of their layout


def test_ecmwf_arco_layout(amounts, truth, tmp_path, monkeypatch):
    write_arco(amounts, tmp_path / "arco")
    monkeypatch.setenv("CDSAPI_KEY", KEY)
    with serve(tmp_path / "arco", f"Bearer {KEY}") as server:
        table = site_climate(ecmwf_arco(base=server.url), *AT, *PERIOD)
        assert len(server.chunks("t2m")) == 2  # once to see that the cell is land, once for its series
        assert len(server.chunks("tp")) == len(server.chunks("swvl4")) == 1
    assert_same(table, truth)
    assert table.attrs["absent_variables"] == "ssr e pev slhf sshf"
    assert table.attrs["accumulation_convention"] == "arco"
    assert KEY not in repr(table.attrs) + repr(table.to_dict())


def test_earthdatahub_layout(grid, truth, tmp_path, monkeypatch):
    write_earthdatahub(grid, tmp_path / "edh")
    (tmp_path / "netrc").write_text(f"machine data.earthdatahub.destine.eu\n  password {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    import base64

    expected = "Basic " + base64.b64encode(f"edh:{KEY}".encode()).decode()
    with serve(tmp_path / "edh", expected) as server:
        table = site_climate(earthdatahub(url=f"{server.url}/era5/era5-land-v0.zarr"), *AT, *PERIOD)
    assert_same(table, truth)
    assert table.attrs["accumulation_convention"] == "earthdatahub"
    assert KEY not in repr(table.to_dict())


def test_missing_and_refused_credentials_say_what_to_do(amounts, tmp_path, monkeypatch):
    with pytest.raises(AccessDeniedError, match=r"No key of the Climate Data Store found.*~/\.cdsapirc"):
        site_climate(ecmwf_arco(), *AT, *PERIOD)
    with pytest.raises(AccessDeniedError, match=r"No token of the Earth Data Hub found.*netrc"):
        site_climate(earthdatahub(), *AT, *PERIOD)
    write_arco(amounts, tmp_path / "arco")
    monkeypatch.setenv("CDSAPI_KEY", "wrong-key-123456")
    with serve(tmp_path / "arco", f"Bearer {KEY}") as server, pytest.raises(AccessDeniedError, match="refused access") as caught:
        site_climate(ecmwf_arco(base=server.url), *AT, *PERIOD)
    assert "wrong-key" not in str(caught.value) + repr(caught.value.context) + repr(caught.value.__cause__)


def test_credentials_come_from_the_usual_places_and_are_not_kept(tmp_path, monkeypatch):
    rc = tmp_path / "rc"
    rc.write_text(f"# mine\nurl: https://cds.climate.copernicus.eu/api\nkey: {KEY}\n")
    monkeypatch.setenv("CDSAPI_RC", str(rc))
    source = open_source("auto")
    assert source.name == "ecmwf-arco"
    assert KEY not in repr(source) + repr(vars(source))
    from cubekit.read.climate._credentials import cds_key

    assert cds_key() == KEY
    rc.write_text(f"url: https://x\nkey: 12345:{KEY}\n")
    assert cds_key() == KEY
    rc.write_text("url: https://x\n")
    assert cds_key() is None


def test_broken_netrc_is_reported_without_its_content(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(f"machine x login y {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(AccessDeniedError, match="netrc cannot be read") as caught:
        configured_source()
    assert KEY not in str(caught.value)


def test_no_secret_is_sent_over_plain_http():
    source = StoreSource(("http://example.org/x.zarr",), headers=lambda: {"Authorization": f"Bearer {KEY}"})
    with pytest.raises(InputError, match="is not https: no credentials are sent there"):
        source.read_many([Site(*AT)], TimeRange(*PERIOD))


def test_auto_takes_the_first_that_is_configured(tmp_path, monkeypatch):
    assert configured_source() == "open-meteo"
    (tmp_path / "netrc").write_text(f"machine data.earthdatahub.destine.eu login edh password {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert configured_source() == "earthdatahub"
    monkeypatch.setenv("CDSAPI_KEY", KEY)
    assert configured_source() == "ecmwf-arco"
    monkeypatch.setenv("CUBEKIT_ERA5LAND", str(tmp_path / "x.zarr"))
    assert configured_source() == open_source("auto").name == "path"


def test_options_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(InputError, match="Unknown climate source 'era6'"):
        open_source("era6")
    with pytest.raises(InputError, match="A path was given, but the source is 'open-meteo'"):
        open_source("open-meteo", path="x.zarr")
    with pytest.raises(InputError, match="needs a path"):
        open_source("path")
    with pytest.raises(InputError, match="not for the source 'ecmwf-arco'"):
        open_source("ecmwf-arco", convention="era5")
    with pytest.raises(InputError, match="Unknown storage option anonymous"):
        site_climate(open_source("path", path="s3://b/x.zarr", storage_options={"anonymous": True}), *AT, *PERIOD)
    with pytest.raises(InputError, match="Scheme 'ftp'"):
        site_climate("ftp://b/x.zarr", *AT, *PERIOD)


def test_absent_broken_and_empty_stores(tmp_path):
    with pytest.raises(ReadError, match=r"nothing\.zarr does not exist"):
        site_climate(str(tmp_path / "nothing.zarr"), *AT, *PERIOD)
    (tmp_path / "bad.nc").write_bytes(b"no netcdf")
    with pytest.raises(ReadError, match=r"bad\.nc could not be read"):
        site_climate(str(tmp_path / "bad.nc"), *AT, *PERIOD)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match="No NetCDF file matches"):
        site_climate(str(tmp_path / "empty"), *AT, *PERIOD)
    with serve(tmp_path) as server, pytest.raises(ReadError, match=r"gone\.zarr does not exist"):
        site_climate(f"{server.url}/gone.zarr?sig=abcdef", *AT, *PERIOD)


def test_chunks_that_are_denied_or_corrupt_are_errors_not_gaps(grid, tmp_path):
    write_zarr(grid, tmp_path / "web.zarr", (100, 11, 21))
    good = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in (tmp_path / "web.zarr").rglob("*") if p.is_file()}

    def answer(status: int, broken: bytes):
        def respond(path: str):
            if "/tp/c/" in path:
                return status, {}, broken
            body = good.get(path.lstrip("/"))
            return (404, {}, b"") if body is None else (200, {}, body)

        return respond

    for status, body, error, message in (
        (403, b"", AccessDeniedError, "refused access"),
        (200, b"garbage", ReadError, "could not be read"),
    ):
        with serve(tmp_path, answer=answer(status, body)) as server, pytest.raises(error, match=message):
            site_climate(open_source("path", path=f"{server.url}/web.zarr", cache=False), *AT, *PERIOD)


def test_remote_netcdf_is_fetched_once(grid, truth, tmp_path):
    grid.to_netcdf(tmp_path / "file.nc")
    with serve(tmp_path) as server:
        for _ in range(2):
            table = site_climate(open_source("path", path=f"{server.url}/file.nc", cache=DiskCache(tmp_path / "disk")), *AT, *PERIOD)
        assert server.requests == ["/file.nc"]
    assert_same(table, truth, rtol=1e-6)


def test_errors_of_sites_survive_pickling(store):
    (error,) = read_daily(str(store), [Site(0.0, -30.0)], TimeRange(*PERIOD))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# Open-Meteo


SOIL = ("0_to_7cm", "7_to_28cm", "28_to_100cm", "100_to_255cm")


def meteo_answer(amounts: xr.Dataset, where=(51.3, 12.4), **change):
    cell = amounts.sel(latitude=51.3, longitude=12.4)
    seconds = cell["time"].values.astype("datetime64[s]").astype(int)
    wind, direction = np.hypot(cell["u10"], cell["v10"]), np.degrees(np.arctan2(-cell["u10"], -cell["v10"])) % 360
    columns = {
        "temperature_2m": (cell["t2m"] - 273.15, "°C"),
        "dew_point_2m": (cell["d2m"] - 273.15, "°C"),
        "surface_pressure": (cell["sp"] / 100, "hPa"),
        "precipitation": (cell["tp"] * 1000, "mm"),
        "shortwave_radiation": (cell["ssrd"] / 3600, "W/m²"),
        "wind_speed_10m": (wind, "m/s"),
        "wind_direction_10m": (direction, "°"),
        **{
            f"soil_moisture_{d}": (cell[f"swvl{i}"], "m³/m³")
            for i, d in enumerate(("0_to_7cm", "7_to_28cm", "28_to_100cm", "100_to_255cm"), 1)
        },
    }
    body = {
        "latitude": where[0], "longitude": where[1], "utc_offset_seconds": 0, "timezone": "GMT",
        "hourly_units": {"time": "unixtime", **{k: u for k, (_, u) in columns.items()}},
        "hourly": {"time": seconds.tolist(), **{k: [float(x) for x in v.values] for k, (v, _) in columns.items()}},
    }  # fmt: skip
    body.update(change)
    return json.dumps(body).replace('"timezone"', '"elevation":nan,"timezone"').encode()


def test_open_meteo_answers_as_the_others(amounts, truth, tmp_path):
    body = meteo_answer(amounts)
    with serve(tmp_path, answer=lambda path: (200, {}, body)) as server:
        source = OpenMeteoSource(url=f"{server.url}/v1/archive", cache=DiskCache(tmp_path / "disk"))
        table = site_climate(source, *AT, *PERIOD)
        query = parse_qs(urlsplit(server.requests[0]).query)
        site_climate(source, *AT, *PERIOD)
        assert len(server.requests) == 1
    assert_same(table, truth, rtol=2e-4)
    assert query["models"] == ["era5_land"]
    assert query["elevation"] == ["nan"]
    assert query["start_date"] == ["2018-06-02"]
    assert query["end_date"] == ["2018-06-11"]
    assert "adjusted" in table.attrs["source_description"]


def test_open_meteo_ocean_far_cell_and_changed_units(amounts, tmp_path):
    empty = meteo_answer(amounts, hourly={"time": [1527811200, 1527814800], "temperature_2m": [None, None]})
    far = meteo_answer(amounts, where=(51.3, 13.4))
    fahrenheit = meteo_answer(amounts, hourly_units={"temperature_2m": "°F"})
    for body, error, message in (
        (empty, NothingFoundError, "Open-Meteo has no ERA5-Land at latitude 51.33"),
        (far, NothingFoundError, r"the nearest land cell is 7\d\.\d km away"),
        (fahrenheit, ReadError, "gives temperature_2m in '°F', not '°C'"),
        (b"[]", ReadError, "is no JSON object"),
        (b'{"latitude": 1}', ReadError, "holds no hourly data"),
    ):
        with serve(tmp_path, answer=lambda path, body=body: (200, {}, body)) as server, pytest.raises(error, match=message):
            site_climate(OpenMeteoSource(url=server.url), *AT, *PERIOD)


def test_open_meteo_retries_busy_and_tells_refusals(amounts, tmp_path):
    body, calls = meteo_answer(amounts), []

    def busy_once(path: str):
        calls.append(path)
        return (429, {"Retry-After": "0"}, b'{"reason":"Minutely limit"}') if len(calls) == 1 else (200, {}, body)

    with serve(tmp_path, answer=busy_once) as server:
        site_climate(OpenMeteoSource(url=server.url), *AT, *PERIOD)
    assert len(calls) == 2
    with (
        serve(tmp_path, answer=lambda path: (400, {}, b'{"error":true,"reason":"Data out of range"}')) as server,
        pytest.raises(InputError, match=r"Open-Meteo refused the request \(400\): Data out of range"),
    ):
        site_climate(OpenMeteoSource(url=server.url), *AT, *PERIOD)
    with (
        serve(tmp_path, answer=lambda path: (503, {"Retry-After": "0"}, b"")) as server,
        pytest.raises(ReadError, match="did not answer"),
    ):
        site_climate(OpenMeteoSource(url=server.url), *AT, *PERIOD)


def test_open_meteo_outside_the_archive(tmp_path):
    with pytest.raises(NothingFoundError, match="lies outside the archive"):
        site_climate(OpenMeteoSource(), *AT, "1900-01-01", "1900-02-01")
