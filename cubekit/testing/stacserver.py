"""STAC servers for tests: a scripted one on loopback that fails as told and counts, a fake token endpoint, and a real one."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

__all__ = ["Fault", "Record", "StacServer", "TokenServer", "real_server"]

Paging = Literal["post", "merge", "get", "offset"]


@dataclass(frozen=True, slots=True)
class Fault:
    """How one answer goes wrong.

    Parameters
    ----------
    kind
        ``status`` (with `status` and `retry_after`), ``stall`` (nothing for `seconds`), ``slow`` (a byte now and then for `seconds`),
        ``html`` (200 with a web page), ``reset`` (the connection breaks), ``truncate`` (half the body), ``repeat`` (the first page again
        with a new next link), ``circle`` (the next link leads to this page), ``no-next`` (the link is left out), ``empty`` (no items, with
        a next link), ``redirect`` (to `location`), ``elsewhere`` (the next link leads to the host of `location`).
    """

    kind: str
    status: int = 503
    retry_after: str | None = None
    seconds: float = 30.0
    location: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """A request that arrived: method, path, parameters (of the body or the query), headers and time (monotonic, s)."""

    method: str
    path: str
    parameters: Mapping[str, Any]
    headers: Mapping[str, str]
    at: float


class _Server:
    """A threaded HTTP server on a free loopback port that records what arrives."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.port = int(self._http.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: _Handler, record: Record) -> None:
        """Write the answer to a request."""
        raise NotImplementedError


class _Handler(BaseHTTPRequestHandler):
    """Turns requests into records and leaves the answer to the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    owner: _Server

    def do_GET(self) -> None:
        """Answer GET: parameters are in the query."""
        parts = urlsplit(self.path)
        self._handle("GET", parts.path, {key: values[-1] for key, values in parse_qs(parts.query).items()})

    def do_POST(self) -> None:
        """Answer POST: parameters are in the JSON body."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._handle("POST", urlsplit(self.path).path, json.loads(body or b"{}"))

    def _handle(self, method: str, path: str, parameters: Mapping[str, Any]) -> None:
        record = Record(method, path, parameters, dict(self.headers.items()), time.monotonic())
        with self.owner.lock:
            self.owner.records.append(record)
        try:
            self.owner.answer(self, record)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def reply(self, status: int, body: bytes, kind: str = "application/json", headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Break the connection with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def truncated(self, body: bytes) -> None:
        """Announce a body and send half of it."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


class StacServer(_Server):
    """A STAC API over given items that does what a script says; a context manager.

    Parameters
    ----------
    items
        STAC items, served newest first.
    paging
        How pages are linked: ``post`` (a next link with the whole body), ``merge`` (a body to merge), ``get`` (an address), ``offset``.
    count
        Whether pages tell ``numberMatched``.
    cap
        Largest page, whatever the limit asked for.
    faults
        One per search request in order of arrival; None is a good answer.
    always
        Fault of every search request after those.
    methods
        What the search endpoint understands; anything else gets 405.
    exact
        False serves every item of the collection, ignoring box and time, as a server without an index might.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        *,
        paging: Paging = "post",
        count: bool = True,
        cap: int = 1000,
        faults: Sequence[Fault | None] = (),
        always: Fault | None = None,
        methods: Sequence[str] = ("GET", "POST"),
        exact: bool = True,
    ) -> None:
        super().__init__()
        self.items = sorted(items, key=lambda item: (str(item["properties"].get("datetime")), item["id"]), reverse=True)
        self.paging, self.count, self.cap, self.exact, self.methods = paging, count, cap, exact, tuple(methods)
        self._faults, self._always = list(faults), always
        self._pages = 0

    def script(self, faults: Sequence[Fault | None] = (), always: Fault | None = None) -> None:
        """Replace the faults, and forget what has arrived."""
        with self.lock:
            self._faults, self._always = list(faults), always
            self.records.clear()

    @property
    def searches(self) -> list[Record]:
        """Requests for a search that have arrived."""
        return [record for record in self.records if record.path.endswith("/search")]

    def answer(self, request: _Handler, record: Record) -> None:
        """Landing page or search."""
        if not record.path.endswith("/search"):
            request.reply(200, json.dumps(self._landing()).encode())
        elif record.method not in self.methods:
            request.reply(405, b'{"code": "MethodNotAllowed"}')
        else:
            with self.lock:
                fault = self._faults.pop(0) if self._faults else self._always
                self._pages += 1
            self._search(request, record, fault)

    def _landing(self) -> dict[str, Any]:
        links = [
            {"rel": "search", "href": f"{self.url}/search", "method": method, "type": "application/geo+json"} for method in self.methods
        ]
        conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
        return {
            "type": "Catalog",
            "id": "scripted",
            "stac_version": "1.0.0",
            "description": "for tests",
            "conformsTo": conforms,
            "links": links,
        }

    def _search(self, request: _Handler, record: Record, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        page = json.dumps(self._page(record.parameters, fault)).encode()
        if fault is None or kind in ("repeat", "circle", "no-next", "empty", "elsewhere"):
            request.reply(200, page, "application/geo+json")
        elif kind == "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
            request.reply(fault.status, b'{"description": "out of order"}', headers=headers)
        elif kind == "stall":
            self.closing.wait(fault.seconds)
            request.reset()
        elif kind == "slow":
            self._slowly(request, page, fault.seconds)
        elif kind == "html":
            request.reply(200, b"<!DOCTYPE html><html><body>Please sign in</body></html>", "text/html")
        elif kind == "reset":
            request.reset()
        elif kind == "truncate":
            request.truncated(page)
        elif kind == "redirect":
            request.reply(307, b"", headers={"Location": fault.location})
        else:
            raise ValueError(f"unknown fault {kind!r}")

    def _slowly(self, request: _Handler, page: bytes, seconds: float) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(page)))
        request.end_headers()
        until = time.monotonic() + seconds
        for position in range(len(page)):
            request.wfile.write(page[position : position + 1])
            request.wfile.flush()
            if time.monotonic() > until or self.closing.wait(0.02):
                break
        request.close_connection = True

    def _page(self, parameters: Mapping[str, Any], fault: Fault | None) -> dict[str, Any]:
        kind = fault.kind if fault else ""
        found = [item for item in self.items if self._fits(item, parameters)]
        limit = min(int(parameters.get("limit", 10)), self.cap)
        offset = 0 if kind == "repeat" else int(parameters.get("token", parameters.get("offset", 0)))
        features = [] if kind == "empty" else found[offset : offset + limit]
        page: dict[str, Any] = {"type": "FeatureCollection", "features": features, "links": []}
        if self.count:
            page["numberMatched"] = len(found)
        following = offset if kind == "circle" else offset + limit
        if kind in ("repeat", "empty"):
            following = 100_000 + self._pages
        if kind != "no-next" and (following < len(found) or kind in ("repeat", "circle", "empty")):
            page["links"].append(self._next(parameters, following, fault.location if fault and kind == "elsewhere" else self.url))
        return page

    def _next(self, parameters: Mapping[str, Any], following: int, root: str) -> dict[str, Any]:
        if self.paging == "post":
            return {"rel": "next", "method": "POST", "href": f"{root}/search", "body": {**parameters, "token": following}}
        if self.paging == "merge":
            return {"rel": "next", "method": "POST", "href": f"{root}/search", "merge": True, "body": {"token": following}}
        name = "token" if self.paging == "get" else "offset"
        flat = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in parameters.items()}
        query = "&".join(f"{key}={value}" for key, value in {**flat, name: following}.items())
        return {"rel": "next", "href": f"{root}/search?{query}"}

    def _fits(self, item: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
        collections = parameters.get("collections")
        if collections is not None and item.get("collection") not in (
            collections.split(",") if isinstance(collections, str) else collections
        ):
            return False
        return not self.exact or (_touches(item, parameters.get("bbox")) and _overlaps(item, parameters.get("datetime")))


def _touches(item: Mapping[str, Any], asked: Any) -> bool:
    if asked is None or len(item.get("bbox") or []) != 4:
        return True
    west, south, east, north = (float(edge) for edge in (asked.split(",") if isinstance(asked, str) else asked))
    left, bottom, right, top = item["bbox"]
    spans = [(left, right)] if left <= right else [(left, 180.0), (-180.0, right)]
    return bottom <= north and south <= top and any(a <= east and west <= b for a, b in spans)


def _overlaps(item: Mapping[str, Any], asked: str | None) -> bool:
    if asked is None:
        return True
    start, _, end = asked.partition("/")
    properties = item["properties"]
    first = properties.get("datetime") or properties["start_datetime"]
    last = properties.get("datetime") or properties["end_datetime"]
    return _when(first) <= _when(end or start) and _when(last) >= _when(start)


def _when(text: str) -> datetime:
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


class TokenServer(_Server):
    """Stand-in for Planetary Computer's token endpoint: ``/{account}/{container}``; a context manager.

    Parameters
    ----------
    lifetime
        Seconds until a token expires; negative issues expired ones.
    accounts
        Accounts that have tokens; others get 404. None for all.
    faults
        One per request in order of arrival (``status``, ``stall`` or ``reset``); None is a good answer.
    delay
        Seconds before each answer.
    signature
        What the signatures begin with.

    Attributes
    ----------
    issued : list of str
        Signatures in the order they were given out.
    """

    def __init__(
        self,
        *,
        lifetime: float = 3600.0,
        accounts: Sequence[str] | None = None,
        faults: Sequence[Fault | None] = (),
        delay: float = 0.0,
        signature: str = "SIGNATURE",
    ) -> None:
        super().__init__()
        self.lifetime, self.accounts, self.delay, self.signature = lifetime, accounts, delay, signature
        self._faults: list[Fault | None] = list(faults)
        self.issued: list[str] = []

    def answer(self, request: _Handler, record: Record) -> None:
        """One token, or what the script says."""
        with self.lock:
            fault = self._faults.pop(0) if self._faults else None
        if self.delay:
            self.closing.wait(self.delay)
        account = record.path.strip("/").split("/")[0]
        if fault is not None and fault.kind == "stall":
            self.closing.wait(fault.seconds)
        if fault is not None and fault.kind in ("stall", "reset"):
            request.reset()
        elif fault is not None:
            request.reply(fault.status, b"{}")
        elif self.accounts is not None and account not in self.accounts:
            request.reply(404, b'{"detail": "no such container"}')
        else:
            expiry = datetime.now(UTC) + timedelta(seconds=self.lifetime)
            with self.lock:
                signature = f"{self.signature}{len(self.issued)}"
                self.issued.append(signature)
            token = f"st=2020-01-01&se={expiry:%Y-%m-%dT%H%%3A%M%%3A%SZ}&sp=rl&sig={signature}"
            request.reply(200, json.dumps({"msft:expiry": expiry.isoformat(), "token": token}).encode())


@contextmanager
def real_server(items: Path, *, patience: float = 20.0) -> Iterator[str]:
    """URL of a real STAC API, ``rustac serve``, over the items of a file; skips the calling test where rustac is not installed.

    Parameters
    ----------
    items
        Item collection, JSON.
    patience
        Seconds to wait for it.
    """
    import sys

    import pytest

    program = shutil.which("rustac", path=str(Path(sys.executable).parent)) or shutil.which("rustac")
    if program is None:
        pytest.skip("rustac is not installed (cubekit[publish] has it)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "serve", "--create-collections", "--addr", f"127.0.0.1:{port}", str(items)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + patience
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"rustac serve did not start (exit status {process.poll()})")
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
