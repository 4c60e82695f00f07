"""The registry: one row and one item per cube, with the columns of the site table; opens where people open such things."""

from __future__ import annotations

import json

import batch_builders
import geopandas
import pystac
import pytest

from cubekit.batch import Outcome, RunOptions, merge, open_folder, plan, run, status
from cubekit.errors import InputError, NothingFoundError
from cubekit.sampling import SiteTable

SERIAL = RunOptions(executor="serial")


@pytest.fixture
def batch(recipe, make_sites, tmp_path):
    table = make_sites(
        "a", "b", "nothing-1", "c", group=["1", "2", "1", "3"], start=["2020-03-01", None, None, None], odd=[1, "x", None, 2.5]
    )
    jobs = plan(recipe, table, str(tmp_path / "out"))
    run(jobs, SERIAL, build=batch_builders.build, describe=batch_builders.quality)
    return jobs, tmp_path / "out"


def test_the_registry_opens_in_geopandas_and_pystac(batch):
    jobs, root = batch
    report = merge(jobs.root)
    assert (report.cubes, report.failures) == (3, 1)
    frame = geopandas.read_parquet(root / "registry.parquet").set_index("id")
    assert sorted(frame.index) == ["a", "b", "c"]
    assert frame.loc["b", "group"] == "2"
    assert frame["cubekit:valid_fraction"].tolist() == [0.5] * 3
    assert frame["cubekit:scenes"].tolist() == [3] * 3
    assert str(frame.loc["a", "start_datetime"]).startswith("2020-03-01")
    assert frame.loc["a", "odd"] == "1"
    site = next(job.site for job in jobs if job.id == "a")
    assert frame.loc["a"].geometry.contains(geopandas.points_from_xy([site.lon], [site.lat])[0])
    collection = pystac.Collection.from_file(str(root / "collection.json"))
    collection.validate_all = None
    items = {item.id: item for item in collection.get_items()}
    assert sorted(items) == ["a", "b", "c"]
    assert (root / "cubes/a.zarr").samefile(items["a"].assets["cube"].get_absolute_href())
    assert items["a"].properties["cubekit:job_digest"] == next(job.digest for job in jobs if job.id == "a")
    assert collection.extent.temporal.intervals[0][0].isoformat().startswith("2020-01-01")
    assert [entry["id"] for entry in json.loads((root / "failures.json").read_text())] == ["nothing-1"]


def test_a_later_split_reaches_the_registry_without_a_build(batch, recipe, make_sites):
    jobs, root = batch
    table = make_sites("a", "b", "nothing-1", "c", group=["9", "9", "9", "9"], start=["2020-03-01", None, None, None])
    newer = plan(recipe, table, jobs.root)
    merge(jobs.root, plan=newer)
    assert set(geopandas.read_parquet(root / "registry.parquet")["group"]) == {"9"}
    assert run(newer, RunOptions(executor="serial", only_failed=False, limit=0), build=batch_builders.build, describe="").outcomes == ()


def test_a_registry_that_is_merged_again_changes_only_what_changed(batch):
    jobs, root = batch
    merge(jobs.root)
    before = {path.name: path.stat().st_mtime_ns for path in (root / "items").iterdir()}
    parquet = (root / "registry.parquet").read_bytes()
    folder = open_folder(jobs.root)
    lost = folder.outcome("c")
    folder.write_outcome(Outcome(**{**{f: getattr(lost, f) for f in ("id", "lat", "lon", "tile", "path", "digest")}, "status": "failed"}))
    assert merge(jobs.root).cubes == 2
    after = {path.name: path.stat().st_mtime_ns for path in (root / "items").iterdir()}
    assert after == {name: when for name, when in before.items() if name != "c.json"}
    assert (root / "registry.parquet").read_bytes() != parquet


def test_a_batch_without_cubes_has_no_registry(recipe, make_sites, tmp_path):
    jobs = plan(recipe, make_sites("nothing-1"), str(tmp_path / "out"))
    run(jobs, SERIAL, build=batch_builders.build, describe="")
    assert merge(jobs.root).registry == ""
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file()) == ["failures.json"]
    with pytest.raises(NothingFoundError, match="No outcomes"):
        status(str(tmp_path / "elsewhere"))
    for url in ("http://host/x", "s3://key:secret@bucket/x", "s3://bucket/x?sig=1"):
        with pytest.raises(InputError, match="cannot hold a batch"):
            open_folder(url)


def test_cubes_across_the_antimeridian_and_at_the_pole_have_items(recipe, tmp_path):
    table = SiteTable.from_records([{"id": "fiji", "lon": 179.9999, "lat": -17}, {"id": "pole", "lon": 0, "lat": 89.9}])
    jobs = plan(recipe, table, str(tmp_path / "out"))
    assert run(jobs, SERIAL, build=batch_builders.build, describe="").counts == {"built": 2}
    merge(jobs.root)
    items = {item.id: item for item in pystac.Collection.from_file(str(tmp_path / "out/collection.json")).get_items()}
    west, _, east, _ = items["fiji"].bbox
    assert west > 179.99 > -179.99 > east or (west, east) == pytest.approx((180, 180), abs=0.01)
    assert len(geopandas.read_parquet(tmp_path / "out/registry.parquet")) == 2


def test_outcomes_survive_json(batch):
    folder = open_folder(batch[0].root)
    for outcome in folder.outcomes().values():
        assert Outcome.from_json(outcome.to_json()) == outcome
    for text in (b"", b"[]", b"{}", b'{"id": 1}', b"\xff"):
        with pytest.raises(ValueError, match=r"outcome|Expecting|decode"):
            Outcome.from_json(text)
