"""Batches of small cubes on this machine: rate, overhead, scaling, sharing, memory. ``python benchmarks/batch.py`` prints one table.

The simulated world is served by a local range server that adds latency and counts; sites are small cubes of one granule tile. Run it on a
quiet machine; ``--quick`` is a smoke test.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from cubekit.batch import Plan, RunOptions, plan, run  # noqa: E402
from cubekit.batch._outcome import Outcome  # noqa: E402
from cubekit.demo import ensure_world  # noqa: E402
from cubekit.recipe import Recipe, parse_recipe  # noqa: E402
from cubekit.sampling import SiteTable  # noqa: E402
from cubekit.testing.rangeserver import RangeServer  # noqa: E402

LOG = "CUBEKIT_BENCH_LOG"


def timed_build(recipe: Any, site: Any, out: str, *, overwrite: bool, session: Any) -> Any:
    """`cubekit.pipeline.build_cube` that notes the time spent in reading and the memory held; runs in worker processes."""
    import psutil

    from cubekit.layers.sentinel2 import _metadata, _pixels
    from cubekit.pipeline import build_cube

    spent = [0.0]

    def timer(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[0] += time.perf_counter() - began

        return call

    before = _pixels.read_assets, _metadata.read_bytes
    _pixels.read_assets, _metadata.read_bytes = timer(before[0]), timer(before[1])
    try:
        result = build_cube(recipe, site, out, overwrite=overwrite, session=session)
    finally:
        _pixels.read_assets, _metadata.read_bytes = before
    note = {"id": site.id, "reading": spent[0], "building": result.seconds, "memory": psutil.Process().memory_info().rss}
    with open(os.environ[LOG], "a") as log:
        log.write(json.dumps(note) + "\n")
    return result


def serve_catalog(world: Any, url: str, folder: Path) -> Path:
    """Copy of the world's catalogue whose hrefs lead to the server."""
    content = json.loads(world.catalog.read_text())
    for item in content["features"]:
        for asset in item["assets"].values():
            href = asset["href"]
            path = Path(href) if Path(href).is_absolute() else (world.catalog.parent / href)
            asset["href"] = f"{url}/{path.resolve().relative_to(world.catalog.parent.resolve())}"
    target = folder / "catalog.json"
    target.write_text(json.dumps(content))
    return target


def recipe_for(catalog: Path, edge: int, start: str, end: str) -> Recipe:
    """Two bands of each resolution, corrected to nadir."""
    layer = {"kind": "sentinel2", "catalog": [str(catalog)], "bands": ["B04", "B08", "B8A", "B11"]}
    return parse_recipe({"name": "bench", "grid": {"edge_size": edge}, "time": {"start": start, "end": end}, "layers": [layer]})


def sites_of(world: Any, count: int) -> SiteTable:
    """Sites on a lattice around the middle of the world, all in one granule tile."""
    lon, lat = world.sites["centre"]
    side = int(count**0.5) + 1
    places = [(lon + 0.012 * (n % side / side - 0.5), lat + 0.008 * (n // side / side - 0.5)) for n in range(count)]
    return SiteTable.from_records([{"id": f"s{n:04d}", "lon": x, "lat": y} for n, (x, y) in enumerate(places)])


def measure(jobs: Plan, workers: int, server: RangeServer, timeout: float = 900.0) -> dict[str, Any]:
    """Run a plan once on cold caches and take its measures; the first sites of each worker (imports, compilation) do not count for times."""
    server.stats(reset=True)
    log = Path(jobs.root).parent / f"{Path(jobs.root).name}.log"
    os.environ[LOG] = str(log)
    options = RunOptions(workers=workers, threads=1, timeout=timeout)
    report = run(jobs, options, build="batch:timed_build", describe="")
    if report.failed:
        raise SystemExit(f"{report.failed[0].id}: {report.failed[0].message}")
    notes = [json.loads(line) for line in log.read_text().splitlines()]
    served = server.stats()
    warm = min(3 * workers, len(notes) // 2)
    outcomes = sorted(report.outcomes, key=lambda outcome: outcome.finished)
    return {
        "sites": len(notes),
        "rate": (len(notes) - warm) / (_moment(outcomes[-1]) - _moment(outcomes[warm - 1])) * 60 if warm else 0.0,
        "reading": statistics.median(note["reading"] for note in notes[warm:]),
        "building": statistics.median(note["building"] for note in notes[warm:]),
        "own": _own_time(outcomes[warm:]) if workers == 1 else float("nan"),
        "requests": served["requests"] / len(notes),
        "megabytes": served["bytes"] / 1e6 / len(notes),
        "memory": [note["memory"] for note in notes],
    }


def _moment(outcome: Outcome) -> float:
    from datetime import datetime

    return datetime.fromisoformat(outcome.finished).timestamp()


def _own_time(outcomes: list[Outcome]) -> float:
    """Median of the time from one outcome to the next that was not spent in the job itself, s."""
    gaps = [_moment(after) - _moment(before) - after.seconds for before, after in pairwise(outcomes)]
    return statistics.median(gaps) if gaps else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few sites: does it run?")
    parser.add_argument("--latency", type=float, default=20.0, help="milliseconds to the first byte")
    parser.add_argument("--repeat", type=int, default=5, help="runs of rate and scaling; the median counts")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    repeat = 1 if options.quick else options.repeat
    count, shared, many = (4, [3], 0) if options.quick else (60, [1, 10, 100], 1000)
    world = ensure_world()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch, RangeServer(world.catalog.parent, latency=options.latency / 1000) as server:
        folder = Path(scratch)
        catalog = serve_catalog(world, server.url, folder)
        year = recipe_for(catalog, 16 if options.quick else 64, "2022-01-01", "2022-03-31" if options.quick else "2022-12-31")
        for workers in (1,) if options.quick else (1, 2):
            runs = [measure(plan(year, sites_of(world, count), f"{folder}/w{workers}-{n}"), workers, server) for n in range(repeat)]
            found[f"workers {workers}"] = {key: statistics.median(one[key] for one in runs) for key in runs[0] if key != "memory"}
            print(f"{workers} worker(s): {found[f'workers {workers}']['rate']:.0f} sites/min", file=sys.stderr)
        small = recipe_for(catalog, 16, "2022-05-01", "2022-06-30")
        for number in shared:
            found[f"shared {number}"] = measure(plan(small, sites_of(world, number), f"{folder}/g{number}"), 1, server)
        if many:
            tiny = recipe_for(catalog, 8, "2022-05-01", "2022-05-31")
            found["many"] = measure(plan(tiny, sites_of(world, many), f"{folder}/many"), 1, server)
    report(found)
    if options.json:
        options.json.write_text(json.dumps(found))


def report(found: dict[str, Any]) -> None:
    """Print the table."""
    one = found["workers 1"]
    print(f"| sites per minute, 1 worker | {one['rate']:.0f} |")
    print(f"| of a site: reading; building beyond reading; batch beyond building, ms | {one['reading'] * 1e3:.0f}; ", end="")
    print(f"{(one['building'] - one['reading']) * 1e3:.0f}; {one['own'] * 1e3:.1f} |")
    if two := found.get("workers 2"):
        print(f"| two workers against one, one thread each | {two['rate'] / one['rate']:.2f}x |")
    for key, entry in found.items():
        if key.startswith("shared"):
            print(f"| requests and MB per site, {key.split()[1]} in a granule | {entry['requests']:.1f}; {entry['megabytes']:.2f} |")
    if many := found.get("many"):
        memory = [statistics.median(many["memory"][int(at * (len(many["memory"]) - 20)) :][:20]) / 1e6 for at in (0.1, 0.5, 1.0)]
        print(
            f"| memory of the worker after 10, 50, 100 % of {many['sites']} sites, MB | {memory[0]:.0f}; {memory[1]:.0f}; {memory[2]:.0f} |"
        )


if __name__ == "__main__":
    main()
