"""Searching a STAC API that misbehaves: the right items, or a clear error in bounded time."""

from __future__ import annotations

import time

import pytest

from cubekit.catalog import ApiOptions, open_catalog
from cubekit.errors import AccessDeniedError, CatalogError, CubekitWarning
from cubekit.testing.stacserver import Fault, StacServer

from .conftest import QUICK, SITE, granule

ITEMS = [granule(5 * n) for n in range(23)]
IDS = [item["id"] for item in ITEMS]
YEAR = ("2020-01-01", "2020-12-31")


def ids(server, options=QUICK, *, start=YEAR[0], end=YEAR[1]):
    return [item.id for item in open_catalog(server.url, options=options).search("sentinel-2-l2a", SITE, start, end)]


@pytest.mark.parametrize("paging", ["post", "merge", "get", "offset"])
@pytest.mark.parametrize("count", [True, False])
def test_all_pages_in_order(paging, count):
    with StacServer(ITEMS, paging=paging, count=count) as server:
        assert ids(server) == IDS


@pytest.mark.parametrize("ranges", [1, 2, 5])
def test_ranges_are_asked_at_once_and_merged(ranges):
    with StacServer(ITEMS) as server:
        options = ApiOptions(ranges=ranges, page_limit=100)
        assert ids(server, options) == IDS
        assert len(server.searches) == ranges


def test_get_only_server():
    with StacServer(ITEMS, methods=("GET",), paging="get") as server:
        assert ids(server) == IDS
        assert {record.method for record in server.searches} == {"GET"}


def test_known_catalogue_falls_back_to_get():
    with StacServer(ITEMS, methods=("GET",), paging="get") as server:
        catalog = open_catalog(server.url, options=QUICK)
        catalog._source._search = ("POST", f"{server.url}/search")
        assert [item.id for item in catalog.search("sentinel-2-l2a", SITE, *YEAR)] == IDS


def test_box_and_time_are_sent_and_checked_again():
    far = granule(3, id="far", bbox=[12.0, 50.0, 13.5, 51.0])
    far["geometry"] = {"type": "Polygon", "coordinates": [[[12.9, 50.8], [13.5, 50.8], [13.5, 51], [12.9, 51], [12.9, 50.8]]]}
    with StacServer([*ITEMS, far], exact=False) as server:
        assert ids(server, start="2020-02-01", end="2020-03-01") == IDS[7:13]
        body = server.searches[0].parameters
        assert body["bbox"] == list(SITE)
        assert body["datetime"] == "2020-02-01T00:00:00Z/2020-03-01T23:59:59.999999Z"
        assert body["collections"] == ["sentinel-2-l2a"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", 429, retry_after="0"),
        Fault("status", 503),
        Fault("status", 504),
        Fault("status", 500),
        Fault("reset"),
        Fault("truncate"),
        Fault("html"),
        Fault("stall", seconds=3),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_transient_faults_cost_requests_not_items(fault):
    with StacServer(ITEMS, faults=[None, fault, fault if fault.kind != "stall" else None, None, fault]) as server:
        assert ids(server) == IDS
        assert len(server.searches) > 8


def test_three_timeouts_of_a_gateway_then_well():
    with StacServer(ITEMS[:3], faults=[Fault("status", 504)] * 3) as server:
        assert ids(server, start="2020-01-01", end="2020-02-01") == IDS[:3]
        assert len(server.searches) == 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("status", 504), "answers 504 Gateway Timeout"),
        (Fault("status", 429), "answers 429 Too Many Requests"),
        (Fault("html"), "it answers a web page"),
        (Fault("truncate"), "its answer breaks off"),
        (Fault("reset"), "is down"),
        (Fault("stall"), "(did not answer in the time allowed|it does not answer in time)"),
        (Fault("slow"), "did not answer in the time allowed"),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_lasting_faults_end_in_time(fault, said):
    options = ApiOptions(connect_timeout=1, read_timeout=0.3, total_timeout=2, retries=3, backoff=0.02, ranges=2)
    with StacServer(ITEMS, always=fault) as server:
        begun = time.monotonic()
        with pytest.raises(CatalogError, match=said) as caught:
            ids(server, options)
        assert time.monotonic() - begun < 5
        assert caught.value.remedy
        assert server.url in str(caught.value)
        assert len(server.searches) <= 2 * 16


def test_retry_after_is_respected_by_all_threads():
    with StacServer(ITEMS, faults=[Fault("status", 429, retry_after="1")]) as server:
        assert ids(server) == IDS
        first, *later = sorted(record.at for record in server.searches)
        # Requests that were under way when the first was refused may have arrived before it; nobody starts within the second after.
        early = [at - first for at in later if 0.2 < at - first < 0.95]
        assert not early


def test_retry_after_beyond_patience_counts_as_down():
    with StacServer(ITEMS, always=Fault("status", 503, retry_after="3600")) as server:
        begun = time.monotonic()
        with pytest.raises(CatalogError, match="asks to wait 3600 s, more than max_wait=3 s"):
            ids(server)
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials(status):
    with StacServer(ITEMS, always=Fault("status", status)) as server:
        with pytest.raises(AccessDeniedError, match=f"answers {status}") as caught:
            ids(server)
        assert caught.value.exit_code == 5


def test_headers_are_sent_and_not_told():
    options = ApiOptions(headers={"X-Api-Key": "CANARY"}, total_timeout=2, retries=0)
    assert "CANARY" not in repr(options)
    with StacServer(ITEMS, always=Fault("status", 403)) as server:
        with pytest.raises(AccessDeniedError) as caught:
            ids(server, options)
        assert server.records[0].headers["X-Api-Key"] == "CANARY"
        assert "CANARY" not in f"{caught.value!r} {caught.value} {caught.value.context}"


@pytest.mark.parametrize("count", [True, False])
@pytest.mark.parametrize("kind", ["no-next", "repeat", "circle"])
def test_pages_that_lie_are_asked_in_smaller_ranges(kind, count):
    with StacServer(ITEMS, always=Fault(kind), count=count) as server:
        assert ids(server) == IDS
        assert len(server.searches) < 250


@pytest.mark.parametrize("kind", ["no-next", "repeat"])
def test_one_lying_page_among_good_ones(kind):
    with StacServer(ITEMS, faults=[None, Fault(kind), None, None, Fault(kind)]) as server:
        assert ids(server) == IDS


def test_cap_below_the_limit_without_next_link_is_noticed():
    with StacServer(ITEMS, always=Fault("no-next"), cap=10, count=False) as server:
        assert ids(server, ApiOptions(page_limit=100, ranges=1)) == IDS


@pytest.mark.parametrize("count", [True, False])
def test_more_items_at_one_instant_than_a_page_holds_are_refused_not_lost(count):
    same = [granule(0, tile=f"32U{letter}C") for letter in "ABCDEFGH"]
    with StacServer(same, always=Fault("no-next" if count else "repeat"), count=count, cap=4) as server:
        with pytest.raises(CatalogError, match="withholds items"):
            ids(server)
        assert len(server.searches) < 220


def test_empty_pages_are_walked_through():
    with StacServer(ITEMS[:3], faults=[None]) as server:
        assert ids(server) == IDS[:3]
    with (
        StacServer(ITEMS, always=Fault("empty"), count=True) as server,
        pytest.raises(CatalogError, match=r"withholds items: \d items match, but pages give 0"),
    ):
        ids(server, start="2020-01-01", end="2020-02-14")


def test_empty_search_is_an_answer():
    with StacServer(ITEMS) as server:
        assert ids(server, start="1999-01-01", end="1999-12-31") == []


def test_next_link_to_another_host_is_not_followed():
    fault = Fault("elsewhere", location="http://169.254.169.254")
    with StacServer(ITEMS, always=fault) as server, pytest.raises(CatalogError, match=r"is said to be on another host, 169\.254\.169\.254"):
        ids(server)


def test_redirects_stay_on_the_host():
    fault = Fault("redirect", location="http://169.254.169.254/search")
    with StacServer(ITEMS, faults=[fault]) as server, pytest.raises(CatalogError, match="leads to another host"):
        ids(server)
    with StacServer(ITEMS, faults=[Fault("redirect", location="/v2/search")] * 3) as server:
        assert ids(server) == IDS
        assert any(record.path == "/v2/search" and record.method == "POST" for record in server.records)


def test_answer_beyond_the_limit_of_size():
    with StacServer(ITEMS) as server, pytest.raises(CatalogError, match="exceeds 5000 bytes"):
        ids(server, ApiOptions(max_bytes=5000))


def test_what_is_no_api():
    class Page(StacServer):
        def answer(self, request, record):
            request.reply(200, b"<html>hello</html>", "text/html")

    class Static(StacServer):
        def answer(self, request, record):
            request.reply(200, b'{"type": "Catalog", "links": []}')

    class Odd(StacServer):
        def answer(self, request, record):
            body = b'{"type": "Collection", "links": [{"rel": "search", "href": "/search", "method": "POST"}]}'
            request.reply(200, body)

    for kind, said in (
        (Page, "is no STAC API or is out of order"),
        (Static, "is a Catalog without a search link"),
        (Odd, "instead of items"),
    ):
        with kind([]) as server, pytest.raises(CatalogError, match=said):
            ids(server)


def test_unknown_host_and_closed_port():
    options = ApiOptions(connect_timeout=1, retries=1, backoff=0.01)
    with StacServer([]) as server:
        closed = server.url
    for url, said in (
        (closed, "is down: it cannot be reached"),
        ("http://catalogue.invalid", "is down: (its host name is unknown|it cannot be reached)"),
    ):
        with pytest.raises(CatalogError, match=said) as caught:
            open_catalog(url, options=options).search("sentinel-2-l2a", SITE, *YEAR)
        assert caught.value.exit_code == 3
        assert "fall back" in caught.value.remedy


def test_list_falls_back_where_a_catalogue_is_down_and_only_there():
    with StacServer(ITEMS, always=Fault("status", 503)) as down, StacServer(ITEMS[:2]) as good, StacServer([]) as void:
        options = ApiOptions(retries=1, backoff=0.01)
        chain = open_catalog([down.url, good.url], options=options)
        with pytest.warns(CubekitWarning, match=f"answers 503 Service Unavailable; using {good.url} instead of {down.url}"):
            assert [item.id for item in chain.search("sentinel-2-l2a", SITE, *YEAR)] == IDS[:2]
        assert open_catalog([void.url, good.url]).search("sentinel-2-l2a", SITE, *YEAR) == []
        with pytest.warns(CubekitWarning), pytest.raises(CatalogError, match="None of the catalogues"):
            open_catalog([down.url, down.url], options=options).search("sentinel-2-l2a", SITE, *YEAR)


def test_list_does_not_hide_refused_credentials():
    with StacServer(ITEMS, always=Fault("status", 403)) as closed, StacServer(ITEMS) as good:
        with pytest.raises(AccessDeniedError):
            open_catalog([closed.url, good.url]).search("sentinel-2-l2a", SITE, *YEAR)
        assert good.records == []


def test_query_is_sent_and_applied():
    with StacServer(ITEMS) as server:
        catalog = open_catalog(server.url, options=QUICK)
        found = catalog.search("sentinel-2-l2a", SITE, *YEAR, query={"eo:cloud_cover": {"lt": 12}})
        assert [item.cloud_cover for item in found] == [0, 5, 10, 0, 5, 10]
        assert server.searches[0].parameters["query"] == {"eo:cloud_cover": {"lt": 12}}
        assert [item.id for item in catalog.search("sentinel-2-l2a", SITE, *YEAR, max_items=2)] == IDS[:2]


def test_search_across_the_antimeridian_asks_for_two_boxes():
    with StacServer([]) as server:
        open_catalog(server.url, options=QUICK).search("sentinel-2-l2a", (179.5, 66, -179.5, 66.5), "2020-01-01", "2020-01-02")
        assert sorted(record.parameters["bbox"] for record in server.searches) == [[-180, 66, -179.5, 66.5], [179.5, 66, 180, 66.5]]


def test_server_without_the_query_extension():
    class Plain(StacServer):
        def answer(self, request, record):
            if "query" in record.parameters:
                return request.reply(400, b'{"description": "query is not supported"}')
            return super().answer(request, record)

    with Plain(ITEMS) as server:
        found = open_catalog(server.url, options=QUICK).search("sentinel-2-l2a", SITE, *YEAR, query={"eo:cloud_cover": {"lt": 12}})
        assert [item.cloud_cover for item in found] == [0, 5, 10, 0, 5, 10]
