"""A world of daily weather, and dry-hot events as one would write them straight away: xarray, numpy, scipy.stats, scipy.ndimage."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy import ndimage, stats

import cubekit.events as ev

__all__ = ["labels_of", "n_days", "straight", "write_daily"]


def n_days(years: float) -> int:
    """Days from the beginning of 1991 on."""
    return int(years * 365.25) + 1


def world(ny: int, nx: int, years: float, seed: int = 0) -> xr.Dataset:
    """Persistent, spatially smooth daily weather with seasons, float32."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("1991-01-01", periods=n_days(years))
    noise = np.empty((days.size, ny, nx), np.float32)
    state = np.zeros((ny, nx), np.float32)
    for t in range(days.size):
        state = 0.9 * state + 0.43 * 4 * ndimage.uniform_filter(rng.standard_normal((ny, nx), dtype=np.float32), 4, mode="wrap")
        noise[t] = state
    season = np.sin(2 * np.pi * (days.dayofyear.to_numpy() - 110) / 365.25).astype(np.float32)[:, None, None]
    wet = rng.random(noise.shape, dtype=np.float32) < 0.3 * np.exp(-0.5 * noise)
    fields = {
        "t2m_max": (288 + 10 * season + 3 * noise, "K"),
        "tp": (np.where(wet, -8 * np.log(rng.random(noise.shape, dtype=np.float32) + 1e-9), 0).astype(np.float32), "mm d-1"),
        "et0": (np.clip(2.5 + 2 * season + 0.3 * noise, 0.05, None), "mm d-1"),
    }
    return xr.Dataset(
        {name: (("time", "latitude", "longitude"), values, {"units": unit}) for name, (values, unit) in fields.items()},
        coords={"time": days, "latitude": np.linspace(70, -55, ny), "longitude": np.arange(nx) * 360.0 / nx},
    )


def write_daily(path: Path, ny: int, nx: int, years: float, block: int = 8) -> None:
    """A daily store with chunks of whole series, xarray's own codec, written in bands so that it never has to fit in memory.

    Each band is the first one turned round the globe by another angle: as hard to compress and to rank as the first.
    """
    first = world(block, nx, years)
    template = xr.Dataset(
        {name: (v.dims, np.broadcast_to(np.float32(0), (v.shape[0], ny, nx)), v.attrs) for name, v in first.items()},
        coords={"time": first["time"], "latitude": np.linspace(80, -80, ny), "longitude": first["longitude"]},
    ).chunk({"latitude": block})
    chunks = (first.sizes["time"], block, min(nx, 45))
    template.to_zarr(path, compute=False, zarr_format=3, consolidated=False, encoding={name: {"chunks": chunks} for name in first})
    for i, row in enumerate(range(0, ny, block)):
        part = first.roll(longitude=7 * i, roll_coords=False).drop_vars(["time", "latitude", "longitude"])
        part = part.isel(latitude=slice(0, min(block, ny - row)))
        place = {"latitude": slice(row, row + part.sizes["latitude"]), "time": slice(None), "longitude": slice(None)}
        part.to_zarr(path, region=place, consolidated=False)


def codes_of(ds: xr.Dataset) -> np.ndarray:
    """Codes of mode="period"; no value may be missing. Ranks of a PEI are taken over the days that have one, which spares nan_policy."""
    w = ds["tp"].values.astype(np.float64) - ds["et0"].values
    total = np.concatenate([np.zeros_like(w[:1]), np.cumsum(w, axis=0)])
    codes = np.zeros(w.shape, np.uint8)
    normal = np.ones(w.shape, bool)
    for bit, n in enumerate((1, *ev.WINDOWS)):
        x = ds["t2m_max"].values if bit == 0 else ((total[n:] - total[:-n]) / n).astype(np.float32)
        rank = (stats.rankdata(x, axis=0) - 0.5) / x.shape[0]
        codes[n - 1 :] |= (rank > 0.99 if bit == 0 else rank < 0.01).astype(np.uint8) << bit
        normal[n - 1 :] &= (rank > 0.1) & (rank < 0.9)
    codes[normal] |= 16
    codes[: ev.HALO_DAYS] = codes[: ev.HALO_DAYS] & 15 | 128
    return codes


def labels_of(codes: np.ndarray) -> np.ndarray:
    """Filter by opening along time, label, then join over the seam of a grid that goes round the globe."""
    mask = ((codes & 1) > 0) & ((codes & 14) > 0)
    labels, n = ndimage.label(ndimage.binary_opening(mask, np.ones((3, 1, 1), bool)))
    parent = np.arange(n + 1)
    for a, b in {(a, b) for a, b in zip(labels[:, :, 0].ravel(), labels[:, :, -1].ravel(), strict=True) if a and b}:
        while parent[a] != a:
            a = parent[a]
        while parent[b] != b:
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    for i in range(n + 1):
        parent[i] = parent[parent[i]]
    return parent[labels]


def straight(path: str, out: str) -> dict[str, float]:
    """The whole job from store to store; seconds of its stages. No tables, no PEI of gaps, no units: less than the other side does."""
    clock = [time.perf_counter()]
    ds = xr.open_zarr(path, chunks=None, consolidated=False).load()
    clock.append(time.perf_counter())
    codes = codes_of(ds)
    clock.append(time.perf_counter())
    labels = labels_of(codes)
    clock.append(time.perf_counter())
    dims = ("time", "latitude", "longitude")
    found = xr.Dataset({"events": (dims, codes), "event_labels": (dims, labels.astype(np.uint32))}, coords=ds.coords)
    found.to_zarr(out, mode="w", zarr_format=3, consolidated=False)
    clock.append(time.perf_counter())
    load, code, label, write = np.diff(clock).tolist()
    # Each side's stages hold the reading and writing that belong to them.
    return {"seconds": clock[-1] - clock[0], "codes": load + code + write / 2, "labels": label + write / 2}
