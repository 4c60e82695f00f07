"""All engines give the same bits; and they are GDAL's, odc-stac's and stackstac's own where those copy pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from cubekit.errors import InputError
from cubekit.grid import Grid
from cubekit.read import AssetRead, ReadOptions, ReadStatus, lazy_stack, read_assets
from cubekit.testing.cogs import unique_pixels, write_cog

ENGINES = ("window", "rasterio", "odc", "stackstac")
GRIDS = {
    "aligned": Grid(32632, 10, 600500, 5699300, 64, 48),
    "finer": Grid(32632, 5, 600505, 5699295, 61, 50),
    "coarser-overview": Grid(32632, 20, 600400, 5699400, 40, 44),
    "coarser-3": Grid(32632, 30, 600330, 5699310, 20, 21),
    "coarser-beyond-overviews": Grid(32632, 120, 600000, 5700000, 20, 20),
    "off-phase": Grid(32632, 10, 600503, 5699296, 50, 51),
    "half-a-pixel": Grid(32632, 10, 600505, 5699305, 50, 51),
    "odd-resolution": Grid(32632, 7.3, 600503, 5699296, 50, 51),
    "partly-outside": Grid(32632, 10, 599800, 5700100, 64, 48),
    "partly-outside-coarser": Grid(32632, 20, 599700, 5700200, 64, 48),
    "partly-outside-finer": Grid(32632, 5, 599905, 5700095, 64, 48),
    "partly-outside-off-phase": Grid(32632, 15, 599803, 5700096, 64, 48),
    "next-zone": Grid(32633, 10, 184470, 5707570, 64, 48),
    "next-zone-coarser": Grid(32633, 60, 183600, 5708640, 30, 30),
    "geographic-source": Grid(32632, 100, 600000, 5700000, 20, 20),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parity")
    rng = np.random.default_rng(3)
    for dtype in ("uint16", "int16", "float32", "uint8"):
        pixels = unique_pixels(400, 400, dtype)
        if dtype == "int16":
            pixels -= 9000
        pixels[0, 40:60, 30:90] = 0
        pixels[0][rng.random((400, 400)) < 0.02] = 0
        write_cog(
            root / f"{dtype}.tif",
            pixels,
            tile=128,
            predictor=2 if dtype != "float32" else 3,
            overviews=(2, 4),
            overview_resampling="average",
        )
    write_cog(root / "geographic.tif", unique_pixels(400, 400), epsg=4326, transform=(0.001, 0, 10.35, 0, -0.001, 51.6), tile=128)
    return root


def _read(root: Path, name: str, grid: Grid, engine: Any, resampling: Any, dtype: str) -> tuple[np.ndarray, ReadStatus]:
    out = np.full((2, *grid.shape), 77, dtype)
    reads = [AssetRead(f"{name}.tif", item_id=str(i), resampling=resampling, nodata=0) for i in range(2)]
    outcomes = read_assets(reads, grid, out, options=ReadOptions(engine=engine, local_root=root))
    np.testing.assert_array_equal(out[0], out[1])
    assert outcomes[0].status == outcomes[1].status
    return out[0], outcomes[0].status


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "average"])
@pytest.mark.parametrize("case", GRIDS)
@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_window_equals_gdal_to_the_bit(root: Path, case: str, resampling: str, dtype: str) -> None:
    name = "geographic" if case == "geographic-source" else dtype
    dtype = "uint16" if case == "geographic-source" else dtype
    ours, status = _read(root, name, GRIDS[case], "window", resampling, dtype)
    gdal, expected = _read(root, name, GRIDS[case], "rasterio", resampling, dtype)
    assert status is expected is ReadStatus.OK
    assert (ours != 0).mean() > 0.05
    np.testing.assert_array_equal(ours, gdal)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "average"])
@pytest.mark.parametrize("case", ["aligned", "finer", "coarser-overview", "coarser-3", "off-phase", "partly-outside", "next-zone"])
@pytest.mark.parametrize("engine", ["odc", "stackstac"])
def test_library_engines_equal_window_to_the_bit(root: Path, engine: str, case: str, resampling: str) -> None:
    ours, _ = _read(root, "uint16", GRIDS[case], "window", resampling, "uint16")
    theirs, _ = _read(root, "uint16", GRIDS[case], engine, resampling, "uint16")
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("case", ["aligned", "off-phase", "next-zone", "odd-resolution"])
def test_nearest_is_an_independent_warped_view_of_the_whole_file(root: Path, case: str) -> None:
    """Not by our code: rasterio's WarpedVRT over the open file."""
    grid = GRIDS[case]
    ours, _ = _read(root, "uint16", grid, "window", "nearest", "uint16")
    with (
        rasterio.open(root / "uint16.tif") as dataset,
        WarpedVRT(
            dataset,
            crs=f"EPSG:{grid.epsg}",
            transform=grid.affine,
            width=grid.width,
            height=grid.height,
            resampling=Resampling.nearest,
            tolerance=1e-9,
        ) as view,
    ):
        np.testing.assert_array_equal(ours, view.read(1))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("epsg", [32632, 32633])
@pytest.mark.parametrize("edge", [1, 5, 20, 50, 128])
def test_bilinear_is_bilinear_whatever_the_size_of_the_grid(tmp_path: Path, engine: Any, edge: int, epsg: int) -> None:
    """By hand: four neighbours weighted by distance. GDAL blurs small or turned grids if it may choose the width of its kernel."""
    pixels = np.random.default_rng(2).random((1, 320, 320)).astype("float32") + 1
    write_cog(tmp_path / "noise.tif", pixels, tile=64, nodata=None)
    x, y = Transformer.from_crs(32632, epsg, always_xy=True).transform(601600, 5698400)
    grid = Grid(epsg, 10, round(x) - edge * 5 + 0.3, round(y) + edge * 5 + 0.4, edge, edge)
    out = np.zeros((1, *grid.shape), "float32")
    read_assets([AssetRead("noise.tif", resampling="bilinear")], grid, out, options=ReadOptions(engine=engine, local_root=tmp_path))
    x, y = Transformer.from_crs(epsg, 32632, always_xy=True).transform(*np.meshgrid(grid.x, grid.y))
    columns, rows = (x - 600000) / 10 - 0.5, (5700000 - y) / 10 - 0.5
    j, i = np.floor(columns).astype(int), np.floor(rows).astype(int)
    u, v, a = columns - j, rows - i, pixels[0].astype(float)
    expected = (1 - v) * ((1 - u) * a[i, j] + u * a[i, j + 1]) + v * ((1 - u) * a[i + 1, j] + u * a[i + 1, j + 1])
    np.testing.assert_allclose(out[0], expected, rtol=1e-5)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "average"])
def test_bands_of_one_file_do_not_change_each_other(tmp_path: Path, resampling: Any) -> None:
    pixels = unique_pixels(200, 200, bands=3)
    write_cog(tmp_path / "three.tif", pixels, tile=64)
    for resolution in (10, 20, 60):
        grid = Grid(32632, resolution, 600203, 5699796, 20, 20)
        results = []
        for engine in ENGINES:
            out = np.zeros((1, *grid.shape), "uint16")
            options = ReadOptions(engine=engine, local_root=tmp_path)  # type: ignore[arg-type]
            read_assets([AssetRead("three.tif", resampling=resampling, nodata=0, index=2)], grid, out, options=options)
            results.append(out)
        for other in results[1:]:
            np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("resampling", ["bilinear", "average"])
def test_a_files_own_nodata_never_enters_a_mean(tmp_path: Path, engine: Any, resampling: Any) -> None:
    """The catalogue says 0, the file -32768: both mark pixels without data."""
    pixels = np.full((1, 64, 64), 5000, "int16")
    pixels[0, ::3, ::2] = -32768
    pixels[0, 1::3, ::2] = 0
    write_cog(tmp_path / "two.tif", pixels, tile=32, nodata=-32768)
    grid = Grid(32632, 25, 600003, 5699996, 20, 20)
    out = np.zeros((1, *grid.shape), "int16")
    options = ReadOptions(engine=engine, local_root=tmp_path)
    read_assets([AssetRead("two.tif", resampling=resampling, nodata=0)], grid, out, options=options)
    assert set(np.unique(out).tolist()) <= {0, 5000}
    assert (out == 5000).mean() > 0.5


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "average"])
@pytest.mark.parametrize("masked", [False, True])
def test_zero_is_a_value_where_nothing_says_nodata(tmp_path: Path, engine: Any, resampling: Any, masked: bool) -> None:
    """GDAL moves values that equal the result's nodata by one; without a nodata there is none to avoid."""
    pixels = np.zeros((1, 64, 64), "uint8")
    mask = np.ones((64, 64), bool)
    mask[:, :20] = False
    pixels[0, ~mask] = 9 if masked else 0
    write_cog(tmp_path / "zero.tif", pixels, tile=32, nodata=None, mask=mask if masked else None)
    for grid in (
        Grid(32632, 10, 600203, 5699796, 20, 20),
        Grid(32633, 10, 184600, 5707000, 64, 64),
        Grid(32632, 20, 600200, 5700100, 30, 30),
    ):
        out = np.full((1, *grid.shape), 77, "uint8")
        options = ReadOptions(engine=engine, local_root=tmp_path)
        read_assets([AssetRead("zero.tif", resampling=resampling)], grid, out, options=options)
        assert np.unique(out).tolist() == [0]


@pytest.mark.parametrize("size", [129, 301])
def test_gdals_overviews_have_the_size_they_have(tmp_path: Path, size: int) -> None:
    """Left to GDAL (LERC), with overviews that its COG driver rounds down where others round up."""
    pixels = unique_pixels(size, size)
    write_cog(tmp_path / "lerc.tif", pixels, tile=16)
    rasterio.shutil.copy(tmp_path / "lerc.tif", tmp_path / "cog.tif", driver="COG", compress="LERC", blocksize=128, overviews="AUTO")
    for resolution in (20, 40, 45, 90):
        grid = Grid(32632, resolution, 600000, 5700000, 20, 20)
        results = []
        for engine in ("window", "rasterio"):
            out = np.zeros((1, *grid.shape), "uint16")
            options = ReadOptions(engine=engine, local_root=tmp_path)
            outcome = read_assets([AssetRead("cog.tif", nodata=0)], grid, out, options=options)[0]
            assert outcome.status is ReadStatus.OK, outcome
            results.append(out)
        np.testing.assert_array_equal(results[0], results[1])


def test_equal_to_odc_stac_and_stackstac_with_their_own_readers(root: Path) -> None:
    import odc.stac
    import pystac
    import stackstac

    grid = GRIDS["aligned"]
    ours, _ = _read(root, "uint16", grid, "window", "nearest", "uint16")
    projection = {"proj:epsg": 32632, "proj:shape": [400, 400], "proj:transform": [10, 0, 600000, 0, -10, 5700000]}
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "i", "collection": "c", "bbox": [10.4, 51.3, 10.6, 51.5],
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"], "links": [],
        "geometry": {"type": "Polygon", "coordinates": [[[10.4, 51.3], [10.6, 51.3], [10.6, 51.5], [10.4, 51.5], [10.4, 51.3]]]},
        "properties": {"datetime": "2020-01-01T00:00:00Z", **projection},
        "assets": {"B02": {"href": str(root / "uint16.tif"), "type": "image/tiff; application=geotiff", "roles": ["data"], **projection}},
    }  # fmt: skip
    loaded = odc.stac.load([pystac.Item.from_dict(item)], bands=["B02"], geobox=grid.geobox, dtype="uint16", nodata=0)
    np.testing.assert_array_equal(ours, loaded["B02"].values[0])
    stacked = stackstac.stack(
        [item], assets=["B02"], epsg=32632, bounds=grid.bounds, resolution=10, dtype="uint16", fill_value=np.uint16(0), rescale=False
    )
    np.testing.assert_array_equal(ours, stacked.values[0, 0])


def test_mean_is_of_valid_pixels_and_rounds_half_up(root: Path, tmp_path: Path) -> None:
    pixels = np.zeros((1, 16, 16), "int16")
    pixels[0, :2, :2] = [[1, 2], [0, 0]]  # mean of the valid: 1.5 -> 2
    pixels[0, :2, 2:4] = [[-1, -2], [0, 0]]  # -1.5 -> -1
    pixels[0, :2, 4:6] = [[1, 1], [1, 2]]  # 1.25 -> 1
    write_cog(tmp_path / "m.tif", pixels, tile=16)
    out = np.empty((1, 8, 8), "int16")
    grid = Grid(32632, 20, 600000, 5700000, 8, 8)
    read_assets([AssetRead("m.tif", resampling="average", nodata=0)], grid, out, options=ReadOptions(local_root=tmp_path))
    assert out[0, 0, :4].tolist() == [2, -1, 1, 0]


def test_nearest_takes_gdals_pixel_of_a_block(root: Path) -> None:
    pixels = unique_pixels(400, 400, "uint8")
    write_cog(root / "plain.tif", pixels, tile=128)
    for factor in (2, 3, 4, 5):
        grid = Grid(32632, 10.0 * factor, 600000, 5700000, 20, 20)
        out, _ = _read(root, "plain", grid, "window", "nearest", "uint8")
        np.testing.assert_array_equal(out, pixels[0, factor // 2 :: factor, factor // 2 :: factor][:20, :20])


def test_the_level_is_never_coarser_than_the_grid(root: Path) -> None:
    """Overviews at 20 and 40 m: 30 m reads the one of 20 m, 19 m the full image."""
    with rasterio.open(root / "uint16.tif", overview_level=0) as dataset:
        half = dataset.read(1)
    out, _ = _read(root, "uint16", Grid(32632, 20, 600000, 5700000, 50, 50), "window", "nearest", "uint16")
    np.testing.assert_array_equal(out, half[:50, :50])
    out, _ = _read(root, "uint16", Grid(32632, 60, 600000, 5700000, 30, 30), "window", "nearest", "uint16")
    with rasterio.open(root / "uint16.tif", overview_level=1) as dataset:
        assert dataset.res == (40.0, 40.0)
    assert np.isin(out, half).mean() < 0.9  # from the 40 m level


def test_wholly_outside_is_empty_in_every_engine(root: Path) -> None:
    for engine in ENGINES:
        out, status = _read(root, "uint16", Grid(32632, 10, 700000, 5700000, 8, 8), engine, "nearest", "uint16")
        assert status is ReadStatus.EMPTY
        assert (out == 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_lazy_stack_has_the_pixels_of_every_engine(root: Path, engine: Any) -> None:
    grid = GRIDS["aligned"]
    read = AssetRead("uint16.tif", nodata=0)
    other = AssetRead("int16.tif", nodata=0)
    options = ReadOptions(engine=engine, local_root=root)
    stack = lazy_stack([[read, None], [other, read], [None, other]], grid, "float32", fill=-1, options=options, block=2)
    assert stack.shape == (3, 2, 48, 64)
    assert stack.chunks[0] == (2, 1)
    values = stack.compute()
    first, _ = _read(root, "uint16", grid, "window", "nearest", "uint16")
    second, _ = _read(root, "int16", grid, "window", "nearest", "int16")
    np.testing.assert_array_equal(values[0, 0], np.where(first == 0, values[0, 0], first))
    np.testing.assert_array_equal(values[1, 1], values[0, 0])
    np.testing.assert_array_equal(values[2, 1], values[1, 0])
    assert (values[0, 1] == -1).all()
    assert (values[2, 0] == -1).all()
    np.testing.assert_array_equal(values[1, 0][second != 0], second[second != 0])


@pytest.mark.parametrize("engine", ENGINES)
def test_lazy_stack_masks_the_nodata_of_every_read(root: Path, engine: Any) -> None:
    grid = GRIDS["aligned"]
    plain, _ = _read(root, "uint16", grid, "window", "nearest", "uint16")
    value = int(plain[5, 7])
    rows = [[AssetRead("uint16.tif", nodata=value), None], [None, AssetRead("int16.tif", nodata=0)]]
    options = ReadOptions(engine=engine, local_root=root)
    values = lazy_stack(rows, grid, "float32", options=options, block=1, mask=True).compute()
    empty = (plain == value) | (plain == 0)  # the file's own nodata is 0, and reads give the one that was asked for
    assert value
    assert not empty.all()
    np.testing.assert_array_equal(np.isnan(values[0, 0]), empty)
    np.testing.assert_array_equal(values[0, 0][~empty], plain[~empty])
    assert np.isnan(values[0, 1]).all()
    with pytest.raises(InputError, match="uint16 holds no NaN"):
        lazy_stack(rows, grid, "uint16", options=options, mask=True)


def test_lazy_stack_is_one_task_per_block(root: Path) -> None:
    read = AssetRead("uint16.tif", nodata=0)
    stack = lazy_stack([[read] * 4] * 10, GRIDS["aligned"], "uint16", options=ReadOptions(local_root=root), block=5)
    assert len(dict(stack.__dask_graph__())) == 2
