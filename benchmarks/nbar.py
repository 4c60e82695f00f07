"""NBAR side by side with sen2nbar: a stack of dates end to end from local metadata, and one full band.

    python benchmarks/nbar.py             # minutes: medians of five runs; installs sen2nbar under build/ if it is not there
    python benchmarks/nbar.py --docs      # also writes the table into docs/nbar.md
    python benchmarks/nbar.py --quick     # seconds: one small run, sen2nbar beside it only where it is installed already

What sen2nbar is asked: its own ``c_factor_from_metadata`` and ``_extrapolate_c_factor`` and, line for line in effect, the array
statements of its ``nbar_stac`` (stack) and ``nbar_SAFE`` (band). Nothing is patched. Left out on both sides are the catalogue, the download and the
decoding of images. Ours takes the place of the digital numbers, as in the Sentinel-2 layer and in `nbar_safe`; sen2nbar makes new arrays. Every
date's metadata is read and parsed anew on both sides. Every run is a process of its own; time is wall time after
imports and after one warm-up on a small case.
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
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PEER = ROOT / "build" / "bench-sen2nbar"
BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12"]
GRANULE = "S2A_L2A_T01WCP_20230625T234755_N0509.xml"
MARKS = ("<!-- benchmark: begin -->", "<!-- benchmark: end -->")
SIZE = 128


def data_folder() -> Path:
    return Path(os.environ.get("CUBEKIT_SHARED") or ROOT.parent / "shared") / "data" / "nbar" / "metadata"


def setup() -> None:
    """Install sen2nbar in an environment of its own, where it cannot disturb anything."""
    print(f"installing sen2nbar into {PEER.relative_to(ROOT)}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEER)], check=True)
    subprocess.run([str(PEER / "bin" / "python"), "-m", "pip", "install", "--quiet", "sen2nbar==2024.6.0", "setuptools<81"], check=True)
    (PEER / "ready").touch()


def corner(xml: Path) -> tuple[float, float]:
    text = xml.read_text()
    return tuple(float(text.split(f"<{tag}>")[1].split("<")[0]) for tag in ("ULX", "ULY"))  # type: ignore[return-value]


def axes(xml: Path, size: int, offset: float) -> tuple[np.ndarray, np.ndarray]:
    ulx, uly = corner(xml)
    return ulx + offset + 10 * (np.arange(size) + 0.5), uly - offset - 10 * (np.arange(size) + 0.5)


def numbers(*shape: int) -> np.ndarray:
    dn = np.random.default_rng(0).integers(1, 12_000, shape, dtype=np.uint16)
    dn[..., ::97] = 0
    return dn


# --- ours ---


def our_stack(xml: Path, dn: np.ndarray) -> np.ndarray:
    from cubekit.nbar import harmonise, map_granules, patch

    x, y = axes(xml, dn.shape[-1], 54_000)
    paths = [Path(str(xml)) for _ in range(dn.shape[0])]  # as many objects as dates: one object would be read once
    patches = map_granules(lambda field: patch(field, BANDS, x, y), paths, BANDS)
    return harmonise(dn, patches, -1000.0, parallel=True, out=dn.view(np.int16)).values


def our_band(xml: Path, dn: np.ndarray) -> np.ndarray:
    from cubekit.nbar import CField, harmonise, parse_granule_angles, patch

    x, y = axes(xml, dn.shape[-1], 0)
    field = CField.from_angles(parse_granule_angles(xml.read_bytes(), bands=["B02"]), ["B02"])
    return harmonise(dn, [patch(field, ["B02"], x, y)], -1000.0, parallel=True, out=dn.view(np.int16)).values


def kernel_against_copy(dn: np.ndarray, xml: Path) -> dict[str, float]:
    """Seconds of the fused pass alone, into a touched array and in place, and of a two-thread copy of the same array; turn by turn."""
    from cubekit.nbar import CField, harmonise, parse_granule_angles, patch

    offset = 0 if dn.shape[-1] > 1000 else 54_000
    names = BANDS[: dn.shape[1]]
    x, y = axes(xml, dn.shape[-1], offset)
    field = CField.from_angles(parse_granule_angles(xml.read_bytes()), names)
    known = [patch(field, names, x, y) for _ in range(dn.shape[0])]
    out = np.empty(dn.shape, dtype=np.int16)
    flat, target, half = dn.reshape(-1), out.view(np.uint16).reshape(-1), dn.size // 2
    with ThreadPoolExecutor(max_workers=2) as pool:

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(target[part], flat[part]), (slice(0, half), slice(half, None))))

        def kernel() -> None:
            harmonise(dn, known, -1000.0, parallel=True, out=out)

        def in_place() -> None:
            harmonise(again, known, -1000.0, parallel=True, out=again.view(np.int16))

        again = dn.copy()
        spent: dict[str, list[float]] = {"copy": [], "kernel": [], "in_place": []}
        for _ in range(12):
            np.copyto(again, dn)  # and then the copy, so that nothing of it is left in the caches
            for name, work in (("copy", copy), ("kernel", kernel), ("in_place", in_place)):
                spent[name].append(clock(work))
    return {name: statistics.median(times[1:]) for name, times in spent.items()}


# --- sen2nbar, in its own environment ---


def peer_stack(xml: Path, dn: np.ndarray) -> np.ndarray:
    import xarray as xr
    from sen2nbar.c_factor import c_factor_from_metadata
    from sen2nbar.utils import _extrapolate_c_factor

    x, y = axes(xml, dn.shape[-1], 54_000)
    times = np.arange(dn.shape[0])
    da = xr.DataArray(dn, dims=("time", "band", "y", "x"), coords={"time": times, "band": BANDS, "y": y, "x": x})
    factors = []
    for _ in times:
        c = _extrapolate_c_factor(c_factor_from_metadata(str(xml)))
        factors.append(c.interp(y=da.y.values, x=da.x.values, method="linear", kwargs={"fill_value": "extrapolate"}))
    harmonize = xr.DataArray(np.full(len(times), -1000), dims="time", coords={"time": times})
    da = da.where(lambda v: v > 0, other=np.nan) + harmonize
    c = xr.concat(factors, dim="time")
    c["time"] = times
    da = (da * c).astype("float32")
    return da.where(lambda v: np.isfinite(v), other=np.nan).values


def peer_band(xml: Path, dn: np.ndarray) -> np.ndarray:
    import xarray as xr
    from sen2nbar.c_factor import c_factor_from_metadata
    from sen2nbar.utils import _extrapolate_c_factor

    x, y = axes(xml, dn.shape[-1], 0)
    c = _extrapolate_c_factor(c_factor_from_metadata(str(xml)))
    img = xr.DataArray(dn[0], dims=("band", "y", "x"), coords={"band": [1], "y": y, "x": x})
    img = img.where(lambda v: v > 0, other=np.nan) - 1000
    img = img * c.sel(band="B02").drop_vars("band").interp(y=img.y, x=img.x, method="linear", kwargs={"fill_value": "extrapolate"})
    with np.errstate(invalid="ignore"):
        return img.round().astype("int16").values


RUNS: dict[tuple[str, str], Callable[[Path, np.ndarray], np.ndarray]] = {
    ("ours", "stack"): our_stack,
    ("ours", "band"): our_band,
    ("sen2nbar", "stack"): peer_stack,
    ("sen2nbar", "band"): peer_band,
}


# --- one run per process ---


def clock(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def child(side: str, case: str, dates: int, size: int) -> None:
    """Run one case and print its time and memory as JSON."""
    xml = data_folder() / GRANULE
    run = RUNS[side, case]
    run(xml, numbers(2, len(BANDS), 16, 16) if case == "stack" else numbers(1, 1, 64, 64))
    dn = numbers(dates, len(BANDS), SIZE, SIZE) if case == "stack" else numbers(1, 1, size, size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = clock(lambda: run(xml, dn))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found: dict[str, float] = {"seconds": seconds, "peak_mb": peak / 1024, "before_mb": before / 1024, "input_mb": dn.nbytes / 2**20}
    if side == "ours":
        found |= kernel_against_copy(numbers(*dn.shape), xml)
    print(json.dumps(found))


def measure(sides: list[str], case: str, dates: int, size: int, repeats: int) -> dict[str, dict[str, float]]:
    """Medians of each side, which take turns: the machine is not as fast in one minute as in the next."""
    answers: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for turn in range(repeats):
        for side, found in answers.items():
            python = sys.executable if side == "ours" else str(PEER / "bin" / "python")
            env = os.environ | {"PYTHONPATH": str(ROOT) if side == "ours" else "", "PYTHONWARNINGS": "ignore"}
            command = [python, str(Path(__file__)), "--child", side, case, "--dates", str(dates), "--size", str(size)]
            out = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
            found.append(json.loads(out.splitlines()[-1]))
            print(f"{case}, {side}, run {turn + 1} of {repeats}: {found[-1]['seconds']:.3f} s", file=sys.stderr, flush=True)
    return {side: {key: statistics.median(answer[key] for answer in found) for key in found[0]} for side, found in answers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--dates", type=int, default=500)
    parser.add_argument("--size", type=int, default=10_980)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "CASE"))
    options = parser.parse_args()
    if options.quick and options.docs:
        parser.error("a quick run is no measurement: --docs needs a full one")
    if options.quick:
        options.dates, options.size, options.repeats = 10, 1098, 1
    if options.child:
        child(*options.child, options.dates, options.size)
        return
    if not data_folder().is_dir():
        print(f"no granule metadata in {data_folder()} (set CUBEKIT_SHARED): nothing measured")
        return
    if not (PEER / "ready").exists() and not options.quick:
        setup()
    text = table(options.dates, options.size, options.repeats)
    print(text)
    if options.docs:
        page = ROOT / "docs" / "nbar.md"
        before, rest = page.read_text().split(MARKS[0])
        page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


def table(dates: int, size: int, repeats: int) -> str:
    sides = ["ours", "sen2nbar"] if (PEER / "ready").exists() else ["ours"]
    lines = [
        f"Median of {repeats} runs each, turn by turn, {os.cpu_count()} cores ({platform.machine()}), {GRANULE.removesuffix('.xml')} (7 detectors).",
        *([] if len(sides) == 2 else ["sen2nbar is not installed here and was not measured; a full run installs it."]),
        "",
        "| case | cubekit | sen2nbar | ratio | peak memory cubekit | peak memory sen2nbar | two-thread copy | fused pass in place | into another array |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, label in (
        ("stack", f"{dates} dates x {len(BANDS)} bands x {SIZE} px, from XML"),
        ("band", f"one band of {size} px, from XML"),
    ):
        found = measure(sides, case, dates, size, repeats)
        ours = found["ours"]
        shares = [f"{ours[name] * 1e3:.1f} ms = {ours['copy'] / ours[name]:.0%} of its speed" for name in ("in_place", "kernel")]
        share = " | ".join([f"{ours['copy'] * 1e3:.1f} ms", *shares])
        theirs = ratio = memory = "-"
        if "sen2nbar" in found:
            theirs, memory = f"{found['sen2nbar']['seconds']:.2f} s", f"{found['sen2nbar']['peak_mb']:.0f} MB"
            ratio = f"{found['sen2nbar']['seconds'] / ours['seconds']:.0f}x"
        lines.append(f"| {label} | {ours['seconds']:.3f} s | {theirs} | {ratio} | {ours['peak_mb']:.0f} MB | {memory} | {share} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
