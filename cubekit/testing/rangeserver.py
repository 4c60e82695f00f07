"""A scripted HTTP/1.1 range server in a process of its own: latency, bandwidth, faults by rule, exact counts.

Only the standard library is imported, so the file also runs by path in any interpreter::

    python rangeserver.py FOLDER [PORT]        # then JSON commands on stdin, one per line; answers on stdout

The server is one epoll loop over memory-mapped files, so that it is not what a benchmark measures.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import json
import mmap
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["RangeServer"]

_PIECE = 1 << 18
_TICK = 0.002


class RangeServer:
    """Handle of a range server running in a child process; use it as a context manager.

    Parameters
    ----------
    root
        Folder whose files are served (read afresh whenever their size or time changes).
    latency
        Seconds from the complete request to the first byte of the answer.
    bandwidth
        Bits per second over all connections; None for no limit.
    rules
        Faults, tried in order; the first that applies decides. Keys of a rule: ``path`` (regular expression, searched),
        ``method``, ``start`` (``"zero"`` or ``"later"``: first byte asked for), ``skip`` (matches let through first),
        ``times`` (matches it applies to; default all), ``every`` (of the matches, only each n-th), ``unless_query`` (mapping:
        applies unless the query holds these values), ``unless_future`` (applies unless that parameter is an ISO time to come) and what
        to do: ``status`` with ``headers`` and ``body``; ``reset_after`` /
        ``close_after`` / ``stall_after`` (body bytes sent before the connection is reset, closed or left silent); ``delay``
        (extra seconds); ``etag``; ``ignore_range`` (status 200 and the whole file); ``content_type``; ``damage`` (the body's
        bytes inverted); ``length`` (the answer is cut to so many bytes, honestly declared).
    certificate
        Certificate and key file for TLS.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        latency: float = 0.0,
        bandwidth: float | None = None,
        rules: Sequence[Mapping[str, Any]] = (),
        certificate: tuple[str, str] | None = None,
    ) -> None:
        command = [sys.executable, "-I", str(Path(__file__).resolve()), str(root)]
        # Closed by `close`; the server also ends by itself when its standard input closes.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._tls = certificate is not None
        self.port = int(self._ask({"start": {"certificate": certificate}})["port"])
        self.configure(latency=latency, bandwidth=bandwidth, rules=rules)

    @property
    def url(self) -> str:
        """Base address, without a slash at its end."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Process number, for measuring the server's own load."""
        return self._process.pid

    def configure(self, **settings: Any) -> None:
        """Change ``latency``, ``bandwidth`` or ``rules`` from now on; rules start counting anew."""
        if "rules" in settings:
            settings["rules"] = [dict(rule) for rule in settings["rules"]]
        self._ask({"set": settings})

    def stats(self, *, reset: bool = False) -> dict[str, Any]:
        """Counts since the start or the last reset: ``requests``, ``gets``, ``heads``, ``bytes`` (of bodies), ``connections``,
        ``statuses``, ``ranges`` (list of [path, first, last, status] in order), ``times`` (when each of them was asked, s) and ``cpu``
        (seconds)."""
        return self._ask({"stats": {"reset": reset}})

    def close(self) -> None:
        """Stop the server."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> RangeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, command: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


class _Rule:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.path = re.compile(spec.get("path", ""))
        self.seen = 0
        self.used = 0

    def applies(self, method: str, path: str, query: Mapping[str, list[str]], start: int | None) -> bool:
        spec = self.spec
        if not self.path.search(path) or spec.get("method", method) != method:
            return False
        if "start" in spec and (spec["start"] == "zero") != (start == 0):
            return False
        if "unless_query" in spec and all(query.get(key) == [value] for key, value in spec["unless_query"].items()):
            return False
        if "unless_future" in spec and _is_future(query.get(spec["unless_future"], [""])[0]):
            return False
        self.seen += 1
        if self.seen <= spec.get("skip", 0) or self.used >= spec.get("times", float("inf")):
            return False
        if self.seen % spec.get("every", 1):
            return False
        self.used += 1
        return True


@functools.lru_cache(maxsize=4096)  # a benchmark asks for the same files again and again
def _parsed(target: str) -> tuple[str, dict[str, list[str]]]:
    split = urlsplit(target)
    return unquote(split.path), parse_qs(split.query)


def _is_future(text: str) -> bool:
    try:
        return datetime.fromisoformat(text) > datetime.now(UTC)
    except ValueError:
        return False


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox = b""
        self.out: deque[memoryview] = deque()
        self.busy = False
        self.shaking = isinstance(sock, ssl.SSLSocket)
        self.writable = False
        self.counted = 0
        self.end: str | None = None
        self.keep = True


class _Server:
    """The loop itself (runs in the child)."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.latency = 0.0
        self.bandwidth: float | None = None
        self.rules: list[_Rule] = []
        self.tokens = 0.0
        self.filled = time.perf_counter()
        self.timers: list[tuple[float, int, _Connection, Any]] = []
        self.ticket = itertools.count()
        self.waiting: deque[_Connection] = deque()
        self.connections: dict[int, _Connection] = {}
        self.places: dict[str, Path] = {}
        self.files: dict[Path, tuple[tuple[int, int], memoryview, str]] = {}
        self.epoll = select.epoll()
        self.listener = socket.socket()
        self.context: ssl.SSLContext | None = None
        self.clear()

    def clear(self) -> None:
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.ranges: list[list[Any]] = []
        self.times: list[float] = []
        self.cpu = time.process_time()

    # -- control ---------------------------------------------------------------------------------------------------------------

    def command(self, line: str) -> None:
        message = json.loads(line)
        answer: dict[str, Any] = {}
        if "start" in message:
            answer["port"] = self.listen(message["start"].get("certificate"), message["start"].get("port", 0))
        if "set" in message:
            settings = message["set"]
            self.latency = settings.get("latency", self.latency)
            self.bandwidth = settings.get("bandwidth", self.bandwidth)
            self.tokens = 0.0
            if "rules" in settings:
                self.rules = [_Rule(rule) for rule in settings["rules"]]
        if "stats" in message:
            answer = {
                **{key: self.counts[key] for key in ("requests", "gets", "heads", "bytes", "connections")},
                "statuses": dict(self.statuses),
                "ranges": self.ranges,
                "times": self.times,
                "cpu": time.process_time() - self.cpu,
            }
            if message["stats"].get("reset"):
                self.clear()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def listen(self, certificate: list[str] | None, port: int) -> int:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.listener.setblocking(False)
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*certificate)
        self.epoll.register(self.listener, select.EPOLLIN)
        return int(self.listener.getsockname()[1])

    # -- loop ------------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        os.set_blocking(0, False)
        self.epoll.register(0, select.EPOLLIN)
        pending = b""
        while True:
            for descriptor, events in self.epoll.poll(self.patience()):
                if descriptor == 0:
                    piece = os.read(0, 1 << 20)
                    if not piece:
                        return
                    *lines, pending = (pending + piece).split(b"\n")
                    for line in lines:
                        self.command(line.decode())
                elif descriptor == self.listener.fileno():
                    self.accept()
                elif connection := self.connections.get(descriptor):
                    self.serve(connection, events)
            self.tick()

    def patience(self) -> float:
        if self.waiting:
            return _TICK
        return max(0.0, self.timers[0][0] - time.perf_counter()) if self.timers else 1.0

    def tick(self) -> None:
        now = time.perf_counter()
        while self.timers and self.timers[0][0] <= now:
            *_, connection, parts = heapq.heappop(self.timers)
            connection.out.extend(parts)
            self.flush(connection)
        if self.bandwidth:
            self.tokens = min(self.tokens + (now - self.filled) * self.bandwidth / 8, self.bandwidth / 8 * 0.02)
        self.filled = now
        for _ in range(len(self.waiting)):
            if self.bandwidth and self.tokens <= 0:
                break
            self.flush(self.waiting.popleft())

    def accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setblocking(False)
                if self.context:
                    sock = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                self.counts["connections"] += 1
                self.connections[sock.fileno()] = _Connection(sock)
                self.epoll.register(sock, select.EPOLLIN)

    def drop(self, connection: _Connection, *, reset: bool = False) -> None:
        descriptor = connection.sock.fileno()
        if descriptor < 0:
            return
        self.connections.pop(descriptor, None)
        self.epoll.unregister(descriptor)
        if reset:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sock.close()

    def serve(self, connection: _Connection, events: int) -> None:
        try:
            if connection.shaking:
                assert isinstance(connection.sock, ssl.SSLSocket)
                connection.sock.do_handshake()
                connection.shaking = False
            if events & select.EPOLLOUT:
                self.flush(connection)
            if events & ~select.EPOLLOUT:
                piece = connection.sock.recv(1 << 16)
                if not piece:
                    self.drop(connection)
                    return
                connection.inbox += piece
                self.take(connection)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self.drop(connection)

    def flush(self, connection: _Connection) -> None:
        if connection.sock.fileno() < 0:
            return
        try:
            while connection.out:
                room = _PIECE
                if self.bandwidth:
                    if self.tokens <= 0:
                        self.want(connection, False)
                        self.waiting.append(connection)
                        return
                    room = min(room, 1 << 16)
                part = connection.out[0]
                if len(connection.out) > 1 and not self.bandwidth and not self.context:  # head and body in one call
                    sent = connection.sock.sendmsg(connection.out)
                else:
                    sent = connection.sock.send(part[:room])
                self.tokens -= sent
                while connection.out and sent >= len(connection.out[0]):
                    sent -= len(connection.out.popleft())
                if sent:
                    connection.out[0] = connection.out[0][sent:]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self.want(connection, True)
            return
        except OSError:
            self.drop(connection)
            return
        self.finish(connection)

    def finish(self, connection: _Connection) -> None:
        self.want(connection, False)
        if connection.end == "stall":
            return
        if connection.end in ("close", "reset") or not connection.keep:
            self.drop(connection, reset=connection.end == "reset")
            return
        connection.busy = False
        if connection.inbox:
            self.take(connection)

    def want(self, connection: _Connection, writable: bool) -> None:
        if connection.writable != writable:
            connection.writable = writable
            self.epoll.modify(connection.sock, select.EPOLLIN | (select.EPOLLOUT if writable else 0))

    # -- HTTP ------------------------------------------------------------------------------------------------------------------

    def take(self, connection: _Connection) -> None:
        if connection.busy or b"\r\n\r\n" not in connection.inbox:
            return
        head, connection.inbox = connection.inbox.split(b"\r\n\r\n", 1)
        connection.busy = True
        request, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = request.split(" ", 2)
        headers = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        parts, delay, end = self.answer(method, target, headers)
        connection.keep = headers.get("connection", "").lower() != "close"
        connection.end = end
        heapq.heappush(self.timers, (time.perf_counter() + self.latency + delay, next(self.ticket), connection, parts))

    def answer(self, method: str, target: str, headers: Mapping[str, str]) -> tuple[list[memoryview], float, str | None]:
        path, query = _parsed(target)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
        begin = int(asked[1]) if asked and asked[1] else (None if asked else 0)
        rule = next((r.spec for r in self.rules if r.applies(method, path, query, begin)), {})
        self.counts["requests"] += 1
        self.counts["heads" if method == "HEAD" else "gets"] += 1
        if "status" in rule:
            body = memoryview(rule.get("body", "").encode())
            extra = {"Content-Type": rule.get("content_type", "text/plain"), **rule.get("headers", {})}
            return self.reply(method, path, rule["status"], extra, body, (0, 0), rule)
        held = self.file(path)
        if held is None:
            return self.reply(method, path, 404, {}, memoryview(b"not found"), (0, 0), rule)
        data, etag = held
        extra = {
            "Content-Type": rule.get("content_type", "image/tiff"),
            "Accept-Ranges": "bytes",
            "ETag": rule.get("etag", etag),
            "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT",
        }
        if headers.get("if-match", extra["ETag"]) != extra["ETag"]:
            return self.reply(method, path, 412, extra, memoryview(b""), (0, 0), rule)
        first, last, status = 0, len(data), 200
        if asked and not rule.get("ignore_range"):
            first = int(asked[1]) if asked[1] else max(0, len(data) - int(asked[2] or 0))
            last = min(len(data), int(asked[2]) + 1) if asked[1] and asked[2] else len(data)
            if first >= last:
                return self.reply(method, path, 416, {"Content-Range": f"bytes */{len(data)}"}, memoryview(b""), (first, last), rule)
            status = 206
            last = min(last, first + rule.get("length", last))
            extra["Content-Range"] = f"bytes {first}-{last - 1}/{len(data)}"
        return self.reply(method, path, status, extra, data[first:last], (first, last), rule)

    def reply(
        self,
        method: str,
        path: str,
        status: int,
        headers: Mapping[str, str],
        body: memoryview,
        span: tuple[int, int],
        rule: Mapping[str, Any],
    ) -> tuple[list[memoryview], float, str | None]:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *(f"{key}: {value}" for key, value in headers.items())]
        if rule.get("damage"):
            body = memoryview(bytes(255 - byte for byte in body))
        end = next((kind for kind in ("reset", "close", "stall") if f"{kind}_after" in rule), None)
        if end:
            body = body[: rule[f"{end}_after"]]
        if method == "HEAD":
            body = body[:0]
        self.statuses[str(status)] += 1
        self.counts["bytes"] += len(body)
        self.ranges.append([path, span[0], span[1] - 1, status])
        self.times.append(time.perf_counter())
        parts = [memoryview("\r\n".join([*lines, "", ""]).encode("latin-1"))]
        if end and not len(body) and rule[f"{end}_after"] < 0:
            parts = []
        return [*parts, body] if len(body) else parts, rule.get("delay", 0.0), end

    def file(self, path: str) -> tuple[memoryview, str] | None:
        """Content and ETag of what lies at a path; a file that changes is seen, a link that does is not."""
        place = self.places.get(path)
        if place is None:
            place = (self.root / path.lstrip("/")).resolve()
            if not place.is_relative_to(self.root) or not place.is_file():
                return None
            self.places[path] = place
        try:
            stat = os.stat(place)
        except FileNotFoundError:
            del self.places[path]
            return None
        stamp = (stat.st_size, stat.st_mtime_ns)
        known = self.files.get(place)
        if known is None or known[0] != stamp:
            with place.open("rb") as handle:
                data = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) if stat.st_size else b"")
            known = self.files[place] = (stamp, data, f'"{stamp[0]:x}-{stamp[1]:x}"')
        return known[1], known[2]


def _lines(arguments: Sequence[str]) -> Iterator[str]:
    if len(arguments) > 1:
        yield json.dumps({"start": {"port": int(arguments[1])}})


if __name__ == "__main__":
    _server = _Server(Path(sys.argv[1]))
    for _line in _lines(sys.argv[1:]):
        _server.command(_line)
    _server.run()
