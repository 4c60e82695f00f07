"""Reading works from wherever it is called: threads, a running loop, a forked child, a dask worker, an object store."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cubekit.errors import CubekitWarning, ReadError
from cubekit.read import AssetRead, ReadOptions, ReadStatus, lazy_stack, read_assets
from tests.read.conftest import GRID, World


def _pixels(url: str) -> np.ndarray:
    out = np.zeros((1, *GRID.shape), "uint16")
    outcome = read_assets([AssetRead(url, nodata=0)], GRID, out)[0]
    assert outcome.status is ReadStatus.OK, outcome
    return out[0]


def test_inside_a_running_loop(world: World, expected: np.ndarray) -> None:
    async def notebook_cell() -> np.ndarray:
        return _pixels(f"{world.server.url}/a.tif")

    np.testing.assert_array_equal(asyncio.run(notebook_cell()), expected)


def test_from_many_threads_at_once(world: World, expected: np.ndarray) -> None:
    with ThreadPoolExecutor(8) as pool:
        for pixels in pool.map(_pixels, [f"{world.server.url}/a.tif?{i}" for i in range(32)]):
            np.testing.assert_array_equal(pixels, expected)


def _child(url: str, queue: Any) -> None:
    queue.put(_pixels(url))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_a_child_process(world: World, expected: np.ndarray, method: str) -> None:
    _pixels(f"{world.server.url}/a.tif")  # the parent's loop runs already
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of fork beside threads
        child = context.Process(target=_child, args=(f"{world.server.url}/a.tif", queue))
        child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    child.join(20)
    assert child.exitcode == 0


def test_a_script_ends_when_it_is_done(world: World) -> None:
    code = (
        "import numpy as np; from cubekit.read import *; from cubekit.grid import Grid\n"
        f"out = np.zeros((1, 48, 64), 'uint16'); grid = Grid(32632, 10.0, 600500.0, 5699300.0, 64, 48)\n"
        f"print(read_assets([AssetRead('{world.server.url}/a.tif')], grid, out)[0].status.name, out.any())\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code], capture_output=True, text=True, timeout=60, cwd=root
    )
    assert done.stdout.split() == ["OK", "True"], done.stderr
    assert done.stderr == ""


def test_an_interrupt_stops_the_read(world: World) -> None:
    world.rules({"delay": 5})

    class Stop(KeyboardInterrupt):
        pass

    def progress(done: int, total: int) -> None:
        raise Stop

    out = np.zeros((1, *GRID.shape), "uint16")
    with pytest.raises(Stop):
        read_assets([world.read("a.tif")], GRID, out, progress=progress)


def test_progress_is_told_in_the_callers_thread(world: World) -> None:
    world.rules({"delay": 0.15})
    seen: list[tuple[int, int, threading.Thread]] = []
    out = np.zeros((4, *GRID.shape), "uint16")
    reads = [world.read(f"a.tif?{i}") for i in range(4)]
    read_assets(reads, GRID, out, progress=lambda done, total: seen.append((done, total, threading.current_thread())))
    assert seen[-1][:2] == (4, 4)
    assert {thread for _, _, thread in seen} == {threading.current_thread()}


@pytest.mark.slow
def test_in_a_dask_worker(world: World, expected: np.ndarray) -> None:
    from distributed import Client

    stack = lazy_stack([[world.read("a.tif")]] * 6, GRID, "uint16", block=2)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        values = client.compute(stack).result(timeout=60)
    np.testing.assert_array_equal(values, np.broadcast_to(expected, values.shape))


def test_lazy_holes_raise_or_warn(world: World) -> None:
    rows = [[world.read("a.tif")], [world.read("gone.tif")]]
    with pytest.raises(ReadError, match=r"1 of 2 assets could not be read; first item B02: MISSING"):
        lazy_stack(rows, GRID, "uint16").compute()
    with pytest.warns(CubekitWarning, match="1 of 2 assets"):
        values = lazy_stack(rows, GRID, "uint16", holes="warn").compute()
    assert values[0].any()
    assert not values[1].any()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local S3 server with one bucket."""
    moto = pytest.importorskip("moto.server")
    import boto3

    from cubekit.testing.cogs import unique_pixels, write_cog

    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    secrets = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    settings = {**secrets, "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    old = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    s3.create_bucket(Bucket="granules")
    path = write_cog(tmp_path_factory.mktemp("s3") / "a.tif", unique_pixels(256, 300), tile=128, predictor=2)
    s3.upload_file(str(path), "granules", "x/a.tif")
    yield "s3://granules/x"
    server.stop()
    for key, value in old.items():
        os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_objects_of_a_store_have_the_same_pixels_and_statuses(bucket: str, expected: np.ndarray, quick: ReadOptions) -> None:
    out = np.full((2, *GRID.shape), 7, "uint16")
    good, gone = read_assets([AssetRead(f"{bucket}/a.tif", nodata=0), AssetRead(f"{bucket}/none.tif", nodata=0)], GRID, out, options=quick)
    assert good.status is ReadStatus.OK, good
    assert good.requests == 2
    assert gone.status is ReadStatus.MISSING, gone
    np.testing.assert_array_equal(out[0], expected)
    assert (out[1] == 0).all()
