"""A host of files that asks one worker to wait is left alone by all of them."""

from __future__ import annotations

import batch_builders

from cubekit.batch import RunOptions, plan, run
from cubekit.sampling import SiteTable
from cubekit.testing.rangeserver import RangeServer


def test_all_workers_wait_for_a_host_of_files(world, recipe, tmp_path, monkeypatch):
    lon, lat = world.sites["centre"]
    source = next(path for path in sorted(world.root.rglob("*_B04_10m.tif")) if "33UTS" in path.name)
    (tmp_path / "files").mkdir()
    for name in ("a", "b"):
        (tmp_path / "files" / f"{name}.tif").write_bytes(source.read_bytes())
    # Two granule tiles, one for each worker; both see the same file.
    sites = SiteTable.from_records([{"id": "a", "lon": lon, "lat": lat}, {"id": "b", "lon": lon - 1.5, "lat": lat}])
    rule = {"path": "a.tif", "status": 429, "headers": {"Retry-After": "1"}, "skip": 20, "times": 1}
    with RangeServer(tmp_path / "files", latency=0.002, rules=[rule]) as server:
        monkeypatch.setenv("CUBEKIT_TEST_FILES", server.url)
        report = run(plan(recipe, sites, str(tmp_path / "out")), RunOptions(workers=2), build=batch_builders.reads, describe="")
        stats = server.stats()
    assert report.counts == {"built": 2}
    assert len({outcome.worker for outcome in report.outcomes}) == 2
    asked = [(path.strip("/"), at, status) for (path, _, _, status), at in zip(stats["ranges"], stats["times"], strict=True)]
    (refused,) = (at for _, at, status in asked if status == 429)
    # What was under way arrives; nothing new is sent before the second is over.
    assert [entry for entry in asked if refused + 0.1 < entry[1] < refused + 0.97] == []
    for name in ("a.tif", "b.tif"):
        assert any(path == name and at < refused for path, at, _ in asked)
        assert sum(path == name and at > refused + 0.97 for path, at, _ in asked) > 5
