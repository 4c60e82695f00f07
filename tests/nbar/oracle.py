"""A dumb, independent c-factor: plain Python, angles in degrees, the textbook's formulas one after the other."""

from __future__ import annotations

import math

BRDF = {
    "B02": (0.0774, 0.0079, 0.0372),
    "B03": (0.1306, 0.0178, 0.0580),
    "B04": (0.1690, 0.0227, 0.0574),
    "B05": (0.2085, 0.0256, 0.0845),
    "B06": (0.2316, 0.0273, 0.1003),
    "B07": (0.2599, 0.0294, 0.1197),
    "B08": (0.3093, 0.0330, 0.1535),
    "B8A": (0.3093, 0.0330, 0.1535),
    "B11": (0.3430, 0.0453, 0.1154),
    "B12": (0.2658, 0.0387, 0.0639),
}


def k_vol(sza: float, vza: float, raa: float) -> float:
    s, v, a = (math.radians(x) for x in (sza, vza, raa))
    xi = math.acos(max(-1.0, min(1.0, math.cos(s) * math.cos(v) + math.sin(s) * math.sin(v) * math.cos(a))))
    return ((math.pi / 2 - xi) * math.cos(xi) + math.sin(xi)) / (math.cos(s) + math.cos(v)) - math.pi / 4


def k_geo(sza: float, vza: float, raa: float, hb: float = 2.0, br: float = 1.0) -> float:
    s, v, a = math.atan(br * math.tan(math.radians(sza))), math.atan(br * math.tan(math.radians(vza))), math.radians(raa)
    cos_xi = math.cos(s) * math.cos(v) + math.sin(s) * math.sin(v) * math.cos(a)
    distance2 = math.tan(s) ** 2 + math.tan(v) ** 2 - 2 * math.tan(s) * math.tan(v) * math.cos(a)
    secants = 1 / math.cos(s) + 1 / math.cos(v)
    cos_t = hb * math.sqrt(max(0.0, distance2 + (math.tan(s) * math.tan(v) * math.sin(a)) ** 2)) / secants
    t = math.acos(max(-1.0, min(1.0, cos_t)))
    overlap = (t - math.sin(t) * math.cos(t)) * secants / math.pi
    return overlap - secants + (1 + cos_xi) / 2 / math.cos(s) / math.cos(v)


def c(band: str, sza: float, vza: float, raa: float, target: float | None = None) -> float:
    iso, geo, vol = BRDF[band]
    nadir_sun = sza if target is None else target
    nadir = iso + vol * k_vol(nadir_sun, 0.0, raa) + geo * k_geo(nadir_sun, 0.0, raa)
    return nadir / (iso + vol * k_vol(sza, vza, raa) + geo * k_geo(sza, vza, raa))
