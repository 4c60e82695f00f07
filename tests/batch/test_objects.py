"""A batch in an object store: outcomes, resume and registry against a real S3 server."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time

import batch_builders
import geopandas
import pytest

from cubekit.batch import RunOptions, merge, open_folder, plan, reasons, run
from cubekit.errors import CommitError
from cubekit.store import content_digest

SERIAL = RunOptions(executor="serial")


@pytest.fixture(scope="module")
def endpoint():
    pytest.importorskip("moto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=-3, stderr=-3)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    settings = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "CANARY0f3a9", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    for key, value in {**settings, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(key, value)
    import boto3

    name = f"batch-{os.urandom(4).hex()}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
    return f"s3://{name}"


def everything(url):
    from obstore.store import from_url

    store = from_url(url)
    return {item["path"]: bytes(store.get(item["path"]).bytes()) for page in store.list() for item in page}


def go(jobs, options=SERIAL):
    return run(jobs, options, build=batch_builders.build, describe="")


def test_a_batch_lives_in_an_object_store(recipe, sites, bucket, tmp_path):
    table = sites("a", "b", "raiseonce-1", "nothing-1")
    jobs = plan(recipe, table, f"{bucket}/deep/batch/")
    assert go(jobs).counts == {"built": 2, "internal": 1, "nothing": 1}
    assert reasons(jobs, open_folder(jobs.root)) == {"raiseonce-1": "failed", "nothing-1": "failed"}
    assert go(jobs).counts == {"built": 1, "nothing": 1}
    report = merge(jobs.root)
    assert (report.cubes, report.registry) == (3, f"{bucket}/deep/batch/registry.parquet")
    found = everything(bucket)
    frame = geopandas.read_parquet(io.BytesIO(found["deep/batch/registry.parquet"]))
    assert sorted(frame["id"]) == ["a", "b", "raiseonce-1"]
    assert {f"deep/batch/items/{name}.json" for name in frame["id"]} <= set(found)
    assert [key for key, content in found.items() if b"CANARY0f3a9" in content] == []
    local = plan(recipe, table, str(tmp_path / "local"))
    go(local)
    assert content_digest(f"{bucket}/deep/batch/cubes/a.zarr") == content_digest(str(tmp_path / "local/cubes/a.zarr"))


def test_a_store_that_cannot_be_written_is_said_at_once(recipe, sites, bucket):
    jobs = plan(recipe, sites("a"), "s3://no-such-bucket-here/x")
    with pytest.raises(CommitError, match=r"Cannot list s3://no-such-bucket-here/x: .*404"):
        go(jobs)


def seeded(url_or_path, recipe, sites):
    return plan(recipe, sites(*[f"killat-{n}" for n in range(20)]), url_or_path)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("where", ["local", "dask", "s3"])
def test_workers_killed_at_seeded_moments_leave_nothing_and_every_resume_is_as_if_undisturbed(where, recipe, sites, bucket, tmp_path):
    root = f"{bucket}/kill" if where == "s3" else str(tmp_path / "out")
    jobs = seeded(root, recipe, sites)
    report = go(jobs, RunOptions(executor="dask" if where == "dask" else "local", workers=2, retries=0))
    killed = [outcome for outcome in report.outcomes if outcome.status == "killed"]
    assert len(killed) >= 10, report.counts
    folder = open_folder(root)
    for name in folder.cubes([outcome.id for outcome in killed]):
        content_digest(f"{root}/cubes/{name}.zarr")
    assert go(jobs, RunOptions(workers=2)).counts == {"built": len(killed)}
    undisturbed = seeded(str(tmp_path / "reference"), recipe, sites)
    assert go(undisturbed).counts == {"built": 20}
    for job, twin in zip(jobs, undisturbed, strict=True):
        assert content_digest(job.out) == content_digest(twin.out)
    names = {path.name for path in (tmp_path / "out" / "cubes").iterdir() if path.is_dir()} if where != "s3" else set()
    assert names <= {f"killat-{n}.zarr" for n in range(20)}
