"""A batch in an object store: outcomes, resume and registry against a real S3 server."""

from __future__ import annotations

import io

import batch_builders
import geopandas
import pytest

from cubekit.batch import RunOptions, merge, open_folder, plan, reasons, run
from cubekit.errors import CommitError, InputError
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


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:1"])
def test_a_store_that_cannot_be_written_is_said_at_once(recipe, sites, bucket, monkeypatch, address):
    if address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    jobs = plan(recipe, sites("a"), "s3://no-such-bucket-here/x")
    why = "http://127.0.0.1:1 does not answer. Check AWS_ENDPOINT_URL" if address else "there is no such bucket. Create it"
    with pytest.raises(CommitError, match=f"Cannot list s3://no-such-bucket-here/x: {why}"):
        run(jobs, SERIAL, build=_nothing_may_be_read, describe="")


def _nothing_may_be_read(*arguments, **options):
    raise AssertionError("built")


def test_a_url_with_one_slash_is_no_folder(recipe, sites):
    for ask in (lambda: plan(recipe, sites("a"), "s3:/bucket/x"), lambda: open_folder("s3:/bucket/x")):
        with pytest.raises(InputError, match="'s3:/bucket/x' is neither a path nor a URL"):
            ask()
