"""The real builder on the simulated world, by all ways of running a batch."""

from __future__ import annotations

import json
import threading

import geopandas
import kill_builders
import pytest

from cubekit.batch import RunOptions, merge, open_folder, plan, run
from cubekit.layers import Session
from cubekit.pipeline import build_cube
from cubekit.recipe import parse_recipe
from cubekit.sampling import SiteTable
from cubekit.store import _write, content_digest
from cubekit.testing.rangeserver import RangeServer
from cubekit.testing.stacserver import Fault, StacServer


@pytest.fixture(scope="module")
def jobs_at(world):
    lon, lat = world.sites["centre"]
    layer = {"kind": "sentinel2", "catalog": [str(world.catalog)], "bands": ["B04", "B8A"]}
    recipe = parse_recipe(
        {"name": "demo", "grid": {"edge_size": 16}, "time": {"start": "2022-05-01", "end": "2022-06-30"}, "layers": [layer]}
    )
    records = [{"id": f"s{n}", "lon": lon + n * 1e-3, "lat": lat, "group": n % 2} for n in range(3)]
    table = SiteTable.from_records([*records, {"id": "sea", "lon": -150.0, "lat": 0.0}])
    return lambda root: plan(recipe, table, str(root))


@pytest.fixture(scope="module")
def reference(jobs_at, tmp_path_factory):
    jobs = jobs_at(tmp_path_factory.mktemp("reference"))
    digests = {}
    for job in jobs:
        if job.id != "sea":
            digests[job.id] = build_cube(jobs.recipe, job.site, job.out).digest
    return digests


@pytest.mark.slow
def test_a_catalogue_that_asks_for_patience_is_left_alone_by_all_workers(tmp_path):
    with StacServer([], faults=[Fault("status", status=429, retry_after="6")]) as server:
        layer = {"kind": "sentinel2", "catalog": [server.url], "bands": ["B04"]}
        recipe = parse_recipe(
            {"name": "t", "grid": {"edge_size": 16}, "time": {"start": "2022-05-01", "end": "2022-06-30"}, "layers": [layer]}
        )
        table = SiteTable.from_records([{"id": f"s{n}", "lon": 12.0 + 6 * n, "lat": 50.0} for n in range(6)])
        report = run(plan(recipe, table, str(tmp_path / "out")), RunOptions(workers=2))
        searches = [record.at for record in server.searches]
    assert report.counts == {"nothing": 6}
    assert len(searches) == 7
    assert [at - searches[0] for at in searches if searches[0] + 0.5 < at < searches[0] + 5.9] == []


def test_a_build_that_asks_for_one_thread_writes_with_one(jobs_at, tmp_path, monkeypatch):
    def note(*arguments):
        names.add(threading.current_thread().name)
        return write_chunk(*arguments)

    names, write_chunk = set(), _write._write_chunk
    monkeypatch.setattr(_write, "_write_chunk", note)
    jobs = jobs_at(tmp_path)
    build_cube(jobs.recipe, next(job.site for job in jobs if job.id == "s0"), str(tmp_path / "one.zarr"), session=Session(threads=1))
    assert len(names) == 1


@pytest.mark.parametrize("executor", ["serial", "local", pytest.param("dask", marks=pytest.mark.slow)])
def test_batches_make_the_cubes_that_single_builds_make(executor, jobs_at, reference, tmp_path):
    jobs = jobs_at(tmp_path / "out")
    report = run(jobs, RunOptions(executor=executor, workers=1))
    assert report.counts == {"built": 3, "nothing": 1}
    assert {o.id: o.content_digest for o in report.outcomes if o.built} == reference
    assert {job.id: content_digest(job.out) for job in jobs if job.id != "sea"} == reference
    merge(jobs.root)
    frame = geopandas.read_parquet(tmp_path / "out" / "registry.parquet").set_index("id")
    assert frame.loc["s1", "group"] == 1
    assert (frame["cubekit:clear_fraction"].between(0, 1)).all()
    assert frame.loc["s0", "cubekit:checksum"] == reference["s0"]
    assert frame.loc["s0", "cubekit:datetime_first"].startswith("2022-05")
    sea = open_folder(jobs.root).outcome("sea")
    assert (sea.status, sea.trace) == ("nothing", ())
    again = run(jobs, RunOptions(executor="serial"))
    assert [outcome.id for outcome in again.outcomes] == ["sea"]


@pytest.mark.parametrize("executor", ["local", pytest.param("dask", marks=pytest.mark.slow)])
def test_cold_workers_ask_for_each_header_once(executor, world, tmp_path):
    with RangeServer(world.catalog.parent, latency=0.02) as server:
        content = json.loads(world.catalog.read_text())
        for asset in (asset for item in content["features"] for asset in item["assets"].values()):
            asset["href"] = f"{server.url}/{(world.catalog.parent / asset['href']).resolve().relative_to(world.catalog.parent.resolve())}"
        (tmp_path / "catalog.json").write_text(json.dumps(content))
        layer = {"kind": "sentinel2", "catalog": [str(tmp_path / "catalog.json")], "bands": ["B04", "B8A"]}
        days = {"start": "2022-05-01", "end": "2022-06-30"}
        recipe = parse_recipe({"name": "demo", "grid": {"edge_size": 16}, "time": days, "layers": [layer]})
        lon, lat = world.sites["centre"]
        table = SiteTable.from_records([{"id": f"s{n}", "lon": lon + n * 1e-4, "lat": lat} for n in range(8)])
        report = run(plan(recipe, table, str(tmp_path / "out")), RunOptions(executor=executor, workers=2), build="batch_builders:together")
        headers = [path for path, first, *_ in server.stats()["ranges"] if first == 0 and path.endswith(".tif")]
    assert report.counts == {"built": 8}
    assert len({outcome.worker for outcome in report.outcomes}) == 2
    assert len(headers) == len(set(headers)) > 10


@pytest.mark.slow
def test_a_dask_worker_that_crashes_changes_no_cube_and_a_poison_site_fails_alone(jobs_at, reference, world, tmp_path):
    lon, lat = world.sites["centre"]
    root = str(tmp_path / "out")
    records = [{"id": name, "lon": lon + n * 1e-3, "lat": lat} for n, name in enumerate(("s0", "s1", "s2", "poison"))]
    jobs = plan(jobs_at(root).recipe, SiteTable.from_records(records), root)
    report = run(jobs, RunOptions(executor="dask", workers=2), build=kill_builders.segv)
    told = {outcome.id: outcome for outcome in report.outcomes}
    assert report.counts == {"built": 3, "killed": 1}
    assert {name: outcome.content_digest for name, outcome in told.items() if outcome.built} == reference
    assert {name: content_digest(f"{root}/cubes/{name}.zarr", recompute=True) for name in reference} == reference
    assert told["s1"].attempts == 2
    assert told["poison"].message == "the worker process died of SIGSEGV"
    assert sorted(path.name for path in (tmp_path / "out" / "cubes").iterdir()) == ["s0.zarr", "s1.zarr", "s2.zarr"]
