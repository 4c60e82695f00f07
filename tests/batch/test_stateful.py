"""Any sequence of planning, building, killing, resuming, overwriting and losing, against a plain model of what must be there."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import batch_builders
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cubekit.batch import RunOptions, effective_recipe, merge, open_folder, plan, reasons, run
from cubekit.recipe import parse_recipe
from cubekit.sampling import SiteTable
from cubekit.store import content_digest, open_cube

NAMES = tuple("abcde")
RECIPE = {"name": "t", "grid": {"edge_size": 4}, "time": {"start": "2020-01-01", "end": "2020-12-31"}, "layers": ["sentinel2"]}


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Batch(RuleBasedStateMachine):
    """The model: per site the start day that is wanted, and the one that its cube was built with, as far as an outcome says so."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.root = str(self.folder / "out")
        self.recipe = parse_recipe(RECIPE)
        self.wanted: dict[str, int] = {}
        self.cubes: dict[str, int] = {}
        self.known: dict[str, int | None] = {}
        self.broken: set[str] = set()
        self.trouble: dict[str, str] = {}

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def jobs(self):
        records = [{"id": n, "lon": 10 + NAMES.index(n), "lat": 50, "start": f"2020-0{m}-01"} for n, m in sorted(self.wanted.items())]
        return plan(self.recipe, SiteTable.from_records(records), self.root)

    def build(self, recipe, site, out, *, overwrite, session):
        trouble = self.trouble.pop(site.id, "")
        if site.id in self.broken:
            raise OSError("broken")
        if trouble == "before":
            raise Killed
        result = batch_builders.build(recipe, site, out, overwrite=overwrite, session=session)
        self.cubes[site.id] = int(recipe.time.start[5:7])
        if trouble == "after":
            raise Killed
        return result

    @rule(name=st.sampled_from(NAMES), month=st.integers(1, 3))
    def want(self, name, month):
        self.wanted[name] = month

    @rule(name=st.sampled_from(NAMES))
    def forget(self, name):
        self.wanted.pop(name, None)

    @rule(name=st.sampled_from(NAMES), broken=st.booleans())
    def break_or_mend(self, name, broken):
        (self.broken.add if broken else self.broken.discard)(name)

    @rule(name=st.sampled_from(NAMES), when=st.sampled_from(["before", "after"]))
    def kill_at(self, name, when):
        self.trouble[name] = when

    @rule(name=st.sampled_from(NAMES))
    def lose_cube(self, name):
        shutil.rmtree(f"{self.root}/cubes/{name}.zarr", ignore_errors=True)
        self.cubes.pop(name, None)

    @rule(name=st.sampled_from(NAMES), torn=st.booleans())
    def lose_outcome(self, name, torn):
        path = Path(self.root) / "outcomes" / f"{name}.json"
        if path.exists():
            path.write_bytes(path.read_bytes()[:50]) if torn else path.unlink()
        self.known.pop(name, None)

    def due(self, only_failed=False):
        failed = {n for n in self.wanted if n in self.known and self.known[n] is None}
        if only_failed:
            return failed
        return {n for n, month in self.wanted.items() if n not in self.known or self.known[n] != month or n not in self.cubes}

    @rule(limit=st.one_of(st.none(), st.integers(0, 3)), only_failed=st.booleans())
    def work(self, limit, only_failed):
        jobs, due = self.jobs(), self.due(only_failed)
        order = [job.id for job in jobs if job.id in due][:limit]
        began = []
        task_build = self.build

        def build(recipe, site, out, **more):
            began.append(site.id)
            return task_build(recipe, site, out, **more)

        batch_builders.current = build
        options = RunOptions(executor="serial", limit=limit, only_failed=only_failed)
        try:
            report = run(jobs, options, build="batch_builders:delegate", describe="")
        except Killed:
            assert began == order[: len(began)]
            done = began[:-1]
        else:
            assert [outcome.id for outcome in report.outcomes] == began == order
            assert report.exit_code in (0, 3)
            done = began
        for name in done:
            self.known[name] = None if name in self.broken else self.wanted[name]

    @rule()
    def merge(self):
        found = merge(self.root)
        assert found.cubes == sum(month is not None for month in self.known.values())

    @precondition(lambda self: self.wanted)
    @rule()
    def finish(self):
        self.broken.clear()
        self.trouble.clear()
        self.work(None, False)
        assert reasons(self.jobs(), open_folder(self.root)) == {}
        self.work(None, False)

    @invariant()
    def what_stands_is_whole_and_right(self):
        if not hasattr(self, "folder"):
            return
        cubes = Path(self.root) / "cubes"
        there = {path.name.removesuffix(".zarr") for path in cubes.iterdir() if path.is_dir()} if cubes.exists() else set()
        assert there == set(self.cubes)
        for name, month in self.cubes.items():
            path = str(cubes / f"{name}.zarr")
            recipe = effective_recipe(self.recipe, (("start", f"2020-0{month}-01"),))
            root = json.loads((cubes / f"{name}.zarr" / "zarr.json").read_text())["attributes"]
            assert root["recipe_digest"] == recipe.digest
            assert root["content_digest"] == content_digest(path)
            assert open_cube(path)["B04"].shape == (3, 4, 4)
        assert set(reasons(self.jobs(), open_folder(self.root))) == self.due()


TestBatch = Batch.TestCase
TestBatch.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
