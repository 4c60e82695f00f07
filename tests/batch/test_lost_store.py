"""When the place of the cubes fails, a run ends early and says why; when a site fails, it does not."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

import batch_builders
import pytest

from cubekit.batch import Outcome, RunOptions, _claim, _dask, open_folder, plan, reasons, run
from cubekit.batch._outcome import base
from cubekit.batch._process import Limits, Stop
from cubekit.batch._queue import JobQueue
from cubekit.batch._task import Setup
from cubekit.sampling import SiteTable
from tests.s3servers import SETTINGS, free_port, new_bucket, started, wait_for

SERIAL = RunOptions(executor="serial")


def go(jobs, options=SERIAL, **more):
    return run(jobs, options, build=batch_builders.build, **{"describe": "", **more})


def row(*names):
    """Sites that are done in this order: one tile, from north to south."""
    return SiteTable.from_records([{"id": name, "lon": 12.0, "lat": 51.0 - number * 1e-3} for number, name in enumerate(names)])


@pytest.mark.parametrize(
    ("server", "variable", "value", "status", "told"),
    [
        ("moto", "AWS_ENDPOINT_URL", "http://127.0.0.1:1", "failed", "http://127.0.0.1:1 does not answer. Check AWS_ENDPOINT_URL"),
        # moto takes any key
        pytest.param(
            *("ceph", "AWS_SECRET_ACCESS_KEY", "changed", "denied", "(SignatureDoesNotMatch). Correct AWS_SECRET_ACCESS_KEY"),
            marks=pytest.mark.ceph,
        ),
    ],
)
def test_a_store_that_dies_ends_the_run_and_leaves_the_rest_missing(
    recipe, make_bucket, monkeypatch, server, variable, value, status, told
):
    jobs = plan(recipe, row(*[f"s{number:02d}" for number in range(20)]), f"{make_bucket(server)}/x")
    report = go(jobs, progress=lambda progress: progress.built == 4 and monkeypatch.setenv(variable, value))
    assert report.gave_up.startswith("3 sites in a row could not be kept: ")
    assert told in report.gave_up
    assert (report.exit_code, report.storage_failed, report.interrupted) == (3, True, False)
    assert report.counts == {"built": 4, status: 3}
    make_bucket(server)  # leads the environment back
    left = reasons(jobs, open_folder(jobs.root))
    assert left == {f"s{number:02d}": "missing" for number in range(4, 20)}
    monkeypatch.setattr(_claim, "SILENCE", 2.0)  # the claim of the dead run could not be removed
    assert go(jobs).counts == {"built": 16}


@pytest.mark.slow
def test_worker_processes_are_not_given_more_when_the_store_is_dead(recipe, monkeypatch):
    port = free_port()
    for key, value in {**SETTINGS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(key, value)
    with started([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]) as server:
        wait_for(port, server, "moto")
        jobs = plan(recipe, row(*[f"slow-{number:02d}" for number in range(30)]), f"{new_bucket(f'http://127.0.0.1:{port}')}/x")
        report = go(jobs, RunOptions(workers=2), progress=lambda progress: progress.built == 2 and server.kill())
    assert report.gave_up.startswith("3 sites in a row could not be kept: ")
    assert f"http://127.0.0.1:{port} does not answer" in report.gave_up
    assert report.exit_code == 3
    assert len(report.outcomes) <= 2 + 2 + 3 + 1


def test_a_full_disk_ends_the_run(recipe, tmp_path):
    jobs = plan(recipe, row("a", "full-1", "b", "full-2", "full-3", "nothing-1", "full-4", "full-5", "full-6", "c", "d"), str(tmp_path))
    report = go(jobs)
    assert [outcome.id for outcome in report.outcomes][-1] == "full-6"
    assert report.gave_up.startswith("3 sites in a row could not be kept: No space left for")
    assert "Free some space" in report.gave_up
    assert report.exit_code == 3
    left = reasons(jobs, open_folder(jobs.root))
    assert {name: left[name] for name in ("full-6", "c", "d")} == {"full-6": "failed", "c": "missing", "d": "missing"}


def test_sites_that_fail_by_themselves_never_end_a_run(recipe, tmp_path):
    jobs = plan(recipe, row("denied-1", "denied-2", "denied-3", "chain-1", "chain-2", "raise-1", "nothing-1", "a"), str(tmp_path))
    report = go(jobs)
    assert report.gave_up == ""
    assert (len(report.outcomes), report.counts["built"]) == (8, 1)


@pytest.mark.parametrize("executor", ["serial", "local"])
def test_a_folder_that_vanishes_ends_the_run(recipe, tmp_path, executor):
    jobs = plan(recipe, row(*[f"slow-{number:02d}" for number in range(30)]), str(tmp_path / "out"))

    def vanish(progress):
        if progress.built == 2 and progress.last:
            shutil.rmtree(tmp_path / "out")

    report = go(jobs, replace(SERIAL, executor=executor, workers=2), progress=vanish)
    assert "runs/" in report.gave_up
    assert "is gone: the folder was removed" in report.gave_up
    assert (report.exit_code, report.storage_failed) == (3, True)
    assert len(report.outcomes) < 12


def test_workers_that_may_not_write_leave_outcomes_all_the_same(recipe, tmp_path):
    """As on dask machines without credentials: the driver keeps what they could not."""
    jobs = plan(recipe, row("a", "b"), str(tmp_path / "out"))
    open_folder(jobs.root).check()
    setup = Setup(jobs.root, recipe.canonical(), "batch_builders:build")
    feed = _dask._Feed(None, JobQueue(jobs), setup, Limits(5.0), Stop(), lambda outcome: outcome)
    for job, (status, storage) in zip(jobs, [("denied", "No credentials for s3://b/x. Set them"), ("killed", "")], strict=True):
        assert feed._settled(Outcome(**base(job), status=status, storage=storage)).status == status
    kept = open_folder(jobs.root).outcomes()
    assert {name: (outcome.status, outcome.storage) for name, outcome in kept.items()} == {
        "a": ("denied", "No credentials for s3://b/x. Set them"),
        "b": ("killed", ""),
    }


@pytest.mark.slow
def test_dask_workers_without_credentials_end_the_run_with_the_reason(recipe, make_bucket, monkeypatch):
    from distributed import LocalCluster

    jobs = plan(recipe, row(*[f"s{number:02d}" for number in range(12)]), f"{make_bucket('moto')}/x")
    with monkeypatch.context() as workers:
        workers.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=0)
        cluster.wait_for_workers(1)
    with cluster:
        make_bucket("moto")
        report = go(jobs, RunOptions(executor="dask", scheduler=cluster.scheduler_address))
    assert report.gave_up.startswith("3 sites in a row could not be kept")
    kept = open_folder(jobs.root).outcomes()
    assert sorted(kept) == sorted(outcome.id for outcome in report.outcomes)
    assert all("does not answer" in outcome.storage for outcome in kept.values())
