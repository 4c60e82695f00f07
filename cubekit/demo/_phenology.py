"""What the land reflects: spectra of its materials and how much of each a unit of land shows on a day."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from cubekit.demo._landscape import Kind, Units
from cubekit.demo._noise import hash01

__all__ = ["BANDS", "SNOW", "SNOW_HOLD", "unit_reflectance"]

Array: TypeAlias = npt.NDArray[np.float64]

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")

_SPECTRA = {
    "crop": (0.026, 0.062, 0.027, 0.088, 0.300, 0.395, 0.430, 0.445, 0.195, 0.092),
    "grass": (0.031, 0.067, 0.038, 0.100, 0.265, 0.330, 0.365, 0.385, 0.220, 0.120),
    "leaf": (0.019, 0.044, 0.021, 0.072, 0.255, 0.330, 0.355, 0.375, 0.165, 0.075),
    "needle": (0.014, 0.028, 0.017, 0.044, 0.125, 0.160, 0.175, 0.185, 0.085, 0.042),
    "reed": (0.030, 0.056, 0.040, 0.085, 0.190, 0.235, 0.260, 0.270, 0.160, 0.085),
    "flower": (0.052, 0.150, 0.140, 0.200, 0.325, 0.390, 0.415, 0.425, 0.215, 0.115),
    "straw": (0.074, 0.112, 0.152, 0.188, 0.232, 0.256, 0.285, 0.305, 0.360, 0.265),
    "hay": (0.058, 0.098, 0.138, 0.170, 0.204, 0.228, 0.250, 0.268, 0.318, 0.225),
    "soil": (0.062, 0.092, 0.128, 0.152, 0.172, 0.188, 0.208, 0.222, 0.295, 0.245),
    "twig": (0.032, 0.047, 0.052, 0.070, 0.098, 0.110, 0.128, 0.140, 0.172, 0.122),
    "gravel": (0.095, 0.118, 0.140, 0.155, 0.168, 0.178, 0.190, 0.200, 0.235, 0.205),
    "asphalt": (0.072, 0.080, 0.087, 0.092, 0.098, 0.102, 0.108, 0.112, 0.128, 0.122),
    "tile": (0.062, 0.084, 0.150, 0.168, 0.180, 0.190, 0.205, 0.216, 0.250, 0.225),
    "metal": (0.210, 0.225, 0.235, 0.240, 0.245, 0.248, 0.255, 0.258, 0.262, 0.240),
    "river": (0.034, 0.050, 0.040, 0.034, 0.022, 0.020, 0.018, 0.016, 0.009, 0.007),
    "lake": (0.024, 0.030, 0.015, 0.012, 0.008, 0.007, 0.006, 0.005, 0.003, 0.002),
    "shoal": (0.042, 0.066, 0.046, 0.034, 0.017, 0.015, 0.013, 0.011, 0.006, 0.004),
}
SNOW = np.array((0.860, 0.865, 0.855, 0.845, 0.825, 0.805, 0.785, 0.765, 0.110, 0.085))
"""Reflectance of snow per band of `BANDS`."""
_SPECTRUM = {name: np.array(values) for name, values in _SPECTRA.items()}

_MATERIALS: dict[Kind, tuple[str, str, str]] = {
    Kind.ARABLE: ("crop", "straw", "soil"),
    Kind.GRASS: ("grass", "hay", "soil"),
    Kind.BROADLEAF: ("leaf", "hay", "twig"),
    Kind.CONIFER: ("needle", "hay", "twig"),
    Kind.WETLAND: ("reed", "hay", "hay"),
    Kind.HEDGE: ("leaf", "hay", "twig"),
    Kind.TRACK: ("grass", "hay", "gravel"),
    Kind.ROAD: ("grass", "hay", "asphalt"),
    Kind.ROOF: ("grass", "hay", "tile"),
    Kind.BRIGHT_ROOF: ("grass", "hay", "metal"),
    Kind.RIVER: ("grass", "hay", "river"),
    Kind.LAKE: ("grass", "hay", "lake"),
    Kind.SHALLOWS: ("grass", "hay", "shoal"),
}
"""Green, dry and bare material of a kind of land."""

_SENSITIVITY = {
    Kind.ARABLE: 0.78,
    Kind.GRASS: 0.85,
    Kind.BROADLEAF: 0.34,
    Kind.CONIFER: 0.10,
    Kind.WETLAND: 0.15,
    Kind.HEDGE: 0.40,
    Kind.TRACK: 0.85,
}
"""Share of the green cover that a full stress turns dry."""
_VARIATION = {
    Kind.ARABLE: 0.16,
    Kind.GRASS: 0.18,
    Kind.BROADLEAF: 0.10,
    Kind.CONIFER: 0.06,
    Kind.WETLAND: 0.15,
    Kind.HEDGE: 0.10,
    Kind.TRACK: 0.20,
}
SNOW_HOLD = np.array([1.0, 1.0, 0.45, 0.25, 0.8, 0.5, 1.0, 0.6, 0.85, 0.85, 0.0, 0.0, 0.0])
"""Largest share that snow covers, per kind."""

_CROPS = {
    # sown winter cover, greening day and pace, peak, ripening day and pace, harvest day, cover in autumn, flowers
    "wheat": (0.24, 104, 11, 0.95, 181, 6, 209, 0.20, 0.0),
    "barley": (0.27, 98, 10, 0.92, 163, 5, 190, 0.24, 0.0),
    "rape": (0.38, 88, 10, 0.93, 178, 6, 203, 0.34, 0.85),
    "maize": (0.12, 163, 9, 0.96, 258, 8, 280, 0.10, 0.0),
    "beet": (0.14, 158, 11, 0.94, 296, 12, 305, 0.12, 0.0),
}
_SHARES = (0.36, 0.13, 0.17, 0.22, 0.12)


def _rise(day: Any, middle: Any, pace: float) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-(day - middle) / pace)))


def _crop(name: str, day: Array, shift: Array) -> tuple[Array, Array, Array]:
    winter, up, up_pace, peak, ripe, ripe_pace, harvest, autumn, bloom = _CROPS[name]
    standing = winter + (peak - winter) * _rise(day, up + shift, up_pace)
    ripening = _rise(day, ripe + shift, ripe_pace)
    cut = _rise(day, harvest + shift, 1.5)
    green = standing * (1 - ripening) * (1 - cut)
    dry = standing * ripening * (1 - cut) + 0.30 * cut * (1 - _rise(day, harvest + 32 + shift, 8.0))
    regrowth = autumn * _rise(day, max(harvest + 50.0, 268.0) + shift, 9.0)
    flower = bloom * np.exp(-(((day - 130 - shift) / 9.5) ** 2)) * green
    return green + regrowth, dry, flower


def _arable(units: Units, seed: int, year: int, day: float) -> tuple[Array, Array, Array]:
    pick = hash01(seed + 111, units.number, year)
    shift = 12.0 * (hash01(seed + 112, units.number, year) - 0.5)
    which = np.searchsorted(np.cumsum(_SHARES), pick)
    green, dry, flower = (np.zeros(pick.size) for _ in range(3))
    for order, name in enumerate(_CROPS):
        rows = which == order
        green[rows], dry[rows], flower[rows] = _crop(name, np.full(rows.sum(), day), shift[rows])
    # the fields of two years meet at New Year
    early = 1.0 - _rise(np.float64(day), 20.0, 6.0)
    late = _rise(np.float64(day), 350.0, 5.0)
    return green + (0.22 - green) * np.maximum(early, late), dry, flower


def _grass(units: Units, seed: int, day: float) -> Array:
    season = 0.52 + 0.38 * _rise(np.float64(day), 95.0, 10.0) * (1 - _rise(np.float64(day), 300.0, 14.0))
    cover = np.full(units.kind.size, season)
    for cutting, base in enumerate((148.0, 203.0, 252.0)):
        mown = base + 24.0 * (hash01(seed + 113, units.number, cutting) - 0.5)
        cover = np.where(day >= mown, cover * (1 - 0.42 * np.exp(-(day - mown) / 16.0)), cover)
    return cover


def _cover(units: Units, seed: int, date: np.datetime64) -> tuple[Array, Array, Array]:
    """Shares of green, dry and flowering cover per unit, before any stress."""
    year = int(str(date.astype("datetime64[Y]")))
    day = float((date - np.datetime64(f"{year}-01-01", "D")) / np.timedelta64(1, "D")) + 1.0
    green, dry, flower = _arable(units, seed, year, day)
    leaf_shift = 8.0 * (hash01(seed + 114, units.number) - 0.5)
    leaves = 0.10 + 0.84 * _rise(day - leaf_shift, 114.0, 6.0) * (1 - _rise(day - leaf_shift, 298.0, 8.0))
    reed = 0.25 + 0.55 * _rise(np.float64(day), 140.0, 12.0) * (1 - _rise(np.float64(day), 285.0, 12.0))
    grass = _grass(units, seed, day)
    by_kind = {
        Kind.GRASS: grass,
        Kind.BROADLEAF: leaves,
        Kind.HEDGE: leaves,
        Kind.CONIFER: np.full_like(green, 0.9),
        Kind.WETLAND: np.full_like(green, reed),
        Kind.TRACK: 0.55 * grass,
    }
    for kind in list(Kind)[1:]:
        rows = units.kind == kind
        green = np.where(rows, by_kind.get(kind, 0.0), green)
        dry, flower = np.where(rows, 0.0, dry), np.where(rows, 0.0, flower)
    autumn_leaves = 0.35 * np.exp(-(((day - 299.0) / 14.0) ** 2))
    dry = np.where((units.kind == Kind.BROADLEAF) | (units.kind == Kind.HEDGE), autumn_leaves * (1 - green), dry)
    return green * units.fertility, dry, flower


def _per_kind(table: dict[Kind, float], kind: npt.NDArray[np.uint8]) -> Array:
    return np.array([table.get(k, 0.0) for k in Kind])[kind]


def unit_reflectance(
    units: Units, seed: int, date: np.datetime64, stress: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Nadir reflectance of every unit and its change with vigour.

    Parameters
    ----------
    units
        Table of units.
    seed
        The world's.
    date
        Day.
    stress
        Drought stress, 0 none to 1 full.

    Returns
    -------
    base, slope
        Each (unit, band of `BANDS`): a pixel reflects ``base + vigour * slope``, then its texture.
    """
    green, dry, flower = _cover(units, seed, date)
    lost = green * _per_kind(_SENSITIVITY, units.kind) * stress
    slope_green = (green - lost) * _per_kind(_VARIATION, units.kind) + 1.2 * lost * _per_kind(_VARIATION, units.kind)
    green, dry, flower = green - lost, dry + 0.8 * lost, flower * (1 - stress)
    green = green - flower
    materials = [np.stack([_SPECTRUM[_MATERIALS[k][part]] for k in Kind])[units.kind] for part in range(3)]
    bare = materials[2] * units.soil[:, None]
    rest = np.clip(1.0 - green - dry - flower, 0.0, 1.0)[:, None]
    base = green[:, None] * materials[0] + dry[:, None] * materials[1] + flower[:, None] * _SPECTRUM["flower"] + rest * bare
    slope = slope_green[:, None] * (materials[0] - 0.5 * (materials[1] + bare))
    return base.astype(np.float32), slope.astype(np.float32)
