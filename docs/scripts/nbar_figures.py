"""Figures and tables of docs/nbar.md, from real granules: ``python docs/scripts/nbar_figures.py`` (needs the shared data).

Writes ``docs/figures/nbar_*.png`` and the tables between the markers in ``docs/nbar.md``.
"""

from __future__ import annotations

import os
import warnings
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from cubekit.errors import ScienceWarning
from cubekit.nbar import CField, c_factor, parse_granule_angles, rasterise_detfoo
from cubekit.nbar._compat import compat_axes, compat_c, compat_pixels
from cubekit.nbar._pixels import labels

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("CUBEKIT_SHARED") or ROOT.parent / "shared") / "data" / "nbar" / "metadata"
BANDS = ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12"]
PITCH = 600.0


def pixels(field: CField, pitch: float) -> tuple[np.ndarray, np.ndarray]:
    n = int(109_800 / pitch)
    return field.angles.ulx + pitch * (np.arange(n) + 0.5), field.angles.uly - pitch * (np.arange(n) + 0.5)


def near_seen(field: CField, band: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pixels whose nearest node some detector saw: where the granule has data, to within half a cell."""
    u, v = field.node_coordinates(x, y)
    return field.views[band].seen.any(axis=0)[np.rint(v).astype(int), np.rint(u).astype(int)]


def versions(field: CField, band: str, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """c of one band by the right way and by each shortcut."""
    seen, mean = (field.c([band], x, y, detectors=how)[0][0].astype(float) for how in ("seen", "mean"))
    nodes = compat_c(field.angles, [band])
    compat = compat_pixels(nodes, *compat_axes(field.angles), x, y)[0]
    unshifted = compat_pixels(nodes, field.angles.x, field.angles.y, x, y)[0]
    return {"right": seen, "mean of view vectors": mean, "nodes shifted by half a cell": compat - unshifted, "sen2nbar": compat}


def differences() -> str:
    """Table: size of each shortcut over all granules."""
    found: dict[str, list[np.ndarray]] = {}
    for xml in sorted(DATA.glob("*.xml")):
        field = CField.from_angles(parse_granule_angles(xml.read_bytes()), BANDS)
        x, y = pixels(field, PITCH)
        for band in field.views:
            inside = near_seen(field, band, x, y)
            c = versions(field, band, x, y)
            parts = {
                "the whole correction, abs(c - 1)": c["right"] - 1,
                "sen2nbar against cubekit": c["sen2nbar"] - c["right"],
                "of which: nodes shifted by half a cell": c["nodes shifted by half a cell"],
                '`detectors="mean"` against `"seen"`': c["mean of view vectors"] - c["right"],
            }
            for name, part in parts.items():
                found.setdefault(name, []).append(np.abs(100 * part / c["right"])[inside])
    lines = ["| difference, % of reflectance | mean | 99th percentile | maximum |", "|---|---|---|---|"]
    for name, values in found.items():
        joined = np.concatenate(values)
        lines.append(f"| {name} | {joined.mean():.2f} | {np.percentile(joined, 99):.2f} | {joined.max():.2f} |")
    return "\n".join(lines)


def seam_table() -> str:
    """Table: seams of footprints rebuilt from angles against MSK_DETFOO."""
    lines = [
        "| granule | pixels whose detector agrees, worst band | seam between detectors | nodes they saw | off by, median | worst row and band |",
        "|---|---|---|---|---|---|",
    ]
    for folder in sorted((DATA / "detfoo").iterdir()):
        angles = parse_granule_angles((DATA / f"{folder.name}.xml").read_bytes())
        field = CField.from_angles(angles, BANDS)
        x, y = pixels(field, 20.0)
        y = y[::20]
        agree, offs, nodes = [], {}, {}
        for band, view in field.views.items():
            truth = rasterise_detfoo((folder / f"MSK_DETFOO_{band}.gml").read_bytes(), x, y)
            found = view.detectors[labels(*field.node_coordinates(x, y), view.seams)]
            agree.append((truth == found)[truth > 0].mean())
            seen = dict(zip(view.detectors.tolist(), view.seen.sum(axis=(1, 2)).tolist(), strict=True))
            for west, east in pairwise(view.detectors.tolist()):
                nodes.setdefault((west, east), []).append((seen[west], seen[east]))
                for row in range(len(y)):
                    there = np.flatnonzero(truth[row] == east)
                    if there.size and (truth[row] == west).any() and (found[row] == east).any():
                        off = 20.0 * abs(int(there[0]) - int(np.argmax(found[row] == east)))
                        offs.setdefault((west, east), []).append(off)
        share = f"{100 * min(agree):.2f} %"
        for pair, off in offs.items():
            few = " and ".join(str(min(counts)) for counts in zip(*nodes[pair], strict=True))
            lines.append(f"| {folder.name[8:14]} | {share} | {pair[0]} and {pair[1]} | {few} | {np.median(off):.0f} m | {max(off):.0f} m |")
    return "\n".join(lines)


def map_figure() -> None:
    """c of one granule as cubekit and as sen2nbar have it, and the difference."""
    xml = next(DATA.glob("*T23LLF*.xml"))
    field = CField.from_angles(parse_granule_angles(xml.read_bytes()), ["B08"])
    x, y = pixels(field, 200.0)
    c = versions(field, "B08", x, y)
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained")
    extent = (0, 109.8, 0, 109.8)
    for ax, name, title in zip(axes, ("right", "sen2nbar"), ("cubekit: detector that saw the pixel", "sen2nbar"), strict=False):
        image = ax.imshow(c[name], extent=extent, cmap="viridis", vmin=c["right"].min(), vmax=c["right"].max())
        ax.set_title(title, fontsize=10)
    fig.colorbar(image, ax=axes[:2], label="c of B08", shrink=0.85)
    difference = 100 * (c["sen2nbar"] / c["right"] - 1)
    limit = float(np.percentile(np.abs(difference), 99.5))
    image = axes[2].imshow(difference, extent=extent, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes[2].set_title("difference", fontsize=10)
    fig.colorbar(image, ax=axes[2], label="% of reflectance", shrink=0.85)
    for ax in axes:
        ax.set_xlabel("km")
    fig.suptitle(f"Granule T{field.angles.tile}, {str(field.angles.sensing_time)[:10]}", fontsize=11)
    fig.savefig(ROOT / "docs" / "figures" / "nbar_map.png", dpi=110)
    plt.close(fig)


def kernel_figure() -> None:
    """c across the swath, towards and away from the sun."""
    fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    view = np.linspace(-12, 12, 121)
    for band, colour in (("B02", "tab:blue"), ("B04", "tab:red"), ("B08", "tab:brown"), ("B12", "tab:gray")):
        for zenith, style in ((30.0, "-"), (60.0, "--")):
            c = c_factor(zenith, np.abs(view), np.where(view < 0, 180.0, 0.0), [band]).values[0]
            ax.plot(view, c, style, color=colour, label=f"{band}, sun zenith {zenith:g}°")
    ax.axhline(1, color="0.8", lw=0.8, zorder=0)
    ax.set_xlabel("view zenith in the principal plane, degrees (sun to the right)")
    ax.set_ylabel("c")
    ax.legend(fontsize=7, ncols=2)
    fig.savefig(ROOT / "docs" / "figures" / "nbar_c.png", dpi=110)
    plt.close(fig)


def insert(name: str, text: str) -> None:
    page = ROOT / "docs" / "nbar.md"
    before, rest = page.read_text().split(f"<!-- {name}: begin -->")
    page.write_text(f"{before}<!-- {name}: begin -->\n{text}\n<!-- {name}: end -->{rest.split(f'<!-- {name}: end -->')[1]}")


if __name__ == "__main__":
    warnings.simplefilter("ignore", ScienceWarning)
    map_figure()
    kernel_figure()
    for table_name, made in (("differences", differences()), ("seams", seam_table())):
        print(made)
        insert(table_name, made)
