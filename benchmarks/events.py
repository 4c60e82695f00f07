"""Dry-hot events from daily Zarr to events Zarr: a grid that just fits in memory, one that does not, and the job as one would write it.

    python benchmarks/events.py            # about 8 minutes, 3 GB of temporary disk
    python benchmarks/events.py --docs     # also writes the table into docs/events.md
    python benchmarks/events.py --quick    # smoke run of a few seconds; no measurement

Every run is a process of its own, after imports and one small job; its inputs are put out of the page cache before. "Memory" is made real
by a limit (RLIMIT_DATA) on what the process may take beyond its start; the straight version runs without one on the small grid and under
it on the large. The limit does not count the page cache, which no job can help filling.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from _events_straight import labels_of, n_days, straight, write_daily

import cubekit.events as ev
from cubekit.event_cube import detect_events

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("<!-- events benchmark: begin -->", "<!-- events benchmark: end -->")
MIB = 2**20


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- one run per process ---


def drop_from_page_cache(path: Path) -> None:
    """Have the kernel forget a store, so that reading it means reading the disk."""
    for file in path.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024


def detect_job(args: argparse.Namespace) -> dict[str, float]:
    """The job of this package; the stages end where the progress says so."""
    ends: dict[str, float] = {}

    def progress(stage: str, done: int, total: int) -> None:
        ends[stage] = time.perf_counter()

    start = time.perf_counter()
    report = detect_events(
        args.child, args.out, mode=args.mode, memory=args.memory * MIB, workers=args.workers, overwrite=True, progress=progress
    )
    seconds = time.perf_counter() - start
    codes = ends["codes"] - start
    return {"seconds": seconds, "codes": codes, "labels": seconds - codes, "tiles": report.tiles, "events": report.events}


def straight_job(args: argparse.Namespace) -> dict[str, float]:
    """The job as one would write it."""
    return straight(args.child, args.out)


def core_job(args: argparse.Namespace) -> dict[str, float]:
    """Detection in memory, of arrays that are there already."""
    import xarray as xr

    ds = xr.open_zarr(args.child, chunks=None, consolidated=False).load()
    start = time.perf_counter()
    found = ev.detect(ds, mode=args.mode, threads=args.workers)
    return {"seconds": time.perf_counter() - start, "events": len(found.tables.events)}


def child(args: argparse.Namespace) -> None:
    """One job in this process: seconds, CPU seconds, and the peak of memory above what was in use before."""
    warnings.simplefilter("ignore")
    job = {"straight": straight_job, "detect": detect_job, "core": core_job}[args.job]
    with tempfile.TemporaryDirectory() as folder:
        write_daily(Path(folder) / "in.zarr", 8, 12, args.years if args.mode == "doy" else 2)
        job(argparse.Namespace(**vars(args) | {"child": f"{folder}/in.zarr", "out": f"{folder}/out.zarr"}))
    drop_from_page_cache(Path(args.child))
    before = status("VmRSS")
    if args.limit:
        limit = status("VmData") + int(args.limit * MIB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    Path("/proc/self/clear_refs").write_text("5")
    busy = time.process_time()
    try:
        found = job(args)
    except MemoryError:
        print(json.dumps({"failed": "MemoryError"}))
        return
    found |= {"cpu": time.process_time() - busy, "peak": (status("VmHWM") - before) / MIB}
    print(json.dumps(found))


def measure(args: argparse.Namespace, job: str, path: Path, *, mode: str = "period", limit: float = 0) -> Any:
    """Medians over runs of a job; None where it fails for want of memory."""
    out = path.with_name(f"{path.stem}-{job}-{mode}.zarr")
    words = [sys.executable, __file__, "--child", str(path), "--out", str(out), "--job", job, "--mode", mode]
    words += ["--memory", str(args.memory), "--workers", str(args.workers), "--limit", str(limit), "--years", str(args.years)]
    environment = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"} | os.environ | {"PYTHONPATH": str(ROOT)}
    answers = []
    for _ in range(args.runs):
        text = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        answers.append(json.loads(text.splitlines()[-1]))
        say(f"  {path.stem} {job} {mode}: {answers[-1]}")
        if "failed" in answers[-1]:
            return None
    return {key: statistics.median(answer[key] for answer in answers) for key in answers[0]}


# --- the table ---


def row(what: str, grid: tuple[int, int], cells: int, found: Any, straight_s: float) -> str:
    """A line of the table; `straight_s`: seconds per cell-day of the straight version."""
    start = f"| {what} | {grid[0]} x {grid[1]} |"
    if found is None:
        return f"{start} - | - | out of memory | - | - |"
    rates = " | ".join(f"{cells / found[key] / 1e6:.1f}" if key in found else "-" for key in ("codes", "labels", "seconds"))
    return f"{start} {rates} | {straight_s * cells / found['seconds']:.1f} | {found['peak']:.0f} MiB |"


def agreement(small: Path) -> str:
    """How far the two sides agree on the small grid: codes value by value, components of the same codes as partitions."""
    ours, theirs = (zarr.open_group(small.with_name(f"{small.stem}-{job}-period.zarr"), mode="r") for job in ("detect", "straight"))
    codes: Any = ours["events"][:]  # type: ignore[index]
    differ = int((codes != theirs["events"][:]).sum())  # type: ignore[index]
    pairs = np.unique(np.stack([ours["event_labels"][:].ravel(), labels_of(codes).ravel()]), axis=1)  # type: ignore[index]
    same = len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    return (
        f"Codes of the two sides differ on {differ} of {codes.size} cell-days (running sums of float64 drift, those of integers do not); "
        f"components of the same codes are {'the same' if same else 'NOT THE SAME'}."
    )


def table(args: argparse.Namespace, folder: Path) -> str:
    grids, days = {"small": args.small, "large": args.large}, n_days(args.years)
    cells = {name: days * ny * nx for name, (ny, nx) in grids.items()}
    stores = {name: folder / f"{name}.zarr" for name in grids}
    for name, grid in grids.items():
        start = time.perf_counter()
        write_daily(stores[name], *grid, args.years)
        say(f"wrote {name} {grid}, {cells[name] * 12 / MIB:.0f} MiB of float32, in {time.perf_counter() - start:.0f} s")
    base = measure(args, "straight", stores["small"])
    each = base["seconds"] / cells["small"]
    rows = [
        row("straight, no limit", grids["small"], cells["small"], base, each),
        row("straight", grids["large"], cells["large"], measure(args, "straight", stores["large"], limit=args.limit), each),
    ]
    notes = []
    for mode in ("period",) if args.quick else ("period", "doy"):
        if mode == "period" and not args.quick:
            core = measure(args, "core", stores["small"], mode=mode)
            rows.append(row(f"`{mode}`, in memory, no limit", grids["small"], cells["small"], core, each))
        found = {name: measure(args, "detect", stores[name], mode=mode, limit=args.limit) for name in grids}
        rows += [row(f"`{mode}`", grids[name], cells[name], found[name], each) for name in grids]
        per_cell = (found["large"]["seconds"] / cells["large"]) / (found["small"]["seconds"] / cells["small"])
        notes.append(f"{per_cell:.2f} (`{mode}`)")
    return "\n".join(
        [*head(args, cells, days), *rows, "", f"Time per cell-day, large grid over small: {', '.join(notes)}. {agreement(stores['small'])}"]
    )


def head(args: argparse.Namespace, cells: dict[str, int], days: int) -> list[str]:
    return [
        f"{days} days; million cell-days per second, medians of {args.runs} runs; {os.cpu_count()} cores ({platform.machine()}), {args.workers} "
        f"workers, `--memory {args.memory:g}`. Inputs are {cells['small'] * 12 / MIB:.0f} and {cells['large'] * 12 / MIB:.0f} MiB of float32 in xarray's "
        f"own compression, read from a cold page cache; where no other is said, the process may take {args.limit:g} MiB more than at its start.",
        "",
        "| job | grid | ranks + codes | filter + labels + statistics | all | times straight | peak memory |",
        "|---|---|---|---|---|---|---|",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--years", type=float, default=30)
    parser.add_argument("--memory", type=float, default=512, help="budget of the job in MiB")
    parser.add_argument("--limit", type=float, default=1024, help="what a process may take beyond its start, MiB")
    parser.add_argument("--small", type=int, nargs=2, default=(16, 180), metavar=("ROWS", "COLUMNS"))
    parser.add_argument("--large", type=int, nargs=2, default=(32, 360), metavar=("ROWS", "COLUMNS"))
    for name, default in (("child", None), ("out", ""), ("mode", "period"), ("job", "detect")):
        parser.add_argument(f"--{name}", default=default, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick and args.docs:
        parser.error("a quick run is no measurement: --docs needs a full one")
    if args.child:
        child(args)
        return
    if args.quick:
        args.years, args.runs, args.memory, args.limit, args.small, args.large = 2, 1, 128, 200, (16, 90), (80, 180)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        text = table(args, Path(folder))
    print(text)
    if args.docs:
        page = ROOT / "docs" / "events.md"
        before, rest = page.read_text().split(MARKS[0])
        page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


if __name__ == "__main__":
    main()
