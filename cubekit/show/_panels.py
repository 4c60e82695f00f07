"""The panels of a contact sheet that share its time axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.show._scenes import Shares
from cubekit.typing import FloatArray

__all__ = ["INK", "MUTED", "draw_climate", "draw_events", "draw_ndvi", "draw_status", "hot_dry_spells", "quiet"]

INK, MUTED, FAINT = "#22303a", "#6b7a86", "#d9dfe3"
GREEN, RED, BROWN, BLUE = "#2c7a4b", "#b8382f", "#b9772f", "#2f7fa3"
_STATUS = (
    ("clear", "clear", "#4f9d69"),
    ("cloudy", "not clear", "#c3ced6"),
    ("absent", "no acquisition", "#eef1f3"),
    ("outside", "outside footprint", "#efe7d8"),
    ("nodata", "no data at source", "#cdb995"),
    ("masked", "masked", "#8b97b0"),
    ("failed", "read failed", RED),
)
_HEAT, _DROUGHT = 1, 2 | 4 | 8


def quiet(axis: Any, label: str) -> None:
    """Only as much frame as is needed."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(MUTED)
        axis.spines[side].set_linewidth(0.6)
    axis.tick_params(colors=MUTED, labelsize=7, width=0.6, length=2.5)
    axis.set_ylabel(label, fontsize=7.5, color=INK)
    if axis.yaxis.get_label_position() == "left":
        axis.yaxis.set_label_coords(-0.036, 0.5)
    axis.grid(axis="y", color=FAINT, linewidth=0.5)
    axis.set_axisbelow(True)


def draw_ndvi(axis: Any, time: npt.NDArray[np.datetime64], quartiles: FloatArray, clear: FloatArray, marked: list[int]) -> None:
    """NDVI over clear pixels: median and quartiles, darker where more of the site is clear; ticks under the scenes that are shown."""
    low, middle, high = quartiles
    good = np.isfinite(middle) & (clear >= min(0.3, float(np.max(clear, initial=0.0))))
    axis.fill_between(time[good], low[good], high[good], color=GREEN, alpha=0.15, linewidth=0)
    axis.plot(time[good], middle[good], color=GREEN, linewidth=1.0, alpha=0.55, zorder=2)
    seen = np.isfinite(middle)
    colours = np.tile([0.0, 0.0, 0.0, 1.0], (int(seen.sum()), 1))
    strength = 0.25 + 0.75 * np.clip(clear[seen], 0, 1)[:, None]
    base = np.array([0x2C, 0x7A, 0x4B]) / 255
    colours[:, :3] = 1 - (1 - base) * strength
    axis.scatter(time[seen], middle[seen], s=6 + 16 * clear[seen], c=colours, edgecolors="white", linewidths=0.4, zorder=3)
    axis.set_ylim(min(-0.05, np.nanmin(low, initial=0.0) - 0.05), max(0.95, np.nanmax(high, initial=0.0) + 0.05))
    for index in marked:
        axis.plot([time[index]], [0.0], marker="^", markersize=4, color=INK, transform=axis.get_xaxis_transform(), clip_on=False, zorder=4)
    quiet(axis, "NDVI")
    note = "clear land: median and quartiles; pale where little is clear" + ("; triangles: the scenes above" if marked else "")
    axis.text(1.0, 1.03, note, transform=axis.transAxes, fontsize=6.5, color=MUTED, ha="right", va="bottom")


def draw_status(axis: Any, time: npt.NDArray[np.datetime64], share: Shares) -> None:
    """Shares of the pixels by what became of them, one bar per time step."""
    days = time.astype("datetime64[s]").astype(np.float64) / 86400
    # Bars of one width, narrow enough that orbits two or three days apart stay apart, wide enough to be seen.
    gaps = np.diff(days) if days.size > 1 else np.array([5.0])
    width = 0.9 * max(float(np.percentile(gaps, 25)), float(np.ptp(days)) / 250, 0.5)
    bottom = np.zeros(days.size)
    handles = []
    for field, label, colour in _STATUS:
        values = getattr(share, field)
        if values.max(initial=0.0) > 0:
            handles.append(
                axis.bar(days, values * 100, width, bottom=bottom, color=colour, linewidth=0, label=f"{label} {values.mean():.0%}")
            )
            bottom = bottom + values * 100
    axis.set_ylim(0, 100)
    quiet(axis, "pixels, %")
    axis.grid(False)
    _legend(axis, handles)


def draw_climate(axis: Any, climate: xr.Dataset, balance: xr.DataArray | None) -> None:
    """Mean temperature, and the water balance as deficit and surplus around zero."""
    handles = []
    if balance is not None:
        days, values = balance["time"].values, np.asarray(balance.values, dtype=float)
        for sign, colour, label in ((-1, BROWN, "water deficit"), (1, BLUE, "water surplus")):
            part = np.where(sign * values > 0, values, 0.0)
            handles.append(axis.fill_between(days, 0, part, color=colour, alpha=0.55, linewidth=0, label=label))
        limit = float(np.nanmax(np.abs(values), initial=1.0)) * 1.15
        axis.set_ylim(-limit, limit)
        axis.axhline(0, color=MUTED, linewidth=0.5)
        quiet(axis, f"{_window(balance)}, {balance.attrs.get('units', 'mm/d').replace(' d-1', '/d')}")
    name = next((name for name in ("t2m_mean", "t2m", "t2m_max") if name in climate), None)
    if name is not None:
        handles += _temperature(axis.twinx() if balance is not None else axis, climate[name], alone=balance is None)
    _legend(axis, handles)


def _window(balance: xr.DataArray) -> str:
    days = str(balance.name).rpartition("_")[2]
    return f"P − ET₀, {days} d" if days.isdigit() else "P − ET₀"


def _temperature(axis: Any, temperature: xr.DataArray, *, alone: bool) -> list[Any]:
    values = np.asarray(temperature.values, dtype=float)
    if str(temperature.attrs.get("units", "K")).strip() in ("K", "kelvin"):
        values = values - 273.15
    days = temperature["time"].values
    step = float(np.median(np.diff(days)) / np.timedelta64(1, "D")) if days.size > 1 else 1.0
    window = max(1, min(round(15 / max(step, 1e-6)), values.size))
    known = np.isfinite(values)
    weights = np.convolve(known, np.ones(window), "same")
    smooth = np.convolve(np.where(known, values, 0.0), np.ones(window), "same") / np.where(weights > 0, weights, np.nan)
    axis.plot(days, values, color=RED, linewidth=0.3, alpha=0.35)
    (line,) = axis.plot(days, smooth, color=RED, linewidth=1.0, label="2 m temperature")
    quiet(axis, "°C")
    axis.grid(False)
    if not alone:
        axis.spines["right"].set_visible(True)
        axis.spines["right"].set_color(MUTED)
        axis.spines["right"].set_linewidth(0.6)
        axis.spines["left"].set_visible(False)
    return [line]


def draw_events(axis: Any, events: xr.DataArray) -> None:
    """Two strips under a panel: hot days, and days of drought."""
    days = events["time"].values
    code = np.asarray(events.values).astype(np.int64)
    for row, (mask, colour) in enumerate(((_HEAT, RED), (_DROUGHT, BROWN))):
        low = 0.012 + 0.045 * row
        for start, stop in _runs((code & mask) != 0):
            axis.axvspan(
                days[start], days[stop - 1] + np.timedelta64(1, "D"), ymin=low, ymax=low + 0.035, color=colour, linewidth=0, zorder=5
            )


def hot_dry_spells(events: xr.Dataset, shortest: int = 3) -> list[tuple[np.datetime64, np.datetime64]]:
    """First and last moment of the runs of days that are hot and dry at once."""
    code = np.asarray(events["events"].values).astype(np.int64)
    compound = ((code & _HEAT) != 0) & ((code & _DROUGHT) != 0)
    days = events["time"].values
    return [(days[a], days[b - 1] + np.timedelta64(1, "D")) for a, b in _runs(compound) if b - a >= shortest]


def _runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _legend(axis: Any, handles: list[Any]) -> None:
    if handles:
        legend = axis.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=len(handles),
            fontsize=6.5,
            frameon=False,
            handlelength=0.9,
            handleheight=0.9,
            columnspacing=1.1,
            handletextpad=0.4,
            borderpad=0,
            borderaxespad=0.3,
        )
        for text in legend.get_texts():
            text.set_color(MUTED)
