"""Batches of small cubes on this machine: rate, overhead, scaling, sharing, memory.

    python benchmarks/batch.py             # prints one table, about ten minutes
    python benchmarks/batch.py --docs      # also writes it into docs/batch.md
    python benchmarks/batch.py --quick     # does it run?

The simulated world is served by a local range server that adds latency and counts; sites are small cubes of one granule tile. Run it on a
quiet machine.
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
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what runs was compiled once, as in any installation

from cubekit.batch import Plan, RunOptions, plan, run  # noqa: E402
from cubekit.batch._outcome import Outcome  # noqa: E402
from cubekit.demo import ensure_world  # noqa: E402
from cubekit.recipe import Recipe, parse_recipe  # noqa: E402
from cubekit.sampling import SiteTable  # noqa: E402
from cubekit.testing.rangeserver import RangeServer  # noqa: E402

LOG = "CUBEKIT_BENCH_LOG"
BOUND = "CUBEKIT_BENCH_BOUND"
_bound = False


def bind() -> None:
    """Keep this worker, before it has threads of its own, to a core that no other worker has."""
    global _bound
    if os.environ.get(BOUND) and not _bound:
        for core in sorted(os.sched_getaffinity(0)):
            try:
                Path(f"{os.environ[LOG]}.core-{core}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.sched_setaffinity(0, {core})
            break
        _bound = True


def timed_build(recipe: Any, site: Any, out: str, *, overwrite: bool, session: Any) -> Any:
    """`cubekit.pipeline.build_cube` that notes the time spent in reading and the memory held; runs in worker processes."""
    bind()
    import psutil

    import cubekit.layers.sentinel2 as layer
    from cubekit import pipeline
    from cubekit.layers.sentinel2 import _metadata, _pixels

    spent: dict[str, float] = {}
    watched = (
        (_pixels, "read_assets", "reading"), (_metadata, "read_bytes", "reading"),
        (layer, "correct", "correcting"), (pipeline, "commit_cube", "committing"),
    )  # fmt: skip

    def timer(function: Any, what: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[what] = spent.get(what, 0.0) + time.perf_counter() - began

        return call

    before = [getattr(module, name) for module, name, _ in watched]
    for module, name, what in watched:
        setattr(module, name, timer(getattr(module, name), what))
    try:
        result = pipeline.build_cube(recipe, site, out, overwrite=overwrite, session=session)
    finally:
        for (module, name, _), function in zip(watched, before, strict=True):
            setattr(module, name, function)
    spent |= {"building": result.seconds, "processor": time.process_time()}
    note = {"id": site.id, "worker": os.getpid(), **spent, "memory": psutil.Process().memory_info().rss}
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


def measure(jobs: Plan, workers: int, server: RangeServer, timeout: float = 900.0, *, bound: bool = False) -> dict[str, Any]:
    """Run a plan once on cold caches and take its measures; the first sites of each worker (imports, compilation) do not count for times.

    ``bound``: every worker keeps to a core of its own.
    """
    server.stats(reset=True)
    log = Path(jobs.root).parent / f"{Path(jobs.root).name}.log"
    os.environ |= {LOG: str(log), BOUND: "1" if bound else ""}
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
        **{what: statistics.median(note[what] for note in notes[warm:]) for what in ("reading", "correcting", "committing", "building")},
        "processor": _processor(notes[warm:]),
        "serving": served["cpu"] / len(notes),
        "headers": _headers(served["ranges"]),
        "own": _own_time(outcomes[warm:]) if workers == 1 else float("nan"),
        "requests": served["requests"] / len(notes),
        "megabytes": served["bytes"] / 1e6 / len(notes),
        "memory": [note["memory"] for note in notes],
    }


def _processor(notes: list[dict[str, Any]]) -> float:
    """Processor time of a site, s: of each worker what it took from its first site to its last, without the first."""
    taken: dict[int, list[float]] = {}
    for note in notes:
        taken.setdefault(note["worker"], []).append(note["processor"])
    sites = sum(len(times) - 1 for times in taken.values())
    return sum(times[-1] - times[0] for times in taken.values()) / sites if sites else float("nan")


def _headers(ranges: list[list[Any]]) -> float:
    """How often the header of a raster was asked for, on average."""
    asked = [path for path, first, *_ in ranges if first == 0 and path.endswith(".tif")]
    return len(asked) / max(len(set(asked)), 1)


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
    parser.add_argument("--docs", action="store_true", help="write the table into docs/batch.md")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if options.quick and options.docs:
        parser.error("a quick run is no measurement: --docs needs a full one")
    found = run_all(options)
    table = report(found)
    print("\n".join(table))
    if options.json:
        options.json.write_text(json.dumps(found))
    if options.docs:
        page = HERE.parent / "docs" / "batch.md"
        begin, end = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"
        head, rest = page.read_text().split(begin)
        page.write_text(f"{head}{begin}\n" + "\n".join(table) + f"\n{end}" + rest.split(end)[1])


def run_all(options: argparse.Namespace) -> dict[str, Any]:
    """All measures, told as they come."""
    repeat = 1 if options.quick else options.repeat
    count, shared, many = (4, [3], 0) if options.quick else (60, [1, 10, 100], 1000)
    world = ensure_world()
    found: dict[str, Any] = {}

    def tell(key: str, entry: dict[str, Any]) -> None:
        shown = {name: round(value, 4) for name, value in entry.items() if name != "memory"}
        print(f"{time.strftime('%H:%M:%S')} {key}: {shown}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch, RangeServer(world.catalog.parent, latency=options.latency / 1000) as server:
        folder = Path(scratch)
        catalog = serve_catalog(world, server.url, folder)
        year = recipe_for(catalog, 16 if options.quick else 64, "2022-01-01", "2022-03-31" if options.quick else "2022-12-31")
        kinds = ("1",) if options.quick else ("1", "2", "1 bound", "2 bound")
        runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for n in range(repeat):
            # In turns, so that whatever else the machine does befalls all.
            for kind, done in runs.items():
                jobs = plan(year, sites_of(world, count), f"{folder}/w{kind.replace(' ', '-')}-{n}")
                done.append(measure(jobs, int(kind[0]), server, bound="bound" in kind))
                tell(f"workers {kind}, run {n + 1}", done[-1])
        for kind, done in runs.items():
            found[f"workers {kind}"] = {key: statistics.median(one[key] for one in done) for key in done[0] if key != "memory"}
        small = recipe_for(catalog, 16, "2022-05-01", "2022-06-30")
        for number in shared:
            for workers in (1, 2) if number > 10 else (1,):
                key = f"shared {number} {workers}"
                found[key] = measure(plan(small, sites_of(world, number), f"{folder}/g{number}-{workers}"), workers, server)
                tell(key, found[key])
        if many:
            tiny = recipe_for(catalog, 8, "2022-05-01", "2022-05-31")
            found["many"] = measure(plan(tiny, sites_of(world, many), f"{folder}/many"), 1, server)
            tell("many", found["many"])
    return found


def _told(one: dict[str, Any], two: dict[str, Any]) -> str:
    return "; ".join(f"{seconds * 1e3:.0f}" for seconds in (one["processor"], two["processor"], one["serving"]))


def report(found: dict[str, Any]) -> list[str]:
    """The table."""
    one = found["workers 1"]
    rest = one["building"] - one["reading"] - one["correcting"] - one["committing"]
    beyond = one["building"] - one["reading"] + (0.0 if one["own"] != one["own"] else one["own"])
    parts = (one["reading"], one["correcting"], one["committing"], rest, one["own"])
    lines = [
        "| what | measured |",
        "|---|---|",
        f"| sites per minute, 1 worker | {one['rate']:.0f} |",
        f"| a site beyond reading, ms | {beyond * 1e3:.0f} |",
        "| of a site: reading; correcting; committing; the rest of the build; between two builds, ms | "
        + "; ".join(f"{part * 1e3:.0f}" for part in parts) + " |",
    ]  # fmt: skip
    if two := found.get("workers 2"):
        lines.append(f"| sites per minute, 2 workers, one thread each | {two['rate']:.0f} = {two['rate'] / one['rate']:.2f}x |")
        taken = one["processor"] + one["serving"]
        lines.append(f"| processor time of a site, 1 and 2 workers; of the server for it, ms | {_told(one, two)} |")
        lines.append(f"| what {os.cpu_count()} cores would allow that never wait | {os.cpu_count() / taken / one['rate'] * 60:.2f}x |")
        alone, both = found["workers 1 bound"]["rate"], found["workers 2 bound"]["rate"]
        lines.append(f"| the same, every worker with all its threads on one core | {alone:.0f} and {both:.0f} = {both / alone:.2f}x |")
    for key, entry in found.items():
        if key.startswith("shared"):
            _, number, workers = key.split()
            told = f"{entry['requests']:.1f}; {entry['megabytes']:.2f}; {entry['headers']:.2f}"
            lines.append(f"| {number} sites in a granule, {workers} worker(s): requests and MB per site, requests per header | {told} |")
    if many := found.get("many"):
        memory = [statistics.median(many["memory"][int(at * (len(many["memory"]) - 20)) :][:20]) / 1e6 for at in (0.1, 0.5, 1.0)]
        told = "; ".join(f"{value:.0f}" for value in memory)
        lines.append(f"| memory of the worker after 10, 50, 100 % of {many['sites']} sites, MB | {told} |")
    return lines


if __name__ == "__main__":
    main()
