"""Pixels of another zone: what GDAL's warper makes of them, without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer

import cubekit.read._resample as resample_module
from cubekit.grid import Grid
from cubekit.read import AssetRead, ReadOptions, ReadStatus, read_assets
from cubekit.read._crosszone import resample
from cubekit.read._layout import Use
from cubekit.read._place import reduction
from cubekit.read._resample import warp
from cubekit.testing.cogs import unique_pixels, write_cog

ZONES = [(32632, 32631), (32633, 32632), (32732, 32733), (32601, 32660)]


def window(chance: np.random.Generator, dtype: str, nodata: int, shape: tuple[int, int]) -> np.ndarray:
    """Any values, or only those around nodata, and holes of any density."""
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max) if chance.random() < 0.5 else (max(limits.min, nodata - 3), min(limits.max, nodata + 3))
    pixels = chance.integers(low, high, shape, endpoint=True).astype(dtype)
    pixels[chance.random(shape) < chance.choice([0.0, 0.05, 0.5])] = nodata
    return pixels


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("seed", range(8))
def test_equal_to_gdal(dtype: str, seed: int) -> None:
    chance = np.random.default_rng(seed)
    limits, some = np.iinfo(dtype), 0
    for _ in range(12):
        source, target = ZONES[chance.integers(len(ZONES))]
        pitch, resolution = (float(chance.choice([10, 20, 60])) for _ in range(2))
        height, width = (int(size) for size in chance.integers(1, 90, 2))
        left, top = 600000 + 10.0 * int(chance.integers(1000)), 5700000 - 10.0 * int(chance.integers(1000))
        if source == 32601:
            left, top = 300000.0, 6500000.0  # over the antimeridian
        transform, nodata = Affine(pitch, 0, left, 0, -pitch, top), int(chance.choice([0, 7, limits.min, limits.max]))
        pixels = window(chance, dtype, nodata, (height, width))
        x, y = Transformer.from_crs(source, target, always_xy=True).transform(left + pitch * width / 2, top - pitch * height / 2)
        edge = int(chance.integers(1, 70))
        grid = Grid(target, resolution, round(x) - edge * resolution / 2 + 0.25, round(y) + edge * resolution / 2, edge, edge)
        for resampling in ("nearest", "bilinear"):
            if resampling == "bilinear" and reduction(transform, source, grid) != (1.0, 1.0):
                continue
            ours = resample(pixels, transform, source, grid, bilinear=resampling == "bilinear", nodata=nodata)
            gdal = warp(pixels, transform, source, grid, resampling, nodata, True)  # type: ignore[arg-type]
            told = f"{source} {target} {transform} {grid} {resampling} {nodata}"
            np.testing.assert_array_equal(ours == nodata, gdal == nodata, err_msg=told)
            differs = ours != gdal
            if resampling == "nearest":
                assert not differs.any(), told
            # PROJ's noise of 1e-9 pixels decides how one of some ten thousand means is rounded.
            assert differs.sum() <= 1 + differs.size / 1000, told
            np.testing.assert_allclose(ours[differs].astype(float), gdal[differs].astype(float), rtol=0, atol=1, err_msg=told)
            some += int((ours != nodata).any())
    assert some > 6


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("edge", [64, 600])
def test_files_are_read_so_and_large_grids_by_gdal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resampling: str, edge: int) -> None:
    pixels = unique_pixels(900, 900, "uint16")
    write_cog(tmp_path / "a.tif", pixels, tile=256)
    x, y = Transformer.from_crs(32632, 32633, always_xy=True).transform(604500, 5695500)
    grid = Grid(32633, 10, round(x, -1) - edge * 5, round(y, -1) + edge * 5, edge, edge)
    asked: list[int] = []
    monkeypatch.setattr(resample_module, "warp", lambda *given: asked.append(1) or warp(*given))
    results = []
    for engine in ("window", "rasterio"):
        out = np.zeros((1, *grid.shape), "uint16")
        options = ReadOptions(engine=engine, local_root=tmp_path)  # type: ignore[arg-type]
        outcome = read_assets([AssetRead("a.tif", resampling=resampling, nodata=0)], grid, out, options=options)[0]  # type: ignore[arg-type]
        assert outcome.status is ReadStatus.OK
        results.append(out)
    np.testing.assert_array_equal(*results)
    assert (results[0] != 0).mean() > 0.9
    assert len(asked) == (edge == 600)


def test_the_same_zone_of_the_other_hemisphere_is_left_to_gdal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There pixels may lie on edges of pixels, where the last bit decides, and that is GDAL's in all engines."""
    write_cog(tmp_path / "a.tif", unique_pixels(64, 64, "uint16"), tile=32, epsg=32732, transform=(10, 0, 600000, 0, -10, 10000320))
    asked: list[int] = []
    monkeypatch.setattr(resample_module, "warp", lambda *given: asked.append(1) or warp(*given))
    out = np.zeros((1, 20, 20), "uint16")
    read_assets([AssetRead("a.tif", nodata=0)], Grid(32632, 10, 600100, 200, 20, 20), out, options=ReadOptions(local_root=tmp_path))
    assert asked
    assert (out != 0).all()


@pytest.mark.parametrize("epsg", [32661, 32761, 32600, 3857])
def test_only_utm_zones_count(epsg: int) -> None:
    grid = Grid(32633, 10, 500000, 5700000, 8, 8)
    use = Use(0, AssetRead("a.tif", nodata=0), grid, np.zeros(grid.shape, "uint16"), has_nodata=True, window=np.ones((9, 9), "uint16"))
    transform = Affine(10, 0, 600000, 0, -10, 5700000)
    assert resample_module._crosses_zones(use, transform, 32632)
    assert not resample_module._crosses_zones(use, transform, epsg)
