"""Small daily worlds and slow, plain oracles that share no code with the package."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import xarray as xr
from scipy import ndimage

RADIUS = 6371.0088


def daily_world(
    start="2001-01-01", days=1200, lat=(48.0, 47.0, 46.0), lon=(5.0, 6.0, 7.0, 8.0), seed=1, decimals=None, holes=0.0, memory=0.85
):
    """Daily t2m_max (K), tp, et0 (mm/d) with seasons, persistence and shared weather; optionally rounded (ties) and with holes."""
    rng = np.random.default_rng(seed)
    time = pd.date_range(start, periods=days)
    shape = (days, len(lat), len(lon))
    noise = rng.standard_normal((days, 1, 1)) * 0.8 + rng.standard_normal(shape) * 0.6
    for t in range(1, days):
        noise[t] += memory * noise[t - 1]
    season = np.sin(2 * np.pi * (time.dayofyear.to_numpy() - 110) / 365.25)[:, None, None]
    t2m = 285 + 10 * season + 3 * noise
    et0 = np.clip(2.5 + 2 * season + 0.25 * noise, 0.05, None)
    tp = np.where(rng.random(shape) < 0.3 * np.exp(-0.5 * noise).clip(0, 3), rng.gamma(0.7, 8, shape), 0.0)
    values = {"t2m_max": t2m, "tp": tp, "et0": et0}
    if decimals is not None:
        values = {name: np.round(v, decimals) for name, v in values.items()}
    if holes:
        for v in values.values():
            v[rng.random(shape) < holes] = np.nan
    units = {"t2m_max": "K", "tp": "mm d-1", "et0": "mm d-1"}
    return xr.Dataset(
        {name: (("time", "latitude", "longitude"), v.astype(np.float32), {"units": units[name]}) for name, v in values.items()},
        coords={"time": time, "latitude": list(lat), "longitude": list(lon)},
    )


def oracle_pei(w, n):
    """Trailing mean by exact summation of each window; w is (time,)."""
    out = np.full(len(w), np.nan)
    for t in range(n - 1, len(w)):
        part = w[t - n + 1 : t + 1]
        if np.isfinite(part).all():
            out[t] = math.fsum(part) / n
    return out


def oracle_rank(v, sample):
    """Scaled mean rank of v in a sample, by counting."""
    sample = sample[np.isfinite(sample)]
    if not np.isfinite(v) or sample.size == 0:
        return np.nan
    return (np.sum(sample < v) + 0.5 * np.sum(sample == v)) / sample.size


def slot_of(day):
    """Calendar day 1-365, 29 February counting as 28 February."""
    day = pd.Timestamp(day)
    if (day.month, day.day) == (2, 29):
        day = day - pd.Timedelta(days=1)
    return pd.Timestamp(2001, day.month, day.day).dayofyear


def oracle_ranks(x, time, inside, mode, window=31):
    """Scaled ranks of one series, day by day."""
    if mode == "period":
        return np.array([oracle_rank(v, x[inside]) for v in x])
    slots = np.array([slot_of(t) for t in time])
    out = np.empty(len(x))
    for i, v in enumerate(x):
        gap = np.abs(slots - slots[i])
        out[i] = oracle_rank(v, x[inside & (np.minimum(gap, 365 - gap) <= window // 2)])
    return out


def oracle_codes(t_rank, pei_ranks):
    """Codes from four rank series, as the text says."""
    out = np.zeros(len(t_rank), np.uint8)
    for i in range(len(t_rank)):
        ranks = [t_rank[i], *(p[i] for p in pei_ranks)]
        if ranks[0] > 0.99:
            out[i] |= 1
        for bit, r in zip((2, 4, 8), ranks[1:], strict=True):
            if r < 0.01:
                out[i] |= bit
        if np.isnan(ranks).any():
            out[i] |= 128
        elif all(0.1 < r < 0.9 for r in ranks):
            out[i] |= 16
    return out


def oracle_filter(mask, n):
    """Keep runs of at least n days of one series."""
    out, run = np.zeros(len(mask), bool), []
    for i, m in enumerate([*mask, False]):
        if m:
            run.append(i)
            continue
        if len(run) >= n:
            out[run] = True
        run = []
    return out


def oracle_components(mask, connectivity, periodic):
    """Components of (time, lat, lon) as a set of frozen sets of cell-days, by flood fill."""
    order = {6: 1, 18: 2, 26: 3}[connectivity]
    steps = np.argwhere(ndimage.generate_binary_structure(3, order)) - 1
    left, parts = {tuple(p) for p in np.argwhere(mask).tolist()}, set()
    while left:
        stack, part = [left.pop()], set()
        part.add(stack[0])
        while stack:
            t, y, x = stack.pop()
            for dt, dy, dx in steps:
                xx = (x + dx) % mask.shape[2] if periodic else x + dx
                q = (int(t + dt), int(y + dy), int(xx))
                if q in left:
                    left.remove(q)
                    part.add(q)
                    stack.append(q)
        parts.add(frozenset(part))
    return parts


def components(labels):
    """The components of a label array, as ``oracle_components``."""
    parts = {}
    for p in np.argwhere(labels).tolist():
        parts.setdefault(int(labels[tuple(p)]), set()).add(tuple(p))
    return {frozenset(p) for p in parts.values()}


def cell_area(lat, lat_step, lon_step):
    """Area in km2 of a cell on the sphere."""
    south, north = max(-90, lat - lat_step / 2), min(90, lat + lat_step / 2)
    return RADIUS**2 * math.radians(lon_step) * (math.sin(math.radians(north)) - math.sin(math.radians(south)))
