"""Whole builds over a network that misbehaves: the cube of the clean run, or a named refusal in bounded time, and no storm of requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from cubekit.errors import AccessDeniedError, CatalogError, HolesError
from cubekit.testing.stacserver import Fault, TokenServer
from tests.safety.conftest import ASSETS, SCENES, Bench, QuickSession

CLEAN = 2 * ASSETS + SCENES + 3
"""Requests of files in a clean build: a header and a range of tiles per raster, the metadata, and a few tiles asked for twice."""
TRIES = 5
PATIENCE = 12.0


def test_the_clean_run(bench: Bench) -> None:
    result = bench.build()
    assert result.digest == bench.clean
    assert result.scenes == SCENES
    assert result.holes == result.retries == 0
    assert result.requests == bench.asked() <= CLEAN


# -- files -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 504, "times": 3},
        {"status": 504, "times": 3, "path": "SCL"},
        {"status": 504, "times": 3, "path": "MTD_TL|[.]xml"},
        {"status": 503, "every": 7},
        {"status": 429, "headers": {"Retry-After": "1"}, "times": 2},
        {"stall_after": 40, "times": 3},
        {"stall_after": -1, "times": 3},
        {"reset_after": 40, "times": 3},
        {"reset_after": -1, "times": 3},
        {"close_after": 40, "times": 3},
        {"length": 60, "times": 3, "start": "later"},
    ],
    ids=str,
)
def test_transient_faults_of_files_change_nothing(bench: Bench, rule: dict[str, Any]) -> None:
    bench.script(rule)
    result = bench.build()
    assert result.digest == bench.clean
    assert result.holes == 0
    assert result.retries >= min(3, rule.get("times", 3))
    assert result.requests == bench.asked() <= CLEAN + result.retries


@pytest.mark.parametrize(
    ("rule", "each"),
    [
        ({"status": 504}, TRIES),
        ({"status": 429, "headers": {"Retry-After": "3600"}}, 1),
        ({"stall_after": 40}, TRIES),
        ({"reset_after": 40}, TRIES),
        ({"close_after": 40}, TRIES),
        ({"status": 200, "body": "<!DOCTYPE html><html>sign in</html>", "content_type": "text/html"}, 1),
        ({"status": 200, "body": "<html>sign in</html>", "content_type": "image/tiff"}, 1),
        ({"status": 404}, 1),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:No NBAR:cubekit.errors.ScienceWarning")
def test_lasting_faults_of_files_are_refused_in_time(bench: Bench, rule: dict[str, Any], each: int) -> None:
    bench.script(rule)
    began = time.monotonic()
    with pytest.raises(HolesError, match=f"{ASSETS} of {ASSETS} asset reads failed"):
        bench.build()
    assert time.monotonic() - began < PATIENCE
    assert bench.asked() <= each * (ASSETS + SCENES)
    bench.assert_nothing()


@pytest.mark.filterwarnings("ignore:No NBAR:cubekit.errors.ScienceWarning")
def test_access_denied_is_said_so(bench: Bench) -> None:
    bench.script({"status": 403})
    with pytest.raises(AccessDeniedError, match="All 12 assets were denied"):
        bench.build()
    bench.assert_nothing()


def test_all_requests_wait_when_a_host_says_429(bench: Bench) -> None:
    """One answer with Retry-After holds back every request to that host, not only the one that got it."""
    bench.script({"status": 429, "headers": {"Retry-After": "1"}, "times": 1, "start": "later"}, latency=0.02)
    session = QuickSession()
    session.reading["concurrency"] = 2
    result = bench.build(session=session)
    assert result.digest == bench.clean
    stats = bench.files.stats()
    refused = stats["times"][[status for *_, status in stats["ranges"]].index(429)]
    # What was under way arrives; nothing new is sent before the second is over.
    assert not [at for at in stats["times"] if refused + 0.1 < at < refused + 0.95]
    assert len([at for at in stats["times"] if at > refused + 0.95]) > 5


# -- searches ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("status", 504)] * 3,
        [Fault("status", 429, "1")],
        [Fault("stall"), Fault("reset"), Fault("truncate")],
        [Fault("html"), Fault("html")],
        [None, Fault("repeat")],
        [None, Fault("circle")],
        [Fault("no-next")],
        [None, Fault("no-next")],
    ],
    ids=lambda faults: "-".join(f"{fault.kind}{fault.status}" if fault else "good" for fault in faults),
)
def test_transient_faults_of_searches_change_nothing(bench: Bench, faults: list[Fault | None]) -> None:
    bench.stac.script(faults)
    result = bench.build()
    assert result.digest == bench.clean
    assert result.scenes == SCENES
    assert len(bench.stac.searches) <= 40


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        (Fault("status", 504), 16),
        (Fault("status", 429, "3600"), 4),
        (Fault("stall"), 16),
        (Fault("reset"), 16),
        (Fault("truncate"), 16),
        (Fault("html"), 16),
        (Fault("repeat"), 260),
        (Fault("circle"), 260),
        (Fault("empty"), 260),
        (Fault("elsewhere", location="http://localhost:9"), 4),
        (Fault("redirect", location="http://169.254.169.254/latest/meta-data"), 4),
    ],
    ids=lambda value: f"{value.kind}{value.status}" if isinstance(value, Fault) else str(value),
)
def test_lasting_faults_of_searches_are_refused_in_time(bench: Bench, fault: Fault, requests: int) -> None:
    """A page repeated for ever may still be seen through where shorter searches give the rest: then the cube is the clean one."""
    bench.stac.script(always=fault)
    began = time.monotonic()
    if fault.kind in ("repeat", "circle"):
        try:
            assert bench.build().digest == bench.clean
        except CatalogError as error:
            assert "withholds items" in str(error)
            bench.assert_nothing()
    else:
        with pytest.raises(CatalogError):
            bench.build()
        bench.assert_nothing()
    assert time.monotonic() - began < PATIENCE
    assert len(bench.stac.searches) <= requests
    assert bench.asked() <= CLEAN


# -- tokens ------------------------------------------------------------------------------------------------------------------------


def test_tokens_that_expire_every_two_seconds(signed: Bench, endpoint: Callable[[TokenServer], QuickSession]) -> None:
    with TokenServer(lifetime=2) as tokens:
        session = endpoint(tokens)
        session.reading["concurrency"] = 2
        session.reading["total_timeout"] = 20.0
        signed.script({"unless_future": "se", "status": 403}, latency=0.25)
        result = signed.build(session=session)
        statuses = signed.files.stats()["statuses"]
        assert result.digest == signed.clean
        assert 2 <= len(tokens.issued) <= 12
        # A refusal costs one request, and every request that was refused succeeds with the next token.
        assert statuses["403"] <= statuses["206"]


@pytest.mark.filterwarnings("ignore:No NBAR|Planetary Computer issued:cubekit.errors.CubekitWarning")
def test_tokens_issued_expired(signed: Bench, endpoint: Callable[[TokenServer], QuickSession]) -> None:
    with TokenServer(lifetime=-60) as tokens:
        session = endpoint(tokens)
        signed.script({"unless_future": "se", "status": 403})
        began = time.monotonic()
        with pytest.raises(AccessDeniedError, match="All 12 assets were denied"):
            signed.build(session=session)
        assert time.monotonic() - began < PATIENCE
        assert len(tokens.issued) <= 6
        assert signed.asked() <= 2 * (ASSETS + SCENES)
        signed.assert_nothing()


@pytest.mark.parametrize("fault", [Fault("status", 503), Fault("stall", seconds=0.2), Fault("reset")], ids=lambda fault: fault.kind)
def test_a_token_endpoint_that_stumbles(signed: Bench, endpoint: Callable[[TokenServer], QuickSession], fault: Fault) -> None:
    with TokenServer(faults=[fault]) as tokens:
        session = endpoint(tokens)
        signed.script({"unless_future": "se", "status": 403})
        assert signed.build(session=session).digest == signed.clean
        assert len(tokens.issued) == 1
