"""Searching a STAC API: time ranges asked at once, and asked again in smaller ones where a walk is not to be believed."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin

from cubekit.catalog._http import ApiClient
from cubekit.catalog._options import ApiOptions
from cubekit.catalog._paging import Walk, fingerprint, first_request, walk
from cubekit.catalog._parse import BadItemError, instant
from cubekit.catalog._question import Question, Span, stamp
from cubekit.catalog._request import Request
from cubekit.errors import CatalogError
from cubekit.typing import JSON, BBox

__all__ = ["ApiSource"]

MIN_RANGE_DAYS = 45
"""A range shorter than this is not worth a request of its own."""
DOUBT_REQUESTS = 200
"""Requests that one search may spend on checking answers that cannot be believed."""
SECOND = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Budget:
    """Deadline of one search, and how many requests it may spend on checking answers that cannot be believed."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.requests = DOUBT_REQUESTS

    @property
    def left(self) -> bool:
        """False where the requests are used up."""
        return self.requests > 0


class ApiSource:
    """A STAC API.

    Parameters
    ----------
    url
        Its root.
    options
        Limits.
    page_limit
        Items per page unless the options say otherwise.
    search_url
        Where to post searches if that is known; otherwise the landing page is asked once.
    """

    def __init__(self, url: str, options: ApiOptions, *, page_limit: int = 100, search_url: str | None = None) -> None:
        self.url, self.options = url, options
        self.page_limit = options.page_limit or page_limit
        self._client = ApiClient(options)
        self._search: tuple[str, str] | None = ("POST", search_url) if search_url else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.url, self.options, self.page_limit, self._search)

    def fetch(self, question: Question) -> list[JSON]:
        """All items that the server has for a question, undecoded; duplicates are possible.

        Raises
        ------
        AccessDeniedError
            For 401 and 403.
        CatalogError
            If the server is down, answers what is no STAC, or demonstrably withholds items.
        """
        budget = _Budget(self.options.total_timeout)
        self._endpoint(budget)
        jobs = [(box, span) for box in question.boxes for span in self._spans(question.span)]
        if len(jobs) == 1:
            return self._complete(question, *jobs[0], budget)
        pool = ThreadPoolExecutor(min(len(jobs), 2 * self.options.ranges), thread_name_prefix="cubekit-search")
        try:
            futures = [pool.submit(self._complete, question, box, span, budget) for box, span in jobs]
            return [feature for future in futures for feature in future.result()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _spans(self, span: Span | None) -> list[Span | None]:
        if span is None:
            return [None]
        parts = max(1, min(self.options.ranges, (span[1] - span[0]).days // MIN_RANGE_DAYS))
        edges = [span[0] + (span[1] - span[0]) * n / parts for n in range(parts)] + [span[1]]
        return [(edges[n], edges[n + 1]) for n in range(parts)]

    def _endpoint(self, budget: _Budget) -> tuple[str, str]:
        """Method and address of the search, from the landing page."""
        if self._search is None:
            landing = self._client.ask(Request("GET", self.url), budget.deadline)
            links = landing.get("links") if isinstance(landing, dict) else None
            found = [
                link for link in links or [] if isinstance(link, dict) and link.get("rel") == "search" and isinstance(link.get("href"), str)
            ]
            if not found:
                kind = landing.get("type", "document") if isinstance(landing, dict) else type(landing).__name__
                raise CatalogError(
                    f"{self.url} is a {kind} without a search link, not a STAC API",
                    remedy="Give the root of a STAC API, or an item collection by path",
                    url=self.url,
                )
            posts = [link for link in found if str(link.get("method", "GET")).upper() == "POST"]
            self._search = ("POST" if posts else "GET", urljoin(self.url, (posts or found)[0]["href"]))
        return self._search

    def _walk(self, question: Question, box: BBox, span: Span | None, budget: _Budget, *, doubt: bool = False) -> Walk:
        body: JSON = {"collections": [question.collection], "bbox": list(box), "limit": self.page_limit}
        if span is not None:
            body["datetime"] = "/".join(stamp(moment) for moment in span)
        if question.query:
            body["query"] = {key: dict(conditions) for key, conditions in question.query.items()}
        method, url = self._endpoint(budget)

        def ask(request: Request) -> Any:
            budget.requests -= doubt
            return self._client.ask(request, budget.deadline)

        try:
            return walk(ask, first_request(method, url, body), self.page_limit)
        except CatalogError as error:
            if question.query and error.context.get("status") in (400, 422, 501):
                # Servers without the query extension: conditions are applied to the answer anyway.
                return self._walk(replace(question, query={}), box, span, budget, doubt=doubt)
            if method == "POST" and error.context.get("status") in (404, 405, 415, 501):
                self._search = ("GET", url)
                return self._walk(question, box, span, budget, doubt=doubt)
            raise

    def _complete(self, question: Question, box: BBox, span: Span | None, budget: _Budget) -> list[JSON]:
        """Items of one box and span; where pages contradict themselves, of shorter spans instead."""
        return self._settled(self._walk(question, box, span, budget), question, box, span, budget)

    def _settled(self, found: Walk, question: Question, box: BBox, span: Span | None, budget: _Budget) -> list[JSON]:
        if not found.doubt:
            return found.features
        parts = _parts(span or (EPOCH, datetime.now(UTC) + timedelta(days=1)), found)
        if not parts and not found.certain:
            return found.features
        if not parts or not budget.left or (found.certain and not found.features):
            raise self._lost(found)
        answers = [self._walk(question, box, part, budget, doubt=True) for part in parts]
        known = {fingerprint(feature) for feature in found.features}
        if not found.certain and known.issuperset(fingerprint(feature) for answer in answers for feature in answer.features):
            return found.features
        together = list(found.features)
        for part, answer in zip(parts, answers, strict=True):
            together += self._settled(answer, question, box, part, budget)
        if found.matched is not None and len({fingerprint(feature) for feature in together}) < found.matched:
            raise self._lost(found)
        return together

    def _lost(self, found: Walk) -> CatalogError:
        return CatalogError(
            f"{self.url} withholds items: {found.doubt}",
            remedy="Search a shorter time range or a smaller area, or use another catalogue",
            url=self.url,
        )


def _remade(url: str, options: ApiOptions, page_limit: int, search: tuple[str, str] | None) -> ApiSource:
    source = ApiSource(url, options, page_limit=page_limit)
    source._search = search
    return source


def _parts(span: Span, found: Walk) -> list[Span]:
    """Closed spans that cover `span` together and are easier to answer; empty where it cannot be split.

    A suspicion is settled by a cut that has some of the items on either side: a server that cuts its answers then shows more on one
    of them.
    """
    start, end = span
    if end - start <= 2 * SECOND:
        return []
    times = sorted(moment for feature in found.features if (moment := _time(feature)) is not None and start <= moment <= end)
    if times and times[-1] - times[0] <= SECOND:
        around = (max(start, times[0] - SECOND), min(end, times[-1] + SECOND))
        cuts = [(start, around[0]), around, (around[1], end)]
        return [(a, b) for a, b in cuts if b > a and (b - a) < (end - start)]
    if times and not found.certain:
        distinct = sorted(set(times))
        middle = distinct[(len(distinct) - 1) // 2]
        cut = middle + (distinct[(len(distinct) - 1) // 2 + 1] - middle) / 2
        return [(start, cut), (cut, end)]
    pages = math.ceil(found.matched / max(1, len(found.features))) if found.matched else 2
    number = max(2, min(16, 2 * pages))
    edges = [start + (end - start) * n / number for n in range(number)] + [end]
    return [(edges[n], edges[n + 1]) for n in range(number)]


def _time(feature: JSON) -> datetime | None:
    try:
        return instant((feature.get("properties") or {}).get("datetime"))
    except BadItemError:
        return None
