"""Every form of GeoTIFF gives the pixels that were written into it, and the same through GDAL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cubekit.read import AssetRead, ReadOptions, ReadStatus, read_assets
from cubekit.testing import shared_data
from cubekit.testing.cogs import unique_pixels, write_cog
from tests.read.conftest import GRID, World

WINDOW = np.s_[70:118, 50:114]
FORMS: dict[str, dict[str, Any]] = {
    **{
        f"{codec}-{dtype}": {"compress": codec, "dtype": dtype}
        for codec in ("NONE", "DEFLATE", "ZSTD", "LZW")
        for dtype in ("uint8", "float32")
    },
    **{
        f"p2-{codec}-{dtype}": {"compress": codec, "dtype": dtype, "predictor": 2}
        for codec in ("DEFLATE", "ZSTD", "LZW")
        for dtype in ("uint8", "uint16", "int16", "uint32", "int32")
    },
    **{
        f"p3-{codec}-{dtype}": {"compress": codec, "dtype": dtype, "predictor": 3}
        for codec in ("DEFLATE", "ZSTD")
        for dtype in ("float32", "float64")
    },
    "float64": {"dtype": "float64"},
    "bands": {"bands": 3, "index": 2, "predictor": 2},
    "bands-float": {"bands": 3, "index": 3, "predictor": 3, "dtype": "float32"},
    "planar": {"bands": 3, "index": 2, "predictor": 2, "planar": True},
    "planar-zstd": {"bands": 2, "index": 2, "compress": "ZSTD", "planar": True},
    "big": {"BIGTIFF": "YES", "predictor": 2},
    "big-endian": {"ENDIANNESS": "BIG", "predictor": 2},
    "big-endian-float": {"ENDIANNESS": "BIG", "predictor": 3, "dtype": "float32"},
    "big-big": {"ENDIANNESS": "BIG", "BIGTIFF": "YES"},
    "tile-512": {"tile": 512},
    "tile-1024": {"tile": 1024, "predictor": 2},
    "tile-16": {"tile": 16},
    "striped": {"tile": None},
    "jpeg-like": {"compress": "PACKBITS"},
    "twelve-bits": {"NBITS": 12, "dtype": "uint16", "modulo": 4095},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_written_pixels(world: World, form: str) -> None:
    settings = dict(FORMS[form])
    dtype, bands, index = settings.pop("dtype", "uint16"), settings.pop("bands", 1), settings.pop("index", 1)
    pixels = unique_pixels(256, 300, dtype, bands=bands)
    if modulo := settings.pop("modulo", None):
        pixels = pixels % modulo + 1
    write_cog(world.root / f"{form}.tif", pixels, **{"tile": 128, **settings})
    for engine in ("window", "rasterio"):
        out = np.full((1, *GRID.shape), 99, dtype)
        outcome = read_assets([world.read(f"{form}.tif", index=index)], GRID, out, options=ReadOptions(engine=engine))[0]  # type: ignore[arg-type]
        assert outcome.status is ReadStatus.OK, outcome
        np.testing.assert_array_equal(out[0], pixels[index - 1][WINDOW], err_msg=engine)


@pytest.mark.parametrize("dtype", ["float32", "int32", "float64"])
def test_a_wider_result_takes_the_pixels(world: World, dtype: str, expected: np.ndarray) -> None:
    out = np.empty((1, *GRID.shape), dtype)
    assert read_assets([world.read("a.tif")], GRID, out)[0].status is ReadStatus.OK
    np.testing.assert_array_equal(out[0], expected)


def test_a_narrower_result_is_a_corrupt_asset_not_a_wrong_pixel(world: World) -> None:
    out = np.empty((1, *GRID.shape), "int16")
    outcome = read_assets([world.read("a.tif")], GRID, out)[0]
    assert outcome.status is ReadStatus.CORRUPT
    assert "uint16" in outcome.message
    assert "int16" in outcome.message
    assert (out == 0).all()


@pytest.mark.parametrize("engine", ["window", "rasterio"])
@pytest.mark.parametrize("nodata", [0, None])
def test_masked_pixels_are_nodata(world: World, engine: Any, nodata: int | None) -> None:
    pixels = unique_pixels(256, 300)
    mask = np.random.default_rng(5).random((256, 300)) < 0.7
    write_cog(world.root / "masked.tif", pixels, tile=128, predictor=2, mask=mask, nodata=None)
    out = np.empty((1, *GRID.shape), "uint16")
    outcome = read_assets([world.read("masked.tif", nodata=nodata)], GRID, out, options=ReadOptions(engine=engine))[0]
    assert outcome.status is ReadStatus.OK
    np.testing.assert_array_equal(out[0], np.where(mask, pixels[0], 0)[WINDOW])


def test_sparse_tiles_are_nodata(world: World) -> None:
    pixels = unique_pixels(256, 300)
    pixels[:, :128, :128] = 0
    write_cog(world.root / "sparse.tif", pixels, tile=128, SPARSE_OK=True)
    out = np.full((1, *GRID.shape), 9, "uint16")
    outcome = read_assets([world.read("sparse.tif")], GRID, out)[0]
    assert outcome.status is ReadStatus.EMPTY
    assert outcome.requests == 1
    assert (out == 0).all()


def test_a_wholly_sparse_file_is_empty(world: World) -> None:
    write_cog(world.root / "vacant.tif", np.zeros((1, 256, 300), "uint16"), tile=128, SPARSE_OK=True)
    out = np.full((1, *GRID.shape), 9, "uint16")
    assert read_assets([world.read("vacant.tif")], GRID, out)[0].status is ReadStatus.EMPTY


def test_a_files_own_nodata_becomes_the_reads(world: World) -> None:
    pixels = unique_pixels(256, 300)
    pixels[0, 80:90] = 65535
    write_cog(world.root / "own.tif", pixels, tile=128, nodata=65535)
    out = np.empty((1, *GRID.shape), "uint16")
    read_assets([world.read("own.tif", nodata=0)], GRID, out)
    np.testing.assert_array_equal(out[0], np.where(pixels == 65535, 0, pixels)[0][WINDOW])
    read_assets([world.read("own.tif", nodata=None)], GRID, out)
    np.testing.assert_array_equal(out[0], pixels[0][WINDOW])


def test_a_header_beyond_the_first_request_is_followed(world: World) -> None:
    """Thousands of small tiles: the tile table alone is larger than the first request."""
    pixels = unique_pixels(1200, 1200)
    write_cog(world.root / "long.tif", pixels, tile=16)
    out = np.empty((1, *GRID.shape), "uint16")
    outcome = read_assets([world.read("long.tif")], GRID, out)[0]
    assert outcome.status is ReadStatus.OK, outcome
    np.testing.assert_array_equal(out[0], pixels[0][WINDOW])


@pytest.mark.parametrize("tail", [False, True])
def test_directories_may_lie_at_the_end(world: World, tail: bool) -> None:
    """GDAL appends directories of overviews built later; and a file closed late has its first one at the end."""
    pixels = unique_pixels(256, 300)
    write_cog(world.root / "late.tif", pixels, tile=128, overviews=(2,) if tail else (), overview_resampling="nearest")
    out = np.empty((1, *GRID.shape), "uint16")
    assert read_assets([world.read("late.tif")], GRID, out)[0].status is ReadStatus.OK
    np.testing.assert_array_equal(out[0], pixels[0][WINDOW])


def test_real_files_agree_with_gdal() -> None:
    import rasterio

    from cubekit.grid import Grid

    root = shared_data("b_raster")
    options = ReadOptions(local_root=root)
    for name in sorted(path.relative_to(root) for path in Path(root).rglob("*.[tj][ip][f2]")):
        with rasterio.open(root / name) as dataset:
            if abs(dataset.transform.a + dataset.transform.e) > 1e-9 or not dataset.crs.to_epsg():
                continue
            col, row = dataset.width // 3, dataset.height // 3
            width, height = min(97, dataset.width - col), min(91, dataset.height - row)
            truth = dataset.read(1, window=((row, row + height), (col, col + width)))
            left, top = dataset.transform * (col, row)
            grid = Grid(dataset.crs.to_epsg(), dataset.transform.a, left, top, width, height)
        out = np.empty((1, height, width), truth.dtype)
        outcome = read_assets([AssetRead(str(name))], grid, out, options=options)[0]
        assert not outcome.status.is_hole, (name, outcome)
        np.testing.assert_array_equal(out[0], truth, err_msg=str(name))


@pytest.mark.parametrize("compress", ["ZSTD", "DEFLATE", "LZW", "NONE"])
def test_tiles_of_which_the_image_fills_a_few_rows(world: World, compress: str) -> None:
    """The image's last row of tiles, and an image lower than a tile: less data than a block of the codec."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(1, 60000, (1, 75, 300), dtype="uint16")
    name = f"low-{compress}.tif"
    write_cog(world.root / name, pixels, tile=256, compress=compress)
    out = np.zeros((1, *GRID.shape), "uint16")
    outcome = read_assets([world.read(name)], GRID, out)[0]
    assert outcome.status is ReadStatus.OK, outcome
    np.testing.assert_array_equal(out[0, :5], pixels[0, 70:75, 50:114])
    assert (out[0, 5:] == 0).all()
