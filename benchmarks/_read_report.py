"""Results as JSON, Markdown and a chart."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

__all__ = ["report"]

SHAPES = {"pc": "items of Planetary Computer", "es": "items of Earth Search"}
KEYS = ("tile", "resolution", "latency_ms", "items")
START, END = "<!-- read benchmark: start -->", "<!-- read benchmark: end -->"


def report(results: dict[str, Any], out: Path, docs: Path | None) -> None:
    """Write ``read.json``, ``read.md`` and ``read.png`` to `out`; with `docs` also into performance.md there, between its markers."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "read.json").write_text(json.dumps(results, indent=1))
    text = _markdown(results)
    (out / "read.md").write_text(text)
    if results["runs"]:
        _chart(results, out / "read.png")
    if docs is not None:
        page = docs / "performance.md"
        (docs / "performance-read.png").write_bytes((out / "read.png").read_bytes())
        block = f"{START}\n\n{text}\n![Reading 128 px windows](performance-read.png)\n\n{END}"
        page.write_text(re.sub(f"{re.escape(START)}.*{re.escape(END)}", lambda _: block, page.read_text(), flags=re.S))


def _markdown(results: dict[str, Any]) -> str:
    machine = results["machine"]
    lines = [f"{results['scenes']} scenes x 8 bands, 128 px; {machine['cores']} cores, Python {machine['python']}; medians.", ""]
    for limit in results["limits"]:
        key = {name: limit[name] for name in KEYS}
        rows = [row for row in results["runs"] if all(row[name] == value for name, value in key.items())]
        ours = next((row["wall"] for row in rows if row["reader"] == "cubekit"), None)
        fetch = ", ".join(f"{name.removeprefix('fetch_')} {limit[name]:.2f} s" for name in limit if name.startswith("fetch_"))
        lines += [
            f"### {key['resolution']} m, tiles of {key['tile']}, {key['latency_ms']:g} ms to the first byte, {SHAPES[key['items']]}",
            "",
            f"Limit {limit['limit']:.2f} s: fetching the needed {limit['bytes'] / 1e6:.0f} MB ({fetch}), inflating the needed"
            f" {limit['inflated_bytes'] / 1e6:.0f} MB on all cores {limit['inflate']:.2f} s. Both on one machine: {_together(limit, machine['cores'])}",
            "",
            "| reader | wall s | / cubekit | / limit | imports s | CPU s | requests (HEAD) | MB | peak MB | runs | pixels |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in sorted(rows, key=lambda row: -row["wall"]):
            ratio = f"{row['wall'] / ours:.1f}" if ours else ""
            lines.append(
                f"| {row['reader']} | {row['wall']:.2f} | {ratio} | {row['wall'] / limit['limit']:.2f} | {row['imports']:.1f} | {row['cpu']:.2f}"
                f" | {row['requests']:.0f} ({row['heads']:.0f}) | {row['bytes'] / 1e6:.0f} | {row['peak_mb']:.0f} | {row['runs']}"
                f" | {row['digest']} |"
            )
        lines.append("")
    lines += [
        "### Other jobs (10 m, tiles of 512, 50 ms)",
        "",
        "| job | reader | wall s | requests | MB | remarks |",
        "|---|---|---|---|---|---|",
    ]
    for row in (row for rows in results["jobs"].values() for row in rows):
        remarks = [f"{row[key]:g} {key}" for key in ("holes", "retries", "misses") if row.get(key)]
        if "ideal" in row:
            remarks.append(f"{row['ideal']:.2f} s for the bytes at the line's rate")
        lines.append(
            f"| {row['job']} | {row['reader']} | {row['wall']:.2f} | {row['requests']:.0f} | {row['bytes'] / 1e6:.0f} | {', '.join(remarks)} |"
        )
    return "\n".join([*lines, ""])


def _together(limit: dict[str, Any], cores: int) -> str:
    """The least time that fetching and inflating take where they share the processors with the server."""
    parts = limit["cpu_fetch"], limit["cpu_server"], limit["cpu_inflate"]
    idle = 2 * limit["latency_ms"] / 1000  # two round trips before there is anything to inflate
    told = "client {:.2f}, server {:.2f}, inflating {:.2f} s of processor time".format(*parts)
    return f"{told}, over {cores} cores and after two round trips {sum(parts) / cores + idle:.2f} s."


def _chart(results: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    limit = results["limits"][0]  # Job A
    rows = [row for row in results["runs"] if all(row[key] == limit[key] for key in KEYS)]
    rows.sort(key=lambda row: row["wall"])
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(rows) + 1.4), layout="constrained")
    colours = ["#1b7837" if row["reader"].startswith("cubekit") else "#9aa5b1" for row in rows]
    bars = axes.barh([row["reader"] for row in rows], [row["wall"] for row in rows], color=colours)
    axes.bar_label(bars, [f" {row['wall']:.2f} s" for row in rows])
    axes.axvline(limit["limit"], color="#b2182b", linestyle="--", label=f"limit {limit['limit']:.2f} s")
    axes.set_xscale("log")
    axes.set_xlabel(
        f"seconds (log) for {results['scenes']} scenes x 8 bands, 128 px at {limit['resolution']} m, {limit['latency_ms']:g} ms latency"
    )
    axes.legend(loc="lower right")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
