"""Scenes: offsets by catalogue, older baselines, granules of two tiles and zones, clouds, regular time axes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import xarray as xr

import cubekit
from cubekit.catalog import open_catalog
from cubekit.demo import World
from cubekit.errors import CatalogError, ScienceWarning
from cubekit.grid import transformer
from cubekit.layers import Session
from cubekit.reflectance import SceneClass
from cubekit.testing.cogs import write_cog
from tests.layers.conftest import FILL, Copy, counts, load, session_with

Cut = Callable[..., Copy]
OLD, NEW = "33UTS 20210411T102029", "33UTS 20220317T102029"


def fixed(copy: Copy, offset: float) -> Session:
    profile = open_catalog("demo", root=copy.world.root).profile("sentinel-2-l2a")
    assert profile is not None
    return session_with(copy, profiles={"sentinel-2-l2a": replace(profile, offset="fixed", fixed_offset=offset)})


def test_offset_by_baseline_and_by_profile(cut: Cut) -> None:
    copy = cut(OLD, NEW)
    by_baseline = copy.load(nbar="none")
    assert by_baseline.boa_offset.values.tolist() == [0, -1000]
    assert "by-baseline: processing baseline" in by_baseline.attrs["sentinel2_offset_policy"]
    raw = load(copy.world, copy.catalog, nbar="none", session=fixed(copy, 0.0))
    assert raw.boa_offset.values.tolist() == [0, 0]
    np.testing.assert_array_equal(raw.B04.values[0], by_baseline.B04.values[0])
    np.testing.assert_array_equal(raw.B04.values[1] - 1000, by_baseline.B04.values[1])


def test_offsets_of_each_band_are_told_where_they_differ(cut: Cut) -> None:
    copy = cut(OLD)
    bands = {"B04": {"keys": "B04", "scale": 1e-4, "offset": 500}, "B8A": {"keys": "B8A", "scale": 1e-4, "offset": 1000}}
    profile = {"bands": {**bands, "SCL": {"keys": "SCL", "classes": True}}, "offset": 0.0}
    session = session_with(copy, profiles={"sentinel-2-l2a": profile})
    ds = load(copy.world, copy.catalog, nbar="none", session=session)
    assert ds.boa_offset.dims == ("time", "band")
    assert ds.boa_offset.sel(band=["B04", "B8A", "SCL"]).values.tolist() == [[500, 1000, 0]]


def earth_search(copy: Copy, collection: str) -> Session:
    """The same items as Earth Search names them."""
    names = {"B04": "red", "B8A": "nir08", "SCL": "scl", "granule-metadata": "granule_metadata"}
    for item in copy.items:
        item["collection"] = collection
        item["assets"] = {names[key]: asset for key, asset in item["assets"].items()}
        item["properties"]["earthsearch:boa_offset_applied"] = False
    copy.save()
    return session_with(copy, profiles="earth-search")


@pytest.mark.parametrize(("collection", "offset"), [("sentinel-2-l2a", 0), ("sentinel-2-c1-l2a", -1000)])
def test_offset_of_earth_search(cut: Cut, collection: str, offset: int) -> None:
    copy = cut(NEW)
    session = earth_search(copy, collection)
    ds = load(copy.world, copy.catalog, session=session, collection=collection)
    assert ds.boa_offset.values.tolist() == [offset]
    assert (ds.nbar_status.sel(band=["B04", "B8A"]) == 0).all()


def test_a_wrong_offset_warns_with_its_share(cut: Cut) -> None:
    copy = cut(OLD, NEW)
    with pytest.warns(
        ScienceWarning, match=r"1 of 2 scenes have more than 5% of pixels below -0.01 reflectance \(\d+% in .*20210411T102029"
    ):
        ds = load(copy.world, copy.catalog, nbar="none", session=fixed(copy, -1000.0))
    assert ds.attrs["sentinel2_negative_share"] > 0.025
    assert (ds.B04.values[0] < 0).any(), "negative reflectance is kept"


def test_a_declared_scale_counts(cut: Cut) -> None:
    copy = cut(OLD)
    plain = copy.load(nbar="none")
    for item in copy.items:
        for band in ("B04", "B8A"):
            item["assets"][band]["raster:bands"] = [{"scale": 0.00005, "offset": 0}]
    copy.save()
    half = copy.load(nbar="none", dtype="float32")
    np.testing.assert_allclose(half.B04.values, plain.B04.values * 0.5e-4, rtol=1e-5)
    copy.items[0]["assets"]["B8A"]["raster:bands"] = [{"scale": 0.0002, "offset": 0}]
    copy.save()
    with pytest.raises(CatalogError, match="have scales"):
        copy.load(nbar="none")


def test_the_older_baseline_of_a_datatake_is_left_out(cut: Cut) -> None:
    copy = cut("20210304T101021")
    assert len(copy.items) == 2
    assert {item["properties"]["s2:processing_baseline"] for item in copy.items} == {"02.14", "05.00"}
    ds = copy.load()
    assert ds.processing_baseline.values.tolist() == ["05.00"]
    assert ds.item_id.values.tolist() == [one for one in copy.ids if "_20221204T" in one]


def west_edge(world: World) -> tuple[float, float]:
    """Where the tile of zone 33 ends, and that of zone 32 goes on."""
    return transformer(32633, 4326).transform(288420.0, 5688800.0)


def test_two_zones_make_one_scene_and_the_own_one_comes_first(cut: Cut, world: World) -> None:
    copy, alone = cut("20210521T102029"), "33UTS"
    assert len(copy.items) == 2
    ds = copy.load(site=west_edge(world), epsg=32633)
    assert ds.tile.values.tolist() == ["33UTS 32UQB"]
    assert ds.sizes["time"] == 1
    copy.items = [item for item in copy.items if alone in item["id"]]
    copy.save()
    own = copy.load(site=west_edge(world), epsg=32633)
    assert own.tile.values.tolist() == ["33UTS"]
    outside = own.B04.values[0] == FILL
    assert outside.any()
    assert not outside.all()
    np.testing.assert_array_equal(ds.B04.values[0][~outside], own.B04.values[0][~outside])
    np.testing.assert_array_equal(ds.SCL.values[0][own.SCL.values[0] > 0], own.SCL.values[0][own.SCL.values[0] > 0])
    assert counts(ds)["VALID"] > counts(own)["VALID"]


def test_pixels_of_the_other_zone_are_in_their_place(cut: Cut, world: World) -> None:
    copy = cut("32UQB 20210521T102029", bands=("B04", "B08"))
    ds = copy.load(epsg=32633)
    x, y = np.meshgrid(ds.x, ds.y)
    truth = world.nadir_reflectance(["B04", "B08"], x, y, 32633, ds.time.values[0])
    clear = ~world.cloud_mask(copy.ids[0], x, y, 32633)
    for number, band in enumerate(("B04", "B08")):
        ratio = (ds[band].values[0] * 1e-4 / truth[number])[clear]
        assert abs(np.median(ratio) - 1) < 2e-3, band
    # Moved by a pixel in any direction it would fit worse.
    fit = {}
    for dx, dy in itertools.product((-10, 0, 10), repeat=2):
        (moved,) = world.nadir_reflectance(["B08"], x + dx, y + dy, 32633, ds.time.values[0])
        fit[dx, dy] = np.corrcoef(ds.B08.values[0][clear], moved[clear])[0, 1]
    assert max(fit, key=lambda shift: fit[shift]) == (0, 0)


def crop(copy: Copy, item: int, rows: slice) -> None:
    """Cut an item's rasters to some rows (of 20 m), file and description alike."""
    for key, asset in copy.items[item]["assets"].items():
        if "proj:shape" not in asset:
            continue
        path = copy.file(key, item)
        with rasterio.open(path) as file:
            factor = 1 if file.res[0] == 20 else 2
            pixels, epsg = file.read()[:, rows.start * factor : rows.stop * factor], file.crs.to_epsg()
            transform = file.transform * rasterio.Affine.translation(0, rows.start * factor)
        write_cog(path, pixels, epsg=epsg, transform=transform, tile=128)
        asset["proj:shape"], asset["proj:transform"] = list(pixels.shape[1:]), list(transform[:6])
    copy.save()


def test_two_tiles_of_a_datatake_are_joined(cut: Cut, world: World) -> None:
    copy = cut("20220317T102029")
    assert len(copy.items) == 2
    site = (11.995, 51.3405)
    kept = list(copy.items)
    copy.items = [item for item in kept if "33UTS" in item["id"]]
    copy.save()
    whole = copy.load(site=site, epsg=32633)
    copy.items = kept
    south = next(number for number, item in enumerate(kept) if "33UTS" in item["id"])
    top = 5693700.0
    row = int((top - float(whole.y.mean())) // 20)
    crop(copy, south, slice(row, 258))
    crop(copy, 1 - south, slice(0, row + 2))
    joined = copy.load(site=site, epsg=32633)
    assert joined.sizes["time"] == 1
    assert set(joined.tile.values[0].split()) == {"33UTS", "33UTT"}
    assert counts(joined) == counts(whole) == {"VALID": 32 * 32}
    np.testing.assert_array_equal(joined.SCL.values, whole.SCL.values)
    for band in ("B04", "B8A"):
        assert np.abs(joined[band].values.astype(int) - whole[band].values).max() <= 1
    # One of the two is lost: only what it alone covers is missing.
    copy.file("B04", south).unlink()
    partly = copy.load(site=site, epsg=32633, max_holes=0.5)
    assert set(counts(partly)) == {"VALID", "READ_FAILED"}
    assert 0.3 < counts(partly)["VALID"] / (32 * 32) < 0.7


def test_mask_and_other_clear_classes(cut: Cut) -> None:
    copy = cut("33UTS 20210403T101021")

    def paint(pixels: np.ndarray) -> None:
        pixels[...] = SceneClass.VEGETATION
        pixels[:, ::2] = SceneClass.CLOUD_HIGH_PROBABILITY

    copy.change("SCL", paint)
    flagged = copy.load()
    assert counts(flagged) == {"VALID": 1024}
    assert float(flagged.clear_fraction[0]) == 0.5
    masked = copy.load(mask="apply")
    assert counts(masked) == {"VALID": 512, "MASKED": 512}
    assert float(masked.clear_fraction[0]) == 0.5
    cloudy = flagged.cloud_mask.values == 1
    assert (masked.B04.values[cloudy] == FILL).all()
    np.testing.assert_array_equal(masked.B04.values[~cloudy], flagged.B04.values[~cloudy])
    other = copy.load(mask="apply", clear=(9,))
    np.testing.assert_array_equal(other.pixel_status.values == 0, cloudy)
    # A pixel that lacks one band and is cloudy hides the others too.
    copy.change("B8A", lambda pixels: pixels.fill(0))
    partly = copy.load(mask="apply")
    assert counts(partly) == {"NODATA_AT_SOURCE": 512, "MASKED": 512}
    assert (partly.B04.values[cloudy] == FILL).all()
    as_float = copy.load(mask="apply", dtype="float32")
    np.testing.assert_array_equal(np.isnan(as_float.B04.values), partly.B04.values == FILL)


def test_a_scene_goes_only_if_all_its_granules_are_cloudy(cut: Cut, world: World) -> None:
    copy = cut("20210521T102029", "33UTS 20210411T102029")
    for item in copy.items:
        item["properties"]["eo:cloud_cover"] = 90.0 if "32UQB" in item["id"] else 10.0
    copy.save()
    ds = copy.load(site=west_edge(world), epsg=32633, max_cloud_cover=50.0)
    assert "33UTS 32UQB" in ds.tile.values.tolist()
    assert copy.load(max_cloud_cover=10.0).sizes["time"] == 2
    copy.items[0]["properties"]["eo:cloud_cover"] = 95.0
    copy.save()
    assert copy.load(max_cloud_cover=50.0).sizes["time"] == 1


def test_float32_is_int16_without_rounding(cut: Cut) -> None:
    copy = cut(OLD, NEW)
    whole, packed = copy.load(dtype="float32"), copy.load()
    for band in ("B04", "B8A"):
        assert whole[band].dtype == np.float32
        assert packed[band].dtype == np.int16
        assert np.abs(whole[band].values - packed[band].values * 1e-4).max() <= 0.5001e-4


@pytest.fixture(scope="module")
def regular(world: World, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    lon, lat = world.sites["centre"]
    out = tmp_path_factory.mktemp("regular") / "cube.zarr"
    layer = {"kind": "sentinel2", "catalog": str(world.catalog), "bands": ["B04"], "period": "5D"}
    recipe = {"name": "x", "grid": {"edge_size": 16}, "layers": [layer]}
    cubekit.build(lat, lon, "2021-04-01", "2021-05-23", out=out, recipe=recipe)
    return cubekit.open(out).to_dataset()


def test_a_regular_axis(regular: xr.Dataset, world: World) -> None:
    starts = np.arange(np.datetime64("2021-04-01"), np.datetime64("2021-05-24"), np.timedelta64(5, "D"))
    np.testing.assert_array_equal(regular.time.values.astype("datetime64[D]"), starts)
    bounds = regular.time_bnds.values.astype("datetime64[D]")
    np.testing.assert_array_equal(bounds[:, 0], starts)
    np.testing.assert_array_equal(bounds[:-1, 1], starts[1:])
    assert bounds[-1, 1] == np.datetime64("2021-05-24")
    empty = np.isnat(regular.acquisition_time.values)
    assert 0 < empty.sum() < len(starts)
    assert (regular.pixel_status.values[empty] == 5).all()
    assert np.isnan(regular.B04.values[empty]).all()
    assert np.isfinite(regular.B04.values[~empty]).all()
    assert np.isnan(regular.clear_fraction.values[empty]).all()
    assert (regular.cloud_mask.values[empty] == 255).all()
    assert (regular.item_id.values[empty] == "").all()
    taken = regular.acquisition_time.values[~empty]
    assert ((taken >= bounds[~empty, 0]) & (taken < bounds[~empty, 1])).all()


def test_the_clearest_scene_of_a_bin(regular: xr.Dataset, build: Callable[..., xr.DataTree]) -> None:
    native = build(bands=["B04"], edge_size=16, start="2021-04-01", end="2021-05-23").to_dataset()
    several = 0
    for step in np.flatnonzero(~np.isnat(regular.acquisition_time.values)):
        first, last = regular.time_bnds.values[step]
        inside = native.isel(time=np.flatnonzero((native.time.values >= first) & (native.time.values < last)))
        several += inside.sizes["time"] > 1
        best = inside.isel(time=int(np.argmax(inside.clear_fraction.values)))
        assert regular.item_id.values[step] == best.item_id
        np.testing.assert_array_equal(regular.B04.values[step], best.B04.values)
    assert several > 0


def test_the_cut_catalogue_gives_what_the_world_gives(cut: Cut, world: World) -> None:
    """The tests above rest on it."""
    copy = cut(OLD)
    with pytest.warns(ScienceWarning, match="of 61 granules: sun zenith reaches"):
        everything = load(world, world.catalog)
    step = int(np.flatnonzero(everything.item_id.values == copy.ids[0])[0])
    np.testing.assert_array_equal(copy.load().B04.values[0], everything.B04.values[step])
    assert json.loads(copy.catalog.read_text())["features"][0]["id"] == copy.ids[0]
