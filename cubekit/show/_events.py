"""A picture of dry-hot events: where, when, and which were largest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cubekit.errors import InputError
from cubekit.show._page import save
from cubekit.typing import FloatArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["EventPicture", "draw_events"]

_COLOURS = ("#4269d0", "#ff725c", "#3ca951", "#a463f2", "#efb118", "#6cc5b0", "#ff8ab7", "#9c6b4e")
_INK, _FAINT, _SEA, _QUIET = "#222222", "#8a8a8a", "#eef1f4", "#c9ccd1"


@dataclass(frozen=True, slots=True, eq=False)
class EventPicture:
    """What is drawn.

    Parameters
    ----------
    lon_edges, lat_edges
        Edges of the cells, degrees; (nx + 1,), (ny + 1,).
    days_per_year
        Mean number of event days per year, (ny, nx); NaN where there are no data.
    footprints
        Cells touched by each of the largest events, bool (k, ny, nx), largest first.
    top
        Their rows of the event table.
    track
        Area per event and day (km2) of all events.
    n_events
        Number of all events.
    first, last
        First and last day of the cube.
    title
        Heading; default says period and number of events.
    """

    lon_edges: FloatArray
    lat_edges: FloatArray
    days_per_year: FloatArray
    footprints: npt.NDArray[np.bool_]
    top: pd.DataFrame
    track: pd.DataFrame
    n_events: int
    first: np.datetime64
    last: np.datetime64
    title: str = ""


def draw_events(picture: EventPicture, path: Path) -> Path:
    """Draw map, time line and largest events; written at once under its name.

    Parameters
    ----------
    picture
        What to draw.
    path
        File to write; its suffix names the format.

    Returns
    -------
    Path
        The file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist", remedy="Make it first.", path=str(path))
    figure = Figure(figsize=(13, 8.2), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    wide = float(np.clip(4.6 * _stretch(picture) + 1.4, 4.5, 9.5))
    grid = figure.add_gridspec(2, 2, width_ratios=(wide, 13 - wide), height_ratios=(1.9, 1))
    _map(figure, figure.add_subplot(grid[0, 0]), picture)
    _largest(figure.add_subplot(grid[0, 1]), picture)
    _time_line(figure.add_subplot(grid[1, :]), picture)
    figure.suptitle(picture.title or _heading(picture), x=0.008, ha="left", fontsize=14, fontweight="bold", color=_INK)
    return save(figure, path)


def _heading(picture: EventPicture) -> str:
    first, last = (str(day)[:10] for day in (picture.first, picture.last))
    return f"{picture.n_events:,} dry-hot event{'s' * (picture.n_events != 1)}, {first} to {last}"


def _map(figure: Figure, axes: Axes, picture: EventPicture) -> None:
    import matplotlib as mpl

    days = picture.days_per_year
    top = float(np.nanmax(days, initial=0.0)) or 1.0
    colours = mpl.colormaps["YlOrRd"].with_extremes(bad=_SEA, under="#fafafa")
    low = 1e-9
    mesh = axes.pcolormesh(
        picture.lon_edges, picture.lat_edges, np.ma.masked_invalid(days), cmap=colours, vmin=low, vmax=top, rasterized=True
    )
    axes.set_facecolor(_SEA)
    for i, cells in enumerate(picture.footprints):
        _outline(axes, picture, cells, _COLOURS[i], 2.0 if i < 3 else 1.5)
    _degrees(axes, picture)
    bar = figure.colorbar(mesh, ax=axes, shrink=0.75, aspect=32, pad=0.015)
    bar.set_label("event days per year (grey: no data)", color=_INK)
    bar.outline.set_visible(False)
    axes.set_title("Where: event days per year; outlines: the largest", loc="left", fontsize=10, color=_INK)


def _outline(axes: Axes, picture: EventPicture, cells: npt.NDArray[np.bool_], colour: str, width: float) -> None:
    """The cell edges between touched and untouched cells."""
    from matplotlib.collections import LineCollection

    x, y = picture.lon_edges, picture.lat_edges
    padded = np.pad(cells, 1)
    rows, columns = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    lines = [((x[c], y[r]), (x[c + 1], y[r])) for r, c in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    lines += [((x[c], y[r]), (x[c], y[r + 1])) for r, c in zip(rows, columns, strict=True)]
    axes.add_collection(LineCollection(lines, colors="white", linewidths=width + 1.6, capstyle="round", zorder=3))
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, capstyle="round", zorder=4))


def _degrees(axes: Axes, picture: EventPicture) -> None:
    x, y = picture.lon_edges, picture.lat_edges
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(min(y[0], y[-1]), max(y[0], y[-1]))
    axes.set_aspect(1 / _shrink(picture), anchor="W")
    axes.xaxis.set_major_formatter(lambda v, _: _degree((v + 180) % 360 - 180, "EW"))
    axes.yaxis.set_major_formatter(lambda v, _: _degree(v, "NS"))
    axes.tick_params(colors=_FAINT, labelsize=8, length=3)
    for side in axes.spines.values():
        side.set_color(_QUIET)


def _shrink(picture: EventPicture) -> float:
    """Length of a degree of longitude over one of latitude at the middle of the map."""
    return max(0.35, float(np.cos(np.deg2rad((picture.lat_edges[0] + picture.lat_edges[-1]) / 2))))


def _stretch(picture: EventPicture) -> float:
    """Width over height of the map."""
    return float(np.ptp(picture.lon_edges) / np.ptp(picture.lat_edges)) * _shrink(picture)


def _degree(value: float, letters: str) -> str:
    number = f"{abs(value):.4g}°"
    return number if abs(value) < 1e-9 else number + (letters[1] if value < 0 else letters[0])


def _largest(axes: Axes, picture: EventPicture) -> None:
    top = picture.top
    axes.set_title("Largest: area × days", loc="left", fontsize=10, color=_INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_yticks([])
    if top.empty or not top["volume"].notna().any():
        axes.text(0.5, 0.5, "no events", transform=axes.transAxes, ha="center", color=_FAINT)
        axes.set_xticks([])
        return
    scale, unit = _scale(float(top["volume"].max()))
    places = np.arange(len(top))
    axes.barh(places + 0.18, top["volume"] / scale, height=0.3, color=_COLOURS[: len(top)])
    for place, (_, row) in zip(places, top.iterrows(), strict=True):
        axes.text(0, place - 0.12, _name(row), fontsize=8.5, color=_INK, va="center")
    axes.set_ylim(len(top) - 0.4, -0.5)
    axes.set_xlabel(f"{unit}km² days", color=_INK)
    axes.tick_params(colors=_FAINT, labelsize=8, length=3)
    axes.spines["bottom"].set_color(_QUIET)


def _name(row: Any) -> str:
    days = f"{row['duration']} days"
    heat = "" if np.isnan(row["t2m_max_peak"]) else f", up to {row['t2m_max_peak']:.1f} °C"
    dry = "" if np.isnan(row["pei_30_mean"]) else f", PEI30 {row['pei_30_mean']:.1f} mm/d".replace("-", "\N{MINUS SIGN}")
    return f"{row['start']:%-d %b %Y}, {days}{heat}{dry}"


def _scale(largest: float) -> tuple[float, str]:
    if largest >= 1e6:
        return 1e6, "million "
    return (1e3, "thousand ") if largest >= 1e3 else (1.0, "")


def _time_line(axes: Axes, picture: EventPicture) -> None:
    """Affected area per day: all events in grey, the largest in their colours on top."""
    first, last = (day.astype("datetime64[D]") for day in (picture.first, picture.last))
    days = np.arange(first, last + np.timedelta64(1, "D"))
    place = (picture.track["time"].to_numpy().astype("datetime64[D]") - first).astype(int)
    area = picture.track["area"].fillna(0).to_numpy()
    scale, unit = _scale(float(np.bincount(place, weights=area).max()) if place.size else 1.0)
    total = np.bincount(place, weights=area, minlength=days.size) / scale
    axes.fill_between(days, total, step="mid", color=_QUIET, linewidth=0.6, edgecolor=_QUIET, label="all events")
    base = np.zeros(days.size)
    for i, label in enumerate(picture.top["label"]):
        mine = picture.track["label"].to_numpy() == label
        part = np.bincount(place[mine], weights=area[mine], minlength=days.size) / scale
        shown = part > 0
        upper = base + part
        axes.fill_between(days, base, upper, where=shown, step="mid", color=_COLOURS[i], edgecolor=_COLOURS[i], linewidth=1.2)
        _mark(axes, days, upper, shown, _COLOURS[i])
        base = np.where(shown, upper, base)
    axes.set_xlim(days[0], days[-1])
    axes.set_ylim(0, max(float(total.max(initial=0.0)) * 1.15, 1e-9))
    axes.set_ylabel(f"{unit}km²", color=_INK)
    axes.set_title("When: area in events each day; grey: all events, colours: the largest", loc="left", fontsize=10, color=_INK)
    axes.tick_params(colors=_FAINT, labelsize=8, length=3)
    axes.grid(axis="y", color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_QUIET)


def _mark(axes: Axes, days: Any, upper: Any, shown: Any, colour: str) -> None:
    """A small triangle above the event's widest day: in a long record the event itself is a hair line."""
    if shown.any():
        peak = int(np.where(shown, upper, -1.0).argmax())
        axes.plot(days[peak], upper[peak], marker="v", markersize=7, color=colour, markeredgecolor="white", clip_on=False, zorder=5)
