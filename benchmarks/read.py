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
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what runs was compiled once, as in any installation

from _read_jobs import ReaderError, other_jobs  # noqa: E402
from _read_report import report  # noqa: E402
from _read_stac import StacServer  # noqa: E402
from _read_testbed import BANDS, EPSG, NAMES, center, items, prepare, save  # noqa: E402

from cubekit.grid import Grid  # noqa: E402
from cubekit.read import AssetRead, ReadOptions  # noqa: E402
from cubekit.testing.rangeserver import RangeServer  # noqa: E402

ENVIRONMENTS = {
    "old": ["cubo", "odc-stac", "stackstac", "rasterio", "numpy", "pandas<3", "setuptools<81"],
    "nbar": ["cubo", "sen2nbar==2024.6.0", "zarr", "pandas<3", "setuptools<81"],
    "new": ["lazycogs", "async-geotiff", "rustac", "obstore", "pyarrow"],
}
COLUMNS = ("wall", "imports", "cpu", "peak_mb", "requests", "heads", "bytes", "server_cpu")
# name, function in _read_peers, environment, threads (None: as it comes), where: on Job A "once" or five times, then also
# "at 20 ms", at every "latency", or in "all" settings
READERS = [
    ("cubo", "cubo", "old", None, "once"),
    ("cubo, 32 threads", "cubo", "old", 32, "at 20 ms"),
    ("odc-stac", "odc_stac", "old", None, "once"),
    ("odc-stac, 32 threads", "odc_stac", "old", 32, "job"),
    ("stackstac, 32 threads", "stackstac", "old", 32, "job"),
    ("rasterio, 64 threads", "rasterio_pool", "old", 64, "job"),
    ("lazycogs", "lazycogs", "new", None, "latency"),
    ("lazycogs, 256 reads", "lazycogs", "new", 256, "job"),
    ("async-geotiff, 256 reads", "async_geotiff", "new", 256, "all"),
    ("cubekit.create", "cubekit_create", "here", None, "job"),
    ("cubekit", "cubekit", "here", None, "all"),
    ("cubekit, again", "cubekit_again", "here", None, "all"),
    ("cubekit, known headers", "cubekit", "here", None, "all"),
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
    parser.add_argument("--resume", action="store_true", help="go on with the read.json of a run that was stopped")
    parser.add_argument("--only", nargs="+", default=None, help="readers whose name contains one of these")
    parser.add_argument("--jobs", nargs="+", default=None, help="of the jobs at the end only these")
    parser.add_argument("--settings", type=int, default=None, help="only so many of the settings")
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
    out = options.out or options.cache
    kept = Path(out) / "read.json"
    results: dict[str, Any] = {"machine": _machine(), "scenes": options.scenes, "runs": [], "limits": [], "jobs": {}}
    if options.resume and kept.exists():
        results = json.loads(kept.read_text())
    out.mkdir(parents=True, exist_ok=True)

    def keep() -> None:
        kept.write_text(json.dumps(results, indent=1))

    with RangeServer(options.cache) as server:
        for bed, resolution, milliseconds, flavour in _settings(beds, options)[: options.settings]:
            _compare(server, bed, resolution, milliseconds, flavour, readers, pythons, options, results, keep)
        other_jobs(server, beds[0], options, results, pythons, _once, keep)
    report(results, out, HERE.parent / "docs" if options.docs else None)
    print((out / "read.md").read_text())


def _settings(beds: list[Any], options: Any) -> list[tuple[Any, int, float, str]]:
    """(testbed, resolution, milliseconds, shape of the items): Job A first, then one thing changed at a time."""
    job = 50 if 50 in options.latency else options.latency[0]
    if options.quick:
        return [(beds[0], 10, job, "pc")]
    return [
        (beds[0], 10, job, "pc"),
        *((beds[0], 10, latency, "pc") for latency in options.latency if latency != job),
        (beds[0], 20, job, "pc"),
        (beds[0], 10, job, "es"),
        *((bed, 10, job, "pc") for bed in beds[1:]),
    ]


def _compare(
    server: Any, bed: Any, resolution: int, milliseconds: float, flavour: str, readers: Any, pythons: Any, options: Any, results: Any,
    keep: Callable[[], None],
) -> None:  # fmt: skip
    """All readers on one job; what is in the results already is not measured again."""
    lat, lon = center(bed)
    grid = Grid.around(lat, lon, edge_size=128, resolution=resolution)
    bands = list(BANDS) if flavour == "pc" else [NAMES[band] for band in BANDS]
    server.configure(latency=milliseconds / 1000, bandwidth=None, rules=[])
    setting = {"tile": bed.tile, "resolution": resolution, "latency_ms": milliseconds, "items": flavour}
    main_job = not results["limits"] or all(results["limits"][0][key] == value for key, value in setting.items())
    varied = main_job or all(results["limits"][0][key] == value for key, value in setting.items() if key != "latency_ms")
    wanted = ("all", *(("latency",) if varied else ()), *(("at 20 ms",) if varied and milliseconds == 20 else ()))
    with tempfile.TemporaryDirectory() as folder, StacServer(items(bed, server.url, flavour)) as stac:
        save(Path(folder) / "items.json", items(bed, server.url, flavour))
        job = {
            "url": server.url, "items": str(Path(folder) / "items.json"), "stac": stac.url, "folder": folder, "bands": bands,
            "lat": lat, "lon": lon, "edge": 128, "resolution": resolution, "epsg": EPSG, "bounds": list(grid.bounds),
        }  # fmt: skip
        due = [
            reader for reader in readers
            if (main_job or reader[4] in wanted)
            and not any(row["reader"] == reader[0] and all(row[key] == value for key, value in setting.items()) for row in results["runs"])
        ]  # fmt: skip
        if not any(all(limit[key] == value for key, value in setting.items()) for limit in results["limits"]):
            due.append(("limit", "", "", None, ""))
        for name, runs in _measured(server, due, job, grid, folder, pythons, options.repeat).items():
            middle = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key in COLUMNS or name == "limit"}
            if name == "limit":
                results["limits"].append({**setting, **middle})
                continue
            row = {**setting, "reader": name, **middle, "runs": len(runs), "digest": runs[0]["digest"], "misses": runs[0].get("misses")}
            row["walls"] = [round(run["wall"], 3) for run in runs]
            results["runs"].append(row)
            told = f"{middle['wall']:.2f} s, {middle['bytes'] / 1e6:.0f} MB, {row['digest']}"
            print(f"{setting} {name}: {told}", file=sys.stderr, flush=True)
        keep()


def _measured(
    server: Any, readers: Any, job: dict[str, Any], grid: Grid, folder: str, pythons: Any, repeat: int
) -> dict[str, list[dict[str, Any]]]:
    """The runs of each reader, and of the limit: all once, then all again, so that what the machine does meanwhile hits all of them."""
    runs: dict[str, list[dict[str, Any]]] = {}
    failed = set()
    for turn in range(repeat):
        for name, function, environment, threads, where in readers:
            if name in failed or (where == "once" and turn):
                continue
            own = {**job, "threads": threads, **({"cache_dir": str(Path(folder) / "headers")} if "known" in name else {})}
            try:
                if "cache_dir" in own and not turn:
                    _once(pythons[environment], function, own, folder)
                run = _limit(job, grid, server) if name == "limit" else _counted(server, pythons[environment], function, own, folder)
            except ReaderError as error:
                print(f"{name}: left out: {error}", file=sys.stderr, flush=True)
                failed.add(name)
                continue
            runs.setdefault(name, []).append(run)
            print(f"  turn {turn + 1}, {name}: {run.get('wall', run.get('inflate')):.2f} s", file=sys.stderr, flush=True)
    return runs


def _counted(server: Any, python: Path, function: str, job: dict[str, Any], folder: str) -> dict[str, Any]:
    server.stats(reset=True)
    run = _once(python, function, job, folder)
    if "counted" in run:  # it read twice, and only the second time counts
        share = run["counted"]
        stats = server.stats()
        return {**run, "heads": 0, "server_cpu": stats["cpu"] / 2, **share}
    stats = server.stats()
    return {**run, "requests": stats["requests"], "heads": stats["heads"], "bytes": stats["bytes"], "server_cpu": stats["cpu"]}


def _once(python: Path, function: str, job: dict[str, Any], folder: str) -> dict[str, Any]:
    path = Path(folder) / "job.json"
    path.write_text(json.dumps(job))
    command = [str(python), str(HERE / "_read_peers.py"), function, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)} if function.startswith("cubekit") else {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise ReaderError(f"{function} failed:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _limit(job: dict[str, Any], grid: Grid, server: Any) -> dict[str, float]:
    from _read_limit import measure

    features = json.loads(Path(job["items"]).read_text())["features"]
    reads = [AssetRead(f["assets"][b]["href"], f["id"], b, "nearest", 0) for f in features for b in job["bands"]]
    return measure(reads, grid, ReadOptions(), server=server)


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
