"""The journal of finished reads: what it gives back, and what it never does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cubekit.grid import Grid
from cubekit.read import AssetOutcome, AssetRead, Journal, ReadOptions, ReadStatus, forget_headers, read_assets
from cubekit.read._layout import Use
from cubekit.testing.rangeserver import RangeServer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journals" / "a"


def filled(path, count=5):
    journal = Journal(path)
    for number in range(count):
        journal.put(f"file{number}", ("window", number), {"n": number}, np.full(100, number, np.uint16).data)
    journal.close()
    return path.stat().st_size // count


def test_what_was_noted_is_found_by_the_next(path):
    filled(path)
    journal = Journal(path)
    assert len(journal) == 5
    assert journal.names() == [f"file{number}" for number in range(5)]
    meta, data = journal.get("file3", ("window", 3))
    assert meta["n"] == 3
    assert (np.frombuffer(data, np.uint16) == 3).all()
    assert journal.get("file3", ("window", 4)) is None
    assert journal.get("file9", ("window", 3)) is None
    journal.drop()
    assert not path.exists()


@pytest.mark.parametrize("cut", [1, 10, 24, 100, -1])
def test_a_torn_tail_is_cut_off_and_written_over(path, cut):
    size = filled(path)
    os.truncate(path, 4 * size + cut % size)
    journal = Journal(path)
    assert len(journal) == 4
    journal.put("file9", "q", {}, b"new")
    journal.close()
    again = Journal(path)
    assert len(again) == 5
    assert again.get("file9", "q")[1] == b"new"
    again.close()


def test_damage_ends_what_is_believed(path):
    size = filled(path)
    data = bytearray(path.read_bytes())
    data[2 * size + size // 2] ^= 1
    path.write_bytes(data)
    journal = Journal(path)
    assert len(journal) == 2
    journal.drop()


def test_one_at_a_time(path):
    first = Journal(path)
    first.put("a", 1, {}, b"x")
    code = "import sys; from pathlib import Path; from cubekit.read import Journal; j = Journal(Path(sys.argv[1])); j.put('b', 1, {}, b'y'); print(len(j))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run([sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "0"
    first.close()
    assert Journal(path).names() == ["a"]


def test_limits_and_places_that_cannot_be_written(path, tmp_path):
    small = Journal(path, limit=1000)
    for number in range(20):
        small.put(str(number), 1, {}, bytes(200))
    assert 1 <= len(small) < 5
    assert path.stat().st_size <= 1000
    small.drop()
    (tmp_path / "file").write_text("")
    nowhere = Journal(tmp_path / "file" / "a")
    nowhere.put("a", 1, {}, b"x")
    assert len(nowhere) == 0
    nowhere.drop()


def test_old_journals_are_thrown_away(path):
    filled(path)
    old = time.time() - 10 * 86400
    os.utime(path, (old, old))
    assert len(Journal(path)) == 0


@pytest.fixture
def served(world, tmp_path):
    source = next(file for file in sorted(world.root.rglob("*_B04_10m.tif")) if "33UTS" in file.name)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.tif").write_bytes(source.read_bytes())
    with RangeServer(tmp_path / "files") as server:
        yield server


def read(server, world, journal, edge=16):
    lon, lat = world.sites["centre"]
    reads = [AssetRead(f"{server.url}/a.tif", nodata=0), AssetRead(f"{server.url}/a.tif", resampling="bilinear", nodata=0)]
    grids = Grid.around(lat, lon, edge_size=edge, units="px", resolution=10)
    arrays = [np.zeros(grids.shape, np.uint16), np.zeros(grids.shape, np.uint16)]
    outcomes = read_assets(reads, grids, arrays, options=ReadOptions(journal=journal))
    return arrays, outcomes


def test_reads_that_are_noted_ask_for_nothing_and_give_the_same_pixels(served, world, path):
    forget_headers()
    journal = Journal(path)
    first, outcomes = read(served, world, journal)
    journal.close()
    served.stats(reset=True)
    forget_headers()
    journal = Journal(path)
    second, again = read(served, world, journal)
    assert served.stats()["requests"] == 0
    assert [(one.status, one.etag) for one in again] == [(one.status, one.etag) for one in outcomes]
    assert again[0].status is ReadStatus.OK
    assert first[0].any()
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(before, after)
    read(served, world, journal, edge=18)
    assert served.stats()["requests"] > 0
    journal.drop()


def test_what_is_done_is_written_while_other_reads_wait(served, world, path, tmp_path):
    (tmp_path / "files" / "b.tif").write_bytes((tmp_path / "files" / "a.tif").read_bytes())
    served.configure(rules=[{"path": "b.tif", "delay": 30.0}])
    lon, lat = world.sites["centre"]
    grid = Grid.around(lat, lon, edge_size=16, units="px", resolution=10)
    reads = [AssetRead(f"{served.url}/{name}.tif", nodata=0) for name in "ab"]
    arrays = [np.zeros(grid.shape, np.uint16) for _ in reads]
    journal = Journal(path)
    options = ReadOptions(journal=journal, first_byte_timeout=120.0)
    thread = threading.Thread(target=read_assets, args=(reads, grid, arrays), kwargs={"options": options}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not len(journal):
        time.sleep(0.01)
    assert thread.is_alive()
    assert journal.names() == [f"{served.url}/a.tif"]
    assert path.stat().st_size > arrays[0].nbytes


def test_many_notes_of_one_record_are_found_again(path):
    grid = Grid.around(48.0, 16.0, edge_size=8, units="px", resolution=10)
    uses = [Use(n, AssetRead("https://a/b.tif", nodata=n), grid, np.full(grid.shape, n, np.uint16)) for n in range(5)]
    journal = Journal(path)
    outcomes = {n: AssetOutcome(ReadStatus.EMPTY if n == 3 else ReadStatus.OK, etag="e") for n in range(5)} | {
        4: AssetOutcome(ReadStatus.FAILED)
    }
    assert [
        journal.note("https://a/b.tif", uses[:2], outcomes, "window"),
        journal.note("https://a/b.tif", uses[2:], outcomes, "window"),
    ] == [2, 4]
    assert not path.exists()
    journal.close()
    journal = Journal(path)
    assert len(journal) == 4
    fresh = [Use(use.index, use.read, grid, np.zeros(grid.shape, np.uint16)) for use in uses]
    assert set(journal.restore(fresh, "window", {})) == {0, 1, 2, 3}
    assert [int(use.out.max()) for use in fresh] == [0, 1, 2, 3, 0]
    assert not journal.restore(fresh, "rasterio", {})
    journal.drop()


def test_another_version_of_a_file_is_read_anew(served, world, path, tmp_path):
    forget_headers()
    journal = Journal(path)
    read(served, world, journal)
    file = tmp_path / "files" / "a.tif"
    os.utime(file, (1, 1))
    forget_headers()
    read(served, world, None)  # learns the new version
    served.stats(reset=True)
    _, outcomes = read(served, world, journal)
    assert served.stats()["requests"] > 0
    assert all(outcome.status is ReadStatus.OK for outcome in outcomes)
    journal.drop()
