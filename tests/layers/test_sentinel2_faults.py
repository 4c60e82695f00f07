"""Damaged assets: each ends in its status, every pixel is accounted for, and too many holes fail the build with names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

import cubekit
from cubekit.api import make_recipe
from cubekit.cube import validate
from cubekit.errors import HolesError, InputError, NothingFoundError
from cubekit.grid import transformer
from cubekit.read import ReadStatus, forget_headers
from cubekit.reflectance import PixelStatus
from cubekit.testing.cogs import write_cog, zero_tile_table
from cubekit.testing.rangeserver import RangeServer
from tests.layers.conftest import FILL, Copy, counts, load, session_with

Cut = Callable[..., Copy]
SCENES = ("33UTS 20210403T101021", "33UTS 20210411T102029", "33UTS 20210413T101021")
ALL = 32 * 32


def remove(copy: Copy, asset: str) -> None:
    copy.file(asset).unlink()


def truncate(copy: Copy, asset: str) -> None:
    data = copy.file(asset).read_bytes()
    copy.file(asset).write_bytes(data[: len(data) // 3])


def scramble(copy: Copy, asset: str) -> None:
    data = bytearray(copy.file(asset).read_bytes())
    start = len(data) // 4
    data[start:] = bytes((byte * 7 + 13) % 256 for byte in data[start:])
    copy.file(asset).write_bytes(bytes(data))


def zero_offsets(copy: Copy, asset: str) -> None:
    zero_tile_table(copy.file(asset))


def corrupt_a_tile(copy: Copy, asset: str, item: int, place: tuple[float, float]) -> None:
    """Turn most of the tile of the full resolution that holds a place (lon, lat) into nonsense; header and tile table stay."""
    path = copy.file(asset, item)
    with rasterio.open(path) as file:
        row, column = file.index(*transformer(4326, file.crs.to_epsg()).transform(*place))
        height, width = file.block_shapes[0]
        tile = f"{column // width}_{row // height}"
        start, size = (int(file.get_tag_item(f"BLOCK_{what}_{tile}", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE"))
    data = bytearray(path.read_bytes())
    most = slice(start + size // 8, start + size)
    data[most] = bytes((byte * 7 + 13) % 256 for byte in data[most])
    path.write_bytes(bytes(data))


def web_page(copy: Copy, asset: str) -> None:
    copy.file(asset).write_text("<!DOCTYPE html><html><body>Sign in to go on</body></html>")


def disguised(copy: Copy, asset: str) -> None:
    copy.file(asset).write_text(
        '<VRTDataset rasterXSize="516" rasterYSize="516"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        "<SourceFilename>/etc/hostname</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def other_crs(copy: Copy, asset: str) -> None:
    with rasterio.open(copy.file(asset)) as file:
        pixels, transform = file.read(), file.transform
    write_cog(copy.file(asset), pixels, epsg=32634, transform=transform)


def no_asset(copy: Copy, asset: str) -> None:
    del copy.items[0]["assets"][asset]
    copy.save()


DAMAGES = {
    remove: ReadStatus.MISSING,
    truncate: ReadStatus.CORRUPT,
    scramble: ReadStatus.CORRUPT,
    zero_offsets: ReadStatus.CORRUPT,
    web_page: ReadStatus.CORRUPT,
    disguised: ReadStatus.REFUSED,
    other_crs: ReadStatus.CORRUPT,
    no_asset: ReadStatus.MISSING,
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one.__name__)
def test_a_damaged_band_is_flagged_and_the_rest_stays(cut: Cut, damage: Callable[[Copy, str], None]) -> None:
    copy = cut(*SCENES)
    whole = copy.load()
    damage(copy, "B04")
    forget_headers()
    ds = copy.load(max_holes=0.2)
    assert ReadStatus(ds.read_status.sel(band="B04").values[0]) in (DAMAGES[damage], ReadStatus.CORRUPT)
    assert (ds.read_status.values[1:] == ReadStatus.OK).all()
    assert ds.attrs["sentinel2_holes"] == 1
    assert counts(ds) == {"READ_FAILED": ALL}
    assert (ds.B04.values[0] == FILL).all()
    np.testing.assert_array_equal(ds.B8A.values, whole.B8A.values)
    np.testing.assert_array_equal(ds.B04.values[1:], whole.B04.values[1:])
    assert float(ds.clear_fraction[0]) == 0.0


@pytest.mark.parametrize("damage", [remove, scramble, no_asset], ids=lambda one: one.__name__)
def test_above_max_holes_nothing_is_written(cut: Cut, tmp_path: Path, damage: Callable[[Copy, str], None]) -> None:
    copy = cut(*SCENES)
    damage(copy, "B04")
    lon, lat = copy.world.sites["centre"]
    out = tmp_path / "cube.zarr"
    when = {"start": copy.world.parameters.start, "end": copy.world.parameters.end}
    with pytest.raises(HolesError, match=rf"1 of 9 asset reads failed, more than max_holes=0.05 allows: {copy.items[0]['id']} B04 "):
        cubekit.build(lat, lon, out=out, catalog=str(copy.catalog), bands=["B04", "B8A"], edge_size=32, **when)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy"]


def test_a_flagged_hole_makes_a_valid_cube(cut: Cut, tmp_path: Path) -> None:
    copy = cut(*SCENES)
    remove(copy, "B04")
    lon, lat = copy.world.sites["centre"]
    recipe = make_recipe(catalog=str(copy.catalog), bands=["B04", "B8A"], edge_size=32, start="2021-04-01", end="2021-04-30")
    layer = recipe.layers[0].model_copy(update={"max_holes": 0.2})
    cubekit.build(lat, lon, out=tmp_path / "cube.zarr", recipe=recipe.model_copy(update={"layers": (layer,)}))
    assert [problem for problem in validate(tmp_path / "cube.zarr") if problem.severity == "error"] == []


def test_items_without_any_of_the_assets_are_holes_and_not_denied(cut: Cut) -> None:
    copy = cut(*SCENES)
    for item in copy.items[1:]:
        item["assets"] = {"granule-metadata": item["assets"]["granule-metadata"]}
    copy.save()
    with pytest.raises(HolesError, match="6 of 9 asset reads failed"):
        copy.load()
    flagged = copy.load(max_holes=0.7)
    assert [counts(flagged, step) for step in range(3)] == [{"VALID": ALL}, {"READ_FAILED": ALL}, {"READ_FAILED": ALL}]
    copy.items[0]["assets"] = copy.items[1]["assets"]
    copy.save()
    with pytest.raises(InputError, match="has no band 'B04'"):
        copy.load()
    with pytest.raises(HolesError, match="9 of 9 asset reads failed"):
        load(copy.world, copy.catalog, session=session_with(copy, profiles="demo"))


def test_an_address_that_may_not_be_opened_is_refused(cut: Cut) -> None:
    copy = cut(*SCENES)
    copy.items[0]["assets"]["B04"]["href"] = "../../../../../../etc/hostname"
    copy.save()
    ds = load(copy.world, copy.catalog, session=session_with(copy, profiles="demo"), max_holes=0.2)
    assert ds.read_status.sel(band="B04").values[0] == ReadStatus.REFUSED
    assert counts(ds) == {"READ_FAILED": ALL}


def test_missing_classes(cut: Cut) -> None:
    copy = cut(*SCENES)
    remove(copy, "SCL")
    ds = copy.load(max_holes=0.2)
    assert ds.read_status.sel(band="SCL").values[0] == ReadStatus.MISSING
    assert counts(ds) == {"VALID": ALL}
    assert np.isnan(ds.clear_fraction[0])
    assert (ds.cloud_mask.values[0] == 255).all()
    hidden = copy.load(max_holes=0.2, mask="apply")
    assert counts(hidden) == {"READ_FAILED": ALL}
    assert (hidden.B8A.values[0] == FILL).all()


def test_a_half_empty_granule(cut: Cut) -> None:
    copy = cut(*SCENES)
    whole = copy.load()

    def blank(pixels: np.ndarray) -> None:
        pixels[:, : pixels.shape[1] * 300 // 516] = 0

    for asset in ("B04", "B8A", "SCL"):
        copy.change(asset, blank)
    ds = copy.load()
    column = int((ds.x.values < 288420.0 + 3000).sum())
    assert 0 < column < 32
    status = ds.pixel_status.values[0]
    assert (status[:, :column] == PixelStatus.NODATA_AT_SOURCE).all()
    assert (status[:, column:] == PixelStatus.VALID).all()
    np.testing.assert_array_equal(ds.B04.values[0, :, column:], whole.B04.values[0, :, column:])
    assert (ds.read_status.values == ReadStatus.OK).all()


def test_outside_of_the_footprint_and_an_empty_band(cut: Cut) -> None:
    copy = cut(*SCENES)
    copy.change("B8A", lambda pixels: pixels.fill(0))
    inside = copy.load()
    assert counts(inside) == {"NODATA_AT_SOURCE": ALL}
    assert inside.read_status.sel(band="B8A").values[0] == ReadStatus.EMPTY
    edge = (11.96423, 51.3125)
    ds = copy.load(site=edge)
    assert counts(ds).keys() == {"OUTSIDE_FOOTPRINT", "NODATA_AT_SOURCE"}
    assert counts(ds, 1).keys() == {"OUTSIDE_FOOTPRINT", "VALID"}
    remove(copy, "B04")
    lost = copy.load(site=edge, max_holes=0.2)
    assert counts(lost).keys() == {"OUTSIDE_FOOTPRINT", "READ_FAILED"}
    assert counts(lost)["OUTSIDE_FOOTPRINT"] == counts(ds)["OUTSIDE_FOOTPRINT"]


def test_scenes_without_a_pixel_are_left_out_by_name(cut: Cut) -> None:
    copy = cut(*SCENES)
    for asset in ("B04", "B8A"):
        copy.change(asset, lambda pixels: pixels.fill(0), item=1)
    ds = copy.load(edge=16)
    assert ds.sizes["time"] == 2
    assert ds.attrs["sentinel2_scenes_without_pixels"] == copy.items[1]["id"]
    others = cut_without(copy, 1)
    for band in ("B04", "B8A", "SCL", "pixel_status", "cloud_mask", "boa_offset", "item_id", "clear_fraction"):
        np.testing.assert_array_equal(ds[band].values, others[band].values)
    for number in (0, 2):
        for asset in ("B04", "B8A"):
            copy.change(asset, lambda pixels: pixels.fill(0), item=number)
    with pytest.raises(NothingFoundError, match="None of the 3 scenes"):
        copy.load(edge=16)


def cut_without(copy: Copy, item: int) -> object:
    """What the layer makes of the other items."""
    kept = copy.items
    copy.items = [one for number, one in enumerate(kept) if number != item]
    copy.save()
    ds = copy.load(edge=16)
    copy.items = kept
    copy.save()
    return ds


def test_every_pixel_of_a_build_with_all_damages_at_once_has_one_reason(cut: Cut, tmp_path: Path) -> None:
    """Two bands of six scenes at the edge of a granule: whole, cloudy, a 404, a corrupt tile, zeroed tile offsets, half empty."""
    days = ("20210304T101021_R022_T33UTS_20221204", "20210322", "20210403", "20210411", "20210501", "20210513")
    copy = cut(*(f"33UTS _{day}" for day in days))
    copy.items.sort(key=lambda item: item["properties"]["datetime"])
    remove_at, tile_at, zeros_at, half_at = range(2, 6)

    def blank(pixels: np.ndarray) -> None:
        pixels[:, : pixels.shape[1] * 8 // 516] = 0

    copy.file("B04", remove_at).unlink()
    corrupt_a_tile(copy, "B8A", tile_at, (11.96423, 51.3125))
    zero_tile_table(copy.file("B04", zeros_at))
    for asset in ("B04", "B8A", "SCL"):
        copy.change(asset, blank, item=half_at)
    with RangeServer(copy.root) as server:
        for asset in (asset for item in copy.items for asset in item["assets"].values()):
            asset["href"] = f"{server.url}/{asset['href'].removeprefix('./')}"
        copy.save()
        recipe = make_recipe(catalog=str(copy.catalog), bands=["B04", "B8A"], edge_size=32, start="2021-03-01", end="2021-05-31")
        layer = recipe.layers[0].model_copy(update={"max_holes": 0.2, "mask": "apply"})
        cubekit.build(51.3125, 11.96423, out=tmp_path / "cube.zarr", recipe=recipe.model_copy(update={"layers": (layer,)}))
    cube = cubekit.open(tmp_path / "cube.zarr").to_dataset()

    assert cube.sizes["time"] == 6
    reads = {(t, str(cube.band.values[b])): ReadStatus(cube.read_status.values[t, b]) for t, b in np.argwhere(cube.read_status.values > 1)}
    assert reads == {
        (remove_at, "B04"): ReadStatus.MISSING,
        (tile_at, "B8A"): ReadStatus.CORRUPT,
        (zeros_at, "B04"): ReadStatus.CORRUPT,
    }
    told = [counts(cube, step) for step in range(6)]
    outside = told[0]["OUTSIDE_FOOTPRINT"]
    inside = ALL - outside
    assert 0 < outside < ALL
    assert told[0] == {"VALID": inside, "OUTSIDE_FOOTPRINT": outside}
    assert told[1] == {"VALID": inside - told[1]["MASKED"], "MASKED": told[1]["MASKED"], "OUTSIDE_FOOTPRINT": outside}
    assert all(told[step] == {"READ_FAILED": inside, "OUTSIDE_FOOTPRINT": outside} for step in (remove_at, tile_at, zeros_at))
    assert told[half_at].keys() == {"VALID", "NODATA_AT_SOURCE", "OUTSIDE_FOOTPRINT"}
    totals = {status.name: sum(step.get(status.name, 0) for step in told) for status in PixelStatus}
    reasons = ("VALID", "OUTSIDE_FOOTPRINT", "NODATA_AT_SOURCE", "READ_FAILED", "MASKED")
    assert all(totals[reason] > 0 for reason in reasons)
    assert sum(totals[reason] for reason in reasons) == 6 * ALL
    empty = np.isnan(cube[["B04", "B8A"]].to_array().values).any(axis=0)
    np.testing.assert_array_equal(empty, cube.pixel_status.values != PixelStatus.VALID)
    assert [problem for problem in validate(tmp_path / "cube.zarr") if problem.severity == "error"] == []
