"""Ross-Thick and Li-Sparse-Reciprocal kernels on scalars, and the c-factor made of them.

Scalars in, scalar out; nothing is checked here. Directions are tan-plane vectors: ``s = tan(zenith) * (cos(azimuth), sin(azimuth))``,
so that no kernel needs an azimuth difference and vectors can be averaged and interpolated.

References: Roujean et al. 1992; Wanner et al. 1995; Lucht et al. 2000 (IEEE TGRS 38, 977-998), equations 38 to 44; Roy et al. 2008
(RSE 112, 3112-3130), equation 4; Roy et al. 2016 (RSE 176, 255-271), equation 7.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from cubekit.nbar._jit import serial_and_parallel

__all__ = ["c_loop", "c_loop_parallel", "c_tan", "kernels_deg", "kernels_tan", "kernels_tan_reference"]

CROWN_HEIGHT_RATIO = 2.0  # h/b of the sparse crowns; b/r is 1, so Lucht's primed angles are the angles themselves
QUARTER_PI = 0.25 * math.pi
HALF_PI = 0.5 * math.pi


@njit(cache=True, inline="always")
def kernels_tan(sx, sy, vx, vy):  # type: ignore[no-untyped-def]
    """(K_vol, K_geo) of a sun direction (sx, sy) and a view direction (vx, vy), both tan-plane vectors.

    K_vol is Lucht et al. 2000, equation 38; K_geo equations 39 to 44 with h/b = 2, b/r = 1. With s.v = tan tan cos(raa) and
    s x v = tan tan sin(raa): cos(xi) = (1 + s.v) / (sec sec), sin(xi) = sqrt(|s - v|^2 + (s x v)^2) / (sec sec), and the same root is
    the numerator of cos(t), so the phase angle needs one arc tangent and loses nothing near the hot spot.
    """
    sec_s = math.sqrt(1.0 + sx * sx + sy * sy)
    sec_v = math.sqrt(1.0 + vx * vx + vy * vy)
    cross = sx * vy - sy * vx
    root = math.sqrt((sx - vx) ** 2 + (sy - vy) ** 2 + cross * cross)
    along = 1.0 + sx * vx + sy * vy
    both = sec_s * sec_v
    sum_sec = sec_s + sec_v
    xi = math.atan2(root, along)
    k_vol = ((HALF_PI - xi) * along + root) / sum_sec - QUARTER_PI
    cos_t = min(CROWN_HEIGHT_RATIO * root / sum_sec, 1.0)
    t = math.acos(cos_t)
    overlap = (t - math.sqrt(1.0 - cos_t * cos_t) * cos_t) * sum_sec / math.pi
    k_geo = overlap - sum_sec + 0.5 * (both + along)
    return k_vol, k_geo


@njit(cache=True)
def kernels_deg(sun_zenith, view_zenith, relative_azimuth):  # type: ignore[no-untyped-def]
    """(K_vol, K_geo) of angles in degrees; the relative azimuth is sun minus view."""
    tan_s = math.tan(math.radians(sun_zenith))
    tan_v = math.tan(math.radians(view_zenith))
    raa = math.radians(relative_azimuth)
    return kernels_tan(tan_s * math.cos(raa), tan_s * math.sin(raa), tan_v, 0.0)


@njit(cache=True, inline="always")
def c_tan(sx, sy, vx, vy, nadir_tan, f_iso, f_geo, f_vol):  # type: ignore[no-untyped-def]
    """c = BRDF(target sun, nadir) / BRDF(sun, view) (Roy et al. 2016, equation 7).

    ``nadir_tan`` is the tangent of the target sun zenith, or NaN for the observed one. NaN where a BRDF is not positive.
    """
    target = math.sqrt(sx * sx + sy * sy) if math.isnan(nadir_tan) else nadir_tan
    vol, geo = kernels_tan(sx, sy, vx, vy)
    vol0, geo0 = kernels_tan(target, 0.0, 0.0, 0.0)
    seen = f_iso + f_vol * vol + f_geo * geo
    nadir = f_iso + f_vol * vol0 + f_geo * geo0
    if seen > 0.0 and nadir > 0.0:
        return nadir / seen
    return math.nan


def _c_loop(sun, view, nadir_tan, factors, out):  # type: ignore[no-untyped-def]
    """c into ``out`` (n, node) from ``sun`` (node, 2), ``view`` (n, node, 2), ``nadir_tan`` (node,), ``factors`` (n, 3)."""
    for i in prange(view.shape[0]):
        for j in range(view.shape[1]):
            out[i, j] = c_tan(sun[j, 0], sun[j, 1], view[i, j, 0], view[i, j, 1], nadir_tan[j], factors[i, 0], factors[i, 1], factors[i, 2])


c_loop, c_loop_parallel = serial_and_parallel(_c_loop)


def kernels_tan_reference(sun: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`kernels_tan` over arrays (..., 2), for figures and checks; not fast."""
    vectorised = np.vectorize(kernels_tan)
    vol, geo = vectorised(sun[..., 0], sun[..., 1], view[..., 0], view[..., 1])
    return vol, geo
