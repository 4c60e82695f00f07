"""Walking through the pages of a search without looping and without losing anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from cubekit.catalog._request import Request
from cubekit.errors import CatalogError
from cubekit.typing import JSON

__all__ = ["Walk", "fingerprint", "first_request", "walk"]

Ask = Callable[[Request], Any]

MAX_EMPTY_PAGES = 3
_TRUST = "Open that catalogue itself if you trust it"
# Sizes at which servers cut their answers: one of exactly such a size, without a next link and a count, may have been cut.
USUAL_CAPS = frozenset({10, 20, 25, 30, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10000})


@dataclass(slots=True)
class Walk:
    """What a walk through pages found.

    Attributes
    ----------
    features
        Items as served.
    matched
        How many the server says there are, if it does.
    doubt
        Why there may be more; empty where the walk is known to be complete.
    certain
        True where the doubt is more than a suspicion.
    """

    features: list[JSON] = field(default_factory=list)
    matched: int | None = None
    doubt: str = ""
    certain: bool = False


def fingerprint(feature: JSON) -> tuple[str, str, str]:
    """What makes an item the same when it is served twice; products that share an id differ in their URI."""
    properties = feature.get("properties") or {}
    detail = properties.get("s2:product_uri") or properties.get("datetime")
    return str(feature.get("collection")), str(feature.get("id")), str(detail)


def first_request(method: str, url: str, body: JSON) -> Request:
    """The request for the first page."""
    if method == "POST":
        return Request("POST", url, json.dumps(body))
    parameters = {key: _parameter(value) for key, value in body.items()}
    return Request("GET", f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}")


def _parameter(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(entry) for entry in value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


def walk(ask: Ask, first: Request, limit: int) -> Walk:
    """Ask for page after page until there are no more.

    Raises
    ------
    CatalogError
        For an answer that is no page of items, or a next link to another host.
    """
    found = Walk()
    request: Request | None = first
    asked: set[Request] = set()
    seen: set[tuple[str, str, str]] = set()
    empty = 0
    while request is not None:
        asked.add(request)
        page = _checked(ask(request), request.url)
        marks = [fingerprint(feature) for feature in page["features"]]
        if marks and seen.issuperset(marks) and (len(asked) > 1):
            return _judged(found, "a page is served again", limit, page)
        found.matched = _matched(page, found.matched)
        found.features += page["features"]
        seen.update(marks)
        empty = 0 if marks else empty + 1
        request = _next(page, request, first)
        if request in asked:
            return _judged(found, "the next link leads in a circle" if marks else "", limit, page)
        if empty > MAX_EMPTY_PAGES:
            return _judged(found, f"{empty} empty pages follow each other", limit, page)
    return _judged(found, "", limit, page)


def _judged(found: Walk, doubt: str, limit: int, last: JSON) -> Walk:
    """Decide whether a walk that ended may be believed."""
    count, matched = len(found.features), found.matched
    if matched is not None and count < matched:
        found.doubt, found.certain = f"{matched} items match, but pages give {count}{' and ' + doubt if doubt else ''}", True
    elif doubt and matched is None:
        # A page that was not full should have been the last one.
        found.doubt, found.certain = doubt, len(last["features"]) >= limit
    elif matched is None and not doubt and len(last["features"]) in (USUAL_CAPS | {limit, _effective_limit(last)}):
        found.doubt = f"a full page of {len(last['features'])} has no next link"
    return found


def _checked(page: Any, url: str) -> JSON:
    features = page.get("features") if isinstance(page, dict) else None
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        kind = page.get("type") if isinstance(page, dict) else type(page).__name__
        raise CatalogError(
            f"{url.split('?')[0]} answers a search with {kind!r} instead of items", remedy="Give the root of a STAC API", url=url
        )
    checked: JSON = page
    return checked


def _matched(page: JSON, before: int | None) -> int | None:
    context = page.get("context")
    for value in (page.get("numberMatched"), page.get("numMatched"), context.get("matched") if isinstance(context, dict) else None):
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            # Counts drift while items are added; the first one belongs to what was asked.
            return value if before is None else min(before, value)
    return before


def _effective_limit(page: JSON) -> int | None:
    context = page.get("context")
    value = context.get("limit") if isinstance(context, dict) else None
    return value if isinstance(value, int) and value > 0 else None


def _next(page: JSON, current: Request, first: Request) -> Request | None:
    links = page.get("links")
    link = next((link for link in links if isinstance(link, dict) and link.get("rel") == "next"), None) if isinstance(links, list) else None
    if link is None or not isinstance(link.get("href"), str):
        return None
    try:
        url = _same_host(first.url, urljoin(current.url, link["href"]))
    except ValueError:
        raise CatalogError(f"The next page of {first.url.split('?')[0]} has no address", remedy=_TRUST, url=first.url) from None
    body = link.get("body")
    if str(link.get("method", "GET")).upper() != "POST":
        return Request("GET", url)
    if link.get("merge"):
        body = {**json.loads(current.body or "{}"), **(body if isinstance(body, dict) else {})}
    return Request("POST", url, json.dumps(body if isinstance(body, dict) else {}))


def _same_host(first: str, target: str) -> str:
    """`target` on the scheme and host of the search; servers behind proxies often get only their scheme or port wrong."""
    here, there = urlsplit(first), urlsplit(target)
    if here.hostname != there.hostname:
        raise CatalogError(
            f"The next page of {here.netloc} is said to be on another host, {there.netloc}",
            remedy=_TRUST,
            url=first,
        )
    return there._replace(scheme=here.scheme, netloc=here.netloc).geturl()
