"""Reading small windows from many COGs, side by side: ``python benchmarks/read.py`` writes the tables and the chart of docs/performance.md.

Every reader runs in a process of its own, peers in environments of their own made here; all ask the same local range server, which
adds latency (and a bandwidth, if wished) and counts. Run it on a quiet machine; ``--quick`` is a smoke test of a few seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from _read_report import report  # noqa: E402
from _read_stac import StacServer  # noqa: E402
from _read_testbed import BANDS, EPSG, NAMES, center, items, prepare, save  # noqa: E402

from cubekit.grid import Grid  # noqa: E402
from cubekit.read import AssetRead, ReadOptions, forget_headers, read_assets, read_many  # noqa: E402
from cubekit.testing.rangeserver import RangeServer  # noqa: E402

ENVIRONMENTS = {
    "old": ["cubo", "odc-stac", "stackstac", "rasterio", "numpy", "pandas<3", "setuptools<81"],
    "new": ["lazycogs", "async-geotiff", "rustac", "obstore", "pyarrow"],
}
# name, function in _read_peers, environment, threads (None: as it comes)
READERS = [
    ("cubo", "cubo", "old", None),
    ("cubo, 32 threads", "cubo", "old", 32),
    ("odc-stac", "odc_stac", "old", None),
    ("odc-stac, 32 threads", "odc_stac", "old", 32),
    ("stackstac, 32 threads", "stackstac", "old", 32),
    ("rasterio, 64 threads", "rasterio_pool", "old", 64),
    ("lazycogs", "lazycogs", "new", None),
    ("lazycogs, 256 reads", "lazycogs", "new", 256),
    ("async-geotiff, 256 reads", "async_geotiff", "new", 256),
    ("cubekit", "cubekit", "here", None),
    ("cubekit, known headers", "cubekit", "here", None),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small files, few scenes, no peers: does it run?")
    parser.add_argument("--cache", type=Path, default=HERE.parent / "build" / "bench-cache", help="folder of the testbed and environments")
    parser.add_argument("--python", default=None, help="Python >= 3.12 for the peers that need it (default: the first on PATH)")
    parser.add_argument("--scenes", type=int, default=160)
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 20, 50, 100], help="milliseconds to the first byte")
    parser.add_argument("--tile", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--repeat", type=int, default=5, help="runs per reader; the median counts")
    parser.add_argument("--slow", type=int, default=1, help="runs of readers that take more than 20 s")
    parser.add_argument("--only", nargs="+", default=None, help="readers whose name contains one of these")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--out", type=Path, default=None, help="folder for read.json, read.md, read.png (default: the cache folder)")
    parser.add_argument("--docs", action="store_true", help="put the tables and the chart into docs/performance.md")
    options = parser.parse_args()
    if options.quick:
        options.scenes, options.latency, options.tile, options.repeat, options.no_peers = 4, [5], [512], 1, True
    options.cache.mkdir(parents=True, exist_ok=True)
    size = 2048 if options.quick else 10980
    beds = [prepare(options.cache, tile=tile, scenes=options.scenes, size=size) for tile in options.tile]
    readers = [r for r in READERS if not options.only or any(word in r[0] for word in options.only)]
    pythons = {"here": Path(sys.executable)}
    if not options.no_peers:
        pythons |= {name: _environment(options.cache / "venvs" / name, what, options.python) for name, what in ENVIRONMENTS.items()}
    readers = [reader for reader in readers if reader[2] in pythons]
    results: dict[str, Any] = {"machine": _machine(), "scenes": options.scenes, "runs": [], "limits": [], "jobs": {}}
    with RangeServer(options.cache) as server:
        for bed in beds:
            for resolution in (10,) if options.quick else (10, 20):
                for milliseconds in (
                    options.latency if (resolution, bed.tile) == (10, options.tile[0]) else options.latency[-2:-1] or options.latency
                ):
                    _compare(server, bed, resolution, milliseconds, readers, pythons, options, results)
        _other_jobs(server, beds[0], options, results)
    out = options.out or options.cache
    report(results, out, HERE.parent / "docs" if options.docs else None)
    print((out / "read.md").read_text())


def _compare(server: Any, bed: Any, resolution: int, milliseconds: float, readers: Any, pythons: Any, options: Any, results: Any) -> None:
    """All readers on one job."""
    lat, lon = center(bed)
    grid = Grid.around(lat, lon, edge_size=128, resolution=resolution)
    flavour = "pc" if bed.tile == 512 else "es"
    bands = list(BANDS) if flavour == "pc" else [NAMES[band] for band in BANDS]
    server.configure(latency=milliseconds / 1000, bandwidth=None, rules=[])
    with tempfile.TemporaryDirectory() as folder, StacServer(items(bed, server.url, flavour)) as stac:
        save(Path(folder) / "items.json", items(bed, server.url, flavour))
        job = {
            "url": server.url, "items": str(Path(folder) / "items.json"), "stac": stac.url, "folder": folder, "bands": bands,
            "lat": lat, "lon": lon, "edge": 128, "resolution": resolution, "epsg": EPSG, "bounds": list(grid.bounds),
        }  # fmt: skip
        setting = {"tile": bed.tile, "resolution": resolution, "latency_ms": milliseconds}
        results["limits"].append({**setting, **_limit(job, grid, flavour)})
        for name, function, environment, threads in readers:
            cached = {"cache_dir": str(Path(folder) / "headers")} if "known" in name else {}
            own = {**job, "threads": threads, **cached}
            if cached:
                _once(pythons[environment], function, own, folder)
            runs: list[dict[str, Any]] = []
            while len(runs) < (options.slow if runs and runs[0]["wall"] > 20 else options.repeat):
                server.stats(reset=True)
                run = _once(pythons[environment], function, own, folder)
                stats = server.stats()
                runs.append(
                    {**run, "requests": stats["requests"], "heads": stats["heads"], "bytes": stats["bytes"], "server_cpu": stats["cpu"]}
                )
            middle = {
                key: statistics.median(run[key] for run in runs)
                for key in ("wall", "cpu", "peak_mb", "requests", "heads", "bytes", "server_cpu")
            }
            row = {**setting, "reader": name, **middle, "runs": len(runs), "digest": runs[0]["digest"], "misses": runs[0].get("misses")}
            results["runs"].append(row)
            print(f"{setting} {name}: {middle['wall']:.2f} s, {middle['bytes'] / 1e6:.0f} MB, {row['digest']}", file=sys.stderr, flush=True)


def _once(python: Path, function: str, job: dict[str, Any], folder: str) -> dict[str, Any]:
    path = Path(folder) / "job.json"
    path.write_text(json.dumps(job))
    command = [str(python), str(HERE / "_read_peers.py"), function, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)} if function == "cubekit" else {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{function} failed:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _limit(job: dict[str, Any], grid: Grid, flavour: str) -> dict[str, float]:
    from _read_limit import measure

    features = json.loads(Path(job["items"]).read_text())["features"]
    reads = [AssetRead(f["assets"][b]["href"], f["id"], b, "nearest", 0) for f in features for b in job["bands"]]
    found = [measure(reads, grid, ReadOptions()) for _ in range(3)]
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def _other_jobs(server: Any, bed: Any, options: Any, results: Any) -> None:
    """Faults, a narrow line, many sites: by cubekit in this process, as ratios to its own plain run."""
    import time

    import numpy as np

    count = 4 if options.quick else 64
    server.configure(latency=0.05, rules=[], bandwidth=None)
    reads = [AssetRead(f"{server.url}/{bed.href(s, b)}", f"s{s}", b, "nearest", 0) for s in range(options.scenes) for b in BANDS]
    grid = Grid.around(*center(bed), edge_size=128, resolution=10)

    def timed(work: Any) -> dict[str, float]:
        forget_headers()
        server.stats(reset=True)
        begin = time.perf_counter()
        outcomes = work()
        seconds = time.perf_counter() - begin
        stats = server.stats()
        holes = sum(outcome.status.is_hole for outcome in outcomes)
        return {"wall": seconds, "bytes": stats["bytes"], "requests": stats["requests"], "holes": holes}

    def median(work: Any) -> dict[str, float]:
        runs = [timed(work) for _ in range(options.repeat)]
        return {key: statistics.median(run[key] for run in runs) for key in runs[0]}

    out = np.empty((len(reads), 128, 128), "uint16")
    jobs = results["jobs"]
    jobs["plain"] = median(lambda: read_assets(reads, grid, out))
    server.configure(rules=[{"status": 503, "every": 100}])
    jobs["1 % of requests answered 503"] = median(lambda: read_assets(reads, grid, out))
    server.configure(rules=[])
    for megabits in (1000, 200):
        server.configure(bandwidth=megabits * 1e6)
        jobs[f"{megabits} Mbit/s"] = {**median(lambda: read_assets(reads, grid, out)), "megabits": megabits}
    server.configure(bandwidth=None)
    some = reads[: len(BANDS) * min(options.scenes, 20)]
    sites = [Grid.around(*center(bed, site), edge_size=128, resolution=10) for site in range(1, count + 1)]
    outs = [np.empty((len(some), 128, 128), "uint16") for _ in sites]
    apart = lambda: [o for g, target in zip(sites, outs, strict=True) for o in read_assets(some, g, target)]  # noqa: E731
    together = lambda: [o for job in read_many([(some, g, t) for g, t in zip(sites, outs, strict=True)]) for o in job]  # noqa: E731

    def apart_cold() -> list[Any]:
        done = []
        for g, target in zip(sites, outs, strict=True):
            forget_headers()
            done += read_assets(some, g, target)
        return done

    jobs[f"{count} sites of one granule, each for itself"] = timed(apart_cold)
    jobs[f"{count} sites of one granule, headers remembered"] = timed(apart)
    jobs[f"{count} sites of one granule, together"] = timed(together)


def _environment(folder: Path, packages: list[str], python: str | None) -> Path:
    """A virtual environment with these packages, made once."""
    interpreter = folder / "bin" / "python"
    stamp = folder / "packages.txt"
    if interpreter.exists() and stamp.exists() and stamp.read_text().split("\n") == packages:
        return interpreter
    base = sys.executable
    if "lazycogs" in packages and sys.version_info < (3, 12):
        found = [python] if python else [path for v in ("3.12", "3.13", "3.14") if (path := shutil.which(f"python{v}"))]
        if not found:
            raise SystemExit("lazycogs needs Python >= 3.12: none on PATH; give one with --python, or use --no-peers")
        base = found[0]
    subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True)
    subprocess.run([str(interpreter), "-m", "pip", "install", "-q", *packages], check=True)
    stamp.write_text("\n".join(packages))
    return interpreter


def _machine() -> dict[str, Any]:
    import platform

    return {"python": platform.python_version(), "cores": len(os.sched_getaffinity(0)), "system": platform.platform(terse=True)}


if __name__ == "__main__":
    main()
