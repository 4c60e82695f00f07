"""The plan is the run's own: exact with known headers; headers are asked for once, wherever they are remembered."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine

from cubekit.errors import InputError
from cubekit.grid import Grid
from cubekit.read import AssetRead, ReadOptions, ReadStatus, _resample, forget_headers, plan_reads, read_assets, read_bytes, read_many
from cubekit.read._engine import Slots, together
from cubekit.read._headers import _VERSION, FIRST, pack, unpack
from cubekit.read._ifd import Pieces
from cubekit.read._place import Placement
from cubekit.read._tiff import Header
from cubekit.testing.cogs import unique_pixels, write_cog
from tests.read.conftest import GRID, World

WIDE = Grid(32632, 10, 600300, 5699700, 150, 170)


def _scenes(world: World, count: int = 12) -> list[AssetRead]:
    """Files whose rows compress about evenly, as real scenes do."""
    for index in range(count):
        path = world.root / f"scene-{index}.tif"
        if not path.exists():
            rng = np.random.default_rng(index)
            write_cog(path, (2000 + rng.normal(0, 60, (1, 700, 700))).astype("uint16"), tile=256, predictor=2, driver="COG")
    return [world.read(f"scene-{index}.tif") for index in range(count)]


@pytest.mark.parametrize("grid", [GRID, WIDE], ids=["one tile", "several tiles"])
def test_the_plan_is_exact_with_known_headers_and_close_without(world: World, grid: Grid) -> None:
    reads = _scenes(world)
    cold = plan_reads(reads, grid)
    assert cold.header_requests == len(reads)
    assert world.asked() == cold.header_requests
    forget_headers()
    world.server.stats(reset=True)
    out = np.empty((len(reads), *grid.shape), "uint16")
    outcomes = read_assets(reads, grid, out)
    stats = world.server.stats(reset=True)
    assert {o.status for o in outcomes} == {ReadStatus.OK}
    assert stats["requests"] == pytest.approx(cold.requests, rel=0.02)
    assert stats["bytes"] == pytest.approx(cold.bytes, rel=0.02)
    assert sum(o.requests for o in outcomes) == stats["requests"]
    assert sum(o.bytes for o in outcomes) == stats["bytes"]

    warm = plan_reads(reads, grid)
    assert world.asked() == 0
    read_assets(reads, grid, out)
    stats = world.server.stats()
    assert (warm.requests, warm.bytes) == (stats["requests"], stats["bytes"])
    assert warm.header_requests == 0
    assert warm.memory > 0


def test_a_tile_that_missed_once_is_planned_right_afterwards(world: World) -> None:
    """Rows that compress very unevenly: noise where the window is, nothing below."""
    pixels = np.full((1, 512, 512), 1000, "uint16")
    pixels[0, :256] = np.random.default_rng(1).integers(1, 60000, (256, 512))
    write_cog(world.root / "uneven.tif", pixels, tile=512)
    read, grid = world.read("uneven.tif"), Grid(32632, 10, 600000, 5700000, 128, 128)
    out = np.empty((1, 128, 128), "uint16")
    outcome = read_assets([read], grid, out)[0]
    assert outcome.misses == 1
    np.testing.assert_array_equal(out[0], pixels[0, :128, :128])
    plan = plan_reads([read], grid)
    world.server.stats(reset=True)
    again = read_assets([read], grid, out)[0]
    stats = world.server.stats()
    assert again.misses == 0
    assert (plan.requests, plan.bytes) == (stats["requests"], stats["bytes"]) == (1, again.bytes)
    assert again.bytes < outcome.bytes
    np.testing.assert_array_equal(out[0], pixels[0, :128, :128])


def test_only_the_needed_part_of_a_tile_is_asked_for(world: World) -> None:
    reads = _scenes(world, 1)
    path = world.root / "scene-0.tif"
    header = Header.start(_pieces(path))
    plan_reads(reads, GRID)
    world.server.stats(reset=True)
    out = np.empty((1, *GRID.shape), "uint16")
    read_assets(reads, GRID, out)
    (_, first, last, _), *_ = world.server.stats()["ranges"]
    offset, count = header.levels[0].entry(header.pieces, 0)
    assert first == offset
    assert 118 / 256 < (last + 1 - first) / count < 118 / 256 + 0.05


def test_the_plan_names_what_cannot_be_read(world: World) -> None:
    plan = plan_reads([world.read("a.tif"), world.read("gone.tif"), AssetRead("/vsimem/x")], GRID)
    assert {i: o.status for i, o in plan.outcomes.items()} == {1: ReadStatus.MISSING, 2: ReadStatus.REFUSED}


def test_headers_on_disk_serve_the_next_process(world: World, tmp_path: Path) -> None:
    reads = _scenes(world)
    options = ReadOptions(cache_dir=tmp_path / "cache")
    out = np.empty((len(reads), *GRID.shape), "uint16")
    read_assets(reads, GRID, out, options=options)
    first = out.copy()
    forget_headers()
    world.server.stats(reset=True)
    outcomes = read_assets(reads, GRID, out, options=options)
    assert world.asked() == len(reads)
    assert {o.requests for o in outcomes} == {1}
    np.testing.assert_array_equal(out, first)


def test_a_damaged_header_on_disk_is_asked_for_anew(world: World, tmp_path: Path) -> None:
    options = ReadOptions(cache_dir=tmp_path)
    out = np.empty((1, *GRID.shape), "uint16")
    read_assets([world.read("a.tif")], GRID, out, options=options)
    first = out.copy()
    with contextlib.closing(sqlite3.connect(tmp_path / f"headers-{_VERSION}.sqlite")) as database, database:
        (blob,) = database.execute("SELECT blob FROM headers").fetchone()
        database.execute("UPDATE headers SET blob = ?", (blob[:-1] + bytes([255 - blob[-1]]),))
    forget_headers()
    assert read_assets([world.read("a.tif")], GRID, out, options=options)[0].requests == 2
    np.testing.assert_array_equal(out, first)


def test_a_remembered_header_of_a_replaced_object_is_not_believed(world: World, tmp_path: Path) -> None:
    options = ReadOptions(cache_dir=tmp_path)
    name, out = "swap.tif", np.empty((1, *GRID.shape), "uint16")
    for seed in (0, 5, 9):
        pixels = unique_pixels(256, 300, seed=seed)
        write_cog(world.root / name, pixels, tile=64 + 64 * (seed % 2))
        forget_headers()
        assert read_assets([world.read(name)], GRID, out, options=options)[0].status is ReadStatus.OK
        np.testing.assert_array_equal(out[0], pixels[0, 70:118, 50:114])


def test_signed_hrefs_share_a_header_and_no_secret_is_stored(world: World, tmp_path: Path) -> None:
    out = np.empty((1, *GRID.shape), "uint16")
    options = ReadOptions(cache_dir=tmp_path)
    for token in ("first-secret", "second-secret"):
        read_assets([world.read(f"a.tif?sig={token}")], GRID, out, options=options)
        forget_headers()
    assert world.asked() == 3
    assert all(b"-secret" not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_different_queries_are_different_objects(world: World) -> None:
    out = np.empty((2, *GRID.shape), "uint16")
    read_assets([world.read("a.tif?id=1"), world.read("a.tif?id=2")], GRID, out)
    assert world.asked() == 4


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"SQLite format 3\0 and nonsense"])
def test_a_damaged_cache_is_done_without(world: World, tmp_path: Path, damage: bytes) -> None:
    options = ReadOptions(cache_dir=tmp_path)
    (tmp_path / f"headers-{_VERSION}.sqlite").write_bytes(damage)
    out = np.empty((1, *GRID.shape), "uint16")
    assert read_assets([world.read("a.tif")], GRID, out, options=options)[0].status is ReadStatus.OK


def _pieces(path: Path) -> Pieces:
    pieces = Pieces()
    pieces.add(0, memoryview(path.read_bytes()))
    return pieces


@pytest.mark.parametrize("form", ["cog", "plain", "mask"])
def test_packed_headers_come_back_whole_and_small(world: World, tmp_path: Path, form: str) -> None:
    path = tmp_path / "x.tif"
    pixels = np.random.default_rng(0).integers(1, 5000, (1, 2048, 2048), "uint16")
    write_cog(path, pixels, tile=256, overviews=(2, 4), mask=pixels[0] > 9 if form == "mask" else None)
    if form == "cog":
        write_cog(path, pixels, tile=256, driver="COG")
    header = Header.start(_pieces(path))
    while header.grow():
        pass
    for level in [*header.levels, *header.masks.values()]:
        level.entry(header.pieces, 0)
    packed = pack(header)
    if form == "cog":
        assert len(packed.blob) < 1000
    again = unpack(packed)
    assert again is not None
    for one, other in zip([*header.levels, *header.masks.values()], [*again.levels, *again.masks.values()], strict=True):
        np.testing.assert_array_equal(one.offsets, other.offsets)
        np.testing.assert_array_equal(one.counts, other.counts)
        assert (one.width, one.codec, one.dtype, one.predictor) == (other.width, other.codec, other.dtype, other.predictor)
    assert (again.epsg, again.transform, again.nodata) == (header.epsg, header.transform, header.nodata)
    assert unpack(packed._replace(blob=packed.blob[:-9])) is None
    assert FIRST == 16384


def test_the_first_requests_do_not_wait_for_the_last() -> None:
    seen = []

    async def one(number: int) -> None:
        seen.append(("begun", number))
        await asyncio.sleep(0)
        seen.append(("on", number))

    asyncio.run(together(one(number) for number in range(100)))
    assert seen.index(("on", 0)) < seen.index(("begun", 50))


def test_many_sites_read_each_header_and_tile_once(world: World) -> None:
    reads = _scenes(world, 6)
    rng = np.random.default_rng(0)
    grids = [Grid(32632, 10, 600000 + 10 * x, 5700000 - 10 * y, 40, 30) for x, y in rng.integers(0, 200, (25, 2)).tolist()]
    alone = []
    for grid in grids:
        out = np.empty((len(reads), *grid.shape), "uint16")
        forget_headers()
        read_assets(reads, grid, out)
        alone.append(out)
    single = world.server.stats(reset=True)
    forget_headers()
    outs = [np.empty((len(reads), *grid.shape), "uint16") for grid in grids]
    outcomes = read_many([(reads, grid, out) for grid, out in zip(grids, outs, strict=True)])
    shared = world.server.stats()
    for one, other in zip(alone, outs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert shared["requests"] <= 2 * len(reads)
    assert shared["bytes"] < 0.2 * single["bytes"]
    assert sum(o.requests for site in outcomes for o in site) == shared["requests"]
    assert {o.status for site in outcomes for o in site} == {ReadStatus.OK}


def test_a_small_budget_only_takes_longer(world: World) -> None:
    from cubekit.read import _engine

    reads = _scenes(world)
    out, tight = (np.empty((len(reads), *WIDE.shape), "uint16") for _ in range(2))
    read_assets(reads, WIDE, out)
    peaks: list[int] = []
    original = _engine.Budget._add

    def spy(self: _engine.Budget, amount: int) -> None:
        original(self, amount)
        if self._limit == 700_000:
            peaks.append(self._used)

    _engine.Budget._add = spy  # type: ignore[method-assign]
    try:
        read_assets(reads, WIDE, tight, options=ReadOptions(memory=700_000))
    finally:
        _engine.Budget._add = original  # type: ignore[method-assign]
    np.testing.assert_array_equal(out, tight)
    assert len(peaks) >= len(reads)
    assert max(peaks) <= 700_000


def test_small_files_are_kept_on_disk(world: World, tmp_path: Path) -> None:
    (world.root / "m.xml").write_bytes(b"<m/>")
    options = ReadOptions(cache_dir=tmp_path)
    for _ in range(2):
        assert read_bytes([f"{world.server.url}/m.xml"], options=options) == [b"<m/>"]
    assert world.asked() == 1


def test_larger_files_take_two_requests_and_turns(world: World) -> None:
    body = np.random.default_rng(1).bytes((2 << 20) + 12_345)
    names = [f"large-{number}.bin" for number in range(4)]
    for name in names:
        (world.root / name).write_bytes(body)
    answers = read_bytes([f"{world.server.url}/{name}" for name in names], options=ReadOptions(memory=1))
    assert answers == [body] * 4
    assert world.asked() == 8
    (world.root / "exact.bin").write_bytes(body[: 2 << 20])
    assert read_bytes([f"{world.server.url}/exact.bin"]) == [body[: 2 << 20]]
    assert world.asked() == 9


def test_headers_that_look_alike_are_not_mixed_up(world: World) -> None:
    """Same size and structure, but other pixels, another place, another nodata value: each file keeps what is its own."""
    places = [600000.0, 600000.0, 600020.0, 600000.0]
    reads = []
    for number, left in enumerate(places):
        path = world.root / f"alike-{number}.tif"
        # The last one's tiles have other sizes than the first one's.
        pixels = unique_pixels(256, 300, seed=number) if number < 3 else np.full((1, 256, 300), 9, "uint16")
        write_cog(path, pixels, tile=128, predictor=2, transform=(10, 0, left, 0, -10, 5700000), nodata=number // 2, driver="COG")
        reads.append(world.read(path.name, nodata=None))
    out = np.zeros((len(reads), *GRID.shape), "uint16")
    for _ in range(2):
        forget_headers()
        assert all(outcome.status is ReadStatus.OK for outcome in read_assets(reads, GRID, out))
        for number, left in enumerate(places[:3]):
            shift = round((600500 - left) / 10)
            np.testing.assert_array_equal(out[number], unique_pixels(256, 300, seed=number)[0, 70:118, shift : shift + 64])
        assert (out[3] == 9).all()


@pytest.mark.parametrize("cached", [False, True])
def test_files_of_one_make_keep_what_is_their_own(world: World, tmp_path: Path, cached: bool) -> None:
    """Files alike in all but pixels share how they are laid out; one with a mask, or moved by a pixel, is of another make."""
    pixels = [unique_pixels(256, 300, seed=seed) for seed in range(4)]
    masked = np.ones((256, 300), bool)
    masked[80:100, 60:90] = False
    moved = (10.0, 0.0, 600010.0, 0.0, -10.0, 5700000.0)
    for number, extra in enumerate(({}, {}, {"mask": masked}, {"transform": moved})):
        write_cog(world.root / f"make-{number}.tif", pixels[number], tile=64, predictor=2, nodata=None, **extra)
    reads = [world.read(f"make-{number}.tif", nodata=None) for number in range(4)]
    options = ReadOptions(cache_dir=tmp_path) if cached else ReadOptions()
    for _ in range(2):
        forget_headers()
        out = np.full((4, *GRID.shape), 77, "uint16")
        assert all(outcome.status is ReadStatus.OK for outcome in read_assets(reads, GRID, out, options=options))
        for number in range(2):
            np.testing.assert_array_equal(out[number], pixels[number][0, 70:118, 50:114])
        np.testing.assert_array_equal(out[2], np.where(masked, pixels[2][0], 0)[70:118, 50:114])
        np.testing.assert_array_equal(out[3], pixels[3][0, 70:118, 49:113])


@pytest.mark.parametrize("factor", [(1, 1), (2, 2), (3, 2), (1, 4)])
def test_repeated_pixels_cover_what_they_should(factor: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    window = rng.integers(1, 1000, (5, 6), "uint16")
    whole = np.repeat(np.repeat(window, factor[0], 0), factor[1], 1)
    for top in range(-4, 6):
        for left in range(-4, 6):
            out, expected = np.full((9, 11), 7, "uint16"), np.zeros((9, 11), "uint16")
            rows, columns = np.mgrid[:9, :11]
            y, x = rows + top, columns + left
            inside = (y >= 0) & (x >= 0) & (y < whole.shape[0]) & (x < whole.shape[1])
            expected[inside] = whole[y[inside], x[inside]]
            _resample._repeat(Placement(0, (0, 5), (0, 6), "repeat", (top, left), factor, Affine.identity()), window, out, 0)
            np.testing.assert_array_equal(out, expected)


def test_tiles_go_before_headers() -> None:
    async def order() -> list[str]:
        slots, done = Slots(1), []

        async def ask(name: str, turn: Any) -> None:
            async with turn:
                await asyncio.sleep(0)
                done.append(name)

        await asyncio.gather(ask("h1", slots.headers), ask("h2", slots.headers), ask("t1", slots.tiles), ask("t2", slots.tiles))
        return done

    assert asyncio.run(order()) == ["h1", "t1", "t2", "h2"]


def test_a_slot_given_to_one_that_gave_up_is_handed_on() -> None:
    async def run() -> bool:
        slots = Slots(1)
        await slots.tiles.__aenter__()
        waiting = [asyncio.ensure_future(slots.tiles.__aenter__()) for _ in range(2)]
        await asyncio.sleep(0)
        await slots.tiles.__aexit__()
        waiting[0].cancel()
        await asyncio.wait_for(waiting[1], 2)
        return waiting[0].cancelled()

    assert asyncio.run(run())


def test_arguments_are_checked_before_any_request(world: World) -> None:
    read = world.read("a.tif")
    with pytest.raises(InputError, match=r"2 reads were given 1 arrays"):
        read_assets([read, read], GRID, np.empty((1, *GRID.shape), "uint16"))
    with pytest.raises(InputError, match=r"shape \(5, 5\)"):
        read_assets([read], GRID, np.empty((1, 5, 5), "uint16"))
    with pytest.raises(InputError, match=r"nodata -1 .* uint16"):
        read_assets([replace(read, nodata=-1)], GRID, np.empty((1, *GRID.shape), "uint16"))
    with pytest.raises(InputError, match=r"resampling 'cubic'"):
        replace(read, resampling="cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"engine 'gdal'"):
        ReadOptions(engine="gdal")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"concurrency 0"):
        ReadOptions(concurrency=0)
    assert world.asked() == 0
