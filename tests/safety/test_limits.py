"""Disks that are full, memory that is short, writers that are killed: the site fails by name, nothing half-made stays, the rest goes on."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cubekit.batch import RunOptions, plan, run
from cubekit.errors import CommitError
from cubekit.pipeline import build_cube
from cubekit.sampling import SiteTable
from cubekit.site import Site
from cubekit.store import content_digest, open_cube
from tests.safety.builders import limited
from tests.safety.conftest import REPOSITORY, Bench, QuickSession, rewritten


def leftovers(folder: Path) -> list[str]:
    return [entry for entry in os.listdir(folder) if entry.startswith(".")]


def test_a_batch_goes_on_past_a_full_disk_and_short_memory(bench: Bench, tmp_path: Path) -> None:
    lon, lat = bench.world.sites["centre"]
    names = ["a", "full", "narrow", "z"]
    sites = SiteTable.from_records([{"id": name, "lon": lon, "lat": lat + n * 1e-4} for n, name in enumerate(names)])
    jobs = plan(bench.recipe(), sites, str(tmp_path / "batch"))
    report = run(jobs, RunOptions(workers=1, retries=0, timeout=120), build="tests.safety.builders:build")
    told = {outcome.id: outcome for outcome in report.outcomes}
    assert {name: told[name].status for name in ("a", "z")} == {"a": "built", "z": "built"}
    assert told["full"].status == "failed"
    assert "No space left" in told["full"].message
    assert told["narrow"].status in ("memory", "killed")
    cubes = tmp_path / "batch" / "cubes"
    assert sorted(os.listdir(cubes)) == ["a.zarr", "z.zarr"]
    again = run(jobs, RunOptions(executor="serial", only_failed=True, limit=1))
    assert [outcome.built for outcome in again.outcomes] == [True]


def test_a_file_that_may_not_grow(bench: Bench) -> None:
    with limited(resource.RLIMIT_FSIZE, 1024), pytest.raises(CommitError, match="No space left"):
        bench.build()
    bench.assert_nothing()
    assert bench.build().digest == bench.clean


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_full(bench: Bench, small_disk: Path) -> None:
    """Cache and cube on it: the cache is done without, the cube fails by name, and an older cube stays."""
    session = QuickSession(cache_dir=small_disk / "cache")
    target = str(small_disk / "a.zarr")
    first = build_cube(bench.recipe(edge_size=8, bands=["B04"]), bench.site, target, session=session)
    free = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - (40 << 10)))
    with pytest.raises(CommitError, match=r"No space left .* Free some space"):
        build_cube(bench.recipe(), bench.site, target, overwrite=True, session=session)
    assert content_digest(target) == first.digest
    assert not [name for name in leftovers(small_disk) if name.endswith("partial")]
    (small_disk / "filler").unlink()
    build_cube(bench.recipe(edge_size=8), bench.site, target, overwrite=True, session=session)
    assert open_cube(target).sizes["x"] == 8


class Killed:
    """Builds by the command line that are killed at a moment."""

    def __init__(self, bench: Bench, catalog: Path, folder: Path) -> None:
        lon, lat = bench.world.sites["centre"]
        self.folder, self.target = folder, folder / "a.zarr"
        self.command = [
            sys.executable, "-m", "cubekit_cli", "build", f"--lat={lat}", f"--lon={lon}", "--start=2021-01-01", "--end=2022-12-31", "-q",
            f"--catalog={catalog}", "--bands=B04,B8A", "--edge-size=32", f"--out={self.target}", f"--cache-dir={folder / 'cache'}",
        ]  # fmt: skip
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "cli")])}

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def whole(self) -> None:
        process = self.start()
        _, said = process.communicate(timeout=100)
        assert process.returncode == 0, said[-2000:]

    def kill(self, delay: float, *, staged: bool) -> int:
        """Kill after `delay`, counted from the start or from the moment that something is being written."""
        process = self.start()
        until = time.monotonic() + 60
        while staged and process.poll() is None and time.monotonic() < until and not self._staged():
            time.sleep(0.0005)
        time.sleep(delay)
        process.kill()
        process.communicate()
        return process.returncode

    def _staged(self) -> bool:
        return any(name.endswith(".partial") for name in leftovers(self.folder))


@pytest.mark.parametrize(("moments", "seed"), [(4, 1), pytest.param(20, 2, marks=pytest.mark.slow)])
def test_builds_that_are_killed(bench: Bench, local_catalog: Any, tmp_path: Path, moments: int, seed: int) -> None:
    items = rewritten(bench.world, bench.files.url)
    folder = tmp_path / "killed"
    folder.mkdir()
    catalog = local_catalog(items)
    killed = Killed(bench, catalog, folder)
    lon, lat = bench.world.sites["centre"]
    recipe = bench.recipe(catalog=str(catalog), start="2021-01-01", end="2022-12-31")
    digest = build_cube(recipe, Site(lat, lon), str(tmp_path / "undisturbed.zarr")).digest
    chance = random.Random(seed)
    codes = []
    for number in range(moments):
        staged = number % 2 == 0
        codes.append(killed.kill(chance.uniform(0, 0.06) if staged else chance.uniform(0.5, 4.0), staged=staged))
        if os.path.lexists(killed.target):
            assert content_digest(killed.target) == digest
            open_cube(killed.target)
            subprocess.run(["rm", "-rf", str(killed.target)], check=True)
    assert -signal.SIGKILL in codes
    killed.whole()
    assert content_digest(killed.target) == digest
    assert not leftovers(folder)
