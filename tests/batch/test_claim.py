"""Two runs of one batch at the same time: one does it, the other is told who does; parts of a batch run together."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import batch_builders
import pytest

from cubekit.batch import RunOptions, _claim, open_folder, plan, run
from cubekit.batch._claim import Claim
from cubekit.errors import CommitError

SERIAL = RunOptions(executor="serial")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    for name, value in {"BEAT": 0.2, "SILENCE": 2.0, "_LOOK": 0.1}.items():
        monkeypatch.setattr(_claim, name, value)


@pytest.fixture
def jobs(recipe, sites, tmp_path):
    found = plan(recipe, sites("a", "b", "c", "d"), str(tmp_path / "out"))
    open_folder(found.root).check()
    return found


def go(jobs):
    return run(jobs, SERIAL, build=batch_builders.build, describe="")


def left(jobs):
    return open_folder(jobs.root).names("runs")


def leave(jobs, host, pid, sign=b"running 7"):
    """What a run leaves that was killed."""
    folder = open_folder(jobs.root)
    record = {"host": host, "pid": pid, "since": "2020-01-01T00:00:00Z", "sites": ["a", "zz"]}
    folder.put("runs/0.beat", sign)
    folder.put("runs/0.json", json.dumps(record).encode())


def test_a_second_run_is_told_of_the_first(jobs):
    who = rf"4 of these 4 sites are being done in .* by another run: process {os.getpid()} on {socket.gethostname()} since 20.*Z\. Wait"
    with Claim(jobs) as first:
        with pytest.raises(CommitError, match=who):
            go(jobs)
        assert not first.lost
        assert len(left(jobs)) == 2
    assert open_folder(jobs.root).outcomes() == {}
    assert go(jobs).counts == {"built": 4}
    assert left(jobs) == []


def test_an_object_store_has_claims_too(recipe, sites, bucket):
    jobs = plan(recipe, sites("a", "b"), f"{bucket}/x")
    with Claim(jobs), pytest.raises(CommitError, match="2 of these 2 sites are being done"):
        go(jobs)
    leave(jobs, "elsewhere", 1)
    assert go(jobs).counts == {"built": 2}
    assert left(jobs) == []


def test_a_run_that_was_taken_for_dead_stops(recipe, sites, bucket):
    jobs = plan(recipe, sites(*[f"slow-{number}" for number in range(12)]), f"{bucket}/x")
    folder = open_folder(jobs.root)

    def take_over(progress):
        if progress.built == 1:
            folder.delete(next(f"runs/{name}" for name in folder.names("runs") if name.endswith(".json")))

    report = run(jobs, SERIAL, build=batch_builders.build, describe="", progress=take_over)
    assert "another run took this one for dead" in report.gave_up
    assert (report.exit_code, report.interrupted) == (3, False)
    assert 2 <= len(report.outcomes) <= 6
    assert left(jobs) == []


def test_parts_of_a_batch_run_together(jobs):
    with Claim(jobs.shard(1, 2)):
        assert go(jobs.shard(2, 2)).counts == {"built": 2}
        with pytest.raises(CommitError, match="2 of these 4 sites"):
            go(jobs)


def test_a_killed_run_is_in_nobodys_way(jobs, monkeypatch):
    monkeypatch.setattr(_claim, "SILENCE", 600.0)
    leave(jobs, "elsewhere", 1)
    record = json.loads(open_folder(jobs.root).get("runs/0.json"))
    code = "import sys, time; print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        record |= {"host": socket.gethostname(), "pid": process.pid}
        process.send_signal(signal.SIGKILL)
    open_folder(jobs.root).put("runs/0.json", json.dumps(record).encode())
    began = time.monotonic()
    assert go(jobs).counts == {"built": 4}
    assert time.monotonic() - began < 30
    assert left(jobs) == []


@pytest.mark.parametrize("sign", [b"running 7", b"asking", b"asking 3"])
@pytest.mark.parametrize("alive", [False, True])
def test_a_run_elsewhere_is_judged_by_its_signs_of_life(jobs, sign, alive):
    leave(jobs, "elsewhere", os.getpid(), sign)
    stop = threading.Event()

    def beat():
        number = 0
        while not stop.wait(0.3):
            number += 1
            open_folder(jobs.root).beat("runs/0.beat", sign.partition(b" ")[0] + b" %d" % number)

    thread = threading.Thread(target=beat)
    if alive:
        thread.start()
    try:
        if alive:
            with pytest.raises(CommitError, match=r"1 of these 4 sites .* on elsewhere since 2020"):
                go(jobs)
        else:
            assert go(jobs).counts == {"built": 4}
    finally:
        stop.set()
        if alive:
            thread.join()
    assert left(jobs) == (["0.beat", "0.json"] if alive else [])


def test_of_many_that_begin_at_once_one_runs(jobs):
    barrier, over = threading.Barrier(6), threading.Event()
    got, told = [], []

    def begin():
        barrier.wait()
        try:
            with Claim(jobs) as claim:
                got.append(claim)
                over.wait(60)
        except CommitError as error:
            told.append(error)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 60
    while len(told) < 5 and len(got) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    over.set()
    for thread in threads:
        thread.join()
    assert (len(got), len(told)) == (1, 5)
    assert left(jobs) == []
