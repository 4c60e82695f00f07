"""The streaming job: equal to the in-memory way whatever the tiles, chunks and workers; atomic; bounded."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cubekit.errors import CommitError, InputError
from cubekit.event_cube import _job, detect_events, open_events, read_event_table, read_thresholds, write_event_table
from cubekit.event_cube._plan import plan_tiles
from cubekit.events import TABLE_UNITS, Levels, code_days, detect
from cubekit.events._scan import ScanPlan
from cubekit.events._time import Reference
from tests.events.world import daily_world

LOOSE = Levels(0.9, 0.1, 0.2, 0.8)
MIB = 2**20


def write(ds, path, chunks):
    sizes = {"time": chunks[0], "latitude": chunks[1], "longitude": chunks[2]}
    encoding = {name: {"chunks": tuple(min(sizes[d], ds.sizes[d]) for d in ds[name].dims)} for name in ds.data_vars}
    ds.to_zarr(path, encoding=encoding, zarr_format=3, consolidated=False, mode="w")
    return path


@pytest.fixture(scope="module")
def world():
    """A belt round the globe with holes and an ocean cell: events cross 0 and 180 degrees."""
    ds = daily_world(days=560, lat=np.linspace(60, 40, 7), lon=np.arange(0, 360, 30.0), seed=21, holes=0.0005)
    for name in ds:
        ds[name][:, 2, 3] = np.nan
    return ds


@pytest.fixture(scope="module")
def truth(world):
    return detect(world, levels=LOOSE)


@pytest.fixture(scope="module")
def store(world, tmp_path_factory):
    return write(world, tmp_path_factory.mktemp("daily") / "daily.zarr", (100, 2, 5))


def check(path, truth, pei=False):
    got = open_events(path)
    names = ["events", "event_labels", *(("pei_30", "pei_90", "pei_180") if pei else ())]
    for name in names:
        np.testing.assert_array_equal(got[name].values, truth.cube[name].values, err_msg=name)
    xr.testing.assert_equal(xr.Dataset(got.coords).load(), xr.Dataset(truth.cube.coords))
    tables = read_event_table(path)
    pd.testing.assert_frame_equal(tables.events, truth.tables.events, check_dtype=False, rtol=1e-12)
    pd.testing.assert_frame_equal(tables.track, truth.tables.track, check_dtype=False, rtol=1e-12)
    xr.testing.assert_equal(read_thresholds(path).load(), truth.thresholds)


def shrink(monkeypatch, shape, chunks=None):
    """Make the plan use tiles of this shape, as a small budget would on a large grid."""
    real = _job.plan_tiles

    def planned(plan, grid, source, *rest):
        from dataclasses import replace

        tiling = real(plan, grid, source, *rest)
        rows, columns = min(shape[0], grid[0]), min(shape[1], grid[1])
        return replace(tiling, tile=(rows, columns), chunks=(200, rows, columns), rereads=0)

    monkeypatch.setattr(_job, "plan_tiles", planned)


def test_one_tile_equals_memory(store, truth, tmp_path):
    report = detect_events(store, tmp_path / "e.zarr", levels=LOOSE, keep_pei=True, workers=1)
    check(tmp_path / "e.zarr", truth, pei=True)
    assert report.events == len(truth.tables.events) > 10
    assert not report.rechunked
    assert truth.tables.events["lon_extent"].max() > 60


@given(rows=st.integers(1, 7), columns=st.integers(1, 12), workers=st.integers(1, 3))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_labels_do_not_depend_on_tiles_or_threads(store, truth, tmp_path, rows, columns, workers):
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch, (rows, columns))
        detect_events(store, tmp_path / "e.zarr", levels=LOOSE, workers=workers, overwrite=True)
    check(tmp_path / "e.zarr", truth)


@pytest.mark.parametrize("chunks", [(560, 1, 1), (1, 7, 12), (77, 3, 4)])
def test_labels_do_not_depend_on_the_chunks_of_the_input(world, truth, tmp_path, chunks):
    if chunks[0] == 1:
        chunks = (20, 7, 12)
    path = write(world, tmp_path / "daily.zarr", chunks)
    detect_events(path, tmp_path / "e.zarr", levels=LOOSE, workers=2)
    check(tmp_path / "e.zarr", truth)


def test_map_wise_chunks_are_rechunked_once_when_they_do_not_fit(world, truth, tmp_path, monkeypatch):
    path = write(world, tmp_path / "daily.zarr", (20, 7, 12))
    real = _job.plan_tiles

    def planned(plan, grid, source, *rest):
        from dataclasses import replace

        return replace(real(plan, grid, source, *rest), tile=(1, 4), chunks=(200, 1, 4), rereads=21)

    monkeypatch.setattr(_job, "plan_tiles", planned)
    report = detect_events(path, tmp_path / "e.zarr", levels=LOOSE, workers=2)
    assert report.rechunked
    check(tmp_path / "e.zarr", truth)


def test_orders_of_axes_and_datasets_in_memory_are_understood(world, truth, tmp_path):
    turned = world.transpose("longitude", "latitude", "time").rename(latitude="lat", longitude="lon")
    path = write(turned.rename(lat="latitude", lon="longitude"), tmp_path / "daily.zarr", (560, 3, 4))
    detect_events(path, tmp_path / "a.zarr", levels=LOOSE, workers=2)
    check(tmp_path / "a.zarr", truth)
    detect_events(turned, tmp_path / "b.zarr", levels=LOOSE, workers=2)
    check(tmp_path / "b.zarr", truth)


def test_latitude_ascending_and_west_longitudes_give_the_same_events(world, truth, tmp_path):
    lon = (world["longitude"] + 180) % 360 - 180
    flipped = world.assign_coords(longitude=lon).sortby("longitude").isel(latitude=slice(None, None, -1))
    path = write(flipped, tmp_path / "daily.zarr", (560, 2, 5))
    detect_events(path, tmp_path / "e.zarr", levels=LOOSE, workers=2)
    got = open_events(path=tmp_path / "e.zarr").isel(latitude=slice(None, None, -1)).sel(longitude=lon.values)
    np.testing.assert_array_equal(got["event_labels"].values, truth.cube["event_labels"].values)
    table = read_event_table(tmp_path / "e.zarr").events
    pd.testing.assert_frame_equal(table, truth.tables.events, check_dtype=False, rtol=1e-9, atol=1e-9)


def test_doy_mode_streams_too(world, tmp_path, monkeypatch, recwarn):
    path = write(world, tmp_path / "daily.zarr", (560, 2, 5))
    options = {"mode": "doy", "reference": ("2001-01-01", "2002-07-14"), "levels": Levels(0.9, 0.1, 0.2, 0.8), "window": 91}
    shrink(monkeypatch, (2, 5))
    detect_events(path, tmp_path / "e.zarr", workers=2, **options)
    check(tmp_path / "e.zarr", detect(world, **options))


def test_appended_days_use_the_stored_table_and_only_their_halo(world, truth, store, tmp_path):
    detect_events(store, tmp_path / "all.zarr", levels=LOOSE, workers=1)
    period = ("2002-05-01", "2002-07-14")
    detect_events(store, tmp_path / "new.zarr", thresholds=tmp_path / "all.zarr", period=period, workers=2)
    new, whole = open_events(tmp_path / "new.zarr"), truth.cube.sel(time=slice(*period))
    np.testing.assert_array_equal(new["events"].values, whole["events"].values)
    np.testing.assert_array_equal(new["event_labels"].values > 0, whole["event_labels"].values > 0)
    memory = code_days(world, truth.thresholds, period=period)
    np.testing.assert_array_equal(new["event_labels"].values, memory["event_labels"].values)
    with pytest.raises(InputError, match="not the grid of the data"):
        detect_events(world.isel(latitude=slice(3)), tmp_path / "x.zarr", thresholds=tmp_path / "all.zarr")


@pytest.mark.slow
def test_dask_workers_give_the_same(store, truth, tmp_path):
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        detect_events(store, tmp_path / "e.zarr", levels=LOOSE, client=client)
    check(tmp_path / "e.zarr", truth)


def test_dask_needs_a_path(world, tmp_path):
    with pytest.raises(InputError, match="cannot be read by dask workers"):
        detect_events(world, tmp_path / "e.zarr", client=object())


def test_the_store_is_cf_and_opens_without_cubekit(store, tmp_path):
    detect_events(store, tmp_path / "e.zarr", levels=LOOSE, keep_pei=True, workers=1)
    tree = xr.open_datatree(tmp_path / "e.zarr", engine="zarr", consolidated=False)
    assert set(tree.groups) == {"/", "/thresholds", "/table", "/track"}
    ds = tree.to_dataset()
    assert ds["events"].dtype == np.uint8
    assert ds["event_labels"].dtype == np.uint32
    assert ds["events"].attrs["flag_masks"] == [1, 2, 4, 8, 16, 128]
    assert ds["pei_90"].attrs["units"] == "mm d-1"
    assert ds["time"].values[0] == np.datetime64("2001-01-01")
    assert zarr.open_group(tmp_path / "e.zarr").metadata.zarr_format == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e.zarr"]
    assert not (tmp_path / "e.zarr" / ".work").exists()


def test_an_existing_store_is_kept_and_a_failed_run_leaves_nothing(world, store, tmp_path):
    out = tmp_path / "e.zarr"
    out.mkdir()
    with pytest.raises(CommitError, match="exists"):
        detect_events(store, out)
    bad = world.assign(tp=(world["tp"] - 50).assign_attrs(units="mm d-1"))
    with pytest.raises(InputError, match="tp falls to"):
        detect_events(bad, out, overwrite=True, workers=2)
    assert [p.name for p in tmp_path.iterdir()] == ["e.zarr"]
    assert not any(out.iterdir())
    with pytest.raises(CommitError, match="does not exist"):
        detect_events(store, tmp_path / "no" / "e.zarr")
    with pytest.raises(InputError, match="local disk"):
        detect_events(store, "s3://bucket/e.zarr")
    with pytest.raises(InputError, match="is no Zarr group"):
        detect_events(tmp_path / "nothing.zarr", tmp_path / "f.zarr")


def test_leftovers_of_dead_writers_are_swept(store, tmp_path):
    import socket

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f".e.zarr.{socket.gethostname()}-{dead.pid}-00000000.partial"
    alive = tmp_path / f".e.zarr.{socket.gethostname()}-{os.getpid()}-00000000.partial"
    left.mkdir()
    alive.mkdir()
    detect_events(store, tmp_path / "e.zarr", levels=LOOSE, workers=1)
    assert not left.exists()
    assert alive.exists()


@given(
    ny=st.integers(1, 800),
    nx=st.integers(1, 3600),
    cy=st.integers(1, 200),
    cx=st.integers(1, 400),
    memory=st.integers(220, 4000),
    workers=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_tiles_cover_the_grid_fit_the_budget_and_share_no_chunk(ny, nx, cy, cx, memory, workers):
    days = np.arange("1991-01-01", "2021-01-01", dtype="datetime64[D]")
    plan = ScanPlan(days, Reference("period", "1991-01-01", "2020-12-31"), slice(0, days.size))
    chunks = (365, min(cy, ny), min(cx, nx))
    tiling = plan_tiles(plan, (ny, nx), chunks, 4, memory * MIB, workers)
    assert tiling.tile_bytes * workers <= memory * MIB
    ry, rx = tiling.tile
    assert 1 <= ry <= ny
    assert 1 <= rx <= nx
    assert ry == ny or ry % tiling.chunks[1] == 0
    assert rx == nx or rx % tiling.chunks[2] == 0
    assert sum((t.rows[1] - t.rows[0]) * (t.columns[1] - t.columns[0]) for t in tiling.tiles[:1]) == min(ry, ny) * min(rx, nx)
    assert len(tiling.tiles) == -(-ny // ry) * -(-nx // rx)
    if tiling.rereads == 1:
        assert ry == ny or ry % chunks[1] == 0
        assert rx == nx or rx % chunks[2] == 0


def test_a_budget_that_holds_no_cell_is_refused(store, tmp_path):
    with pytest.raises(InputError, match=r"does not hold one cell of 560 days.*Give at least"):
        detect_events(store, tmp_path / "e.zarr", memory=MIB)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_table_is_written(store, truth, tmp_path, suffix):
    detect_events(store, tmp_path / "e.zarr", levels=LOOSE, workers=1)
    out = tmp_path / f"t{suffix}"
    write_event_table(tmp_path / "e.zarr", out)
    back = pd.read_csv(out, index_col=0, parse_dates=["start", "end"]) if suffix == ".csv" else pd.read_parquet(out)
    assert list(back.columns) == list(TABLE_UNITS)
    pd.testing.assert_frame_equal(back, truth.tables.events, check_dtype=False, check_index_type=False, rtol=1e-9)
    track = write_event_table(tmp_path / "e.zarr", tmp_path / f"track{suffix}", track=True)
    assert len(track) == truth.tables.events["duration"].sum()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["e.zarr", out.name, f"track{suffix}"])
    with pytest.raises(InputError, match=r"cannot write a table as \.xlsx"):
        write_event_table(tmp_path / "e.zarr", tmp_path / "t.xlsx")


def test_progress_is_told(store, tmp_path):
    seen = []
    detect_events(store, tmp_path / "e.zarr", levels=LOOSE, workers=1, progress=lambda *a: seen.append(a))
    assert [s for s in seen if s[1] == s[2]] == [(stage, n, n) for stage, _, n in dict.fromkeys((s[0], 0, s[2]) for s in seen)]
    assert list(dict.fromkeys(s[0] for s in seen)) == ["codes", "join", "labels"]


def test_a_store_of_something_else_is_refused(store):
    with pytest.raises(InputError, match="holds no event cube"):
        open_events(store)
