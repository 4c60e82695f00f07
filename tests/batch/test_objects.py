"""A batch in an object store: outcomes, resume and registry against a real S3 server."""

from __future__ import annotations

import io

import batch_builders
import geopandas
import pytest

from cubekit.batch import RunOptions, merge, open_folder, plan, reasons, run
from cubekit.errors import CommitError
from cubekit.store import content_digest

SERIAL = RunOptions(executor="serial")


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
