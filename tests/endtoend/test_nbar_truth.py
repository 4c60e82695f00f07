"""End to end: the nadir reflectance of the simulated world comes out of a build, across orbits, baselines and zones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from cubekit.demo import World

pytestmark = pytest.mark.filterwarnings("ignore:.*sun zenith reaches:cubekit.errors.ScienceWarning")

BANDS = ["B02", "B03", "B04", "B08"]
Build = Callable[..., xr.DataTree]


def ratios(ds: xr.Dataset, world: World, band: str, zone: str) -> dict[int, np.ndarray]:
    """Built over true nadir reflectance of the clear pixels of all scenes that come from one zone alone, by relative orbit."""
    x, y = np.meshgrid(ds.x, ds.y)
    epsg = int(ds.attrs["proj:code"].removeprefix("EPSG:"))
    found: dict[int, list[np.ndarray]] = {}
    for step in range(ds.sizes["time"]):
        items = str(ds.item_id.values[step]).split()
        if len(items) != 1 or not str(ds.tile.values[step]).startswith(zone) or float(ds.sun_zenith[step]) > 70:
            continue
        truth = world.nadir_reflectance([band], x, y, epsg, ds.time.values[step])[0]
        clear = ~world.cloud_mask(items[0], x, y, epsg) & np.isfinite(ds[band].values[step])
        found.setdefault(int(ds.relative_orbit[step]), []).append((ds[band].values[step] / truth)[clear])
    return {orbit: np.concatenate(values) for orbit, values in found.items()}


@pytest.mark.parametrize("band", BANDS)
def test_nadir_truth_is_recovered_in_the_cubes_own_zone(build: Build, world: World, band: str) -> None:
    ds = build(bands=BANDS, edge_size=64).to_dataset()
    assert {"02", "03"} & {value[:2] for value in ds.processing_baseline.values}
    assert {"04", "05"} & {value[:2] for value in ds.processing_baseline.values}
    assert set(np.unique(ds.boa_offset)) == {-1000, 0}
    by_orbit = ratios(ds, world, band, "33")
    assert len(by_orbit) == 2
    for orbit, ratio in by_orbit.items():
        bias, rmse = float(ratio.mean() - 1), float(np.sqrt(((ratio - 1) ** 2).mean()))
        print(f"{band} orbit {orbit}: {ratio.size} pixels, bias {bias:+.5f}, RMSE {rmse:.5f}")
        # 1e-4 steps of the digital numbers and of the stored reflectance; dark pixels weigh most.
        assert abs(bias) < 5e-4
        assert rmse < 5e-3


@pytest.mark.parametrize("band", BANDS)
def test_without_nbar_the_orbits_disagree(build: Build, world: World, band: str) -> None:
    raw = ratios(build(bands=BANDS, edge_size=64, nbar="none").to_dataset(), world, band, "33")
    adjusted = ratios(build(bands=BANDS, edge_size=64).to_dataset(), world, band, "33")
    jump = {name: float(np.ptp([np.median(ratio) for ratio in values.values()])) for name, values in {"raw": raw, "nbar": adjusted}.items()}
    print(f"{band}: jump between orbits {jump['raw']:.4f} without, {jump['nbar']:.5f} with NBAR")
    assert jump["raw"] > 0.02
    assert jump["nbar"] < 0.001


@pytest.mark.parametrize("band", ["B04", "B08"])
def test_a_granule_of_the_neighbouring_zone_gives_the_same_truth(build: Build, world: World, band: str) -> None:
    """Its pixels are resampled, so medians are compared: a wrong c or a wrong place of it would move them."""
    ds = build("zone32", bands=["B04", "B08"], edge_size=64, recipe=OTHER_ZONE).to_dataset()
    by_orbit = ratios(ds, world, band, "32")
    assert by_orbit
    for orbit, ratio in by_orbit.items():
        print(f"{band} orbit {orbit} across zones: median {np.median(ratio):.5f}, {ratio.size} pixels")
        assert abs(np.median(ratio) - 1) < 1e-3
        assert np.abs(np.percentile(ratio, [25, 75]) - 1).max() < 0.02


OTHER_ZONE = {
    "grid": {"epsg": 32633},
    "time": {"start": "2021-01-01", "end": "2022-12-31"},
    "layers": [{"kind": "sentinel2"}],
}
