"""SIGKILL at seeded moments of real builds, wherever they run: no half cube, the same cube afterwards, and nothing read twice."""

from __future__ import annotations

import json
import os
import random
import re
import shutil

import kill_builders
import pytest

from cubekit.batch import RunOptions, plan, run
from cubekit.pipeline import build_cube
from cubekit.recipe import parse_recipe
from cubekit.sampling import SiteTable
from cubekit.store import content_digest
from cubekit.testing.rangeserver import RangeServer

SCENES, BANDS = 4, ["B04", "B8A"]


def linked(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)


class Field:
    """A batch of one place under several names, each with files of its own on a counting server."""

    def __init__(self, world, folder, server, names):
        self.world, self.folder, self.server, self.names = world, folder, server, names
        content = json.loads(world.catalog.read_text())
        chosen = [item for item in content["features"] if item["collection"] == "sentinel-2-l2a" and "33UTS" in item["id"]]
        self._items, self.catalogs = json.dumps(chosen[10 : 10 + SCENES]), {}
        for name in names:
            items = json.loads(self._items)
            for item in items:
                keys = [key for key in item["assets"] if key in {*BANDS, "SCL"} or item["assets"][key]["href"].endswith(".xml")]
                for key in keys:
                    asset = item["assets"][key]
                    path = asset["href"].removeprefix("./")
                    linked(world.root / path, folder / "files" / name / path)
                    asset["href"] = f"{server.url}/{name}/{path}"
                item["assets"] = {key: item["assets"][key] for key in keys}
            self.catalogs[name] = folder / f"{name}.json"
            self.catalogs[name].write_text(json.dumps({"type": "FeatureCollection", "features": items}))

    def plan(self, root):
        lon, lat = self.world.sites["centre"]
        when = {"start": self.world.parameters.start, "end": self.world.parameters.end}
        layer = {"kind": "sentinel2", "catalog": ["demo"], "bands": BANDS}
        recipe = parse_recipe({"name": "kill", "grid": {"edge_size": 32}, "time": when, "layers": [layer]})
        records = [{"id": name, "lon": lon, "lat": lat, "sentinel2.catalog": json.dumps([str(self.catalogs[name])])} for name in self.names]
        return plan(recipe, SiteTable.from_records(records), str(root))

    def asked(self):
        """(site, path, moment) of every request since the last reset."""
        stats = self.server.stats()
        return [(*path.strip("/").split("/", 1), at) for (path, *_), at in zip(stats["ranges"], stats["times"], strict=True)]


@pytest.fixture
def field(world, tmp_path):
    (tmp_path / "files").mkdir()
    with RangeServer(tmp_path / "files", latency=0.003) as server:
        yield lambda names: Field(world, tmp_path, server, names)


def cases():
    for where in ("local", "moto", "ceph", "dask"):
        marks = {"dask": [pytest.mark.slow], "ceph": [pytest.mark.ceph]}.get(where, [])
        yield pytest.param(where, 2, 0, id=f"{where}-2", marks=marks)
        for part in range(2):
            yield pytest.param(where, 10, 1 + part, id=f"{where}-10-{part}", marks=[*marks, pytest.mark.slow])


@pytest.mark.filterwarnings("ignore:.*sun zenith reaches:cubekit.errors.ScienceWarning")
@pytest.mark.parametrize(("where", "moments", "seed"), cases())
def test_builds_killed_at_seeded_moments(where, moments, seed, field, state, tmp_path, make_bucket):
    names = [f"s{number:02d}" for number in range(moments + 1)]
    batch = field(names)
    root = f"{make_bucket(where)}/kill" if where in ("moto", "ceph") else tmp_path / "out"
    jobs = batch.plan(root)
    reference = {job.id: build_cube(effective(jobs, job), job.site, str(tmp_path / "reference" / f"{job.id}.zarr")).digest for job in jobs}
    clean = [path for site, path, _ in batch.asked() if site == names[0]]
    assert len(set(clean)) == SCENES * (len(BANDS) + 2)
    # The last site is left in peace and tells how many steps a build has.
    options = RunOptions(executor="dask" if where == "dask" else "local", workers=1, cache_dir=str(tmp_path / "cache"))
    measured = run(batch.plan(tmp_path / "measured"), RunOptions(executor="serial", limit=1), build=kill_builders.build, describe="")
    steps = int(kill_builders.state("steps", measured.outcomes[0].id).read_text())
    assert steps > 4 * SCENES
    chance = random.Random(seed)
    reading = SCENES * (len(BANDS) + 2)
    chosen = [chance.randint(1, reading) if number % 2 == 0 else chance.randint(1, steps) for number in range(moments)]
    for number, (name, step) in enumerate(zip(names, chosen, strict=False)):
        order = {"step": step, "delay": chance.uniform(0, 0.004), "parent": where == "dask" and number % 2 == 1}
        kill_builders.state("kill", name).write_text(json.dumps(order))
    batch.server.stats(reset=True)

    report = run(jobs, options, build=kill_builders.build, describe="")

    assert report.counts == {"built": moments + 1}
    assert {outcome.id: outcome.content_digest for outcome in report.outcomes} == reference
    assert {job.id: content_digest(job.out, recompute=True) for job in jobs} == reference
    asked = batch.asked()
    seen, saved = [], 0
    for name in names[:moments]:
        killed = json.loads(kill_builders.state("killed", name).read_text())
        seen.append(json.loads(kill_builders.state("seen", name).read_text()))
        assert seen[-1] in (reference[name], "InputError", "CommitError")
        finished = {re.sub(r"^\w+://[^/]+/\w+/", "", href) for href in killed["finished"]}
        after = {path for site, path, at in asked if site == name and at > killed["at"]}
        whole = seen[-1] == reference[name]
        assert not after & finished or whole, (name, sorted(after & finished))
        saved += len(finished)
        assert {path for site, path, _ in asked if site == name} == set(clean)
    assert saved >= moments
    assert sorted(path for site, path, _ in asked if site == names[-1]) == sorted(clean)
    assert not list((tmp_path / "cache" / "journals").iterdir())


def effective(jobs, job):
    from cubekit.batch import effective_recipe

    return effective_recipe(jobs.recipe, job.overrides)
