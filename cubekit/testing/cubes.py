"""A small invented site: a few fields, seasons, clouds, one dry hot summer; for tests that need a cube but no pixels from anywhere."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import numpy as np
import xarray as xr

from cubekit.grid import Grid
from cubekit.site import Site

__all__ = ["tiny_cube", "tiny_groups"]

_SPECTRA = {  # band: (bare soil, dense vegetation)
    "B02": (0.09, 0.03),
    "B03": (0.12, 0.06),
    "B04": (0.17, 0.03),
    "B05": (0.20, 0.08),
    "B06": (0.22, 0.25),
    "B07": (0.24, 0.33),
    "B8A": (0.27, 0.40),
    "B11": (0.33, 0.19),
    "B12": (0.29, 0.10),
}
_DROUGHT = (np.datetime64("2018-07-10"), np.datetime64("2018-08-16"))


def tiny_groups(
    steps: int = 24,
    edge: int = 24,
    bands: tuple[str, ...] = ("B02", "B03", "B04", "B8A"),
    *,
    seed: int = 0,
    packed: bool = False,
    start: str = "2018-01-03T10:26:29.024",
    every_days: float = 30.0,
) -> tuple[dict[str, xr.Dataset], Grid, Site]:
    """Datasets of an invented cube as layers would give them, with its grid and site.

    Parameters
    ----------
    steps, edge
        Size of the imagery: time steps, pixels along x and y.
    bands
        Names of bands.
    seed
        Of the random numbers; equal seeds give equal data.
    packed
        Whether reflectance is int16 instead of float32.
    start, every_days
        First acquisition and the days between two.
    """
    rng = np.random.default_rng(seed)
    site = Site(51.34, 12.37, "leipzig")
    grid = Grid.around(site.lat, site.lon, edge)
    step = np.timedelta64(round(every_days * 86_400_000), "ms")
    time = (np.datetime64(start, "ms") + np.arange(steps) * step).astype("datetime64[ns]")
    groups = {"/": _imagery(time, edge, bands, rng, packed), "climate": _climate(time, rng)}
    groups["events"] = _events(groups["climate"])
    return groups, grid, site


def tiny_cube(steps: int = 24, edge: int = 24, **options: object) -> xr.DataTree:
    """The invented cube, assembled with provenance and ready to be written; options as of `tiny_groups`."""
    from cubekit.cube import assemble

    groups, grid, site = tiny_groups(steps, edge, **options)  # type: ignore[arg-type]
    hrefs = [f"https://example.com/items/{item}.json" for item in groups["/"]["item_id"].values]
    recipe = '{"layers":[{"kind":"sentinel2"}],"name":"tiny"}'
    digest = "sha256:" + hashlib.sha256(recipe.encode()).hexdigest()
    return assemble(groups, grid, site, {"item_hrefs": hrefs}, recipe=recipe, digest=digest, created=datetime(2024, 1, 1, tzinfo=UTC))


def _imagery(time: np.ndarray, edge: int, bands: tuple[str, ...], rng: np.random.Generator, packed: bool) -> xr.Dataset:
    steps = len(time)
    status = np.zeros((steps, edge, edge), np.uint8)
    for index in range(1, steps, 7):
        status[index, :, : edge // 3] = 1
    status[4::11, : edge // 6] = 2
    status[5::13] = 3
    cloudy = _clouds(steps, edge, rng)
    scl = np.where(cloudy, 9, 4).astype(np.uint8)
    scl[status != 0] = 0
    cover = _cover(time, edge, rng)
    variables: dict[str, tuple] = {}
    for band in bands:
        soil, leaf = _SPECTRA[band]
        values = soil + (leaf - soil) * cover + 0.004 * rng.standard_normal(cover.shape)
        values = np.where(cloudy, 0.55 + 0.2 * rng.random(cover.shape), values).astype(np.float32)
        values[status != 0] = np.nan
        if packed:
            values = np.where(np.isnan(values), -32768, np.rint(values * 10000)).astype(np.int16)
        variables[band] = (("time", "y", "x"), values)
    variables["SCL"] = (("time", "y", "x"), scl)
    variables["cloud_mask"] = (("time", "y", "x"), np.where(scl == 0, 255, scl == 9).astype(np.uint8))
    variables["pixel_status"] = (("time", "y", "x"), status)
    variables["cop_dem"] = (("y", "x"), (110 + 5 * _smooth(edge, rng)).astype(np.float32))
    coords = {
        "time": time,
        "item_id": ("time", [f"S2A_33UUS_{str(day)[:10].replace('-', '')}" for day in time]),
        "platform": ("time", ["sentinel-2a", "sentinel-2b"] * (steps // 2) + ["sentinel-2a"] * (steps % 2)),
        "relative_orbit": ("time", np.full(steps, 65, np.int16)),
        "tile": ("time", ["33UUS"] * steps),
        "processing_baseline": ("time", ["05.00"] * steps),
        "boa_offset": ("time", np.full(steps, -1000, np.int16)),
        "sun_zenith": ("time", (48 - 20 * _season(time)).astype(np.float32)),
        "clear_fraction": ("time", (scl == 4).mean((1, 2)).astype(np.float32)),
    }
    return xr.Dataset(variables, coords=coords)


def _season(time: np.ndarray) -> np.ndarray:
    day = (time.astype("datetime64[D]") - time.astype("datetime64[Y]")).astype(int)
    return np.asarray(np.sin(2 * np.pi * (day - 100) / 365.25))


def _cover(time: np.ndarray, edge: int, rng: np.random.Generator) -> np.ndarray:
    """Share of green vegetation, shape (time, edge, edge)."""
    y, x = np.mgrid[:edge, :edge] / edge
    field = (np.floor(4 * x + 0.7 * y) + 5 * np.floor(3 * y - 0.4 * x)).astype(int) % 7
    peak = np.array([0.9, 0.75, 0.5, 0.85, 0.25, 0.95, 0.65])[field]
    lag = np.array([0, 25, -20, 10, 0, 40, -10])[field]
    season = np.stack(
        [np.clip(0.5 + 0.5 * _season(time - np.timedelta64(int(shift), "D")), 0.08, 1) for shift in (0, 25, -20, 10, 40, -10)]
    )
    order = {0: 0, 25: 1, -20: 2, 10: 3, 40: 4, -10: 5}
    index = np.vectorize(order.get)(lag)
    cover = season[index].transpose(2, 0, 1) * peak * (1 + 0.05 * _smooth(edge, rng))
    dry = (time >= _DROUGHT[0]) & (time <= _DROUGHT[1] + np.timedelta64(40, "D"))
    cover[dry] *= 0.6
    return np.asarray(np.clip(cover, 0, 1))


def _smooth(edge: int, rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:edge, :edge] / edge
    waves = rng.normal(size=(6, 4))
    field: np.ndarray = sum(np.cos(2 * np.pi * (a * 2 * x + b * 2 * y) + 6 * c) * d for a, b, c, d in waves)
    return np.asarray(field / np.abs(field).max())


def _clouds(steps: int, edge: int, rng: np.random.Generator) -> np.ndarray:
    amount = rng.beta(0.5, 0.9, steps)
    return np.stack([0.5 + 0.5 * _smooth(edge, rng) < share if share > 0.15 else np.zeros((edge, edge), bool) for share in amount])


def _climate(time: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    first, last = time.min().astype("datetime64[Y]").astype("datetime64[D]"), time.max().astype("datetime64[D]") + np.timedelta64(5, "D")
    days = np.arange(first, last).astype("datetime64[ns]")
    season = _season(days)
    dry = (days >= _DROUGHT[0]) & (days <= _DROUGHT[1])
    noise = np.convolve(rng.standard_normal(days.size + 30), np.ones(6) / 6, "same")[: days.size]
    t2m = 282.5 + 9.5 * season + 3 * noise + 6 * dry
    rain = rng.gamma(0.4, 5, days.size) * ~dry
    et0 = np.clip(2.2 + 2 * season + 1.5 * dry, 0.2, None)
    balance = np.convolve(rain - et0, np.ones(30) / 30, "full")[: days.size]
    balance[:29] = np.nan
    return xr.Dataset(
        {
            "t2m_mean": (
                "time",
                t2m.astype(np.float32),
                {"units": "K", "long_name": "2 m temperature, daily mean", "cell_methods": "time: mean"},
            ),
            "t2m_max": ("time", (t2m + 5).astype(np.float32), {"units": "K", "long_name": "2 m temperature, daily maximum"}),
            "tp": ("time", rain.astype(np.float32), {"units": "mm", "long_name": "precipitation", "cell_methods": "time: sum"}),
            "et0": ("time", et0.astype(np.float32), {"units": "mm d-1", "long_name": "reference evapotranspiration"}),
            "pei_30": ("time", balance.astype(np.float32), {"units": "mm d-1", "long_name": "P - ET0, mean of 30 days"}),
        },
        coords={"time": days},
        attrs={"cell_longitude": 12.4, "cell_latitude": 51.3, "cell_distance_km": 4.9, "cell_elevation_difference_m": -3.0},
    )


def _events(climate: xr.Dataset) -> xr.Dataset:
    days = climate["time"].values
    dry = (days >= _DROUGHT[0]) & (days <= _DROUGHT[1])
    hot = dry & (days >= _DROUGHT[0] + np.timedelta64(12, "D"))
    code = (hot * 1 + dry * 2).astype(np.uint8)
    flags = {
        "long_name": "extreme events",
        "flag_masks": [1, 2, 4, 8, 16, 128],
        "flag_meanings": "heat drought_30 drought_90 drought_180 normal missing",
    }
    return xr.Dataset(
        {
            "events": ("time", code, flags),
            "event_labels": ("time", np.where(hot, 7, 0).astype(np.uint32), {"long_name": "label of the compound event", "units": "1"}),
        },
        coords={"time": days},
    )
