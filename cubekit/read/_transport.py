"""Bytes of an object, whatever it takes: signing, retries, redirects, deadlines, validators; every end a `Fault` or the bytes asked for."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import inspect
import os
import random
import ssl
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from cubekit import waiting
from cubekit.errors import CubekitError
from cubekit.read._fault import ChangedError, Fault
from cubekit.read._href import asset_key, check_redirect, local_path, scheme_of
from cubekit.read._http import Client, Reply, Target
from cubekit.read._store import get_object
from cubekit.read._types import ReadOptions, ReadStatus, Sign

__all__ = ["Cost", "Source", "Transport"]

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECT = frozenset({301, 302, 303, 307, 308})
_SIGNED_FOR = 60.0
_WHOLE = 64 << 20
_GLANCE = 0.01
"""Seconds between two looks at what other processes were told."""


@dataclass(slots=True)
class Cost:
    """What an asset cost so far."""

    requests: int = 0
    bytes: int = 0
    retries: int = 0
    misses: int = 0


@dataclass(slots=True)
class Source:
    """One object: its address, what is known of its present version, and what it cost."""

    href: str
    scheme: str
    key: str
    etag: str | None = None
    size: int | None = None
    cost: Cost = field(default_factory=Cost)
    signed: str = ""
    signed_at: float = -1e9
    target: tuple[str, Target] | None = None

    @classmethod
    def of(cls, href: str, options: ReadOptions) -> Source:
        """Source of an href, if it may be opened."""
        return cls(href, scheme_of(href, options.local_root), asset_key(href))

    def forget(self) -> None:
        """Take the next answer as the present version."""
        self.etag = self.size = None


class Transport:
    """Ranges of sources by one set of options; belongs to one event loop."""

    def __init__(self, client: Client, options: ReadOptions, sign: Sign | None, executor: Executor) -> None:
        self._client = client
        self._options = options
        self._sign = sign
        self._fresh = sign is not None and _takes_fresh(sign)
        # The method of an object that knows which hrefs it leaves as they are, such as a catalogue.
        self._signs: Callable[[str], bool] = getattr(getattr(sign, "__self__", None), "signs", _any)
        self._executor = executor
        self._renewals: dict[str, float] = {}

    async def get(self, source: Source, start: int, stop: int, *, ends: bool = False) -> memoryview:
        """Bytes `start` to `stop` (exclusive) of a source; fewer only if the object ends there and `ends` allows it.

        Raises
        ------
        Fault
            With the status that ends the asset.
        ChangedError
            If the object's validators are not those noted in `source`.
        """
        deadline = time.monotonic() + self._options.total_timeout
        attempt, renewed = 0, 0
        while True:
            wait = 0.0
            try:
                reply = await self._once(source, start, stop, deadline)
                if reply.status in (200, 206):
                    return _body(source, reply, start, stop, ends)
                if reply.status in (400, 401, 403) and self._sign is not None and self._may_renew(source, renewed):
                    renewed += 1
                    await self._renewed(source)
                    continue
                _raise_for(source, reply)
                fault = Fault(ReadStatus.FAILED, f"{source.key}: HTTP {reply.status} after {attempt + 1} tries")
                wait = _retry_after(reply.headers.get("retry-after"))
                self._hold(source, wait, deadline)
            except TimeoutError as error:
                fault = Fault(ReadStatus.TIMED_OUT, f"{source.key}: {error} ({attempt + 1} tries)")
            except ssl.SSLCertVerificationError as error:
                raise Fault(ReadStatus.FAILED, f"{source.key}: {error}") from None
            except _Partial as error:
                fault = Fault(ReadStatus.CORRUPT, f"{source.key}: {error} ({attempt + 1} tries)")
            except OSError as error:
                fault = Fault(ReadStatus.FAILED, f"{source.key}: {error} ({attempt + 1} tries)")
            attempt += 1
            if attempt > self._options.retries:
                raise fault
            wait = max(wait, self._options.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
            if time.monotonic() + wait >= deadline:
                raise Fault(ReadStatus.TIMED_OUT, f"{fault.message}; no time left within {self._options.total_timeout:g} s")
            source.cost.retries += 1
            await asyncio.sleep(wait)

    async def _once(self, source: Source, start: int, stop: int, deadline: float) -> Reply:
        if source.scheme in ("http", "https"):
            return await self._http(source, start, stop, deadline)
        source.cost.requests += 1
        if source.scheme == "file":
            loop = asyncio.get_running_loop()
            reply = await loop.run_in_executor(self._executor, _local, source.href, self._options, start, stop)
        else:
            reply = await get_object(source.href, start, stop, self._options, deadline)
        source.cost.bytes += len(reply.body)
        return reply

    async def _http(self, source: Source, start: int, stop: int, deadline: float) -> Reply:
        if self._sign is not None and time.monotonic() - source.signed_at > _SIGNED_FOR:
            await self._signed(source)
        url = source.signed or source.href
        if source.target is None or source.target[0] != url:
            source.target = (url, _aimed(self._client, url))
        target = source.target[1]
        await _allowed(source, target, deadline)
        options = self._options
        public = False
        for _ in range(6):
            reply = await self._client.get(
                target,
                (start, stop),
                source.cost,
                limit=min(stop, _WHOLE) if start else stop,
                connect=options.connect_timeout,
                silence=options.first_byte_timeout,
                deadline=deadline,
            )
            if public and not reply.public:
                raise Fault(ReadStatus.REFUSED, f"{source.key}: a redirect led from the public net into a private one")
            if reply.status not in _REDIRECT:
                return reply
            public = public or reply.public
            url, target = self._onward(url, reply.headers.get("location", ""))
        raise Fault(ReadStatus.FAILED, f"{source.key}: more than 5 redirects")

    def _onward(self, url: str, location: str) -> tuple[str, Target]:
        """Where a redirect leads, if it may be followed."""
        try:
            onward = urljoin(url, location)
            check_redirect(url, onward)
        except ValueError:
            raise Fault(ReadStatus.REFUSED, f"redirect from {url!r} to {location[:200]!r}, which is no address") from None
        return onward, _aimed(self._client, onward)

    @staticmethod
    def _hold(source: Source, seconds: float, deadline: float) -> None:
        """Keep all requests from a host that asks to wait; longer than they could, they are left to fail one by one."""
        until = time.monotonic() + seconds
        if seconds and source.target is not None and until < deadline:
            host = source.target[1].host
            host.held = max(host.held, until)
            waiting.hold(f"{host.name}:{host.port}", seconds)

    def _may_renew(self, source: Source, renewed: int) -> bool:
        """Once; and again where the newest signature is not that new any more, as with tokens that live for seconds."""
        return renewed == 0 or (renewed < 3 and time.monotonic() - self._renewals.get(_folder(source), -1e9) > 1.0)

    async def _renewed(self, source: Source) -> None:
        """Sign anew what was refused; one new token serves all sources of a folder whose signatures are older than it."""
        folder = _folder(source)
        fresh = source.signed_at >= self._renewals.get(folder, -1e9)
        await self._signed(source, fresh=fresh)
        if fresh:
            self._renewals[folder] = max(self._renewals.get(folder, -1e9), source.signed_at)

    async def _signed(self, source: Source, *, fresh: bool = False) -> None:
        """Sign in a thread: a signer may ask a token service."""
        if not fresh and not self._signs(source.href):
            source.signed, source.signed_at = source.href, time.monotonic()
            return
        sign: Any = self._sign
        work = functools.partial(sign, source.href, fresh=True) if fresh and self._fresh else functools.partial(sign, source.href)
        try:
            source.signed = await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except (CubekitError, OSError, ValueError) as error:
            raise Fault(ReadStatus.DENIED, f"{source.key} could not be signed: {error}") from None
        source.signed_at = time.monotonic()
        scheme_of(source.signed, None)


class _Partial(OSError):
    """A whole answer, but not of the bytes asked for."""


def _folder(source: Source) -> str:
    """Scheme, host and container."""
    return "/".join(source.href.split("/", 4)[:4])


def _aimed(client: Client, url: str) -> Target:
    try:
        return client.aim(url)
    except ValueError as error:
        raise Fault(ReadStatus.REFUSED, f"{url[:200]!r} is no address ({error})") from None


async def _allowed(source: Source, target: Target, deadline: float) -> None:
    """Wait while the host wants no requests; those that waited come one after the other within a moment."""
    host = f"{target.host.name}:{target.host.port}"
    while (pause := max(target.host.held - time.monotonic(), waiting.left(host, known_for=_GLANCE))) > 0:
        if time.monotonic() + pause >= deadline:
            raise Fault(ReadStatus.TIMED_OUT, f"{source.key}: {target.host.name} asks to wait longer than there is time")
        await asyncio.sleep(pause * random.uniform(1.0, 1.1))


def _body(source: Source, reply: Reply, start: int, stop: int, ends: bool) -> memoryview:
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") and reply.status == 200:
        raise Fault(ReadStatus.CORRUPT, f"{source.key}: the server answered with a web page ({kind})")
    if reply.status == 206:
        size, body = _ranged(source, reply, start, ends), reply.body
    else:
        declared = reply.headers.get("content-length", "")
        # Without a declared length the answer ends where the object does, unless we stopped it.
        size = int(declared) if declared.isdecimal() else None if len(reply.body) >= stop else len(reply.body)
        if start and len(reply.body) < min(stop, size or stop):
            raise Fault(ReadStatus.FAILED, f"{source.key}: the server ignores byte ranges and the object is too large to be read whole")
        body = reply.body[start:stop]
    _validate(source, reply, size)
    wanted = stop - start if source.size is None else min(stop, source.size) - start
    if len(body) > stop - start:
        body = body[: stop - start]
    if len(body) < wanted:
        raise _Partial(f"{len(body)} bytes instead of {wanted} at {start}")
    if wanted < stop - start and not ends:
        raise Fault(ReadStatus.CORRUPT, f"{source.key} is truncated: bytes {start}-{stop} wanted, but the object ends at {source.size}")
    return body


def _ranged(source: Source, reply: Reply, start: int, ends: bool) -> int | None:
    """Size of the object by the Content-Range of a 206; `_Partial` where it is another range.

    A server that does not tell the size is believed where the object may end (`ends`).
    """
    text = reply.headers.get("content-range", "")
    span, _, total = text.removeprefix("bytes").strip().partition("/")
    first, _, last = span.partition("-")
    if text and first.strip() != str(start):
        raise _Partial(f"range {text!r} answered for bytes from {start}")
    if total.isdecimal():
        return int(total)
    return int(last) + 1 if ends and last.strip().isdecimal() and len(reply.body) == int(last) + 1 - start else None


def _validate(source: Source, reply: Reply, size: int | None) -> None:
    etag = reply.headers.get("etag") or reply.headers.get("last-modified")
    if source.etag is not None and etag is not None and etag != source.etag:
        raise ChangedError(f"{source.key} changed while it was read (ETag {source.etag} became {etag})")
    if source.size is not None and size is not None and size != source.size:
        raise ChangedError(f"{source.key} changed while it was read ({source.size} bytes became {size})")
    source.etag = source.etag if etag is None else etag
    source.size = source.size if size is None else size


def _raise_for(source: Source, reply: Reply) -> None:
    """A `Fault` for a status that no retry mends."""
    status = reply.status
    if status in (404, 410):
        raise Fault(ReadStatus.MISSING, f"{source.key}: HTTP {status}")
    if status in (401, 403):
        raise Fault(ReadStatus.DENIED, f"{source.key}: HTTP {status}")
    if status == 416:
        raise Fault(ReadStatus.CORRUPT, f"{source.key} is truncated: the server has no such bytes (HTTP 416)")
    if status == 412:
        raise ChangedError(f"{source.key} changed while it was read (HTTP 412)")
    if status not in _TRANSIENT:
        raise Fault(ReadStatus.FAILED, f"{source.key}: HTTP {status}")


def _local(href: str, options: ReadOptions, start: int, stop: int) -> Reply:
    path = local_path(href, options.local_root)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise Fault(ReadStatus.MISSING, f"no such file: {path}") from None
    except PermissionError:
        raise Fault(ReadStatus.DENIED, f"not permitted to read {path}") from None
    with os.fdopen(descriptor, "rb", buffering=0) as handle:
        stat = os.fstat(descriptor)
        handle.seek(start)
        body = handle.read(max(0, min(stop, stat.st_size) - start))
    headers = {"content-range": f"bytes {start}-/{stat.st_size}", "etag": f"{stat.st_size:x}-{stat.st_mtime_ns:x}"}
    return Reply(206, headers, memoryview(body), False)


def _retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header: a number or a date."""
    if not value:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError, TypeError):
        return 0.0


def _any(href: str) -> bool:
    return True


def _takes_fresh(sign: Sign) -> bool:
    try:
        parameters = inspect.signature(sign).parameters
    except ValueError:
        return False
    return "fresh" in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
