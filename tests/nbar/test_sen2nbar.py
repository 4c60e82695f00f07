"""The doors for sen2nbar's users, on items as catalogues send them and on a SAFE folder made here."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy
import xarray as xr
from affine import Affine

from cubekit import sen2nbar
from cubekit._sen2nbar_items import fetch_bytes, items_in_order, metadata_href, offset_of
from cubekit.errors import AccessDeniedError, CubekitWarning, InputError, ReadError
from cubekit.nbar import CField, apply_nbar, parse_granule_angles
from tests.nbar.conftest import make_xml

XML = make_xml(bands=[0, 1, 3, 8])
BANDS = ["B02", "B04"]
SCIPY = tuple(int(part) for part in scipy.__version__.split(".")[:2])
ATTRS = {"crs": "epsg:32632", "stac": "http://localhost", "collection": "c"}
JP2 = {"driver": "JP2OpenJPEG", "height": 600, "width": 600, "count": 1, "crs": "EPSG:32632", "QUALITY": "100", "REVERSIBLE": "YES"}
GRID = Affine(20, 0, 650_000, 0, -20, 5_560_040)


def make_item(name: str, *, day: int = 1, baseline: str | None = "04.00", key: str = "granule-metadata", **extra: object) -> dict:
    properties = {"datetime": f"2022-04-{day:02d}T10:03:19.283Z", "proj:code": "EPSG:32632", **extra}
    if baseline:
        properties["s2:processing_baseline"] = baseline
    return {
        "id": name,
        "collection": "sentinel-2-l2a",
        "properties": properties,
        "assets": {key: {"href": f"https://example.com/{name}.xml"}},
    }


def make_da(names: list[str], days: list[int]) -> xr.DataArray:
    x, y = 620_000 + 10.0 * np.arange(6) + 5, 5_570_040 - 10.0 * np.arange(5) - 5
    dn = np.random.default_rng(0).integers(1001, 9000, (len(names), 2, 5, 6)).astype(float)
    dn[:, :, 0, 0] = np.nan
    times = [np.datetime64(f"2022-04-{day:02d}T10:03:19", "ns") for day in days]
    coords = {"time": times, "band": BANDS, "y": y, "x": x, "id": ("time", names), "epsg": 32632}
    return xr.DataArray(
        dn, dims=("time", "band", "y", "x"), coords=coords, attrs={"crs": "epsg:32632", "stac": "http://localhost", "collection": "c"}
    )


class Fetch:
    """Remembers what was asked; answers with the same body, or raises."""

    def __init__(self, bodies: dict[str, bytes] | None = None) -> None:
        self.asked: list[str] = []
        self.bodies = bodies

    def __call__(self, href: str) -> bytes:
        self.asked.append(href)
        name = href.split("/")[-1].removesuffix(".xml")
        if self.bodies is not None and name not in self.bodies:
            raise ReadError(f"{href} answers 404", remedy="")
        return XML if self.bodies is None else self.bodies[name]


def test_items_given_are_reused_and_each_href_is_fetched_once():
    da, fetch = make_da(["a", "b", "a"], [1, 2, 1]), Fetch()
    done = sen2nbar.nbar_stac(da, items=[make_item("b", day=2, baseline="02.09"), make_item("a")], fetch=fetch)
    assert sorted(fetch.asked) == ["https://example.com/a.xml", "https://example.com/b.xml"]
    c, _ = CField.from_angles(parse_granule_angles(XML)).c(BANDS, da.x.values, da.y.values)
    expected = (da.values + np.array([-1000, 0, -1000])[:, None, None, None]) * c
    np.testing.assert_allclose(done.values, expected, rtol=1e-6)
    assert (done.nbar_status == 0).all()
    assert done.dtype == "float32"


def test_pystac_items_and_other_doors_give_the_same():
    import pystac

    da = make_da(["a", "b"], [1, 2])
    dicts = [make_item("a"), make_item("b", day=2)]
    items = []
    for d in dicts:
        time = np.datetime64(d["properties"]["datetime"].rstrip("Z")).astype("datetime64[us]").item()
        item = pystac.Item(d["id"], None, None, time, {k: v for k, v in d["properties"].items() if k != "datetime"})
        item.add_asset("granule-metadata", pystac.Asset(d["assets"]["granule-metadata"]["href"]))
        item.collection_id = d["collection"]
        items.append(item)
    by_dict = sen2nbar.nbar_stac(da, items=dicts, fetch=Fetch())
    for door in (sen2nbar.nbar_stackstac, sen2nbar.nbar_cubo):
        xr.testing.assert_identical(door(da, items=items, fetch=Fetch()), by_dict)


def test_nothing_is_dropped_when_metadata_is_missing():
    da = make_da(["a", "b", "c"], [1, 2, 3])
    bare = make_item("c", day=3)
    bare["assets"] = {}
    items = [make_item("a"), make_item("b", day=2), bare]
    with pytest.warns(CubekitWarning, match="1 of 3 time steps have no granule metadata, 1 files cannot be read"):
        done = sen2nbar.nbar_stac(da, items=items, fetch=Fetch({"a": XML}))
    assert done.sizes["time"] == 3
    assert done.nbar_status.values[:, 0].tolist() == [0, 1, 1]
    np.testing.assert_allclose(done.values[1], da.values[1] - 1000)


def test_broken_metadata_is_flagged():
    done = sen2nbar.nbar_stac(make_da(["a"], [1]), items=[make_item("a")], fetch=Fetch({"a": XML[:5000]}))
    assert done.nbar_status.values.tolist() == [[1, 1]]


def test_duplicate_ids_are_told_apart_by_time():
    da = make_da(["a", "a"], [1, 1]).assign_coords(time=np.array(["2022-04-01T10:03:20", "2022-04-01T10:03:19"], "datetime64[ns]"))
    first, second = make_item("a"), make_item("a")
    second["properties"]["datetime"] = "2022-04-01T10:03:20Z"
    assert items_in_order(da, [first, second]) == [second, first]


def test_a_cube_without_ids_needs_as_many_items():
    da = make_da(["a", "b"], [1, 2]).drop_vars("id")
    done = sen2nbar.nbar_stac(da, items=[make_item("a"), make_item("b", day=2)], fetch=Fetch())
    assert (done.nbar_status == 0).all()
    with pytest.raises(InputError, match="1 items for 2 time steps without"):
        sen2nbar.nbar_stac(da, items=[make_item("a")], fetch=Fetch())
    with pytest.raises(InputError, match="item 1 is not of time step"):
        sen2nbar.nbar_stac(da, items=[make_item("a"), make_item("b", day=9)], fetch=Fetch())
    with pytest.raises(InputError, match="no items given"):
        sen2nbar.nbar_stac(da, "http://localhost", "c")


def test_an_unknown_item_is_an_error_not_a_guess():
    with pytest.raises(InputError, match=r"no item for time steps \[1\]"), pytest.warns(CubekitWarning, match="1 of 2"):
        sen2nbar.nbar_stac(make_da(["a", "z"], [1, 2]), items=[make_item("a")], fetch=Fetch())


@pytest.mark.parametrize(
    ("item", "offset"),
    [
        (make_item("a"), -1000.0),
        (make_item("a", baseline="05.10"), -1000.0),
        (make_item("a", baseline="02.14"), 0.0),
        (make_item("a", baseline=None, **{"processing:version": "05.09"}), -1000.0),
        (make_item("a", **{"earthsearch:boa_offset_applied": False}), 0.0),
        (make_item("a", **{"earthsearch:x": 1}) | {"collection": "sentinel-2-c1-l2a"}, -1000.0),
    ],
)
def test_the_offset_depends_on_the_catalogue(item, offset):
    assert offset_of(item, None) == offset


def test_an_unknown_baseline_is_an_error():
    assert offset_of(make_item("a", baseline=None), "04.00") == -1000.0
    with pytest.raises(InputError, match="processing baseline of 'a' is None"):
        offset_of(make_item("a", baseline=None), None)


@pytest.mark.parametrize("key", ["granule-metadata", "granule_metadata", "metadata"])
def test_metadata_has_three_names(key):
    assert metadata_href(make_item("a", key=key)) == "https://example.com/a.xml"


@pytest.mark.filterwarnings("ignore:sun zenith")
@pytest.mark.skipif(SCIPY >= (1, 18), reason="SciPy 1.18 breaks ties between nearest nodes otherwise than the oracle's SciPy did")
def test_compat_equals_sen2nbar_in_the_next_zone(golden):
    oracle, xml = golden
    bands = [str(band) for band in oracle["bands9"]]
    c = sen2nbar.reprojected_c(parse_granule_angles(xml), bands, int(oracle["rp_epsg"]), oracle["rp_x"], oracle["rp_y"])
    np.testing.assert_allclose(c.values, oracle["rp_c"], rtol=1e-6)


def test_compat_across_zones_reaches_the_pixels():
    from pyproj import Transformer

    x0, y0 = Transformer.from_crs(32632, 32633, always_xy=True).transform(620_000, 5_570_000)
    da = make_da(["a", "b"], [1, 2]).drop_vars("epsg")
    far = da.assign_coords(x=x0 + 10.0 * np.arange(6), y=y0 - 10.0 * np.arange(5), epsg=32633)
    done = sen2nbar.nbar_stac(far, items=[make_item("a"), make_item("b", day=2, baseline="02.09")], fetch=Fetch(), compat="sen2nbar")
    c = sen2nbar.reprojected_c(parse_granule_angles(XML), BANDS, 32633, far.x.values, far.y.values).values
    np.testing.assert_allclose(done.values, (far.values + np.array([-1000, 0])[:, None, None, None]) * c, rtol=1e-5)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        code = {"/ok": 200, "/denied": 403, "/big": 200}.get(self.path, 404)
        self.send_response(code)
        self.end_headers()
        if code == 200:
            self.wfile.write(XML if self.path == "/ok" else bytes(33 * 2**20))

    def log_message(self, *args: object) -> None:
        pass


def test_fetching_says_what_the_server_said():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        root = f"http://127.0.0.1:{server.server_port}"
        assert fetch_bytes(f"{root}/ok") == XML
        with pytest.raises(AccessDeniedError, match="answers 403"):
            fetch_bytes(f"{root}/denied")
        with pytest.raises(ReadError, match="answers 404"):
            fetch_bytes(f"{root}/gone")
        with pytest.raises(ReadError, match="larger than"):
            fetch_bytes(f"{root}/big")
        server.shutdown()
        thread.join()
    for href in ("file:///etc/passwd", "/etc/passwd", "ftp://x/y"):
        with pytest.raises(InputError, match="cannot fetch"):
            fetch_bytes(href)


@pytest.fixture
def safe(tmp_path: Path) -> Path:
    """A product of three bands of 20 m, 600 px of them; B11 lossless JP2 like ESA's."""
    folder = tmp_path / "S2A_MSIL2A_TEST.SAFE"
    granule = folder / "GRANULE" / "L2A_T32UPC"
    (granule / "IMG_DATA" / "R20m").mkdir(parents=True)
    (granule / "QI_DATA").mkdir()
    (granule / "MTD_TL.xml").write_bytes(make_xml(bands=[4, 11]))
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{i}">-1000</BOA_ADD_OFFSET>' for i in range(13))
    (folder / "MTD_MSIL2A.xml").write_text(f"<a><PROCESSING_BASELINE>05.10</PROCESSING_BASELINE>{offsets}</a>")
    dn = np.random.default_rng(0).integers(1000, 9000, (600, 600)).astype("uint16")
    dn[:50] = 0
    for band in ("B05", "B11"):
        name = granule / "IMG_DATA" / "R20m" / f"T32UPC_20220401T100319_{band}_20m.jp2"
        with rasterio.open(name, "w", **JP2, dtype="uint16", transform=GRID) as image:
            image.write(dn, 1)
    return folder


@pytest.mark.parametrize("cog", [True, False])
def test_a_safe_folder_becomes_tiled_geotiffs(safe, cog):
    written = sen2nbar.nbar_safe(safe, cog=cog, bands=["B05", "B11"])
    assert {path.parent.name for path in written.values()} == {"NBAR"}
    source = next(safe.glob("GRANULE/*/IMG_DATA/R20m/*_B11_20m.jp2"))
    with rasterio.open(source) as image, rasterio.open(written["B11"]) as product:
        dn, values = image.read(1), product.read(1)
        assert (product.dtypes, product.nodata, product.crs.to_epsg()) == (("int16",), -32768.0, 32632)
        assert product.profile["tiled"]
        assert product.scales == (1e-4,)
        assert bool(product.overviews(1)) == cog
        x = image.transform.c + 20 * (np.arange(600) + 0.5)
        y = image.transform.f - 20 * (np.arange(600) + 0.5)
    cube = xr.DataArray(dn[None], dims=("band", "y", "x"), coords={"band": ["B11"], "y": y, "x": x})
    expected = apply_nbar(cube, [make_xml(bands=[4, 11])], offset=-1000, epsg=32632)
    np.testing.assert_array_equal(values, expected.values[0])
    assert (values[:50] == -32768).all()
    assert not list((safe / "NBAR").glob(".nbar-*"))
    with pytest.raises(InputError, match="exists"):
        sen2nbar.nbar_safe(safe, bands=["B05"])


def test_a_safe_folder_with_footprints_uses_them(safe):
    free = sen2nbar.nbar_safe(safe, bands=["B05"], to_int=False)["B05"]
    with rasterio.open(free) as product:
        before = product.read(1)
    mask = np.full((600, 600), 6, dtype="uint8")
    name = safe / "GRANULE" / "L2A_T32UPC" / "QI_DATA" / "MSK_DETFOO_B05.jp2"
    with rasterio.open(name, "w", **JP2, dtype="uint8", transform=GRID) as image:
        image.write(mask, 1)
    with rasterio.open(sen2nbar.nbar_safe(safe, bands=["B05"], to_int=False, overwrite=True)["B05"]) as product:
        after = product.read(1)
    np.testing.assert_array_equal(np.isnan(before), np.isnan(after))
    assert np.isnan(before[:50]).all()
    changed = np.abs(after - before) > 1e-4
    assert 0.02 < changed[50:].mean() < 0.98


@pytest.mark.parametrize(
    ("bands", "error", "message"),
    [(["B09"], InputError, "'B09' has no BRDF parameters"), (["B02"], InputError, "has 0 files"), (["B12"], InputError, "has 0 files")],
)
def test_a_safe_folder_that_does_not_fit_is_refused(safe, bands, error, message):
    with pytest.raises(error, match=message):
        sen2nbar.nbar_safe(safe, bands=bands)
    assert not (safe / "NBAR").exists()


def test_a_safe_folder_without_angles_is_refused(safe, tmp_path):
    next(safe.glob("GRANULE/*/MTD_TL.xml")).write_bytes(make_xml(bands=[4]))
    with pytest.raises(ReadError, match=r"B11 of .* cannot be adjusted: no_angles"):
        sen2nbar.nbar_safe(safe, bands=["B05", "B11"])
    with pytest.raises(InputError, match="is no folder"):
        sen2nbar.nbar_safe(tmp_path / "gone.SAFE")
    (tmp_path / "empty.SAFE").mkdir()
    with pytest.raises(InputError, match="has 0 files"):
        sen2nbar.nbar_safe(tmp_path / "empty.SAFE")


NAMES = {10: ("B02", "B03", "B04", "B08", "AOT", "TCI"), 20: ("B02", "B05", "B8A", "B11", "SCL"), 60: ("B01", "B02", "B05", "B8A", "SCL")}


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """A product as ESA lays it out, small: every resolution with bands that repeat, its baseline only in its name, one mask too coarse."""
    folder = tmp_path / "S2B_MSIL2A_20220401T100319_N0400_R122_T32UPC_20220401T140000.SAFE"
    granule = folder / "GRANULE" / "L2A_T32UPC_A026431_20220401T100319"
    (granule / "QI_DATA").mkdir(parents=True)
    (granule / "MTD_TL.xml").write_bytes(make_xml(bands=[1, 2, 3, 4, 7, 8, 11], baseline="A"))
    rng = np.random.default_rng(1)
    for pitch, bands in NAMES.items():
        (granule / "IMG_DATA" / f"R{pitch}m").mkdir(parents=True)
        size = 1200 // pitch
        profile = JP2 | {"height": size, "width": size, "transform": Affine(pitch, 0, 650_000, 0, -pitch, 5_560_040), "dtype": "uint16"}
        for band in bands:
            dn = rng.integers(900, 30_000, (size, size)).astype("uint16")
            dn[:3] = 0
            with rasterio.open(
                granule / "IMG_DATA" / f"R{pitch}m" / f"T32UPC_20220401T100319_{band}_{pitch}m.jp2", "w", **profile
            ) as image:
                image.write(dn, 1)
    mask = np.full((20, 20), 6, dtype="uint8")
    mask[:, :10] = 5
    profile = JP2 | {"height": 20, "width": 20, "transform": Affine(60, 0, 650_000, 0, -60, 5_560_040), "dtype": "uint8"}
    with rasterio.open(granule / "QI_DATA" / "MSK_DETFOO_B05.jp2", "w", **profile) as image:
        image.write(mask, 1)
    return folder


def test_a_whole_product_is_adjusted_at_native_resolutions(product):
    written = sen2nbar.nbar_safe(product, cog=False, bands=["B02", "B04", "B05", "B8A", "B11"])
    xml = next(product.glob("GRANULE/*/MTD_TL.xml")).read_bytes()
    field = CField.from_angles(parse_granule_angles(xml))
    for band, path in written.items():
        pitch = 10 if band in ("B02", "B04") else 20
        with rasterio.open(path) as done, rasterio.open(next(product.glob(f"GRANULE/*/IMG_DATA/R{pitch}m/*_{band}_*.jp2"))) as image:
            values, dn = done.read(1), image.read(1).astype(float)
            assert (done.res, done.transform) == ((pitch, pitch), image.transform)
        x, y = 650_000 + pitch * (np.arange(len(dn)) + 0.5), 5_560_040 - pitch * (np.arange(len(dn)) + 0.5)
        seen = np.where(x < 650_600, 5, 6)[None].repeat(len(y), axis=0)
        c, _ = field.c([band], x, y, detfoo={"B05": seen} if band == "B05" else None)
        assert (values[:3] == -32768).all()
        assert np.abs(values[3:] - (dn[3:] - 1000) * c[0, 3:]).max() <= 0.51, band


def test_a_product_with_the_metadata_of_another_tile_is_refused(product):
    next(product.glob("GRANULE/*/MTD_TL.xml")).write_bytes(make_xml(bands=[1], tile="33UUS"))
    with pytest.raises(InputError, match="of tile '33UUS', not '32UPC'"):
        sen2nbar.nbar_safe(product, bands=["B02"])
    assert not (product / "NBAR").exists()


def test_a_product_that_states_its_baseline_nowhere_is_refused(product):
    nameless = product.rename(product.parent / "scene.SAFE")
    with pytest.raises(InputError, match="does not state its processing baseline"):
        sen2nbar.nbar_safe(nameless, bands=["B02"])


def test_a_truncated_image_leaves_nothing_behind(product):
    image = next(product.glob("GRANULE/*/IMG_DATA/R10m/*_B02_10m.jp2"))
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(ReadError, match="cannot be"):
        sen2nbar.nbar_safe(product, bands=["B02"])
    assert not list((product / "NBAR").glob("*"))
