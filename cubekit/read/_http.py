"""A small HTTP/1.1 client on asyncio: ranges, kept connections, deadlines; bodies are received into their final buffer.

It does what reading windows needs and no more: GET, redirects left to the caller, identity encoding, TLS with verification, proxies
from the environment. One instance belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
import numpy as np

from cubekit import __version__
from cubekit.read._fault import Fault
from cubekit.read._href import PLAIN, check_address
from cubekit.read._types import ReadStatus

__all__ = ["AT_ONCE", "Client", "Reply", "Target"]

AT_ONCE = 16
"""Coroutines begun before the loop looks at its sockets: the first requests are not to wait for the last."""

_HEAD = 32 << 10
_IDLE = 30.0
_RESOLVED = 60.0
_CHUNK_LINE = 1024
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")
_SAFE = "%/:=&?~+!$,;'@()*[]-._"


class Headers:
    """The header lines of an answer, searched when they are asked for: few ever are."""

    __slots__ = ("_lower", "_raw")

    def __init__(self, raw: bytes) -> None:
        self._raw, self._lower = raw, raw.lower()

    def get(self, name: str, default: str = "") -> str:
        """Value of a header by its name in lower case; the last one where there are several."""
        at = self._lower.rfind(b"\r\n%s:" % name.encode())
        if at < 0:
            return default
        begin = at + len(name) + 3
        end = self._raw.find(b"\r\n", begin)
        return str(self._raw[begin : end if end >= 0 else None], "latin-1").strip()


_NONE = Headers(b"")


@dataclass(slots=True)
class Reply:
    """An answer: status, headers (names in lower case), as much of the body as was wanted, whether it came from the public net."""

    status: int
    headers: Headers | dict[str, str]
    body: memoryview
    public: bool


class _Room:
    """Memory into which the connections of one loop receive heads of answers, one at a time."""

    def __init__(self) -> None:
        self.bytes = bytearray(_HEAD)
        self.view = memoryview(self.bytes)


class _Connection(asyncio.BufferedProtocol):
    """One connection; one request at a time."""

    def __init__(self, room: _Room) -> None:
        self.transport: asyncio.Transport | None = None
        self.alive = True
        self.since = 0.0
        self.waiter: asyncio.Future[tuple[int, Headers, memoryview]] | None = None
        self.room = room
        self.silence = 0.0
        self.quiet_until = 0.0
        self.deadline = 0.0
        self._begin(0)

    def _begin(self, limit: int) -> None:
        self.head = b""
        self.limit = limit
        self.status = 0
        self.headers = _NONE
        self.body: memoryview | None = None
        self.position = 0
        self.open_ended = False
        self.chunked = False
        self.chunk = 0
        self.plain = bytearray()
        self.cut = False

    # -- asyncio's side --------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        if self.waiter is None or self.waiter.done():
            return
        if exc is None and self.body is not None and self.open_ended:
            self._finish(self.body[: self.position])
        else:
            self.fail(ConnectionResetError(f"connection closed after {self.position} bytes" if self.status else "connection closed"))

    def eof_received(self) -> bool:
        return False

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.body is None:
            return self.room.view
        if self.position == len(self.body):  # open-ended or chunked: grow
            grown = memoryview(bytearray(max(2 * len(self.body), 1 << 16)))
            grown[: self.position] = self.body
            self.body = grown
        return self.body[self.position :]

    def buffer_updated(self, nbytes: int) -> None:
        if self.waiter is None:  # nobody asked: whatever it is, the next answer would not be one
            self.abort()
            return
        if self.silence:
            self.quiet_until = time.monotonic() + self.silence
        if self.body is not None:
            self.position += nbytes
            self._advance()
            return
        end = -1 if self.head else self.room.bytes.find(b"\r\n\r\n", 0, nbytes)
        if end >= 0:
            self.head = bytes(self.room.view[:end])
            self._headed(self.room.view[end + 4 : nbytes])
            return
        self.head += self.room.view[:nbytes]
        end = self.head.find(b"\r\n\r\n")
        if end >= 0:
            rest, self.head = memoryview(self.head)[end + 4 :], self.head[:end]
            self._headed(rest)
        elif len(self.head) >= _HEAD:
            self.fail(ConnectionError("the answer's head is longer than 32 KiB"))

    # -- HTTP ------------------------------------------------------------------------------------------------------------------

    def _headed(self, rest: memoryview) -> None:
        """The head is whole, and `rest` of the body came with it."""
        line = str(self.head[:200], "latin-1").split("\r\n", 1)[0]
        try:
            self.status = int(line.split(" ", 2)[1])
        except (IndexError, ValueError):
            self.fail(ConnectionError(f"no HTTP answer but {line[:60]!r}"))
            return
        self.headers = Headers(self.head)
        declared = self.headers.get("content-length", "none")
        self.chunked = "chunked" in self.headers.get("transfer-encoding").lower()
        if self.status in (204, 304) or (declared == "0" and not self.chunked):
            self._finish(memoryview(b""))
            return
        if self.chunked or not declared.isdecimal():
            self.open_ended = not self.chunked
            size = max(1 << 16, len(rest))
        else:
            size = min(int(declared), self.limit)
            self.cut = size < int(declared)
        self.body = np.empty(size, np.uint8).data  # a bytearray would be zeroed first
        self.position = min(len(rest), size)
        self.body[: self.position] = rest[: self.position]
        self._advance()

    def _advance(self) -> None:
        assert self.body is not None
        if self.chunked:
            self._dechunk(bytes(self.body[: self.position]))
        elif self.open_ended:
            if self.position >= self.limit:
                self.cut = True
                self._finish(self.body[: self.limit])
        elif self.position == len(self.body):
            self._finish(self.body)

    def _dechunk(self, raw: bytes) -> None:
        """Take complete parts of a chunked body out of `raw`, up to the limit; what is left waits for more."""
        assert self.body is not None
        at = 0
        while at < len(raw):
            if self.chunk:
                piece = raw[at : at + self.chunk]
                self.plain += piece
                self.chunk -= len(piece)
                at += len(piece)
                if len(self.plain) >= self.limit:
                    self.cut = True
                    self._finish(memoryview(self.plain)[: self.limit])
                    return
                continue
            begin = at + 2 if self.plain else at  # after the line end of the chunk before
            end = raw.find(b"\r\n", begin, begin + _CHUNK_LINE)
            if end < 0 and len(raw) - begin < _CHUNK_LINE:
                break
            size = raw[begin : max(end, begin)].split(b";")[0].strip()
            if not _HEX.fullmatch(size):
                self.fail(ConnectionError(f"no chunk but {raw[begin : begin + 20]!r}"))
                return
            if not (chunk := int(size, 16)):
                if len(raw) < end + 4:
                    break
                self.cut = raw[end + 2 :] != b"\r\n"  # trailers are not read
                self._finish(memoryview(self.plain))
                return
            self.chunk, at = chunk, end + 2
        self.position = len(raw) - at
        self.body[: self.position] = raw[at:]

    def _finish(self, body: memoryview) -> None:
        if self.cut or self.open_ended or self.headers.get("connection").lower() == "close":
            self.abort()
        self.silence = 0.0
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result((self.status, self.headers, body))

    def fail(self, error: Exception) -> None:
        """End the request under way, and the connection, with `error`."""
        self.abort()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(error)

    def abort(self) -> None:
        """Close at once."""
        self.alive = False
        if self.transport is not None:
            self.transport.abort()

    def rest(self) -> None:
        """Let go of the last answer: idle connections are many."""
        self.waiter = None
        self._begin(0)

    def ask(self, request: bytes, limit: int, silence: float, deadline: float) -> asyncio.Future[tuple[int, Headers, memoryview]]:
        """Send a request; the future holds status, headers and at most `limit` bytes of body."""
        self._begin(limit)
        self.silence = silence
        self.quiet_until = time.monotonic() + silence
        self.deadline = deadline
        self.waiter = asyncio.get_running_loop().create_future()
        assert self.transport is not None
        self.transport.write(request)
        return self.waiter


@lru_cache(maxsize=1)
def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@dataclass(slots=True)
class _Host:
    """One server: its addresses, its idle connections, and the moment (monotonic, s) before which it wants no requests."""

    name: str
    port: int
    secure: bool
    proxy: tuple[str, int] | None
    idle: list[_Connection]
    addresses: list[str]
    public: bool
    """Whether all addresses are of the public net, as far as a proxy does not hide them."""
    resolved: float = -math.inf
    held: float = 0.0
    lookup: asyncio.Task[None] | None = None
    """The resolution of the name under way: one for all that connect meanwhile."""
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    """Those who wait for it."""


class Target(NamedTuple):
    """A server, and a request to it without its range."""

    host: _Host
    head: bytes


class Tally(Protocol):
    """Where costs are added up."""

    requests: int
    bytes: int


class Client:
    """Connections to any number of servers, kept and used again."""

    def __init__(self) -> None:
        self._hosts: dict[tuple[str, str, int], _Host] = {}
        self._servers: dict[str, tuple[_Host, str, str]] = {}
        self._busy: set[_Connection] = set()
        self._watch: asyncio.Task[None] | None = None
        self._room = _Room()

    async def get(
        self, target: Target, span: tuple[int, int] | None, tally: Tally, *, limit: int, connect: float, silence: float, deadline: float
    ) -> Reply:
        """One GET, of bytes ``span[0]`` to ``span[1]`` (exclusive) if given; what it cost is added to `tally`, however it ends.

        Raises `OSError` (of which ConnectionError and TimeoutError are kinds) where no whole answer came, `Fault` for an address that
        is never read.
        """
        host = target.host
        request = target.head + (b"Range: bytes=%d-%d\r\n\r\n" % (span[0], span[1] - 1) if span else b"\r\n")
        finished = stale = False
        while not finished:
            connection = await self._connection(host, min(connect, max(0.001, deadline - time.monotonic())), fresh=stale)
            stale = connection.since > 0.0
            tally.requests += 1
            self._busy.add(connection)
            self._guard(silence)
            try:
                status, headers, body = await connection.ask(request, limit, silence, deadline)
                finished = True
            except ConnectionResetError:
                if not stale or connection.head:
                    raise  # else the server had closed what was idle, and never saw the request
            finally:
                self._busy.discard(connection)
                tally.bytes += len(body) if finished else connection.position
                connection.rest()
                if not finished:
                    connection.abort()
        if connection.alive:
            connection.since = time.monotonic()
            host.idle.append(connection)
        return Reply(status, headers, body, host.public)

    def close(self) -> None:
        """Close all idle connections."""
        for host in self._hosts.values():
            while host.idle:
                host.idle.pop().abort()

    def _host(self, scheme: str, name: str, port: int | None) -> _Host:
        port = port or (443 if scheme == "https" else 80)
        host = self._hosts.get((scheme, name, port))
        if host is None:
            proxy = _proxy(scheme, name)
            host = self._hosts[scheme, name, port] = _Host(name, port, scheme == "https", proxy, [], [], proxy is not None)
            with contextlib.suppress(ValueError):  # of a name: it is looked up
                host.public = check_address(name) or host.public
                host.addresses, host.resolved = [name], math.inf
        return host

    def aim(self, url: str) -> Target:
        """Whom to ask for a URL, and how; ValueError for what is no URL."""
        if plain := PLAIN.fullmatch(url):
            server, path = plain[1], url[plain.end(1) :]
        else:
            parts = urlsplit(url)
            server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
            path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
        host, before, after = self._servers.get(server) or self._server(server)
        return Target(host, f"{before}{path}{after}".encode("latin-1"))

    def _server(self, server: str) -> tuple[_Host, str, str]:
        """Whom to ask for what a server has, and what stands before and after the path in all requests to it."""
        parts = urlsplit(server)
        host = self._host(parts.scheme.lower(), parts.hostname or "", parts.port)
        absolute = f"http://{parts.netloc}" if host.proxy and not host.secure else ""
        agent = f"User-Agent: cubekit/{__version__}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        known = self._servers[server] = host, f"GET {absolute}", f" HTTP/1.1\r\nHost: {parts.netloc}\r\n{agent}"
        return known

    async def _connection(self, host: _Host, timeout: float, *, fresh: bool = False) -> _Connection:
        now = time.monotonic()
        while host.idle and not fresh:
            connection = host.idle.pop()
            if connection.alive and now - connection.since < _IDLE:
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(host)
        except TimeoutError:
            raise TimeoutError(f"no connection to {host.name}:{host.port} within {timeout:.3g} s") from None

    async def _connect(self, host: _Host) -> _Connection:
        loop = asyncio.get_running_loop()
        if host.proxy:
            return await self._through_proxy(host, host.proxy)
        if time.monotonic() - host.resolved > _RESOLVED:
            if host.lookup is None or host.lookup.done():
                host.lookup = loop.create_task(_look_up(loop, host))
            place = loop.create_future()
            host.waiting.append(place)
            await place
        problem: OSError | None = None
        for address in host.addresses:
            try:
                return await self._open(host, address)
            except OSError as error:
                problem = error
        raise problem or ConnectionError(f"{host.name} has no address")

    def _new(self) -> _Connection:
        return _Connection(self._room)

    async def _open(self, host: _Host, address: str) -> _Connection:
        secured: dict[str, Any] = {"ssl": _context(), "server_hostname": host.name} if host.secure else {}
        _, protocol = await asyncio.get_running_loop().create_connection(self._new, address, host.port, **secured)
        return protocol

    async def _through_proxy(self, host: _Host, proxy: tuple[str, int]) -> _Connection:
        loop = asyncio.get_running_loop()
        if not host.secure:
            _, protocol = await loop.create_connection(self._new, *proxy)
            return protocol
        reader, writer = await asyncio.open_connection(*proxy)
        writer.write(f"CONNECT {host.name}:{host.port} HTTP/1.1\r\nHost: {host.name}:{host.port}\r\n\r\n".encode("latin-1"))
        head = await reader.readuntil(b"\r\n\r\n")
        if head.split(b" ", 2)[1:2] != [b"200"]:
            writer.transport.abort()
            raise ConnectionError(f"proxy {proxy[0]} refused: {head.splitlines()[0].decode('latin-1')[:80]}")
        connection = self._new()
        transport = await loop.start_tls(writer.transport, connection, _context(), server_hostname=host.name)
        assert transport is not None
        connection.connection_made(transport)
        return connection

    def _guard(self, silence: float) -> None:
        if self._watch is None or self._watch.done():
            self._watch = asyncio.get_running_loop().create_task(self._watchdog(min(0.1, silence / 4)))

    async def _watchdog(self, period: float) -> None:
        """One timer for all requests: cheaper than three timers for each."""
        while self._busy:
            await asyncio.sleep(period)
            now = time.monotonic()
            for connection in list(self._busy):
                if now > connection.deadline:
                    connection.fail(TimeoutError("the deadline for the whole request passed"))
                elif connection.silence and now > connection.quiet_until:
                    what = f"silence after {connection.position} bytes" if connection.status else "no answer"
                    connection.fail(TimeoutError(f"{what} for {connection.silence:.3g} s"))
                elif connection.silence:
                    period = min(period, connection.silence / 4)


async def _look_up(loop: asyncio.AbstractEventLoop, host: _Host) -> None:
    """Note the addresses of a host, and let those go on who waited: a few at a time, so that the first ask while the last connect."""
    problem: Exception | None = None
    try:
        host.addresses, host.public = await _resolved(loop, host)
        host.resolved = time.monotonic()
    except Exception as error:  # noqa: BLE001  raised where it is waited for
        problem = error
    while host.waiting:
        for _ in range(min(AT_ONCE, len(host.waiting))):
            place = host.waiting.popleft()
            if place.cancelled():
                continue
            if problem is None:
                place.set_result(None)
            else:
                place.set_exception(problem)
        await asyncio.sleep(0)


async def _resolved(loop: asyncio.AbstractEventLoop, host: _Host) -> tuple[list[str], bool]:
    """Addresses of a host, and whether all are of the public net; a `Fault` where one of them is never read from."""
    try:
        found = await loop.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    except (ValueError, OverflowError):  # names too long for the DNS, ports beyond 65535
        raise Fault(ReadStatus.REFUSED, f"{host.name[:100]!r} is no name of a host") from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
    return addresses, False not in {check_address(address) for address in addresses}


def _proxy(scheme: str, name: str) -> tuple[str, int] | None:
    address = getproxies().get(scheme)
    if not address or proxy_bypass(name):
        return None
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if not parts.hostname:
        raise Fault(ReadStatus.REFUSED, f"the proxy {address!r} of the environment names no host")
    return parts.hostname, parts.port or 80
