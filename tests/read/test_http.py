"""The client by itself: framings of answers, TLS, proxies."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cubekit.read import AssetRead, ReadOptions, ReadStatus, read_assets, read_bytes
from cubekit.read import _http as http
from cubekit.testing.cogs import unique_pixels, write_cog
from cubekit.testing.rangeserver import RangeServer
from tests.read.conftest import GRID, World


@contextmanager
def _scripted(answer: bytes, close: bool = False) -> Iterator[str]:
    """A server that gives the same bytes to every request."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                while connection.recv(65536):
                    connection.sendall(answer)
                    if close:
                        break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    stop.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


QUICK = ReadOptions(retries=0, first_byte_timeout=0.5, total_timeout=2)


@pytest.mark.parametrize(
    ("answer", "close", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", False, b"hello"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", False, b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", True, b"hello"),
        (b"HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\nhello", False, b"hello"),
        (b"HTTP/1.1 206 P\r\ncontent-range: bytes 0-4/*\r\nCONTENT-LENGTH:5\r\n\r\nhello", False, b"hello"),
    ],
)
def test_framings(answer: bytes, close: bool, body: bytes) -> None:
    with _scripted(answer, close) as url:
        assert read_bytes([url], options=QUICK) == [body]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", ReadStatus.FAILED),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9000, ReadStatus.FAILED),
        (b"HTTP/1.1 206 P\r\nContent-Range: bytes 7-11/50\r\nContent-Length: 5\r\n\r\nhello", ReadStatus.CORRUPT),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", ReadStatus.TIMED_OUT),
    ],
)
def test_no_answers(answer: bytes, status: ReadStatus) -> None:
    with _scripted(answer) as url:
        outcome = read_bytes([url], options=QUICK)[0]
        assert not isinstance(outcome, bytes)
        assert outcome.status is status, outcome


def _certificate(folder: Path) -> tuple[str, str]:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "c.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "k.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "c.pem"), str(folder / "k.pem")


def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    certificate = _certificate(tmp_path)
    (tmp_path / "served").mkdir()
    pixels = unique_pixels(256, 300)
    write_cog(tmp_path / "served" / "a.tif", pixels, tile=128, predictor=2)
    out = np.zeros((1, *GRID.shape), "uint16")
    with RangeServer(tmp_path / "served", certificate=certificate) as server:
        read = AssetRead(f"{server.url}/a.tif", nodata=0)
        outcome = read_assets([read], GRID, out, options=QUICK)[0]
        assert outcome.status is ReadStatus.FAILED
        assert "certificate" in outcome.message.lower()
        trusted = ssl.create_default_context(cafile=certificate[0])
        monkeypatch.setattr(http, "_context", lambda: trusted)
        outcome = read_assets([read], GRID, out, options=QUICK)[0]
    assert outcome.status is ReadStatus.OK, outcome
    np.testing.assert_array_equal(out[0], pixels[0, 70:118, 50:114])


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with _scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nproxy") as url:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert read_bytes(["http://behind-a-proxy.invalid/x"], options=QUICK) == [b"proxy"]


def test_connections_are_kept_and_bounded(tmp_path: Path) -> None:
    write_cog(tmp_path / "a.tif", unique_pixels(256, 300), tile=128)
    with RangeServer(tmp_path) as server:
        for _ in range(3):
            out = np.zeros((40, *GRID.shape), "uint16")
            read_assets([AssetRead(f"{server.url}/a.tif?{i}") for i in range(40)], GRID, out, options=ReadOptions(concurrency=4))
        assert server.stats()["connections"] <= 4


def test_chunks_are_undone_only_when_whole() -> None:
    whole = b"3\r\nabc\r\n4;x=y\r\nd\r\nf\r\n0\r\n\r\n"
    for step in range(1, len(whole) + 1):
        assert _chunked([whole[at : at + step] for at in range(0, len(whole), step)]) == b"abcd\r\nf"
    for cut in range(len(whole)):
        assert _chunked([whole[:cut]]) is None


@pytest.mark.parametrize("line", [b"-6", b"zz", b"", b"0x3", b"1" * 2000, b"fffffffffffffffff"])
def test_what_is_no_chunk_ends_the_request(line: bytes) -> None:
    with pytest.raises(ConnectionError, match="no chunk"):
        _chunked([line + b"\r\nabcdefgh\r\n"])


def test_chunks_end_at_the_limit() -> None:
    assert _chunked([b"fffffff\r\n", *[b"x" * 60_000] * 9], limit=100_000) == b"x" * 100_000


def _chunked(pieces: list[bytes], limit: int = 1000) -> bytes | None:
    """Body that a connection makes of a chunked answer that arrives in pieces; None while it waits for more."""

    async def run() -> bytes | None:
        connection = http._Connection(http._Room())
        connection.waiter = asyncio.get_running_loop().create_future()
        connection._begin(limit)
        for piece in [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces]:
            if not connection.waiter.done():
                connection.get_buffer(-1)[: len(piece)] = piece
                connection.buffer_updated(len(piece))
        return bytes(connection.waiter.result()[2]) if connection.waiter.done() else None

    return asyncio.run(run())


def test_a_name_is_looked_up_once_for_all_who_connect(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = socket.getaddrinfo, []

    def slow(host: str, *rest: object, **named: object) -> object:
        asked.append(host)
        time.sleep(0.05)
        return real("127.0.0.1", *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    reads = [AssetRead(f"http://many.example:{world.server.port}/a.tif?{number}", nodata=0) for number in range(40)]
    out = np.empty((len(reads), *GRID.shape), "uint16")
    assert {outcome.status for outcome in read_assets(reads, GRID, out)} == {ReadStatus.OK}
    assert asked == ["many.example"]


def test_an_address_is_not_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*rest: object, **named: object) -> object:
        raise AssertionError(rest)

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    write_cog(tmp_path / "a.tif", unique_pixels(256, 300), tile=128)
    out = np.empty((1, *GRID.shape), "uint16")
    with RangeServer(tmp_path) as server:  # of its own: no connection to it stands already
        assert read_assets([AssetRead(f"{server.url}/a.tif", nodata=0)], GRID, out)[0].status is ReadStatus.OK


@pytest.mark.parametrize("host", ["127.0.0.1", "many.example"])
def test_the_first_ask_while_the_last_connect(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers first can be decoded while others still wait: requests may not wait for all connections to stand."""
    log: list[str] = []
    real = socket.getaddrinfo

    def noted(name: str, of: Callable[..., object]) -> Callable[..., object]:
        def call(*rest: object) -> object:
            log.append(name)
            return of(*rest)

        return call

    def slow(_: str, *rest: object, **named: object) -> object:
        time.sleep(0.2)
        return real("127.0.0.1", *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    for name in ("connection_made", "ask"):
        monkeypatch.setattr(http._Connection, name, noted(name, getattr(http._Connection, name)))
    write_cog(tmp_path / "a.tif", unique_pixels(256, 300), tile=128)
    with RangeServer(tmp_path, latency=0.5) as server:  # no connection is free for a second request
        reads = [AssetRead(f"http://{host}:{server.port}/a.tif?{number}", nodata=0) for number in range(200)]
        out = np.empty((len(reads), *GRID.shape), "uint16")
        assert {outcome.status for outcome in read_assets(reads, GRID, out)} == {ReadStatus.OK}
    assert log.count("connection_made") == 200
    assert log.index("ask") < 100


def test_a_head_may_come_in_any_pieces() -> None:
    whole = b'HTTP/1.1 206 Partial\r\nETag: "Aa:b"\r\nX-Content-Length: 9\r\nCONTENT-length: 7\r\ncontent-Length:  5 \r\n\r\nhello'

    async def run(step: int) -> tuple[int, http.Headers, memoryview]:
        room = http._Room()
        connection, other = http._Connection(room), http._Connection(room)
        for one in (connection, other):
            one.waiter = asyncio.get_running_loop().create_future()
            one._begin(1000)
        for at in range(0, len(whole), step):
            for one, text in ((connection, whole), (other, whole[:-1] + b"0")):  # by turns, into the same memory
                piece = text[at : at + step]
                one.get_buffer(-1)[: len(piece)] = piece
                one.buffer_updated(len(piece))
        assert other.waiter is not None
        assert bytes(other.waiter.result()[2]) == b"hell0"
        assert connection.waiter is not None
        return connection.waiter.result()

    for step in range(1, len(whole) + 1):
        status, headers, body = asyncio.run(run(step))
        assert (status, bytes(body)) == (206, b"hello")
        assert headers.get("etag") == '"Aa:b"'
        assert headers.get("content-length") == "5"  # the last one counts
        assert headers.get("content-range", "none") == "none"
        assert headers.get("length") == ""


def test_a_connection_that_was_closed_while_it_idled_is_no_fault() -> None:
    """The server answers once per connection, and closes it when it is asked again."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[int] = []

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            connections.append(1)
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 206 OK\r\nContent-Length: 5\r\nContent-Range: bytes 0-4/5\r\n\r\nhello")
                connection.recv(65536)

    threading.Thread(target=serve, daemon=True).start()
    hrefs = [f"http://127.0.0.1:{listener.getsockname()[1]}/{name}" for name in "abc"]
    cost: list[tuple[int, int, int]] = []
    found = [read_bytes([href], options=QUICK, account=lambda *spent: cost.append(spent))[0] for href in hrefs]
    assert found == [b"hello"] * 3
    assert cost == [(1, 5, 0), (2, 5, 0), (2, 5, 0)]
    assert len(connections) == 3


def test_the_client_closes_its_idle_connections() -> None:
    async def run() -> int:
        client = http.Client()
        target = client.aim(url)
        cost: Callable[..., object] = type("Cost", (), {"requests": 0, "bytes": 0})
        await client.get(target, None, cost(), limit=100, connect=1, silence=1, deadline=asyncio.get_running_loop().time() + 9)  # type: ignore[arg-type]
        idle = len(target.host.idle)
        client.close()
        return idle - len(target.host.idle)

    with _scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello") as url:
        assert asyncio.run(run()) == 1
