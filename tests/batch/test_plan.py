"""Plans: pure, complete, ordered by granule tile; shards; digests; overrides; hostile ids."""

from __future__ import annotations

import json
import pickle
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.batch import Job, effective_recipe, granule_tiles, parse_shard, plan
from cubekit.batch._queue import JobQueue
from cubekit.errors import InputError
from cubekit.recipe import parse_recipe
from cubekit.sampling import SiteTable, read_sites
from cubekit.testing import shared_data


def real_tiles():
    """(tile, lon, lat of its middle) of recorded Sentinel-2 items."""
    root = shared_data("a_stac")
    for name in (
        "earth_search/es_v1_c1_l2a_items_13TDE.json",
        "planetary_computer/sentinel-2-l2a-items.json",
        "misc/pc_s2_T06VVN.json",
        "sentinel2_edge/T33XWJ_svalbard_N0400.json",
    ):
        content = json.loads((root / name).read_text())
        for item in content if isinstance(content, list) else content.get("features", [content]):
            code = item["properties"].get("s2:mgrs_tile") or item["properties"].get("grid:code", "").removeprefix("MGRS-")
            epsg = item["properties"].get("proj:epsg") or int(item["properties"]["proj:code"].split(":")[1])
            asset = next(a for key, a in item["assets"].items() if key in ("B02", "blue"))
            transform = asset["proj:transform"]
            yield code, epsg, transform[2] + 54_900, transform[5] - 54_900


def test_tiles_are_those_of_recorded_items():
    from cubekit.grid import transformer

    checked = 0
    for code, epsg, x, y in real_tiles():
        lon, lat = transformer(epsg, 4326).transform(x, y)
        # Far north a tile reaches over the border of its zone, sometimes with its middle.
        if epsg % 100 == int((lon + 180) // 6) + 1 or 0 < lon < 42:
            assert granule_tiles([lon], [lat]) == [code]
            checked += 1
    assert checked >= 10


@pytest.mark.parametrize(
    ("lon", "lat", "tile"),
    [
        (12.37, 51.34, "33UUS"),
        (5.32, 60.2, "32VKM"),
        (15.6, 78.2, "33XWG"),
        (-179.9999, -16.9, "01KAB"),
        (179.9999, -16.9, "60KZG"),
        (180.0, -16.9, "01KAB"),
        (0.0, 0.0, "31NAA"),
        (0.0, 90.0, "ZAH"),
        (0.0, -90.0, "BAN"),
    ],
)
def test_tiles_at_edges(lon, lat, tile):
    assert granule_tiles([lon], [lat]) == [tile]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), min_size=1, max_size=20))
def test_every_place_has_a_tile_and_alone_the_same_as_in_company(places):
    lon, lat = np.array(places).T
    tiles = granule_tiles(lon, lat)
    for x, y, tile in zip(lon, lat, tiles, strict=True):
        assert granule_tiles([x], [y]) == [tile]
        assert len(tile) == (3 if y > 84 or y < -80 else 5)


def test_the_published_sites_are_planned(recipe):
    table = read_sites(shared_data("e_cubes/demc_full_10groups_50km.csv.gz"))
    jobs = plan(recipe, table, "s3://bucket/cubes")
    assert len(jobs) == 36_956
    runs = [tile for tile, _ in groupby(job.tile for job in jobs)]
    assert len(runs) == len(set(runs))
    assert len({job.out for job in jobs}) == len({job.digest for job in jobs}) == 36_956
    assert jobs.jobs[0].out.startswith("s3://bucket/cubes/cubes/")
    again = plan(recipe, SiteTable(tuple(reversed(table.entries))), "s3://bucket/cubes")
    assert again.jobs == jobs.jobs


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60), st.integers(1, 20))
def test_shards_are_disjoint_complete_and_even(recipe, count, of):
    table = SiteTable.from_records([{"id": f"s{n}", "lon": n * 1.7 - 50, "lat": n % 9} for n in range(count)])
    jobs = plan(recipe, table, "out")
    shards = [jobs.shard(number, of).jobs for number in range(1, of + 1)]
    assert sum(shards, ()) == jobs.jobs
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_shards_are_read_strictly():
    assert parse_shard("3/16") == (3, 16)
    for text in ("0/4", "5/4", "3", "a/b", "1/0", "-1/4", "1/4/5", ""):
        with pytest.raises(InputError, match="is not of the form 3/16"):
            parse_shard(text)


def test_jobs_are_small_and_pickle_without_secrets(recipe, make_sites, monkeypatch):
    monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "CANARY")
    job = plan(recipe, make_sites("a", start=["2020-02-01"]), "out").jobs[0]
    content = pickle.dumps(job)
    assert pickle.loads(content) == job
    assert len(content) < 600
    assert b"CANARY" not in content
    with pytest.raises(AttributeError):
        job.id = "b"


def test_digests_follow_recipe_site_and_overrides_and_nothing_else(recipe, make_sites):
    def digest(**columns):
        return plan(columns.pop("recipe", recipe), make_sites("a", **columns), columns.pop("out", "out")).jobs[0].digest

    base = digest()
    assert digest(group=[4]) == base
    assert digest(start=["2020-02-01"]) != base
    assert digest(grid__edge_size=[16]) not in (base, digest(start=["2020-02-01"]))
    other = parse_recipe({**json.loads(recipe.canonical()), "name": "other"})
    assert plan(other, make_sites("a"), "out").jobs[0].digest != base
    assert plan(recipe, make_sites("a"), "elsewhere").jobs[0].digest == base


def test_overrides_change_the_recipe_of_their_site(recipe):
    def effective(**overrides):
        return effective_recipe(recipe, tuple((key.replace("__", "."), value) for key, value in overrides.items()))

    assert effective() is recipe
    assert effective(start="2020-03-01").time.start == "2020-03-01"
    assert effective(grid__edge_size=64).grid.edge_size == 64
    assert effective(sentinel2__bands=("B04",)).layers[0].bands == ("B04",)
    assert effective(layers__sentinel2__max_holes=0.5).layers[0].max_holes == 0.5
    assert effective(layers=("sentinel2",)).layers == recipe.layers


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("start", "2021-06-01", "is before start"),
        ("grid.edge_size", -4, "edge_size"),
        ("grid.colour", "red", "unknown key"),
        ("nix.bands", "B04", "names nothing in the recipe"),
        ("layers", "era5land", "'era5land' is not in the recipe"),
        ("sentinel2.bands", "B99", "B99"),
    ],
)
def test_overrides_that_do_not_fit_reject_their_site_only(recipe, column, value, reason):
    table = SiteTable.from_records([{"id": "bad", "lon": 1, "lat": 1, column: value}, {"id": "good", "lon": 1, "lat": 1}])
    jobs = plan(recipe, table, "out")
    assert [job.id for job in jobs] == ["good"]
    assert [bad.line for bad in jobs.rejected] == [1]
    assert reason in jobs.rejected[0].reason


def test_no_job_leaves_the_folder_of_the_batch(recipe, tmp_path):
    hostile = ["../../x", "/abs", "a/../../b", "nul\0", "x" * 300, "12:30:45", "..", "%2e%2e", "a\nb", "CON"]
    file = tmp_path / "sites.yaml"
    rows = [*hostile, "NO", "0123"]
    file.write_text("".join(f"- id: {json.dumps(name)}\n  lon: 1\n  lat: {n}\n" for n, name in enumerate(rows) if "\0" not in name))
    jobs = plan(recipe, read_sites(file), str(tmp_path / "out"))
    assert sorted(job.id for job in jobs) == ["0123", "NO"]
    for job in jobs:
        assert Path(job.out).resolve().parent == tmp_path / "out" / "cubes"
    with pytest.raises(InputError, match="is no folder"):
        plan(recipe, read_sites(file), " ")


jobs_of_tiles = st.lists(st.sampled_from("ABCD"), max_size=30).map(
    lambda tiles: [Job(f"s{n}", 0.0, 0.0, tile, "", "") for n, tile in enumerate(sorted(tiles))]
)


@settings(max_examples=100, deadline=None)
@given(jobs_of_tiles, st.lists(st.integers(0, 3), max_size=80))
def test_the_queue_hands_out_every_job_once_and_keeps_tiles_together(jobs, turns):
    queue = JobQueue(jobs)
    got: dict[int, list[Job]] = {}
    order = []
    for worker in [*turns, *[0] * len(jobs)]:
        taken = queue.poll(worker)
        if taken is not None:
            got.setdefault(worker, []).append(taken[0])
            order.append(taken[0].id)
            queue.done(taken[0])
    assert sorted(order) == sorted(job.id for job in jobs)
    assert queue.poll(1) is None
    assert queue.take(1) is None
    if len(got) == 1:
        assert order == [job.id for job in jobs]


def test_workers_stay_with_their_tile_and_late_ones_help():
    jobs = [Job(f"{tile}{n}", 0.0, 0.0, tile, "", "") for tile in "AB" for n in range(4)]
    queue = JobQueue(jobs)
    assert [queue.poll(worker)[0].id for worker in (1, 2, 1, 2)] == ["A0", "B0", "A1", "B1"]
    assert [queue.poll(worker)[0].id for worker in (3, 1, 2, 2)] == ["A3", "A2", "B2", "B3"]
    assert queue.poll(1) is None


def test_nobody_helps_with_a_tile_before_its_first_job_has_ended():
    jobs = [Job(f"{tile}{n}", 0.0, 0.0, tile, "", "") for tile in "AB" for n in range(4)]
    queue = JobQueue(jobs, alone=60.0)
    first, _ = queue.poll(1)
    other, _ = queue.poll(2)
    assert (first.id, other.id) == ("A0", "B0")
    assert queue.poll(3) is None
    queue.done(other)
    assert queue.poll(3)[0].id == "B2"
    queue.again(first, 2)
    assert [queue.poll(worker)[0].id for worker in (3, 4)] == ["B3", "A0"]
    assert queue.poll(5)[0].tile == "A"


def test_a_first_job_that_takes_too_long_keeps_nobody_waiting():
    queue = JobQueue([Job(f"A{n}", 0.0, 0.0, "A", "", "") for n in range(3)], alone=0.3)
    assert queue.take(1)[0].id == "A0"
    assert queue.poll(2) is None
    assert queue.take(2)[0].id == "A2"


def test_a_job_that_comes_back_is_waited_for():
    queue = JobQueue([Job("a", 0.0, 0.0, "A", "", "")])
    job, attempt = queue.take(1)
    queue.again(job, attempt + 1)
    assert queue.take(2) == (job, 2)
    queue.done(job)
    assert queue.take(1) is None


def test_a_hold_keeps_everybody_waiting():
    queue = JobQueue([Job("a", 0.0, 0.0, "A", "", "")])
    queue.hold(0.2)
    assert queue.poll(1) is None
    assert 0 < queue.held <= 0.2
    assert queue.take(1)[0].id == "a"
    assert queue.held == 0
