"""Dry-hot events: cubekit against plain numpy, scipy and xarray, on a grid that just fits in the budget and one that does not.

    python benchmarks/events.py            # 30 years; about 15 minutes, 5 GB of temporary disk
    python benchmarks/events.py --quick    # smoke run

Every number is printed as cell-days per second. "core" is cubekit.events in memory; "plain" is what one would write with rankdata,
cumulative sums and scipy.ndimage.label, on the same cells in the same run. "store" is detect_events from and to Zarr, with its peak
memory taken in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import pandas as pd
import xarray as xr
from scipy import ndimage, stats

import cubekit.events as ev
from cubekit.event_cube import detect_events

MIB = 2**20


def n_days(years: float) -> int:
    """Days of whole calendar years from 1991 on."""
    return int(years * 365.25) + 1


def world(ny: int, nx: int, years: int, seed: int = 0) -> xr.Dataset:
    """Persistent, spatially smooth daily weather with seasons, float32."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("1991-01-01", periods=n_days(years))
    noise = np.empty((days.size, ny, nx), np.float32)
    state = np.zeros((ny, nx), np.float32)
    for t in range(days.size):
        state = 0.9 * state + 0.43 * 4 * ndimage.uniform_filter(rng.standard_normal((ny, nx), dtype=np.float32), 4, mode="wrap")
        noise[t] = state
    season = np.sin(2 * np.pi * (days.dayofyear.to_numpy() - 110) / 365.25).astype(np.float32)[:, None, None]
    wet = rng.random(noise.shape, dtype=np.float32) < 0.3 * np.exp(-0.5 * noise)
    fields = {
        "t2m_max": (288 + 10 * season + 3 * noise, "K"),
        "tp": (np.where(wet, -8 * np.log(rng.random(noise.shape, dtype=np.float32) + 1e-9), 0).astype(np.float32), "mm d-1"),
        "et0": (np.clip(2.5 + 2 * season + 0.3 * noise, 0.05, None), "mm d-1"),
    }
    return xr.Dataset(
        {name: (("time", "latitude", "longitude"), values, {"units": unit}) for name, (values, unit) in fields.items()},
        coords={"time": days, "latitude": np.linspace(70, -55, ny), "longitude": np.arange(nx) * 360.0 / nx},
    )


def plain_codes(ds: xr.Dataset) -> np.ndarray:
    """Codes of mode="period" with numpy and scipy.stats.rankdata."""
    w = ds["tp"].values.astype(np.float64) - ds["et0"].values
    total = np.concatenate([np.zeros_like(w[:1]), np.cumsum(w, axis=0)])
    peis = []
    for n in ev.WINDOWS:
        pei = np.full(w.shape, np.nan)
        pei[n - 1 :] = (total[n:] - total[:-n]) / n
        peis.append(pei.astype(np.float32))
    scaled = []
    for x in (ds["t2m_max"].values, *peis):
        n = np.isfinite(x).sum(axis=0)
        scaled.append((stats.rankdata(x, axis=0, nan_policy="omit") - 0.5) / n)
    codes = (scaled[0] > 0.99).astype(np.uint8)
    for i in range(3):
        codes |= (scaled[i + 1] < 0.01).astype(np.uint8) << (i + 1)
    normal = np.logical_and.reduce([(r > 0.1) & (r < 0.9) for r in scaled])
    return np.where(np.isnan(scaled).any(axis=0), codes | 128, np.where(normal, codes | 16, codes)).astype(np.uint8)


def plain_labels(codes: np.ndarray) -> np.ndarray:
    """Filter by opening along time, label, then join over the date line."""
    mask = ((codes & 1) > 0) & ((codes & 14) > 0)
    mask = ndimage.binary_opening(mask, np.ones((3, 1, 1), bool))
    labels, n = ndimage.label(mask)
    parent = np.arange(n + 1)
    for a, b in {(a, b) for a, b in zip(labels[:, :, 0].ravel(), labels[:, :, -1].ravel(), strict=True) if a and b}:
        while parent[a] != a:
            a = parent[a]
        while parent[b] != b:
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    for i in range(n + 1):
        parent[i] = parent[parent[i]]
    return parent[labels]


def rate(cell_days: int, seconds: list[float]) -> dict[str, float]:
    middle = statistics.median(seconds)
    print(f"{cell_days / middle / 1e6:.2f} million cell-days/s", file=sys.stderr, flush=True)
    return {"seconds": round(middle, 3), "million_cell_days_per_s": round(cell_days / middle / 1e6, 3), "runs": len(seconds)}


def timed(call: Any, runs: int) -> tuple[list[float], Any]:
    seconds, result = [], None
    for _ in range(runs):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return seconds, result


def in_memory(args: argparse.Namespace) -> dict[str, Any]:
    """Core against plain on the same small grid, with equal codes and equal components."""
    ds = world(args.core[0], args.core[1], args.years)
    size = ds["tp"].size
    ev.detect(ds.isel(latitude=slice(0, 2)), threads=args.workers)
    out: dict[str, Any] = {"grid": list(args.core), "cell_days": size}
    seconds, found = timed(lambda: ev.detect(ds, threads=args.workers), args.runs)
    out["core period, all"] = rate(size, seconds)
    reference = (str(ds["time"].values[0])[:10], str(ds["time"].values[-1])[:10])
    seconds, _ = timed(lambda: ev.detect(ds, mode="doy", reference=reference, threads=args.workers), args.runs)
    out["core doy, all"] = rate(size, seconds)
    mask = ev.compound(found.cube["events"])
    seconds, labels = timed(lambda: ev.label_events(ev.filter_runs(mask, 3)), args.runs)
    out["core filter + labels from a dense mask"] = rate(size, seconds)
    seconds, codes = timed(lambda: plain_codes(ds), max(1, args.runs // 2))
    out["plain ranks + codes"] = rate(size, seconds)
    seconds, _ = timed(lambda: plain_labels(codes), max(1, args.runs // 2))
    out["plain filter + labels"] = rate(size, seconds)
    out["codes differ (float drift of cumsum)"] = int((codes != found.cube["events"].values).sum())
    pairs = np.unique(np.stack([labels.values.ravel(), plain_labels(found.cube["events"].values).ravel()]), axis=1)
    out["labels agree"] = bool(len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1])
    return out


def write_daily(path: Path, ny: int, nx: int, years: int, block: int) -> None:
    """A daily store with series-wise chunks, written in bands so that it never has to fit."""
    first = world(block, nx, years)
    lat = np.linspace(80, -80, ny)
    template = xr.Dataset(
        {name: (v.dims, np.broadcast_to(np.float32(0), (v.shape[0], ny, nx)), v.attrs) for name, v in first.items()},
        coords={"time": first["time"], "latitude": lat, "longitude": first["longitude"]},
    ).chunk({"latitude": block})
    chunks = (first.sizes["time"], block, min(nx, 45))
    template.to_zarr(path, compute=False, zarr_format=3, consolidated=False, encoding={name: {"chunks": chunks} for name in first})
    for i, row in enumerate(range(0, ny, block)):
        part = (first if i == 0 else first.roll(longitude=7 * i, roll_coords=False)).drop_vars(["time", "latitude", "longitude"])
        part = part.isel(latitude=slice(0, min(block, ny - row)))
        part.to_zarr(
            path,
            region={"latitude": slice(row, row + part.sizes["latitude"]), "time": slice(None), "longitude": slice(None)},
            consolidated=False,
        )


def child(args: argparse.Namespace) -> None:
    """One store run in this process: seconds and peak memory above what was in use before."""
    import psutil

    warnings.simplefilter("ignore")
    process = psutil.Process()
    warm = world(2, 4, 1)
    ev.detect(warm)
    before = process.memory_info().rss
    start, busy = time.perf_counter(), time.process_time()
    report = detect_events(args.child, args.out, mode=args.mode, memory=args.memory * MIB, workers=args.workers, overwrite=True)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    print(
        json.dumps(
            {"seconds": seconds, "peak_mib": (peak - before) / MIB, "cpu_seconds": busy, "tiles": report.tiles, "events": report.events}
        )
    )


def on_disk(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Store to store: a grid whose inputs just fit in the budget, and one several times as large."""
    out: dict[str, Any] = {"budget_mib": args.memory}
    days = n_days(args.years)
    for name, (ny, nx) in (("fits", args.small), ("does not fit", args.large)):
        path = folder / f"{ny}x{nx}.zarr"
        write_daily(path, ny, nx, args.years, min(ny, 8))
        for mode in ("period",) if args.quick else ("period", "doy"):
            words = [
                sys.executable,
                __file__,
                "--child",
                str(path),
                "--out",
                str(folder / "e.zarr"),
                "--mode",
                mode,
                "--memory",
                str(args.memory),
            ]
            runs = [
                json.loads(subprocess.run([*words, "--workers", str(args.workers)], check=True, stdout=subprocess.PIPE, text=True).stdout)
                for _ in range(args.runs)
            ]
            row = rate(days * ny * nx, [r["seconds"] for r in runs])
            row["cpu_seconds"] = round(statistics.median(r["cpu_seconds"] for r in runs), 2)
            row |= {"grid": [ny, nx], "inputs_mib": round(days * ny * nx * 12 / MIB), "peak_mib": round(max(r["peak_mib"] for r in runs))}
            print(name, mode, row, file=sys.stderr, flush=True)
            out[f"{name}, {mode}"] = row | {"tiles": runs[0]["tiles"], "events": runs[0]["events"]}
    small, large = out["fits, period"], out["does not fit, period"]
    out["large over small, per cell"] = round(large["million_cell_days_per_s"] / small["million_cell_days_per_s"], 3)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--years", type=float, default=30)
    parser.add_argument("--memory", type=float, default=1024, help="budget in MiB")
    parser.add_argument("--child")
    parser.add_argument("--out")
    parser.add_argument("--mode", default="period")
    args = parser.parse_args()
    if args.child:
        child(args)
        return
    args.core, args.small, args.large = (24, 60), (40, 180), (80, 360)
    if args.quick:
        args.years, args.runs, args.memory = 2, 1, 150
        args.core, args.small, args.large = (8, 16), (16, 40), (40, 90)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        results = {"cpus": os.cpu_count(), "workers": args.workers, "in memory": in_memory(args), "store": on_disk(args, Path(folder))}
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
