"""Where the sites are: a world map, or a map of their region, coloured by group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj

from cubekit.errors import InputError
from cubekit.show._page import picture_path, save
from cubekit.typing import Float1D, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["sites_map"]

_WORLD = "+proj=eqearth +R=6371008.8"
_COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
_GRID: dict[str, Any] = {"color": "#d4d4d4", "linewidth": 0.6, "zorder": 1}


def sites_map(
    lon: Float1D,
    lat: Float1D,
    path: str | os.PathLike[str],
    *,
    group: Sequence[Any] | None = None,
    group_name: str = "group",
    title: str = "",
) -> Path:
    """Draw sites on an equal-area map with a graticule and write it as a picture.

    Sites that span more than 100 degrees of longitude or 80 of latitude, or come within 15 degrees of a pole, are drawn on the whole
    Earth (Equal Earth projection); others on a Lambert azimuthal equal-area map around their middle.

    Parameters
    ----------
    lon, lat
        Degrees, shape (n,).
    path
        File to make: .png, .pdf or .svg.
    group
        Group of each site; gives its colour and a legend with counts (of at most 20 groups, others are drawn as one).
    group_name
        What the groups are, over the legend.
    title
        Heading; by default the number of sites.

    Raises
    ------
    InputError
        Without sites, with another number of groups than sites, or for another format.
    CommitError
        If the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    if len(lon) == 0 or len(lon) != len(lat):
        raise InputError(f"There are {len(lon)} longitudes and {len(lat)} latitudes to draw", remedy="Give at least one site")
    if group is not None and len(group) != len(lon):
        raise InputError(f"There are {len(group)} groups for {len(lon)} sites", remedy="Give one group per site")
    out = picture_path(path)
    view = _View(lon, lat)
    figure = Figure(figsize=(12, 12 * view.height / view.width + 1.1), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(aspect="equal")
    view.frame(axes)
    _points(axes, *view.project(lon, lat), list(group) if group is not None else None, group_name)
    axes.set_title(title or f"{len(lon):,} sites", loc="left", fontsize=13)
    return save(figure, out)


class _View:
    """Projection and extent of a map."""

    def __init__(self, lon: Float1D, lat: Float1D) -> None:
        middle, half = _longitudes(lon)
        self.world = half > 50 or float(np.ptp(lat)) > 80 or float(np.abs(lat).max()) > 75
        if self.world:
            self.transform = pyproj.Transformer.from_crs("EPSG:4326", _WORLD, always_xy=True)
            self.edges = self._outline()
        else:
            centre = float(lat.min() + lat.max()) / 2
            crs = f"+proj=laea +lat_0={centre} +lon_0={middle} +R=6371008.8"
            self.transform = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
            self.edges = self._box(lon, lat)
        self.middle, self.half, self.lat = middle, half, lat
        self.width, self.height = (float(np.ptp(self.edges[i])) for i in (0, 1))

    def project(self, lon: FloatArray, lat: FloatArray) -> tuple[FloatArray, FloatArray]:
        x, y = self.transform.transform(lon, lat)
        return np.asarray(x), np.asarray(y)

    def _outline(self) -> tuple[FloatArray, FloatArray]:
        up = np.linspace(-90, 90, 181)
        return self.project(np.concatenate([np.full(181, -180.0), np.full(181, 180.0)]), np.concatenate([up, up[::-1]]))

    def _box(self, lon: Float1D, lat: Float1D) -> tuple[FloatArray, FloatArray]:
        x, y = self.project(lon, lat)
        span = max(float(np.ptp(x)), float(np.ptp(y)) * 1.2, 20_000.0)
        tall = max(float(np.ptp(y)), span / 2.4)
        cx, cy = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
        return np.array([cx - span * 0.56, cx + span * 0.56]), np.array([cy - tall * 0.58, cy + tall * 0.58])

    def frame(self, axes: Axes) -> None:
        """Graticule with labels, outline and limits."""
        x, y = self.edges
        if self.world:
            axes.fill(x, y, facecolor="#f7f8fa", edgecolor="#8a8a8a", linewidth=0.8, zorder=0)
            step, meridians, parallels = 30.0, np.arange(-180.0, 181.0, 30.0), np.arange(-60.0, 61.0, 30.0)
            axes.axis("off")
        else:
            step = _step(self.width / 111_195.0)
            reach = max(self.half, self.width / 111_195.0 / max(np.cos(np.radians(np.abs(self.lat).max())), 0.2)) * 1.5
            meridians = np.arange(np.floor((self.middle - reach) / step), np.ceil((self.middle + reach) / step) + 1) * step
            tall = self.height / 111_195.0
            parallels = np.arange(np.floor((self.lat.min() - tall) / step), np.ceil((self.lat.max() + tall) / step) + 1) * step
            axes.set_xticks([])
            axes.set_yticks([])
        parallels = parallels[np.abs(parallels) <= 90]
        span_lat = np.linspace(max(-90.0, parallels.min() - step), min(90.0, parallels.max() + step), 181)
        span_lon = np.linspace(meridians.min(), meridians.max(), 361)
        for meridian in meridians:
            axes.plot(*self.project(np.full(181, meridian), span_lat), **_GRID)
        for parallel in parallels:
            axes.plot(*self.project(span_lon, np.full(361, parallel)), **_GRID)
        self._label(axes, meridians, parallels, step)
        if not self.world:
            axes.set_xlim(x[0], x[1])
            axes.set_ylim(y[0], y[1])

    def _label(self, axes: Axes, meridians: FloatArray, parallels: FloatArray, step: float) -> None:
        style: dict[str, Any] = {"fontsize": 8, "color": "#6a6a6a", "clip_on": False}
        if self.world:
            for parallel in parallels:
                x, y = self.project(np.array([-180.0]), np.array([parallel]))
                axes.text(x[0], y[0], _degrees(parallel, "NS", step) + "  ", ha="right", va="center", **style)
            for meridian in meridians[1:-1]:
                x, y = self.project(np.array([meridian]), np.array([-90.0]))
                axes.text(x[0], y[0] - self.height * 0.012, _degrees(meridian, "EW", step), ha="center", va="top", **style)
            return
        left, bottom = self.edges[0][0], self.edges[1][0]
        for parallel in parallels:
            x, y = self.project(np.linspace(meridians.min(), meridians.max(), 2001), np.full(2001, parallel))
            at = float(np.interp(left, x, y))
            if bottom <= at <= self.edges[1][1] and x.min() <= left <= x.max():
                axes.text(left, at, _degrees(parallel, "NS", step) + " ", ha="right", va="center", **style)
        for meridian in meridians:
            x, y = self.project(np.full(2001, meridian), np.linspace(max(parallels.min(), -90), min(parallels.max(), 90), 2001))
            at = float(np.interp(bottom, y, x))
            if left <= at <= self.edges[0][1] and y.min() <= bottom <= y.max():
                axes.text(at, bottom - self.height * 0.01, _degrees(meridian, "EW", step), ha="center", va="top", **style)


def _longitudes(lon: Float1D) -> tuple[float, float]:
    """Middle and half width of the smallest arc that holds all longitudes, degrees."""
    ordered = np.sort(lon % 360)
    gaps = np.diff(np.concatenate([ordered, [ordered[0] + 360]]))
    widest = int(np.argmax(gaps))
    arc = 360 - float(gaps[widest])
    start = float(ordered[(widest + 1) % len(ordered)])
    return (start + arc / 2 + 180) % 360 - 180, arc / 2


def _step(degrees: float) -> float:
    return next((step for step in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0) if degrees / step <= 10), 20.0)


def _degrees(value: float, sides: str, step: float) -> str:
    value = (value + 180) % 360 - 180 if sides == "EW" and abs(value) > 180 else value
    digits = max(0, -int(np.floor(np.log10(step)))) if step < 1 else 0
    side = "" if abs(value) < step / 10 else sides[0] if value > 0 else sides[1]
    return f"{abs(value):.{digits}f}°{side}"


def _points(axes: Axes, x: FloatArray, y: FloatArray, group: list[Any] | None, group_name: str) -> None:
    from matplotlib.collections import PathCollection

    size = float(np.clip(4e4 / len(x), 3, 40))
    style: dict[str, Any] = {"s": size, "linewidths": 0, "alpha": 0.75, "zorder": 3}
    names = sorted(set(map(str, group)), key=lambda name: (len(name), name)) if group is not None else []
    if group is None or len(names) > 20:
        axes.scatter(x, y, color=_COLOURS[0], **style)
        return
    own = np.array(list(map(str, group)))
    for number, name in enumerate(names):
        chosen = own == name
        colour = _COLOURS[number % len(_COLOURS)]
        marker = "o" if number < len(_COLOURS) else "^"
        axes.scatter(x[chosen], y[chosen], color=colour, marker=marker, label=f"{name} ({np.count_nonzero(chosen):,})", **style)
    legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.03), ncols=min(len(names), 10), frameon=False, fontsize=9)
    legend.set_title(f"{group_name} (number of sites)")
    legend.get_title().set_fontsize(9)
    for handle in legend.legend_handles:
        assert isinstance(handle, PathCollection)
        handle.set_alpha(1)
        handle.set_sizes([36])
