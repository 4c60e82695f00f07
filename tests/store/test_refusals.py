"""A store that cannot be used is told before anything is read: within seconds, with what is wrong and what to do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from obstore.exceptions import GenericError

from cubekit.errors import AccessDeniedError, CommitError, InputError
from cubekit.objectstore import check_writable, store_error
from cubekit.store import check_target, write_cube
from cubekit.testing.cubes import tiny_cube
from tests.s3servers import SETTINGS
from tests.store.conftest import keys_of

Answers = Callable[..., None]


EMPTY = "<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><MaxKeys>1</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    """Makes the environment lead to a store that gives requests of one method, or all, one answer; else it heeds conditions, or not."""
    servers: list[ThreadingHTTPServer] = []
    for key, value in SETTINGS.items():
        monkeypatch.setenv(key, value)

    def serve(status: int, body: str, method: str = "", heeds: bool = True) -> None:
        known: set[str] = set()

        class Refusing(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                refused = method in ("", self.command)
                said = (body if refused else EMPTY).encode()
                unmet = heeds and self.command == "PUT" and self.headers.get("if-none-match") == "*" and self.path in known
                known.add(self.path)
                self.send_response(status if refused else 412 if unmet else 200)
                self.send_header("content-length", str(len(said)))
                self.send_header("etag", '"1"')
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(said)

            do_PUT = do_GET = do_HEAD = do_DELETE = do_POST = answer

            def log_message(self, *arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_writable_folder_is_left_as_it_was(bucket: str) -> None:
    check_writable(f"{bucket}/deep")
    assert check_target(f"{bucket}/deep/cube.zarr") == f"{bucket}/deep/cube.zarr"
    assert keys_of(bucket) == []


def test_a_missing_bucket_is_named(bucket: str) -> None:
    with pytest.raises(CommitError, match=r"Cannot list s3://no-such-bucket-here/x: there is no such bucket\. Create it"):
        check_target("s3://no-such-bucket-here/x/cube.zarr")


@pytest.mark.parametrize(
    ("status", "code", "kind", "told"),
    [
        (
            403,
            "AccessDenied",
            AccessDeniedError,
            r"Not allowed to list s3://b/x \(AccessDenied\).* Set credentials .* that may list, read, write",
        ),
        (403, "InvalidAccessKeyId", AccessDeniedError, r"\(InvalidAccessKeyId\).* Correct AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", AccessDeniedError, "Correct AWS_SECRET_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", AccessDeniedError, "Set the clock"),
        (403, "UserSuspended", AccessDeniedError, "Ask who runs the store"),
        (403, "QuotaExceeded", CommitError, r"No space left: cannot list s3://b/x \(QuotaExceeded\)\. Make room there, or raise the quota"),
        (301, "PermanentRedirect", CommitError, "Set AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", CommitError, "Set AWS_REGION"),
        (503, "SlowDown", CommitError, "Cannot list s3://b/x: .*503"),
    ],
)
def test_a_refusal_says_why_and_what_to_do(answers: Answers, status: int, code: str, kind: type[Exception], told: str) -> None:
    answers(status, f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><AWSAccessKeyId>CANARYKEY</AWSAccessKeyId></Error>")
    began = time.monotonic()
    with pytest.raises(kind, match=told) as caught:
        check_target("s3://b/x/cube.zarr")
    assert "CANARYKEY" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(("may_not", "doing"), [("GET", "list"), ("PUT", "write to"), ("POST", "delete from")])
def test_every_right_that_a_cube_needs_is_tried(answers: Answers, may_not: str, doing: str) -> None:
    """Keys that may read, or write but not list, or not delete, would fail at the commit or leave rubbish."""
    answers(403, "<Error><Code>AccessDenied</Code></Error>", may_not)
    with pytest.raises(AccessDeniedError, match=rf"Not allowed to {doing} s3://b/x \(AccessDenied\)"):
        check_target("s3://b/x/cube.zarr")


def test_a_store_that_does_not_heed_conditions_is_refused(answers: Answers) -> None:
    """Two writers of a cube would both win."""
    answers(200, "<DeleteResult><Deleted><Key>x/probe</Key></Deleted></DeleteResult>", "POST", heeds=False)
    with pytest.raises(
        CommitError, match=r"The store of s3://b/x puts an object that is there already .*If-None-Match: \*\)\. Two writers"
    ):
        check_target("s3://b/x/cube.zarr")


def test_an_endpoint_that_nobody_serves_is_given_up_soon(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    began = time.monotonic()
    with pytest.raises(CommitError, match=r"http://127\.0\.0\.1:1 does not answer\. Check AWS_ENDPOINT_URL"):
        check_target("s3://b/x/cube.zarr")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("said", ["PUT http://169.254.169.254/latest/api/token", "GET http://metadata.google.internal/token"])
def test_missing_credentials_are_named(said: str) -> None:
    """The client then asks the metadata service of a cloud machine, of which nobody wants to hear elsewhere."""
    error = store_error(GenericError(f"Error performing {said} in 3 ms\n\nDebug source: ..."), "write to", "s3://b/x")
    assert isinstance(error, AccessDeniedError)
    assert str(error).startswith("No credentials for s3://b/x. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "ftp://127.0.0.1:9000", "http://"])
def test_an_endpoint_that_is_no_address_is_refused(answers: Answers, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """The client would panic, which no handler of errors catches."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(InputError, match=rf"AWS_ENDPOINT_URL '{endpoint}' is no address. Write it with http"):
        check_target("s3://b/x/cube.zarr")


def test_a_store_that_goes_down_later_is_asked_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all that is left of a batch would be read before each of its cubes fails."""
    check_target(f"{bucket}/a.zarr", overwrite=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    check_target(f"{bucket}/b.zarr", overwrite=True)
    with pytest.raises(CommitError, match="does not answer"):
        write_cube(tiny_cube(3, 8, seed=1), f"{bucket}/b.zarr", overwrite=True)
    with pytest.raises(CommitError, match="does not answer"):
        check_target(f"{bucket}/c.zarr", overwrite=True)


def test_a_url_with_one_slash_is_no_folder() -> None:
    with pytest.raises(InputError, match=r"'s3:/bucket/cube\.zarr' is neither a path nor a URL\. Write s3://"):
        check_target("s3:/bucket/cube.zarr")
    assert check_target("./s3:/cube.zarr").endswith("s3:/cube.zarr")
