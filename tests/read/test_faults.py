"""Every fault of one asset gets its status, costs what it must, and harms no other; the server counts."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cubekit.grid import Grid
from cubekit.read import AssetOutcome, ReadOptions, ReadStatus, _engine, forget_headers, read_assets
from cubekit.read._fault import Fault
from cubekit.testing.cogs import unique_pixels, write_cog, zero_tile_table
from tests.read.conftest import GRID, World

ENGINES: list[Any] = ["window", "rasterio"]


def _one(world: World, options: ReadOptions, name: str = "a.tif", sign: Any = None, **settings: Any) -> tuple[AssetOutcome, np.ndarray]:
    out = np.full((1, *GRID.shape), 77, "uint16")
    return read_assets([world.read(name, **settings)], GRID, out, sign=sign, options=options)[0], out[0]


def test_a_good_asset_takes_two_requests(world: World, quick: ReadOptions, expected: np.ndarray) -> None:
    outcome, pixels = _one(world, quick)
    assert outcome.status is ReadStatus.OK
    assert outcome.requests == world.asked() == 2
    assert outcome.bytes == world.server.stats()["bytes"]
    assert outcome.retries == outcome.misses == 0
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 503}, {"status": 429}, {"status": 500}, {"status": 504}, {"status": 502}, {"status": 408},
        {"reset_after": 100}, {"reset_after": -1}, {"close_after": 50}, {"close_after": -1}, {"stall_after": 30}, {"stall_after": -1},
        {"length": 100},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("start", ["zero", "later"])
def test_a_transient_fault_is_retried_once_and_forgotten(
    world: World, quick: ReadOptions, expected: np.ndarray, rule: dict[str, Any], start: str
) -> None:
    world.rules({**rule, "times": 1, "start": start})
    outcome, pixels = _one(world, quick)
    assert outcome.status is ReadStatus.OK, outcome
    assert outcome.retries == 1
    assert outcome.requests == world.asked() == 3
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rule", "status", "requests"),
    [
        ({"status": 503}, ReadStatus.FAILED, 3),
        ({"status": 404}, ReadStatus.MISSING, 1),
        ({"status": 410}, ReadStatus.MISSING, 1),
        ({"status": 403}, ReadStatus.DENIED, 1),
        ({"status": 401}, ReadStatus.DENIED, 1),
        ({"status": 418}, ReadStatus.FAILED, 1),
        ({"reset_after": 10}, ReadStatus.FAILED, 3),
        ({"stall_after": 10}, ReadStatus.TIMED_OUT, 3),
        ({"length": 100}, ReadStatus.CORRUPT, 3),
        ({"status": 200, "body": "<!DOCTYPE html><html>", "content_type": "text/html; charset=utf-8"}, ReadStatus.CORRUPT, 1),
        ({"status": 200, "body": "<html>please log in</html>", "content_type": "image/tiff"}, ReadStatus.CORRUPT, 1),
        ({"status": 200, "body": '<VRTDataset rasterXSize="1">', "content_type": "image/tiff"}, ReadStatus.REFUSED, 1),
        ({"status": 200, "body": "II*", "content_type": "image/tiff"}, ReadStatus.CORRUPT, 1),
        ({"status": 206, "body": "", "content_type": "image/tiff"}, ReadStatus.CORRUPT, None),
        ({"damage": True}, ReadStatus.CORRUPT, 1),
        ({"status": 302, "headers": {"Location": "http://169.254.169.254/latest/meta-data"}}, ReadStatus.REFUSED, 1),
        ({"status": 302, "headers": {"Location": "file:///etc/passwd"}}, ReadStatus.REFUSED, 1),
        ({"status": 302, "headers": {"Location": "/a.tif"}}, ReadStatus.FAILED, 6),
    ],
    ids=str,
)  # fmt: skip
def test_a_lasting_fault_is_a_status(
    world: World, quick: ReadOptions, engine: Any, rule: dict[str, Any], status: ReadStatus, requests: int | None
) -> None:
    world.rules(rule)
    outcome, pixels = _one(world, replace(quick, engine=engine))
    assert outcome.status is status, outcome
    assert outcome.status.is_hole
    assert outcome.message
    if requests is not None:
        assert outcome.requests == world.asked() == requests
    assert (pixels == 0).all()


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ({"status": 404}, ReadStatus.MISSING),
        ({"status": 403}, ReadStatus.DENIED),
        ({"status": 503}, ReadStatus.FAILED),
        ({"status": 416}, ReadStatus.CORRUPT),
        ({"reset_after": 10}, ReadStatus.FAILED),
        ({"stall_after": 10}, ReadStatus.TIMED_OUT),
        ({"damage": True}, ReadStatus.CORRUPT),
        ({"status": 200, "body": "<html>", "content_type": "text/html"}, ReadStatus.CORRUPT),
    ],
    ids=str,
)
def test_a_lasting_fault_of_tiles_leaves_no_half_read_pixels(
    world: World, quick: ReadOptions, rule: dict[str, Any], status: ReadStatus
) -> None:
    write_cog(world.root / "many.tif", unique_pixels(256, 300), tile=32, predictor=2)
    world.rules({**rule, "start": "later", "skip": 1})
    outcome, pixels = _one(world, replace(quick, coalesce=0), "many.tif")
    assert outcome.status is status, outcome
    assert (pixels == 0).all()


def test_a_tile_still_in_a_thread_writes_nothing_after_the_fault_of_another(
    world: World, quick: ReadOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cog(world.root / "many.tif", unique_pixels(256, 300), tile=32, predictor=2)
    original, begun = _engine.crop, threading.Event()

    def slow(*arguments: Any) -> None:
        if begun.is_set():
            raise Fault(ReadStatus.CORRUPT, "damaged")
        begun.set()
        time.sleep(0.2)
        original(*arguments)

    monkeypatch.setattr(_engine, "crop", slow)
    outcome, pixels = _one(world, replace(quick, coalesce=0, threads=2), "many.tif")
    assert outcome.status is ReadStatus.CORRUPT
    time.sleep(0.3)
    assert (pixels == 0).all()


def test_one_bad_asset_stops_no_other(world: World, quick: ReadOptions, expected: np.ndarray) -> None:
    out = np.full((3, *GRID.shape), 77, "uint16")
    reads = [world.read("a.tif"), world.read("gone.tif"), world.read("a.tif?again")]
    outcomes = read_assets(reads, GRID, out, options=quick)
    assert [o.status for o in outcomes] == [ReadStatus.OK, ReadStatus.MISSING, ReadStatus.OK]
    np.testing.assert_array_equal(out[0], expected)
    np.testing.assert_array_equal(out[2], expected)
    assert (out[1] == 0).all()


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_kept_to(world: World, quick: ReadOptions, form: str) -> None:
    after = "1" if form == "seconds" else time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    world.rules({"status": 429, "headers": {"Retry-After": after}, "times": 1})
    begin = time.monotonic()
    outcome, _ = _one(world, quick)
    assert outcome.status is ReadStatus.OK
    assert time.monotonic() - begin > 0.9


def test_a_retry_after_beyond_the_deadline_ends_at_once(world: World, quick: ReadOptions) -> None:
    world.rules({"status": 503, "headers": {"Retry-After": "60"}})
    outcome, _ = _one(world, quick)
    assert outcome.status is ReadStatus.TIMED_OUT
    assert world.asked() == 1


def test_the_total_deadline_holds_whatever_trickles(world: World, quick: ReadOptions) -> None:
    world.rules({"delay": 0.8})
    outcome, _ = _one(world, replace(quick, total_timeout=0.5, first_byte_timeout=5))
    assert outcome.status is ReadStatus.TIMED_OUT
    assert world.asked() == 1


def test_an_unreachable_server_fails(quick: ReadOptions) -> None:
    from cubekit.read import AssetRead

    out = np.zeros((2, *GRID.shape), "uint16")
    outcomes = read_assets(
        [AssetRead("http://127.0.0.1:9/a.tif"), AssetRead("http://no-such-host.invalid/a.tif")], GRID, out, options=quick
    )
    assert [o.status for o in outcomes] == [ReadStatus.FAILED, ReadStatus.FAILED]


class _Signer:
    """Signs with a token that the server has meanwhile replaced, until asked for a fresh one."""

    def __init__(self) -> None:
        self.calls: list[bool] = []

    def __call__(self, href: str, *, fresh: bool = False) -> str:
        self.calls.append(fresh)
        return f"{href}?sig={'new' if any(self.calls) else 'old'}"


def test_403_in_the_middle_is_signed_anew_once(world: World, quick: ReadOptions, expected: np.ndarray) -> None:
    world.rules({"status": 403, "start": "later", "unless_query": {"sig": "new"}})
    sign = _Signer()
    outcome, pixels = _one(world, quick, sign=sign)
    assert outcome.status is ReadStatus.OK, outcome
    assert sign.calls == [False, True]
    assert outcome.requests == 3
    np.testing.assert_array_equal(pixels, expected)


def test_403_after_signing_anew_is_denied_and_tells_no_secret(world: World, quick: ReadOptions) -> None:
    world.rules({"status": 403})
    sign = _Signer()
    outcome, _ = _one(world, quick, sign=sign)
    assert outcome.status is ReadStatus.DENIED
    assert sign.calls == [False, True]
    assert world.asked() == 2
    assert "sig" not in outcome.message


def test_a_plain_callable_may_sign(world: World, quick: ReadOptions) -> None:
    world.rules({"status": 403, "unless_query": {"sig": "x"}})
    outcome, _ = _one(world, quick, sign=lambda href: f"{href}?sig=x")
    assert outcome.status is ReadStatus.OK


class _Chooser(_Signer):
    """Knows which hrefs it leaves as they are."""

    def __init__(self, chosen: bool) -> None:
        super().__init__()
        self.chosen = chosen

    def sign(self, href: str, *, fresh: bool = False) -> str:
        return self(href, fresh=fresh)

    def signs(self, href: str) -> bool:
        return self.chosen


@pytest.mark.parametrize(("chosen", "refused", "calls"), [(True, False, [False]), (False, False, []), (False, True, [True])])
def test_a_signer_is_spared_what_it_does_not_sign_until_the_server_refuses(
    chosen: bool, refused: bool, calls: list[bool], world: World, quick: ReadOptions
) -> None:
    world.rules(*[{"status": 403, "unless_query": {"sig": "new"}}] * refused)
    chooser = _Chooser(chosen)
    outcome, _ = _one(world, quick, sign=chooser.sign)
    assert outcome.status is ReadStatus.OK
    assert chooser.calls == calls


def test_a_signer_that_fails_denies_its_asset(world: World, quick: ReadOptions) -> None:
    from cubekit.errors import AccessDeniedError

    def sign(href: str) -> str:
        raise AccessDeniedError("no token for anybody")

    outcome, _ = _one(world, quick, sign=sign)
    assert outcome.status is ReadStatus.DENIED
    assert "no token for anybody" in outcome.message


def test_an_object_that_changed_after_its_header_is_read_anew(world: World, quick: ReadOptions) -> None:
    first, second = unique_pixels(256, 300), unique_pixels(256, 300, seed=3)
    write_cog(world.root / "moving.tif", first, tile=128, predictor=2)
    _one(world, quick, "moving.tif")
    write_cog(world.root / "moving.tif", second, tile=128, predictor=2)
    world.rules()
    outcome, pixels = _one(world, quick, "moving.tif")
    assert outcome.status is ReadStatus.OK
    assert outcome.requests == 3  # tile of the remembered header, new header, tile
    np.testing.assert_array_equal(pixels, second[0, 70:118, 50:114])


def test_an_object_that_keeps_changing_is_corrupt(world: World, quick: ReadOptions) -> None:
    world.rules({"start": "later", "etag": '"other"'})
    outcome, pixels = _one(world, quick)
    assert outcome.status is ReadStatus.CORRUPT
    assert "changed while it was read" in outcome.message
    assert world.asked() == 4
    assert (pixels == 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_truncated_file_is_corrupt_without_asking_for_what_is_not_there(world: World, quick: ReadOptions, engine: Any) -> None:
    data = (world.root / "a.tif").read_bytes()
    (world.root / "cut.tif").write_bytes(data[: len(data) // 2])
    far = Grid(32632, 10, 602600, 5697900, 16, 16)  # in the last tile
    out = np.full((1, 16, 16), 77, "uint16")
    outcome = read_assets([world.read("cut.tif")], far, out, options=replace(quick, engine=engine))[0]
    assert outcome.status is ReadStatus.CORRUPT
    assert "truncated" in outcome.message
    assert world.asked() == 1
    assert (out == 0).all()


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
def test_zeroed_tile_offsets_are_corrupt_not_nodata(world: World, quick: ReadOptions, counts: bool, engine: Any) -> None:
    """GDAL reads such a file as nodata, without an error."""
    write_cog(world.root / "zeroed.tif", np.random.default_rng(0).integers(1, 60000, (1, 700, 700), "uint16"), tile=128)
    zero_tile_table(world.root / "zeroed.tif", counts=counts)
    outcome, _ = _one(world, replace(quick, engine=engine), "zeroed.tif")
    assert outcome.status is ReadStatus.CORRUPT, outcome
    assert "table" in outcome.message


@pytest.mark.parametrize("engine", ENGINES)
def test_another_crs_than_the_catalogues_is_corrupt(world: World, quick: ReadOptions, engine: Any) -> None:
    outcome, _ = _one(world, replace(quick, engine=engine), epsg=32633)
    assert outcome.status is ReadStatus.CORRUPT
    assert "EPSG:32632" in outcome.message
    assert "EPSG:32633" in outcome.message


def test_damaged_tiles_are_corrupt(world: World, quick: ReadOptions) -> None:
    """Flipped bits of a tile that is inflated whole show in its checksum, even where the stream still inflates."""
    noise = np.random.default_rng(1).integers(900, 1100, (1, 256, 300), "uint16")
    write_cog(world.root / "bent.tif", noise, tile=64, predictor=2)
    whole = Grid(32632, 10, 600000, 5700000, 64, 64)
    out = np.empty((1, 64, 64), "uint16")
    assert read_assets([world.read("bent.tif")], whole, out, options=quick)[0].status is ReadStatus.OK
    good = (world.root / "bent.tif").read_bytes()
    first = world.server.stats()["ranges"][-1][1]
    for place in range(first + 200, first + 900, 97):
        data = bytearray(good)
        data[place] ^= 0x10
        (world.root / "bent.tif").write_bytes(data)
        forget_headers()
        assert read_assets([world.read("bent.tif")], whole, out, options=quick)[0].status is ReadStatus.CORRUPT, place
        assert (out == 0).all()


def test_a_server_that_ignores_ranges_is_read_all_the_same(world: World, quick: ReadOptions, expected: np.ndarray) -> None:
    world.rules({"ignore_range": True})
    outcome, pixels = _one(world, quick)
    assert outcome.status is ReadStatus.OK, outcome
    np.testing.assert_array_equal(pixels, expected)


def test_a_redirect_is_followed(world: World, quick: ReadOptions, expected: np.ndarray) -> None:
    world.rules({"path": "^/old.tif", "status": 302, "headers": {"Location": f"{world.server.url}/a.tif"}})
    outcome, pixels = _one(world, quick, "old.tif")
    assert outcome.status is ReadStatus.OK
    np.testing.assert_array_equal(pixels, expected)


def test_a_connection_closed_while_idle_costs_a_retry_at_most(world: World, quick: ReadOptions) -> None:
    world.rules({"close_after": 10**9, "times": 1})  # answers whole, then closes a connection that HTTP keeps
    for _ in range(3):
        outcome, _ = _one(world, quick)
        assert outcome.status is ReadStatus.OK
        assert outcome.retries <= 1


def test_one_percent_of_503_changes_no_pixel(world: World, quick: ReadOptions, expected: np.ndarray) -> None:
    world.rules({"status": 503, "every": 10})
    reads = [world.read(f"a.tif?n={i}") for i in range(60)]
    out = np.full((60, *GRID.shape), 77, "uint16")
    outcomes = read_assets(reads, GRID, out, options=replace(quick, retries=5))
    assert {o.status for o in outcomes} == {ReadStatus.OK}
    assert sum(o.retries for o in outcomes) == world.server.stats()["statuses"]["503"] > 5
    assert sum(o.requests for o in outcomes) == world.asked()
    np.testing.assert_array_equal(out, np.broadcast_to(expected, out.shape))
