"""The jobs beside the comparison of all readers: faults, a narrow line, random sites, many sites of one granule, and a whole cube."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _read_stac import StacServer
from _read_testbed import BANDS, EPSG, add_metadata, center, items, save

from cubekit.grid import Grid
from cubekit.read import AssetRead, forget_headers, read_assets, read_many

__all__ = ["ReaderError", "other_jobs"]


class ReaderError(RuntimeError):
    """A reader ended with an error; the others go on."""


Once = Callable[[Path, str, dict[str, Any], str], dict[str, Any]]


def other_jobs(server: Any, bed: Any, options: Any, results: Any, pythons: Any, once: Once, keep: Callable[[], None]) -> None:
    """Run what is not in ``results["jobs"]`` yet."""
    todo = {
        "plain": _faults, "line": _line, "random sites": _random_sites, "sites of one granule": _sites, "corrected cube": _corrected,
    }  # fmt: skip
    for name, work in todo.items():
        if name not in (options.jobs or [name for name in todo if not (options.quick and name == "corrected cube")]):
            continue
        if name not in results["jobs"]:
            server.configure(latency=0.05, bandwidth=None, rules=[])
            try:
                results["jobs"][name] = work(server, bed, options, pythons, once)
            except ReaderError as error:
                print(f"{name}: left out: {error}", file=sys.stderr, flush=True)
                continue
            keep()
            for row in results["jobs"][name]:
                print(
                    {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}, file=sys.stderr, flush=True
                )
    server.configure(latency=0.05, bandwidth=None, rules=[])


def _reads(server: Any, bed: Any, scenes: int) -> list[AssetRead]:
    return [AssetRead(f"{server.url}/{bed.href(s, b)}", f"s{s}", b, "nearest", 0) for s in range(scenes) for b in BANDS]


def _timed(server: Any, work: Callable[[], list[Any]]) -> dict[str, float]:
    forget_headers()
    server.stats(reset=True)
    begin = time.perf_counter()
    outcomes = work()
    seconds = time.perf_counter() - begin
    stats = server.stats()
    return {
        "wall": seconds, "bytes": stats["bytes"], "requests": stats["requests"], "holes": sum(o.status.is_hole for o in outcomes),
        "retries": sum(o.retries for o in outcomes), "misses": sum(o.misses for o in outcomes),
    }  # fmt: skip


def _median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def _faults(server: Any, bed: Any, options: Any, *_: Any) -> list[dict[str, Any]]:
    """Without and with 1 % of answers 503, by turns: what the machine does meanwhile hits both."""
    reads = _reads(server, bed, options.scenes)
    grid = Grid.around(*center(bed), edge_size=128, resolution=10)
    out = np.empty((len(reads), 128, 128), "uint16")
    rules: dict[str, list[dict[str, Any]]] = {"no faults": [], "1 % of requests answered 503": [{"status": 503, "every": 100}]}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in rules}
    pixels = {}
    read_assets(reads, grid, out)
    for _ in range(options.repeat):
        for name, rule in rules.items():
            server.configure(rules=rule)
            runs[name].append(_timed(server, lambda: read_assets(reads, grid, out)))
            pixels[name] = int(out.sum(dtype=np.uint64))
    server.configure(rules=[])
    return [{"job": name, "reader": "cubekit, again", **_median(some), "pixels": pixels[name]} for name, some in runs.items()]


def _line(server: Any, bed: Any, options: Any, *_: Any) -> list[dict[str, Any]]:
    """Lines whose bandwidth is the limit."""
    reads = _reads(server, bed, options.scenes)
    grid = Grid.around(*center(bed), edge_size=128, resolution=10)
    out = np.empty((len(reads), 128, 128), "uint16")
    rows = []
    for megabits in (1000, 200):
        server.configure(bandwidth=megabits * 1e6)
        some = _median([_timed(server, lambda: read_assets(reads, grid, out)) for _ in range(options.repeat)])
        rows.append({"job": f"{megabits} Mbit/s", "reader": "cubekit, again", **some, "ideal": some["bytes"] * 8e-6 / megabits})
    server.configure(bandwidth=None)
    return rows


def _peer(
    server: Any, bed: Any, place: tuple[float, float], python: Path, function: str, threads: int | None, once: Once
) -> dict[str, Any]:
    """One process, one site."""
    grid = Grid.around(*place, edge_size=128, resolution=10)
    metadata = function.endswith("_nbar")
    content = items(bed, server.url, "pc", metadata=metadata)
    with tempfile.TemporaryDirectory() as folder, StacServer(content) as stac:
        save(Path(folder) / "items.json", content)
        job = {
            "url": server.url, "items": str(Path(folder) / "items.json"), "stac": stac.url, "folder": folder, "bands": list(BANDS),
            "lat": place[0], "lon": place[1], "edge": 128, "resolution": 10, "epsg": EPSG, "bounds": list(grid.bounds), "threads": threads,
        }  # fmt: skip
        server.stats(reset=True)
        run = once(python, function, job, folder)
        stats = server.stats()
    return {key: run[key] for key in ("wall", "imports", "peak_mb")} | {"bytes": stats["bytes"], "requests": stats["requests"]}


def _few(bed: Any, scenes: int) -> Any:
    from dataclasses import replace

    return replace(bed, scenes=min(scenes, bed.scenes))


def _random_sites(server: Any, bed: Any, options: Any, pythons: Any, once: Once) -> list[dict[str, Any]]:
    """Sites anywhere in the granule, every one cold, the same for cubo."""
    some, rows = _few(bed, 40), []
    sites = [center(bed, site) for site in range(1, 2 if options.quick else 6)]
    readers = [("cubekit", "here", None), *([("cubo", "old", 32)] if "old" in pythons else [])]
    for function, where, threads in readers:
        runs = [_peer(server, some, place, pythons[where], function, threads, once) for place in sites]
        name = f"{function}, {threads} threads" if threads else function
        rows.append({"job": f"{len(sites)} random sites, {some.scenes} scenes, mean of a site", "reader": name, **_mean(runs)})
    return rows


def _mean(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.fmean(run[key] for run in runs) for key in runs[0]}


def _sites(server: Any, bed: Any, options: Any, pythons: Any, once: Once) -> list[dict[str, Any]]:
    """Many sites of one granule: each for itself, with remembered headers, together; cubo on a few of them."""
    count, some = (4, _few(bed, 2)) if options.quick else (64, _few(bed, 20))
    reads = _reads(server, some, some.scenes)
    grids = [Grid.around(*center(bed, site), edge_size=128, resolution=10) for site in range(1, count + 1)]
    outs = [np.empty((len(reads), 128, 128), "uint16") for _ in grids]

    def apart(cold: bool) -> list[Any]:
        done = []
        for grid, out in zip(grids, outs, strict=True):
            if cold:
                forget_headers()
            done += read_assets(reads, grid, out)
        return done

    def together() -> list[Any]:
        return [o for job in read_many([(reads, grid, out) for grid, out in zip(grids, outs, strict=True)]) for o in job]

    rows = []
    title = f"{count} sites of one granule, {some.scenes} scenes"
    for name, work in (("each for itself", lambda: apart(True)), ("headers remembered", lambda: apart(False)), ("together", together)):
        runs = [_timed(server, work) for _ in range(1 if name != "together" else min(3, options.repeat))]
        rows.append({"job": title, "reader": f"cubekit, {name}", **_median(runs)})
    if "old" in pythons:
        measured = 4
        runs = [_peer(server, some, center(bed, site), pythons["old"], "cubo", 32, once) for site in range(1, measured + 1)]
        total = {key: value * (1 if key == "peak_mb" else count) for key, value in _mean(runs).items()}
        rows.append({"job": title, "reader": f"cubo, 32 threads ({measured} sites measured, times {count / measured:g})", **total})
    return rows


def _corrected(server: Any, bed: Any, options: Any, pythons: Any, once: Once) -> list[dict[str, Any]]:
    """From coordinates to a store of NBAR reflectance."""
    add_metadata(bed)
    rows = []
    readers = [("cubekit_nbar", "here", None, "cubekit.build"), ("cubo_nbar", "nbar", 32, "cubo, 32 threads + sen2nbar + to_zarr")]
    for function, where, threads, name in readers:
        if where not in pythons:
            continue
        if where == "here":  # what numba compiles is kept on disk, like an installation
            _peer(server, _few(bed, 2), center(bed), pythons[where], function, threads, once)
        count = min(options.repeat, 5 if where == "here" else 2)
        try:
            runs = [_peer(server, bed, center(bed), pythons[where], function, threads, once) for _ in range(count)]
        except ReaderError as error:
            print(f"{name}: left out: {error}", file=sys.stderr, flush=True)
            continue
        rows.append({"job": f"corrected cube, {bed.scenes} scenes", "reader": name, **_median(runs), "runs": count})
    return rows
