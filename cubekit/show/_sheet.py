"""One page that shows a cube."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cubekit.errors import InputError
from cubekit.layout import CLIMATE, EVENTS, decoded, group_dataset
from cubekit.show._page import picture_path, save
from cubekit.show._panels import INK, MUTED, draw_climate, draw_events, draw_ndvi, draw_status, hot_dry_spells
from cubekit.show._scenes import choose_scenes, compose, ndvi, shares

__all__ = ["contact_sheet"]

_WIDTH, _MARGIN = 10.0, 0.62  # inches
_HEADER, _GAP, _FOOTER = 0.64, 0.34, 0.42
_HEIGHTS = {"ndvi": 1.45, "status": 0.72, "climate": 1.35}
_BALANCES = ("pei_30", "pei_90", "pei_180")


def contact_sheet(cube: xr.DataTree, path: str | os.PathLike[str], *, scenes: int = 8, title: str | None = None, dpi: int = 200) -> Path:
    """Draw a cube on one page and write it as a picture.

    From top to bottom: the clearest scenes spread over the time axis, in one common stretch; NDVI of the land that is free of clouds and
    snow (median, quartiles, stronger where more is clear); for each time step the share of pixels by what became of them; and, where the
    cube has them, temperature and water balance with hot days, drought days and their coincidence. All panels share the time axis.

    Parameters
    ----------
    cube
        What `cubekit.store.open_cube` returns, or an assembled tree.
    path
        Of the picture to write (.png, .pdf or .svg); folders are made.
    scenes
        Number of pictures at most.
    title
        Instead of the cube's own.
    dpi
        Dots per inch; the page is 10 inches wide.

    Returns
    -------
    pathlib.Path
        Of the picture.

    Raises
    ------
    InputError
        For a cube without imagery, another format, or fewer than one scene asked for.
    CommitError
        If the picture cannot be written.
    """
    if not 1 <= scenes <= 16:
        raise InputError(f"scenes must lie between 1 and 16, got {scenes}", remedy="Leave it at 8")
    out = picture_path(path)
    tree = decoded(cube)
    imagery = group_dataset(tree, "/")
    if imagery.sizes.get("time", 0) == 0 or not {"y", "x"} <= set(imagery.sizes):
        raise InputError("The cube has no imagery to draw", remedy="Show a cube with at least one scene")
    return save(_draw(tree, imagery, scenes, title), out, dpi=dpi)


def _draw(tree: xr.DataTree, imagery: xr.Dataset, scenes: int, title: str | None) -> Any:
    # A figure of its own with its own canvas: pyplot would keep state for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    time, share = imagery["time"].values, shares(imagery)
    chosen = choose_scenes(time, share.clear, scenes)
    pictures, quartiles = compose(imagery, chosen), ndvi(imagery)
    climate = group_dataset(tree, CLIMATE) if CLIMATE in tree.children else None
    events = group_dataset(tree, EVENTS) if EVENTS in tree.children else None
    events = events if events is not None and "events" in events and events["events"].dims == ("time",) else None
    balance = _balance(climate, events)
    panels = (["ndvi"] if quartiles is not None else []) + ["status"]
    panels += ["climate"] if balance is not None or climate is not None else []

    inner = _WIDTH - 2 * _MARGIN
    tile = inner / max(len(chosen), 4)
    strip = tile * imagery.sizes["y"] / imagery.sizes["x"] + 0.20 if pictures else 0.0
    height = _HEADER + strip + sum(_HEIGHTS[name] + _GAP for name in panels) + _FOOTER
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    FigureCanvasAgg(figure)
    _header(figure, tree, title, height, pictures[1] if pictures else "")
    if pictures:
        _strip(figure, pictures[0], [(time[i], share.clear[i]) for i in chosen], tile, _HEADER, height, _scale(tree))
    axes, top = {}, _HEADER + strip
    for name in panels:
        top += _GAP
        box = (_MARGIN / _WIDTH, 1 - (top + _HEIGHTS[name]) / height, inner / _WIDTH, _HEIGHTS[name] / height)
        axes[name] = figure.add_axes(box)
        top += _HEIGHTS[name]
    if quartiles is not None:
        draw_ndvi(axes["ndvi"], time, quartiles, share.clear, chosen if pictures else [])
    draw_status(axes["status"], time, share)
    if "climate" in axes:
        draw_climate(axes["climate"], climate if climate is not None else xr.Dataset(), balance)
    if events is not None:
        _mark_events(axes, events)
    _share_time(figure, axes, time)
    return figure


def _balance(*groups: xr.Dataset | None) -> xr.DataArray | None:
    return next((ds[name] for name in _BALANCES for ds in groups if ds is not None and name in ds and ds[name].dims == ("time",)), None)


def _header(figure: Any, tree: xr.DataTree, title: str | None, height: float, colours: str) -> None:
    attrs = tree.attrs
    left, right = _MARGIN / _WIDTH, 1 - _MARGIN / _WIDTH
    lat, lon = (float(attrs.get(key, np.nan)) for key in ("site_latitude", "site_longitude"))
    where = "" if np.isnan(lat) else f"{abs(lat):.4f}° {'S' if lat < 0 else 'N'}, {abs(lon):.4f}° {'W' if lon < 0 else 'E'}"
    sizes = tree.to_dataset(inherit=False).sizes
    transform = list(attrs.get("spatial:transform", []))
    grid = f"{sizes['x']} × {sizes['y']} px" + (f" at {transform[0]:g} m" if transform else "")
    facts = [text for text in (where, str(attrs.get("proj:code", "")), grid, f"{sizes['time']} time steps", colours) if text]
    figure.text(left, 1 - 0.30 / height, title or str(attrs.get("title", "cube")), fontsize=12, fontweight="bold", color=INK, va="center")
    figure.text(left, 1 - 0.50 / height, "   ·   ".join(facts), fontsize=7.5, color=MUTED, va="center")
    digest = str(attrs.get("content_digest", "")).removeprefix("sha256:")[:12]
    figure.text(right, 1 - 0.50 / height, digest, fontsize=6, color=MUTED, va="center", ha="right", family="monospace")


def _scale(tree: xr.DataTree) -> float | None:
    transform = list(tree.attrs.get("spatial:transform", []))
    return float(transform[0]) if transform else None


def _strip(
    figure: Any, pictures: Any, labels: list[tuple[Any, float]], tile: float, top: float, height: float, pixel: float | None
) -> None:
    gap = 0.05
    rows, columns = pictures.shape[1:3]
    tall = (tile - gap) * rows / columns
    for index, (picture, (moment, clear)) in enumerate(zip(pictures, labels, strict=True)):
        left = _MARGIN + index * tile + gap / 2
        axis = figure.add_axes((left / _WIDTH, 1 - (top + tall + 0.12) / height, (tile - gap) / _WIDTH, tall / height))
        axis.imshow(picture, interpolation="nearest")
        axis.set_axis_off()
        day = np.datetime_as_string(moment, "D")
        middle = (left + (tile - gap) / 2) / _WIDTH
        figure.text(middle, 1 - (top + tall + 0.20) / height, day, fontsize=6.5, color=INK, ha="center", va="center")
        figure.text(middle, 1 - (top + tall + 0.32) / height, f"{clear:.0%} clear", fontsize=5.8, color=MUTED, ha="center", va="center")
        if index == 0 and pixel:
            _scale_bar(axis, rows, columns, pixel)


def _scale_bar(axis: Any, rows: int, columns: int, pixel: float) -> None:
    goal = columns * pixel / 3
    length = max(size for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000) if size <= max(goal, 1))
    x, y = 0.06 * columns, 0.93 * rows
    for colour, width in (("white", 2.6), (INK, 1.2)):
        axis.plot([x, x + length / pixel], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    text = axis.text(x, y - 0.03 * rows, label, fontsize=5.5, color=INK, va="bottom")
    from matplotlib.patheffects import withStroke

    text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])


def _mark_events(axes: dict[str, Any], events: xr.Dataset) -> None:
    spells = hot_dry_spells(events)
    for name, axis in axes.items():
        if name != "status":
            for start, end in spells:
                axis.axvspan(start, end, color="#b8382f", alpha=0.13, linewidth=0, zorder=0)
    lowest = axes.get("climate", axes.get("ndvi"))
    if lowest is not None:
        draw_events(lowest, events["events"])
        note = "strips: hot days (red), drought (brown)" + ("; shaded: both at once" if spells else "")
        lowest.text(1.0, 1.03, note, transform=lowest.transAxes, fontsize=6.5, color=MUTED, ha="right", va="bottom")


def _share_time(figure: Any, axes: dict[str, Any], time: Any) -> None:
    from matplotlib import dates

    automatic: Any = dates.AutoDateLocator
    concise: Any = dates.ConciseDateFormatter

    margin = max((time[-1] - time[0]) / 60, np.timedelta64(3, "D"))
    last = list(axes)[-1]
    for name, axis in axes.items():
        axis.set_xlim(time[0] - margin, time[-1] + margin)
        locator = automatic(minticks=5, maxticks=12)
        axis.xaxis.set_major_locator(locator)
        axis.xaxis.set_major_formatter(concise(locator))
        axis.xaxis.get_offset_text().set_fontsize(6.5)
        axis.xaxis.get_offset_text().set_color(MUTED)
        if name != last:
            axis.tick_params(labelbottom=False)
            axis.xaxis.get_offset_text().set_visible(False)
