"""Running batches: sameness of executors, faults that cost one site, resume."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections import Counter
from dataclasses import replace

import batch_builders
import psutil
import pytest

from cubekit.batch import Outcome, Plan, RunOptions, Stop, merge, open_folder, plan, reasons, run, status
from cubekit.batch._run import _cache
from cubekit.errors import InputError
from cubekit.store import content_digest

LOCAL = RunOptions(executor="local", workers=2, retries=1)


def go(jobs, options=LOCAL, **more):
    return run(jobs, options, build=batch_builders.build, **{"describe": "", **more})


def digests(jobs):
    return {job.id: content_digest(job.out) for job in jobs}


def by_id(report):
    return {outcome.id: outcome for outcome in report.outcomes}


@pytest.fixture(scope="module")
def fleet(recipe, make_sites, tmp_path_factory):
    """One run on two worker processes over good sites and every kind of bad ones."""
    root = tmp_path_factory.mktemp("fleet")
    table = make_sites(*GOOD, *BAD)
    jobs = plan(recipe, table, str(root / "out"))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        (root / "state").mkdir()
        patch.setenv("CUBEKIT_TEST_STATE", str(root / "state"))
        patch.setenv("AWS_SECRET_ACCESS_KEY", f"{batch_builders.SECRET}-environment")
        options = RunOptions(workers=2, retries=1, timeout=30.0, memory=1_500_000_000)
        report = go(jobs, options, describe=batch_builders.quality, progress=lambda progress: seen.append(progress))
    merge(jobs.root, plan=jobs)
    return root, jobs, report, seen


GOOD = ("a", "b", "c", "warn-1", "print-1", "dieonce-1", "throttle-1")
BAD = {
    "segv-1": "killed", "hang-1": "timeout", "eat-1": "memory", "full-1": "failed", "raise-1": "internal", "denied-1": "denied",
    "chain-1": "failed", "nothing-1": "nothing",
}  # fmt: skip


def test_bad_sites_fail_alone_and_by_name(fleet):
    _, jobs, report, _ = fleet
    expected = dict.fromkeys(GOOD, "built") | BAD
    assert {outcome.id: outcome.status for outcome in report.outcomes} == expected
    assert {name: outcome.status for name, outcome in open_folder(jobs.root).outcomes().items()} == expected
    assert report.exit_code == 3


def test_a_crash_is_explained_and_tried_again(fleet):
    found = by_id(fleet[2])
    assert "SIGSEGV" in found["segv-1"].message
    assert any("batch_builders.py" in line for line in found["segv-1"].trace)
    assert (found["segv-1"].attempts, found["dieonce-1"].attempts, found["raise-1"].attempts) == (2, 2, 1)
    assert found["raise-1"].error == "ZeroDivisionError"
    assert found["chain-1"].trace[-1].startswith("caused by OSError") or any("caused by OSError" in line for line in found["chain-1"].trace)


def test_the_last_words_of_a_crash_are_its_innermost_frames():
    from cubekit.batch._process import last_words

    frames = [f'  File "/site/deep_{depth}.py", line {depth} in inner' for depth in range(20)]
    other = ["Thread 0x00007f (most recent call first):", '  File "/site/other.py", line 1 in wait']
    modules = "Extension modules: " + ", ".join(f"package.module_{number}" for number in range(400)) + " (total: 400)"
    text = "\n".join(
        ["before", "Fatal Python error: Segmentation fault", *other, "Current thread 0x00 (most recent call first):", *frames, modules]
    )
    assert last_words(text)[:2] == ("Fatal Python error: Segmentation fault", 'File "/site/deep_0.py", line 0 in inner')
    assert len(last_words(text)) == 8
    assert not any("other.py" in line or "Extension" in line for line in last_words(text))
    assert last_words("one\n\n" + "\n".join("abcdefghij")) == tuple("cdefghij")


def test_limits_of_time_and_memory_are_named(fleet):
    found = by_id(fleet[2])
    assert "more than the limit of 30 s" in found["hang-1"].message
    assert "more than the limit of 1.50 GB" in found["eat-1"].message
    assert found["eat-1"].seconds < 60


def test_a_full_disk_or_a_dead_writer_leaves_no_staging(fleet):
    root, _, report, _ = fleet
    assert re.search(r"full-1.*File too large|File too large.*full-1", by_id(report)["full-1"].message)
    left = [path.name for path in (root / "out" / "cubes").iterdir() if path.is_dir()]
    assert sorted(left) == sorted(f"{name}.zarr" for name in GOOD)


def test_a_throttling_service_holds_all_workers_and_costs_no_site(fleet):
    _, _, report, seen = fleet
    assert by_id(report)["throttle-1"].attempts == 2
    assert max(progress.held for progress in seen) > 0


def test_progress_adds_up(fleet):
    _, _, _, seen = fleet
    last = seen[-1]
    assert (last.total, last.done, last.built, last.failed) == (15, 15, 7, 8)
    assert last.bytes == 7 * 1000
    assert last.holes == 7
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)


def test_no_secret_is_written_anywhere(fleet):
    root, _, report, _ = fleet
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) > 40
    assert [path for path in files if batch_builders.SECRET.encode() in path.read_bytes()] == []
    assert batch_builders.SECRET not in repr(report)


def test_processes_make_the_same_cubes_as_one_process(fleet, recipe, tmp_path):
    _, jobs, report, _ = fleet
    good = Plan(
        recipe,
        str(tmp_path / "serial"),
        tuple(replace(job, out=f"{tmp_path}/serial/cubes/{job.id}.zarr") for job in jobs if job.id in "abc"),
    )
    assert go(good, RunOptions(executor="serial")).counts == {"built": 3}
    assert digests(good) == {job.id: content_digest(job.out) for job in jobs if job.id in "abc"}
    assert {o.id: o.content_digest for o in report.outcomes if o.id in "abc"} == digests(good)


def test_dask_makes_the_same_cubes_and_a_poison_site_fails_alone(recipe, sites, tmp_path):
    table = sites("a", "segv-1", "b", "c", "raise-1")
    jobs = plan(recipe, table, str(tmp_path / "dask"))
    found = by_id(go(jobs, RunOptions(executor="dask", workers=1, retries=0)))
    assert {name: outcome.status for name, outcome in found.items()} == {
        "a": "built", "b": "built", "c": "built", "segv-1": "killed", "raise-1": "internal",
    }  # fmt: skip
    reference = plan(recipe, sites("a", "x", "b", "c"), str(tmp_path / "serial"))
    go(reference, RunOptions(executor="serial"))
    assert {name: found[name].content_digest for name in "abc"} == {name: digests(reference)[name] for name in "abc"}


@pytest.mark.slow
def test_a_dask_worker_that_is_killed_loses_nothing(recipe, sites, tmp_path):
    from distributed import Client, LocalCluster

    table = sites(*[f"slow-{number}" for number in range(10)])
    jobs = plan(recipe, table, str(tmp_path / "out"))
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster, Client(cluster) as client:
        victims = client.run(os.getpid)
        killed = []

        def kill(progress):
            if progress.built == 2 and not killed:
                killed.append(next(iter(victims.values())))
                os.kill(killed[0], signal.SIGSEGV)

        report = go(jobs, RunOptions(executor="dask", scheduler=cluster.scheduler_address), progress=kill)
    assert killed
    assert report.counts == {"built": 10}
    reference = plan(recipe, table, str(tmp_path / "serial"))
    go(reference, RunOptions(executor="serial"))
    assert digests(jobs) == digests(reference)


@pytest.mark.timeout(120)
def test_the_only_worker_of_a_cluster_comes_back_however_long_it_takes(recipe, sites, tmp_path):
    import dask

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1 ms"}):
        report = run(
            plan(recipe, sites("a", "b"), str(tmp_path / "out")),
            RunOptions(executor="dask", workers=1),
            build="batch_builders:orphan",
            describe="",
        )
    assert report.counts == {"built": 2}
    assert sorted(outcome.attempts for outcome in report.outcomes) == [1, 2]


def test_what_a_worker_holds_after_its_first_site_is_not_searched_for_garbage_again(recipe, sites, tmp_path):
    report = run(plan(recipe, sites("a", "b"), str(tmp_path / "out")), RunOptions(workers=1), build="batch_builders:frozen", describe="")
    first, second = (outcome.scenes for outcome in report.outcomes)
    assert first == 0
    assert second > 10_000


def test_an_outcome_that_cannot_be_written_still_reaches_the_report(recipe, sites, tmp_path):
    jobs = plan(recipe, sites("a"), str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "outcomes").write_text("in the way")
    report = go(jobs, RunOptions(executor="serial"))
    assert report.counts == {"failed": 1}
    assert "outcomes" in report.outcomes[0].message


def test_running_again_does_what_is_missing_failed_changed_or_lost(recipe, sites, tmp_path):
    root = str(tmp_path / "out")
    first = plan(recipe, sites("a", "b", "raiseonce-1", "c"), root)
    assert go(first, RunOptions(executor="serial")).counts == {"built": 3, "internal": 1}
    assert reasons(first, open_folder(root)) == {"raiseonce-1": "failed"}
    shutil.rmtree(tmp_path / "out/cubes/b.zarr")
    changed = plan(recipe, sites("a", "b", "raiseonce-1", "c", "d", start=[None, None, None, "2020-06-01", None]), root)
    assert reasons(changed, open_folder(root)) == {"b": "lost", "raiseonce-1": "failed", "c": "changed", "d": "missing"}
    assert reasons(changed, open_folder(root), only_failed=True) == {"raiseonce-1": "failed"}
    report = go(changed, RunOptions(executor="serial"))
    assert sorted(outcome.id for outcome in report.outcomes) == ["b", "c", "d", "raiseonce-1"]
    assert report.counts == {"built": 4}
    assert report.skipped == 1
    again = go(changed, RunOptions(executor="serial"))
    assert (again.outcomes, again.skipped, again.exit_code) == ((), 5, 0)


def test_limit_and_retry_failed(recipe, sites, tmp_path):
    jobs = plan(recipe, sites("raiseonce-1", "a", "b"), str(tmp_path / "out"))
    assert len(go(jobs, RunOptions(executor="serial", limit=1)).outcomes) == 1
    assert len(go(jobs, RunOptions(executor="serial")).outcomes) >= 2
    report = go(jobs, RunOptions(executor="serial", only_failed=True))
    assert {outcome.id for outcome in report.outcomes} <= {"raiseonce-1"}


def test_a_run_that_is_stopped_ends_and_goes_on_later(recipe, sites, tmp_path):
    jobs = plan(recipe, sites(*[f"slow-{number}" for number in range(12)]), str(tmp_path / "out"))
    stop = Stop()
    report = go(jobs, RunOptions(workers=2), stop=stop, progress=lambda p: stop.gently.set() if p.built >= 2 else None)
    assert report.interrupted
    assert report.exit_code == 130
    assert set(report.counts) == {"built"}
    assert 2 <= len(report.outcomes) <= 4
    rest = go(jobs, RunOptions(workers=2))
    assert len(rest.outcomes) == 12 - len(report.outcomes)
    assert rest.counts == {"built": len(rest.outcomes)}


@pytest.mark.slow
def test_a_run_that_is_stopped_at_once_ends_what_runs(recipe, sites, tmp_path):
    jobs = plan(recipe, sites("hang-1", "hang-2", "a"), str(tmp_path / "out"))
    stop = Stop()

    def watch(progress):
        if progress.built:
            stop.gently.set()
            stop.now.set()

    report = go(jobs, RunOptions(workers=2, timeout=120), stop=stop, progress=watch)
    assert report.interrupted
    assert report.counts == {"built": 1, "stopped": 2}
    assert by_id(report)["hang-1"].seconds < 60


@pytest.mark.slow
def test_a_consumer_that_gives_up_leaves_no_worker(recipe, sites, tmp_path):
    jobs = plan(recipe, sites("hang-1", "a"), str(tmp_path / "out"))

    def give_up(progress):
        if progress.done:
            raise RuntimeError("enough")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="enough"):
        go(jobs, RunOptions(workers=2, timeout=120), progress=give_up)
    assert time.monotonic() - began < 100
    mine = {child.pid for child in psutil.Process().children(recursive=True) if "cubekit.batch._worker" in " ".join(child.cmdline())}
    assert mine == set()


def test_exit_codes(recipe, sites, tmp_path):
    def code(name, *ids):
        return go(plan(recipe, sites(*ids), str(tmp_path / name)), RunOptions(executor="serial")).exit_code

    assert code("all", "a", "b") == 0
    assert code("some", "a", "nothing-1") == 3
    assert code("nothing", "nothing-1", "nothing-2") == 4
    assert code("denied", "denied-1") == 5
    assert code("mixed", "denied-1", "nothing-1") == 3


def test_builders_must_be_importable(recipe, sites, tmp_path, monkeypatch):
    monkeypatch.setattr("cubekit.batch._dask.CONNECT", 1.0)
    jobs = plan(recipe, sites("a"), str(tmp_path / "out"))
    with pytest.raises(InputError, match="cannot be found by other processes"):
        run(jobs, LOCAL, build=lambda *a, **k: None)
    with pytest.raises(InputError, match="cannot be imported"):
        run(jobs, LOCAL, build="batch_builders:nothing_there")
    with pytest.raises(InputError, match="No dask scheduler answers"):
        go(jobs, RunOptions(executor="dask", scheduler="tcp://127.0.0.1:1"))


@pytest.mark.parametrize("address", ["nonsense", "10.0.0.1", "tcp://:8786", "tcp://10.0.0.1:port"])
def test_an_address_that_is_none_is_refused_at_once(recipe, sites, tmp_path, address):
    with pytest.raises(InputError, match=f"'{address}' is no address of a dask scheduler"):
        go(plan(recipe, sites("a"), str(tmp_path / "out")), RunOptions(executor="dask", scheduler=address))


def test_a_scheduler_without_workers_is_named(recipe, sites, tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr("cubekit.batch._dask.PATIENCE", 0.5)
    with LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        options = RunOptions(executor="dask", scheduler=cluster.scheduler_address)
        with pytest.raises(InputError, match=r"has had no workers for 0\.5 s\. Start some"):
            go(plan(recipe, sites("a"), str(tmp_path / "out")), options)


def test_workers_with_another_current_folder_share_the_cache(recipe, sites, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _cache(plan(recipe, sites("a"), "s3://bucket/out"), RunOptions(cache_dir="cache")) == str(tmp_path / "cache")
    assert _cache(plan(recipe, sites("a"), "s3://bucket/out"), RunOptions()) == ""


def test_a_service_that_turns_everybody_away_ends_the_run_in_bounded_time(recipe, sites, tmp_path):
    jobs = plan(recipe, sites(*[f"refused-{number}" for number in range(30)]), str(tmp_path / "out"))
    report = go(jobs, RunOptions(executor="serial"))
    assert report.exit_code == 3
    assert not report.interrupted
    assert report.gave_up == "3 sites in a row were turned away: 503 Service Unavailable"
    assert report.counts == {"failed": 3}
    assert {outcome.attempts for outcome in report.outcomes} == {3}


def test_options_are_checked():
    with pytest.raises(InputError, match="workers is 0"):
        RunOptions(workers=0)
    with pytest.raises(InputError, match="needs executor 'dask'"):
        RunOptions(scheduler="tcp://x:1")
    with pytest.raises(InputError, match="timeout is -1"):
        RunOptions(timeout=-1)


def test_a_failure_does_not_replace_the_success_of_another_writer(recipe, sites, tmp_path):
    job = plan(recipe, sites("a"), str(tmp_path / "out")).jobs[0]
    folder = open_folder(str(tmp_path / "out"))
    fields = {"id": "a", "lat": job.lat, "lon": job.lon, "tile": job.tile, "path": job.out, "digest": job.digest}
    won = Outcome(**fields, status="built", started="2020-01-01T00:00:01Z", finished="2020-01-01T00:00:05Z")
    folder.write_outcome(won)
    lost = Outcome(**fields, status="failed", started="2020-01-01T00:00:02Z", finished="2020-01-01T00:00:06Z")
    assert folder.write_outcome(lost).built
    assert folder.outcome("a").built
    later = Outcome(**fields, status="failed", started="2020-01-02T00:00:02Z", finished="2020-01-02T00:00:06Z")
    assert not folder.write_outcome(later).built
    assert not folder.outcome("a").built


def test_torn_or_foreign_outcome_files_count_as_missing(recipe, sites, tmp_path):
    jobs = plan(recipe, sites("a", "b", "c"), str(tmp_path / "out"))
    go(jobs, RunOptions(executor="serial"))
    outcomes = tmp_path / "out" / "outcomes"
    (outcomes / "a.json").write_bytes((outcomes / "a.json").read_bytes()[:100])
    (outcomes / "b.json").write_text('{"id": "other", "digest": "", "status": "built"}')
    (outcomes / ".c.json.123").write_text("staged")
    assert reasons(jobs, open_folder(jobs.root)) == {"a": "missing", "b": "missing"}


def test_status_counts_by_kind_of_error(recipe, sites, tmp_path):
    jobs = plan(recipe, sites("a", "nothing-1", "nothing-2", "raise-1"), str(tmp_path / "out"))
    go(jobs, RunOptions(executor="serial"))
    found = status(jobs.root, plan=jobs)
    assert found.counts == {"nothing": 2, "built": 1, "internal": 1}
    assert found.errors[0] == ("NothingFoundError: No scene at <site>", 2)
    assert found.todo == {"failed": 3}
    assert Counter(outcome.status for outcome in found.failed) == {"nothing": 2, "internal": 1}


def test_the_dask_graph_holds_jobs_and_plain_values_only(recipe, sites, tmp_path):
    import pickle

    from cubekit.batch import _dask
    from cubekit.batch._process import Limits
    from cubekit.batch._queue import JobQueue
    from cubekit.batch._task import Setup

    sent = []

    class Future:
        def add_done_callback(self, function):
            pass

    class Client:
        def scheduler_info(self, **k):
            return {"workers": {"tcp://w": {"nthreads": 2}}}

        def submit(self, function, *arguments, **k):
            sent.append((function, arguments))
            return Future()

    jobs = plan(recipe, sites("a", "b", "c"), str(tmp_path / "out"))
    setup = Setup(jobs.root, recipe.canonical(), "batch_builders:build")
    _dask._Feed(Client(), JobQueue(jobs), setup, Limits(5.0), Stop(), lambda outcome: outcome).submit()
    assert len(sent) == 2
    for function, arguments in sent:
        assert function is _dask.run_in_child
        assert {type(value).__module__ for value in arguments} <= {"builtins", "cubekit.batch._jobs"}
        assert b"CANARY" not in pickle.dumps(arguments)
        assert len(pickle.dumps(arguments)) < 5000
