"""Asking a STAC API with patience that ends: retries, shared waiting, deadlines, limits of size."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from pystac_client.stac_api_io import StacApiIO
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from cubekit.catalog._options import ApiOptions
from cubekit.catalog._request import Request
from cubekit.catalog._waiting import Throttle
from cubekit.errors import AccessDeniedError, CatalogError

__all__ = ["ApiClient"]

RETRIED = (408, 425, 429, 500, 502, 503, 504)
_DOWN = "Try again later, or give a list of catalogues to fall back on"


class _Patience(Retry):
    """urllib3's retry, with waiting shared, bounded and never beyond the deadline."""

    throttle: Throttle
    clock: _Clock
    options: ApiOptions

    @classmethod
    def make(cls, options: ApiOptions, throttle: Throttle, clock: _Clock) -> _Patience:
        retry = cls(
            total=options.retries,
            connect=min(2, options.retries),
            status_forcelist=RETRIED,
            allowed_methods=frozenset({"GET", "POST", "HEAD"}),
            backoff_factor=options.backoff,
            backoff_max=options.max_wait,
            backoff_jitter=options.backoff / 4,
            respect_retry_after_header=True,
            raise_on_status=False,
            redirect=0,
            raise_on_redirect=False,
        )
        retry.throttle, retry.clock, retry.options = throttle, clock, options
        return retry

    def new(self, **kwargs: Any) -> _Patience:
        retry = super().new(**kwargs)
        retry.throttle, retry.clock, retry.options = self.throttle, self.clock, self.options
        return retry

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        asked = self._asked(response)
        if asked is not None and asked > self.options.max_wait:
            raise CatalogError(
                f"{_shown(self.clock.url)} asks to wait {asked:.0f} s, more than max_wait={self.options.max_wait:g} s",
                remedy=_DOWN,
                url=self.clock.url,
                retry_after=asked,
            )
        self.throttle.hold(asked if asked is not None else self.get_backoff_time(), self.clock.url)
        self.throttle.wait(self.clock.deadline, self.clock.url)

    def _asked(self, response: BaseHTTPResponse | None) -> float | None:
        if response is None:
            return None
        try:
            return self.get_retry_after(response)
        except InvalidHeader:
            return None


@dataclass(slots=True)
class _Clock:
    """What the request under way is for: its address and the moment (monotonic, s) at which its search ends."""

    url: str = ""
    deadline: float = float("inf")


class _Session(StacApiIO):
    """pystac-client's transport with limits on time and size, no silent redirects, and errors as cubekit has them."""

    def __init__(self, options: ApiOptions, throttle: Throttle) -> None:
        self.clock = _Clock()
        self.options, self.throttle = options, throttle
        patience = _Patience.make(options, throttle, self.clock)
        super().__init__(headers=dict(options.headers), timeout=(options.connect_timeout, options.read_timeout), max_retries=patience)
        # .netrc and proxies with credentials stay usable, but an answer may not set cookies for later requests.
        self.session.cookies.clear()

    def ask(self, request: Request, deadline: float) -> Any:
        """Decoded JSON answer of a request; bad bodies are asked for again like bad statuses."""
        self.clock.url, self.clock.deadline = request.url, deadline
        failure = ""
        for attempt in range(self.options.retries + 1):
            if attempt:
                self.throttle.hold(min(self.options.backoff * 2 ** (attempt - 1), self.options.max_wait), request.url)
            self.throttle.wait(deadline, request.url)
            try:
                status, kind, content = self._send(request)
            except HTTPError as error:
                failure = f"its answer breaks off ({type(error).__name__})"
                continue
            except requests.RequestException as error:
                raise _unreachable(request.url, error) from error
            if not 200 <= status < 300:
                raise _status_error(request, status, content)
            try:
                return json.loads(content)
            except (ValueError, RecursionError):
                html = "html" in kind.lower() or content.lstrip()[:1] == b"<"
                failure = f"it answers {'a web page' if html else 'what is no JSON'} ({kind or 'no content type'})"
        raise CatalogError(
            f"{_shown(request.url)} is no STAC API or is out of order: {failure}", remedy=f"Check the URL. {_DOWN}", url=request.url
        )

    def _send(self, request: Request) -> tuple[int, str, bytes]:
        """Status, content type and body; redirects are followed by hand, on the same host only."""
        url = request.url
        for _ in range(5):
            headers = {"Content-Type": "application/json"} if request.body is not None else {}
            prepared = self.session.prepare_request(requests.Request(request.method, url, headers=headers, data=request.body))
            settings = self.session.merge_environment_settings(url, {}, True, None, None)
            response = self.session.send(prepared, timeout=self._timeout(), allow_redirects=False, **settings)
            with response:
                target = response.headers.get("Location")
                if response.is_redirect and target:
                    url = _same_host(url, target)
                    continue
                return response.status_code, response.headers.get("Content-Type", ""), self._body(response)
        raise CatalogError(f"{_shown(request.url)} redirects in circles", remedy="Check the URL", url=request.url)

    def _timeout(self) -> tuple[float, float]:
        left = max(0.05, self.clock.deadline - time.monotonic())
        return min(self.options.connect_timeout, left), min(self.options.read_timeout, left)

    def _body(self, response: requests.Response) -> bytes:
        parts, size = [], 0
        # read1 returns what has come, so that a server that drips is seen to.
        while part := response.raw.read1(1 << 16, decode_content=True):
            size += len(part)
            if size > self.options.max_bytes:
                raise CatalogError(
                    f"An answer of {_shown(self.clock.url)} exceeds {self.options.max_bytes} bytes",
                    remedy="Ask for less",
                    url=self.clock.url,
                )
            if time.monotonic() > self.clock.deadline:
                raise CatalogError(
                    f"{_shown(self.clock.url)} did not answer in the time allowed for a search", remedy=_DOWN, url=self.clock.url
                )
            parts.append(part)
        return b"".join(parts)


class ApiClient:
    """Idle sessions of one catalogue, lent to threads, and the throttle they share."""

    def __init__(self, options: ApiOptions) -> None:
        self.options = options
        self._throttle = Throttle()
        self._idle: list[_Session] = []

    @contextmanager
    def session(self) -> Iterator[_Session]:
        """Lend a session to one thread."""
        try:
            session = self._idle.pop()
        except IndexError:
            session = _Session(self.options, self._throttle)
        try:
            yield session
        finally:
            self._idle.append(session)

    def ask(self, request: Request, deadline: float) -> Any:
        """Decoded JSON answer of a request.

        Raises
        ------
        AccessDeniedError
            For 401 and 403.
        CatalogError
            For anything else but an answer, when the retries or the time are used up.
        """
        with self.session() as session:
            return session.ask(request, deadline)


def _same_host(source: str, target: str) -> str:
    """`target` if it is where `source` is, also where http becomes https; a redirect elsewhere may lead into the user's own network."""
    try:
        target = urljoin(source, target)
        here, there = urlsplit(source), urlsplit(target)
    except ValueError:
        raise CatalogError(f"{_shown(source)} redirects to what is no address", remedy="Check the URL", url=source) from None
    if there.hostname != here.hostname or there.scheme not in ("http", "https") or (here.scheme, there.scheme) == ("https", "http"):
        raise CatalogError(
            f"{_shown(source)} leads to another host: {_shown(target)}", remedy="Open that URL itself if you trust it", url=source
        )
    return target


def _status_error(request: Request, status: int, content: bytes) -> Exception:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "unknown status"
    said = f"{_shown(request.url)} answers {status} {phrase}"
    if status in (401, 403):
        return AccessDeniedError(
            said, remedy="Check the credentials (headers=...) and that you may use this catalogue", url=request.url, status=status
        )
    detail = content[:200].decode("utf-8", "replace").strip() if status < 500 and not content.lstrip().startswith(b"<") else ""
    remedy = _DOWN if status >= 500 or status in RETRIED else "Check the URL, the collection and the query"
    return CatalogError(f"{said}{': ' + detail if detail else ''}", remedy=remedy, url=request.url, status=status)


def _unreachable(url: str, error: requests.RequestException) -> CatalogError:
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        why = "it does not answer in time"
    elif "NameResolution" in str(error) or "getaddrinfo" in str(error):
        why = "its host name is unknown"
    else:
        why = f"it cannot be reached ({type(error).__name__})"
    return CatalogError(f"Catalogue {_shown(url)} is down: {why}", remedy=f"Check the URL and the network. {_DOWN}", url=url)


def _shown(url: str) -> str:
    return url.split("?", 1)[0]
