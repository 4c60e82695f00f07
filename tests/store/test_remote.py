"""Commit on an object store: a real S3 server, conditional puts, one winner, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from typing import Any

import numpy as np
import pytest
import xarray as xr
from obstore.exceptions import PreconditionError
from obstore.store import from_url

from cubekit.cube import validate
from cubekit.errors import CommitError, InputError, ReadError
from cubekit.location import Location
from cubekit.store import _remote, check_target, content_digest, open_cube, sweep, write_cube
from cubekit.testing.cubes import tiny_cube
from tests.store.conftest import keys_of


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return tiny_cube(6, 8, seed=1)


@pytest.fixture(scope="module")
def other() -> xr.DataTree:
    return tiny_cube(6, 8, seed=2)


def hidden(bucket: str) -> list[str]:
    return [key for key in keys_of(bucket) if key.startswith(".") or "/." in key]


def test_same_bytes_as_on_the_local_disk(bucket: str, tree: xr.DataTree, tmp_path: Any) -> None:
    url = write_cube(tree, f"{bucket}/out/cube.zarr")
    assert url == f"{bucket}/out/cube.zarr"
    local = write_cube(tree, tmp_path / "cube.zarr")
    assert content_digest(url) == content_digest(url, recompute=True) == content_digest(local)
    np.testing.assert_array_equal(open_cube(url)["B04"].values, open_cube(local)["B04"].values)
    assert validate(url) == []
    assert not hidden(bucket)


def test_existing_cube_is_kept_then_replaced(bucket: str, tree: xr.DataTree, other: xr.DataTree) -> None:
    url = write_cube(tree, f"{bucket}/cube.zarr")
    digest = content_digest(url)
    for attempt in (lambda: write_cube(other, url), lambda: check_target(url)):
        with pytest.raises(CommitError, match="exists"):
            attempt()
    assert content_digest(url, recompute=True) == digest
    write_cube(other.drop_nodes("events"), url, overwrite=True)
    assert content_digest(url, recompute=True) == content_digest(url) != digest
    assert not [key for key in keys_of(bucket) if "events" in key]
    assert not hidden(bucket)


def test_root_metadata_is_put_last(bucket: str, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    put = _remote.RemoteAttempt.put

    def watched(self: Any, key: str, data: bytes) -> None:
        with pytest.raises((CommitError, InputError), match=r"no root metadata|No cube at"):
            open_cube(f"{bucket}/cube.zarr")
        order.append(key)
        put(self, key, data)

    monkeypatch.setattr(_remote.RemoteAttempt, "put", watched)
    write_cube(tree, f"{bucket}/cube.zarr", workers=1)
    assert "zarr.json" not in order
    assert open_cube(f"{bucket}/cube.zarr").sizes["time"] == 6


def test_two_writers_one_winner(bucket: str, tree: xr.DataTree, other: xr.DataTree) -> None:
    outcomes: list[Any] = []
    barrier = threading.Barrier(2)

    def writer(cube: xr.DataTree) -> None:
        barrier.wait()
        try:
            outcomes.append(write_cube(cube, f"{bucket}/cube.zarr", lock_timeout=20))
        except CommitError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=writer, args=(cube,)) for cube in (tree, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(isinstance(outcome, CommitError) for outcome in outcomes) == [False, True]
    assert content_digest(f"{bucket}/cube.zarr", recompute=True) == content_digest(f"{bucket}/cube.zarr")
    assert not hidden(bucket)


def test_writers_without_a_common_lease_have_one_winner(bucket: str, tree: xr.DataTree, other: xr.DataTree) -> None:
    """The root's conditional put decides even where leases fail: the loser is told, the winner's root stays."""
    location = Location.parse(f"{bucket}/cube.zarr")
    first = _remote.RemoteAttempt(location, overwrite=False)
    location.bucket().delete(".cube.zarr.lock")
    second = _remote.RemoteAttempt(location, overwrite=False)
    second.commit(b"{}")
    with pytest.raises(CommitError, match="committed by another process"):
        first.commit(b'{"loser": 1}')
    assert location.get("zarr.json") == b"{}"
    first.abandon()
    assert location.get("zarr.json") == b"{}"
    second.abandon()


@pytest.mark.parametrize("before", ["none", "expired"])
def test_of_many_who_want_a_lease_one_gets_it(bucket: str, before: str) -> None:
    location, writers = Location.parse(f"{bucket}/cube.zarr"), 8
    for _ in range(10):
        if before == "expired":
            owner = {"host": "elsewhere", "pid": 1, "token": "x", "seconds": -3600}
            location.bucket().put(".cube.zarr.lock", json.dumps(owner).encode())
        barrier = threading.Barrier(writers)
        got: list[_remote.Lease] = []

        def want(barrier: threading.Barrier = barrier, got: list[_remote.Lease] = got) -> None:
            bucket = location.bucket()
            barrier.wait()
            with contextlib.suppress(CommitError):
                got.append(_remote.Lease(location, bucket, 0.0))

        threads = [threading.Thread(target=want) for _ in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        got[0].release()
        assert keys_of(bucket) == []


def test_a_renewed_lease_is_not_mistaken_for_the_old(bucket: str) -> None:
    """Else whoever read it just before the renewal would take it over from a living writer."""
    location = Location.parse(f"{bucket}/cube.zarr")
    lease = _remote.Lease(location, location.bucket(), 0.0)
    old = lease._etag
    lease._replace(old)
    with pytest.raises(PreconditionError):
        lease._replace(old)
    lease.release()


def test_a_client_that_puts_twice_for_want_of_an_answer_meets_itself(
    bucket: str, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its lease nor its commit is then another's."""
    inside, refused = Location.bucket, []

    class Stutters:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def put(self, key: str, data: bytes, **options: Any) -> Any:
            answer = self.inner.put(key, data, **options)
            if not options:
                return answer
            refused.append(key)
            return self.inner.put(key, data, **options)

    monkeypatch.setattr(Location, "bucket", lambda self, **options: Stutters(inside(self, **options)))
    lease = _remote.Lease(Location.parse(f"{bucket}/other.zarr"), Location.parse(f"{bucket}/other.zarr").bucket(), 0.0)
    lease._replace(lease._etag)
    lease.check()
    lease.release()
    url = write_cube(tree, f"{bucket}/cube.zarr")
    assert content_digest(url, recompute=True) == content_digest(url)
    assert {".other.zarr.lock", ".cube.zarr.lock", "cube.zarr/zarr.json"} <= set(refused)
    assert not hidden(bucket)


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_of_writers_need_not_agree(bucket: str, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """What counts is the store's clock: a writer on a machine whose own is wrong is neither robbed nor waited for."""
    location = Location.parse(f"{bucket}/cube.zarr")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(_remote.socket, "gethostname", lambda: "elsewhere")
        elsewhere.setattr(_remote.time, "time", lambda: time.monotonic() + hours * 3600)
        alive = _remote.Lease(location, location.bucket(), 0.0)
    with pytest.raises(CommitError, match="being written by another process"):
        write_cube(tree, f"{bucket}/cube.zarr")
    alive.release(tidy=False)
    monkeypatch.setattr(_remote, "_MARGIN", -70.0)
    write_cube(tree, f"{bucket}/cube.zarr")
    assert not hidden(bucket)


def test_lease_is_renewed_and_excludes(bucket: str, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    location = Location.parse(f"{bucket}/cube.zarr")
    lease = _remote.Lease(location, location.bucket(), 0.0, seconds=0.8)
    time.sleep(1.6)
    lease.check()
    with pytest.raises(CommitError, match="being written by another process"):
        write_cube(tree, f"{bucket}/cube.zarr")
    assert sweep(f"{bucket}/cube.zarr") == 0
    lease.release()
    assert keys_of(bucket) == []


def test_lost_lease_stops_the_writer(bucket: str) -> None:
    location = Location.parse(f"{bucket}/cube.zarr")
    attempt = _remote.RemoteAttempt(location, overwrite=False)
    attempt.put("B02/c/0", b"1")
    assert attempt._lease is not None
    attempt._lease._until = 0.0
    with pytest.raises(CommitError, match="Lost the lease"):
        attempt.put("B02/c/1", b"2")
    attempt.abandon()
    assert "cube.zarr/B02/c/1" not in keys_of(bucket)


@pytest.mark.parametrize("dead", ["expired elsewhere", "dead here"])
def test_leftovers_of_a_dead_writer_are_swept(bucket: str, tree: xr.DataTree, dead: str) -> None:
    store = from_url(bucket)
    owner = {"host": "elsewhere", "pid": 1, "token": "x", "seconds": -3600}
    if dead == "dead here":
        import socket

        owner |= {"host": socket.gethostname(), "pid": 2**22 - 7, "seconds": 3600}
    store.put(".cube.zarr.lock", json.dumps(owner).encode())
    store.put("cube.zarr/B99/c/0", b"leftover")
    store.put(".cube.zarr.partial/0123456789ab/B99/c/0", b"leftover")
    assert sweep(f"{bucket}/cube.zarr") == 2
    assert keys_of(bucket) == []


def test_foreign_objects_are_never_removed(bucket: str, tree: xr.DataTree) -> None:
    store = from_url(bucket)
    store.put("data/precious.txt", b"precious")
    with pytest.raises(CommitError, match="holds objects but no cube"):
        write_cube(tree, f"{bucket}/data", overwrite=True)
    assert sweep(f"{bucket}/data") == 0
    assert keys_of(bucket) == ["data/precious.txt"]


def test_failures_leave_nothing(bucket: str, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    put, count = _remote.RemoteAttempt.put, 0

    def failing(self: Any, key: str, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == 9:
            raise OSError("wire cut")
        put(self, key, data)

    monkeypatch.setattr(_remote.RemoteAttempt, "put", failing)
    with pytest.raises(OSError, match="wire cut"):
        write_cube(tree, f"{bucket}/cube.zarr")
    assert keys_of(bucket) == []


def test_what_stores_answer_becomes_our_errors(bucket: str, tree: xr.DataTree) -> None:
    with pytest.raises(CommitError, match=r"Cannot write s3://no-such-bucket-here/cube\.zarr"):
        write_cube(tree, "s3://no-such-bucket-here/cube.zarr")
    with pytest.raises(InputError, match=r"No cube at s3://.*/nothing\.zarr"):
        open_cube(f"{bucket}/nothing.zarr")
    with pytest.raises(ReadError, match=r"Cannot list s3://no-such-bucket-here: there is no such bucket"):
        open_cube("s3://no-such-bucket-here/cube.zarr")
    from_url(bucket).put("half.zarr/B02/c/0", b"1")
    with pytest.raises(CommitError, match="not a committed cube"):
        open_cube(f"{bucket}/half.zarr")


def test_an_endpoint_without_encryption_is_meant_so(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    target = f"{bucket}/plain.zarr"
    write_cube(tiny_cube(3, 8, seed=1), target)
    assert open_cube(target).sizes["time"] == 3


def test_options_may_replace_the_environment(bucket: str, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    address = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = {"endpoint": address, "client_options": {"allow_http": True}}
    url = write_cube(tree, f"{bucket}/cube.zarr", storage_options=options)
    assert content_digest(url, storage_options=options) == content_digest(url, recompute=True, storage_options=options)
    assert open_cube(url, storage_options=options).sizes["x"] == 8


def test_opened_over_http(tree: xr.DataTree, tmp_path: Any) -> None:
    import functools
    import http.server

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    write_cube(tree, tmp_path / "cube.zarr")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        np.testing.assert_array_equal(open_cube(f"{url}/cube.zarr")["B04"].values, open_cube(tmp_path / "cube.zarr")["B04"].values)
        with pytest.raises((CommitError, InputError), match="not a committed cube"):
            open_cube(f"{url}/other.zarr")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
