"""Every way in which an asset can fail ends in a status, is counted, and is bounded."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cubekit.errors import AccessDeniedError, HolesError, ScienceWarning
from cubekit.layers.sentinel2 import Sentinel2
from cubekit.read import ReadStatus
from cubekit.testing.cogs import zero_tile_table
from cubekit.testing.rangeserver import RangeServer
from tests.acceptance.conftest import CLEAR, FILL, GRID, Copy, account, request

Scenes = Callable[..., Copy]
SIZE = GRID.width * GRID.height

VRT = """<VRTDataset rasterXSize="516" rasterYSize="516"><SRS>EPSG:32633</SRS>
<GeoTransform>288420, 10, 0, 5693700, 0, -10</GeoTransform><VRTRasterBand dataType="UInt16" band="1">
<SimpleSource><SourceFilename>/etc/passwd</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""


def _wrong_crs(path: Path) -> None:
    import rasterio

    with rasterio.open(path) as file:
        pixels, profile = file.read(1), file.profile
    with rasterio.open(path, "w", **{**profile, "crs": "EPSG:32632"}) as out:
        out.write(pixels, 1)


def _corrupt(path: Path) -> None:
    import rasterio

    with rasterio.open(path) as file:
        row, column = file.index(GRID.x[0], GRID.y[0])
        offset = int(
            file.get_tag_item(f"BLOCK_OFFSET_{column // file.block_shapes[0][1]}_{row // file.block_shapes[0][0]}", "TIFF", bidx=1)
        )
    content = bytearray(path.read_bytes())
    content[offset + 4 : offset + 400] = bytes(255 - value for value in content[offset + 4 : offset + 400])
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], ReadStatus]] = {
    "removed": (Path.unlink, ReadStatus.MISSING),
    "empty": (lambda path: path.write_bytes(b""), ReadStatus.CORRUPT),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:3000]), ReadStatus.CORRUPT),
    "corrupt tile": (_corrupt, ReadStatus.CORRUPT),
    "zeroed tile offsets": (zero_tile_table, ReadStatus.CORRUPT),
    "a web page": (lambda path: path.write_text("<!DOCTYPE html><html><body>Sign in</body></html>"), ReadStatus.CORRUPT),
    "a VRT": (lambda path: path.write_text(VRT), ReadStatus.REFUSED),
    "wrong CRS": (_wrong_crs, ReadStatus.CORRUPT),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_band_is_a_hole_and_the_others_stay(scenes: Scenes, name: str) -> None:
    damage, expected = DAMAGES[name]
    copy = scenes(CLEAR[:2])
    intact = copy.load()
    damage(copy.file(0, "B8A"))
    ds = copy.load()
    found = ReadStatus(int(ds.read_status.sel(band="B8A")[0]))
    assert found is expected or {found, expected} <= {ReadStatus.CORRUPT, ReadStatus.REFUSED}, found.name
    assert ds.read_status.values.ravel().tolist() == [0, found, 0, 0, 0, 0]
    assert account(ds) == {"valid": SIZE, "read_failed": SIZE}
    assert (ds.B8A.values[0] == FILL).all()
    np.testing.assert_array_equal(ds.B04, intact.B04)
    np.testing.assert_array_equal(ds.B8A[1], intact.B8A[1])
    assert ds.attrs["sentinel2_holes"] == 1
    assert float(ds.clear_fraction[0]) == 0


@pytest.mark.parametrize("engine", ["odc", "stackstac", "rasterio"])
@pytest.mark.parametrize("name", ["removed", "truncated", "zeroed tile offsets", "a VRT"])
def test_other_engines_do_not_hide_it_either(scenes: Scenes, engine: str, name: str) -> None:
    copy = scenes(CLEAR[:2])
    DAMAGES[name][0](copy.file(0, "B8A"))
    ds = copy.load(engine=engine)
    assert ReadStatus(int(ds.read_status.sel(band="B8A")[0])).is_hole
    assert account(ds) == {"valid": SIZE, "read_failed": SIZE}


def test_an_item_without_the_asset_is_a_hole_too(scenes: Scenes) -> None:
    copy = scenes(CLEAR[:2])
    del copy.items[1]["assets"]["B04"]
    ds = copy.load()
    assert ds.read_status.sel(band="B04").values.tolist() == [0, ReadStatus.MISSING]
    assert account(ds) == {"valid": SIZE, "read_failed": SIZE}
    with pytest.raises(HolesError, match=rf"1 of 6 asset reads failed, more than max_holes=0.05 allows: {copy.items[1]['id']} B04"):
        copy.load(max_holes=0.05)


def test_without_scene_classes_pixels_stay_and_nobody_calls_them_clear(scenes: Scenes) -> None:
    copy = scenes(CLEAR[:2])
    copy.file(0, "SCL").unlink()
    ds = copy.load()
    assert account(ds) == {"valid": 2 * SIZE}
    assert ds.read_status.sel(band="SCL").values.tolist() == [ReadStatus.MISSING, 0]
    assert (ds.SCL.values[0] == 0).all()
    assert (ds.cloud_mask.values[0] == 255).all()
    assert np.isnan(ds.clear_fraction[0])
    assert float(ds.clear_fraction[1]) > 0.9
    masked = copy.load(mask="apply")
    assert (masked.pixel_status.values[0] == 3).all()
    assert (masked.B04.values[0] == FILL).all()
    account(masked)


def test_holes_up_to_the_share_are_flagged_and_beyond_it_are_an_error(scenes: Scenes) -> None:
    copy = scenes(CLEAR[:4])
    copy.file(0, "B8A").unlink()
    name = copy.items[0]["id"]
    one = request()
    layer = Sentinel2(catalog=copy.save(), bands=("B04", "B8A"), max_holes=1 / 12)
    assert layer.load(one).attrs["sentinel2_holes"] == 1
    assert (one.tally.holes, one.tally.assets) == (1, 12)
    with pytest.raises(HolesError, match=rf"1 of 12 asset reads failed, more than max_holes=0.08 allows: {name} B8A missing: ") as caught:
        copy.load(max_holes=0.08)
    assert caught.value.exit_code == 3
    assert caught.value.context == {"holes": 1, "assets": 12}


def test_denied_files(scenes: Scenes) -> None:
    copy = scenes(CLEAR[:2])
    with RangeServer(copy.root) as server:
        server.configure(rules=[{"path": "B8A_20m", "status": 403}])
        ds = copy.load(base=server.url)
        assert (ds.read_status.sel(band="B8A") == ReadStatus.DENIED).all()
        assert account(ds) == {"read_failed": 2 * SIZE}
        server.configure(rules=[{"path": r"\.tif", "status": 403}])
        with pytest.raises(AccessDeniedError, match=r"All 6 assets were denied: .* B04 denied: .*403.* and 3 more") as caught:
            copy.load(base=server.url)
        assert caught.value.exit_code == 5


def test_a_server_that_fails_now_and_then_is_asked_again(scenes: Scenes) -> None:
    copy = scenes(CLEAR[:2])
    expected = copy.load()
    with RangeServer(copy.root) as server:
        server.configure(rules=[{"every": 3, "status": 503}])
        ds = copy.load(base=server.url)
    assert ds.attrs["sentinel2_holes"] == 0
    np.testing.assert_array_equal(ds.B04, expected.B04)


def test_half_a_granule(scenes: Scenes) -> None:
    """Beyond the swath pixels lie outside the footprint, or have no data where the footprint is drawn too wide."""
    copy = scenes(["20210501"])
    import rasterio

    with rasterio.open(copy.root / copy.items[0]["assets"]["B04"]["href"]) as file:
        valid = file.read(1) != 0
        row = valid.shape[0] // 2
        edge = int(np.flatnonzero(np.diff(valid[row].astype(int)))[0]) + 1
        left, top = file.transform @ (edge - 16 - edge % 2, row - row % 2)
    grid = type(GRID)(32633, 10.0, left, top, 32, 28)
    ds = copy.load(grid)
    counts = account(ds)
    column, first = round((left - 288420) / 10), round((5693700 - top) / 10)
    expected = valid[first : first + 28, column : column + 32]
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(ds.B04.values[0] != FILL, expected)
    assert counts["outside_footprint"] + counts.get("nodata_at_source", 0) == SIZE - counts["valid"]
    assert counts["outside_footprint"] > 0.8 * (SIZE - counts["valid"])
    copy.items[0]["geometry"]["coordinates"] = [[[11.9, 51.2], [12.2, 51.2], [12.2, 51.5], [11.9, 51.5], [11.9, 51.2]]]
    again = account(copy.load(grid))
    assert again == {"valid": counts["valid"], "nodata_at_source": SIZE - counts["valid"]}


def test_a_hole_of_one_granule_is_filled_by_the_other_where_it_can(scenes: Scenes) -> None:
    """The status of reading tells the hole; pixels that the second granule has are not empty, and not called so."""
    copy = scenes(["20210322"], tiles=("33UTS", "33UTT"))
    middle = GRID.top - 10 * 14
    copy.crop(0, (288420.0, 5688540.0, 293580.0, middle + 80.0))
    copy.crop(1, (288420.0, middle - 40.0, 293580.0, 5693700.0))
    assert account(copy.load()) == {"valid": SIZE}
    copy.file(0, "B8A").unlink()
    ds = copy.load()
    assert ds.sizes["time"] == 1
    assert ds.read_status.sel(band="B8A").values.tolist() == [ReadStatus.MISSING]
    assert account(ds) == {"valid": 18 * 32, "read_failed": 10 * 32}
    assert (ds.pixel_status.values[0, 18:] == 3).all()
    assert (ds.B04.values != FILL).all()


def test_an_acquisition_without_any_pixel_is_no_step(scenes: Scenes) -> None:
    copy = scenes(CLEAR[:2])
    for key in ("B04", "B8A", "SCL"):
        copy.rewrite(0, key, np.zeros_like)
    ds = copy.load()
    assert ds.sizes["time"] == 1
    assert ds.attrs["sentinel2_scenes_without_pixels"] == copy.items[0]["id"]


def test_a_band_that_is_all_nodata_says_so(scenes: Scenes) -> None:
    copy = scenes(CLEAR[:1])
    copy.rewrite(0, "B8A", np.zeros_like)
    ds = copy.load()
    assert ds.read_status.values.tolist() == [[ReadStatus.OK, ReadStatus.EMPTY, ReadStatus.OK]]
    assert account(ds) == {"nodata_at_source": SIZE}
    assert ds.attrs["sentinel2_holes"] == 0


def test_broken_granule_metadata_is_flagged_not_fatal(scenes: Scenes) -> None:
    copy = scenes(CLEAR[:2])
    copy.file(0, "granule-metadata").write_text("<html>no</html>")
    with pytest.warns(ScienceWarning, match=f"No NBAR for {copy.items[0]['id']}"):
        ds = copy.load()
    assert ds.nbar_status.values[:, :2].tolist() == [[1, 1], [0, 0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScienceWarning)
        plain = copy.load(nbar="none")
    np.testing.assert_array_equal(ds.B04[0], plain.B04[0])
