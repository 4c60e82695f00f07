"""Units against values: what is mislabelled is refused, not summed."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np

from cubekit.climate._variables import HOURLY, conversion
from cubekit.errors import InputError, ScienceWarning

__all__ = ["check_range", "check_sunshine", "check_totals"]


def check_range(name: str, values: np.ndarray, stated: str, hours: float = 1.0) -> None:
    """Raise InputError where `values`, in canonical units, cannot be what the unit `stated` in the file makes of them.

    `hours` is 24 for running totals.
    """
    variable = HOURLY[name]
    low, high = float(np.fmin.reduce(values, axis=None)), float(np.fmax.reduce(values, axis=None))
    if not np.isfinite(low):
        return
    factor = min(hours, _DAY_FACTOR.get(name, hours)) if variable.kind == "flux" else 1.0
    if variable.lower * factor <= low and high <= variable.upper * factor:
        return
    scale, offset = conversion(stated, variable.units) or (1.0, 0.0)
    raw = (low - offset) / scale, (high - offset) / scale
    fitting = [u for u in _CANDIDATES[variable.units] if u != stated and _fits(raw, u, variable.name, factor)]
    hint = f"; they look like {fitting[0]}" if fitting else ""
    raise InputError(
        f"{name} is labelled {stated!r} but its values span {raw[0]:.4g} to {raw[1]:.4g}{hint}",
        remedy="Correct the units attribute, or the values",
        variable=name,
    )


def check_totals(name: str, days: np.ndarray, stated: str) -> None:
    """Catch what no single hour shows, from daily sums (day, ...) in mm or MJ m-2: rain in mm called m, W m-2 called J m-2.

    The wettest places on Earth get 33 mm a day over a year and 300 mm a day over a month.
    """
    valid = np.isfinite(days)
    count = valid.sum(axis=0)
    mean = np.where(valid, days, 0.0).sum(axis=0) / np.maximum(count, 1)
    enough = count >= 365
    problem = ""
    if name == "tp" and ((mean > 320.0) & (count >= 30) | (mean > 60.0) & enough).any():
        problem = f"precipitation averages {float(np.max(mean)):.4g} mm a day; the values look like mm"
    elif name == "ssrd" and (count >= 120).any() and 3e-4 < float(np.fmax.reduce(days, axis=None)) < 0.012:
        problem = f"the sunniest day has {1e6 * float(np.fmax.reduce(days, axis=None)):.4g} J m-2; the values look like W m-2"
    if problem:
        raise InputError(f"{name} is labelled {stated!r} but {problem}", remedy="Correct the units attribute, or the values", variable=name)
    long = count >= 30
    if name == "tp" and long.any() and stated.startswith(("mm", "kg")) and 0.0 < float(np.max(mean, where=long, initial=0.0)) < 0.01:
        warnings.warn(
            f"tp is labelled {stated!r} and averages {float(np.max(mean)):.2g} mm a day: drier than any desert, or in metres",
            ScienceWarning,
            stacklevel=3,
        )


def check_sunshine(days: np.ndarray, outside: np.ndarray, stated: str) -> None:
    """Raise InputError where the ground gets next to none of the sun above it, as W m-2 called J m-2 would have it.

    Parameters
    ----------
    days
        Daily global radiation (day, ...), MJ m-2.
    outside
        Extraterrestrial radiation of the same days, MJ m-2; broadcasts against `days`.
    stated
        The unit in the file.

    Notes
    -----
    The thickest clouds let through some hundredths; W m-2 summed as J m-2 leave at most 0.0003. Polar night decides nothing.
    """
    lit = np.isfinite(days) & (outside > 1.0)
    ground, above = float(np.sum(days, where=lit)), float(np.sum(np.broadcast_to(outside, days.shape), where=lit))
    if 0.0 < ground < 1e-3 * above:
        raise InputError(
            f"ssrd is labelled {stated!r} but only {ground / above:.2g} of the sun above reaches the ground; the values look like W m-2",
            remedy="Correct the units attribute, or the values",
            variable="ssrd",
        )


_DAY_FACTOR: Final = {"tp": 8.0, "ssrd": 10.0, "ssr": 10.0}
"""Largest plausible daily total as a multiple of the largest plausible hour: 2 m of rain, 52 MJ m-2 of sun."""

_CANDIDATES: Final = {
    "K": ("degC", "K", "degF"),
    "Pa": ("hPa", "kPa", "Pa"),
    "m s-1": ("km h-1",),
    "m3 m-3": (),
    "m": ("mm", "m"),
    "J m-2": ("J m-2", "W m-2"),
}


def _fits(raw: tuple[float, float], unit: str, name: str, factor: float) -> bool:
    variable = HOURLY[name]
    scale, offset = conversion(unit, variable.units) or (1.0, 0.0)
    return variable.lower * factor <= raw[0] * scale + offset and raw[1] * scale + offset <= variable.upper * factor
