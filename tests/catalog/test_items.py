"""Items of every dialect, hostile ones among them."""

from __future__ import annotations

import os
import pickle

import pytest

from cubekit.catalog import ProfileSpec, RefusedHrefError, open_catalog
from cubekit.errors import CatalogError, CubekitWarning, InputError, ReadError

from .conftest import SITE, granule


def only(path, collection="sentinel-2-l2a", **options):
    (item,) = open_catalog(path, **options).search(collection, SITE)
    return item


def with_asset(**fields):
    item = granule(0)
    item["assets"]["B04"] = {**item["assets"]["B04"], **fields}
    return item


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "/vsicurl/http://169.254.169.254/latest",
        "/vsizip/x.zip/y.tif",
        "s3:/vsimem/x",
        "<VRTDataset rasterXSize='1'><VRTRasterBand/></VRTDataset>",
        " <VRTDataset/>",
        '{"type":"gdal"}',
        "zip+file://x",
        "ftp://host/x.tif",
        "data:image/tiff;base64,AAAA",
        "javascript:alert(1)",
        "HDF5:x.h5://band",
        "NETCDF:x.nc:band",
        "GTIFF_DIR:1:/etc/passwd",
        "//host/share/x.tif",
        "\\\\host\\share\\x.tif",
        "https:///x.tif",
        "http://",
        "s3://",
        "https://host/x\x00.tif",
        "https://host/x.tif\nHost: evil",
        "../outside.tif",
        "a/../../outside.tif",
        "/etc/passwd",
        "https://host/" + "x" * 5000,
        "",
        None,
        7,
        ["x.tif"],
    ],
)
def test_hostile_hrefs_are_refused_when_used(href, collection_file):
    item = only(collection_file([with_asset(href=href)]))
    assert "B04" not in item.assets
    with pytest.raises(ReadError, match=r"Asset 'B04' of item .* may not be opened: .*(is refused|is no text)") as caught:
        item.asset("B04")
    assert caught.value.context["item_id"] == item.id
    assert item.asset("B02").href.startswith("https://")


@pytest.mark.parametrize("href", ["local/x.tif", "./x.tif", "a/../x.tif"])
def test_local_paths_below_the_root_are_allowed(href, collection_file):
    path = collection_file([with_asset(href=href)])
    item = only(path)
    assert item.asset("B04").href == os.path.normpath(os.path.join(os.path.realpath(path.parent), href))


def test_links_out_of_the_root_are_refused_when_signed(collection_file, tmp_path):
    folder = tmp_path / "world"
    folder.mkdir()
    secret = tmp_path / "secret.tif"
    secret.write_bytes(b"secret")
    (folder / "x.tif").symlink_to(secret)
    (folder / "y.tif").write_bytes(b"fine")
    (folder / "z.tif").symlink_to(folder / "y.tif")
    path = collection_file([with_asset(href="x.tif")], "world/items.json")
    catalog = open_catalog(path)
    (item,) = catalog.search("sentinel-2-l2a", SITE)
    with pytest.raises(RefusedHrefError, match="leads outside the catalogue's folder"):
        catalog.sign(item.asset("B04").href)
    assert catalog.sign(str(folder / "z.tif")) == os.path.realpath(folder / "y.tif")
    assert catalog.local_root == folder.resolve()


def test_root_may_be_wider_than_the_folder_of_the_file(collection_file, tmp_path):
    (tmp_path / "meta").mkdir()
    path = collection_file([with_asset(href="../pixels/x.tif")], "meta/items.json")
    assert "B04" in only(path).refused
    assert only(path, root=tmp_path).asset("B04").href == str(tmp_path.resolve() / "pixels" / "x.tif")


def test_local_paths_from_the_network_are_refused():
    from cubekit.testing.stacserver import StacServer

    with StacServer([with_asset(href="/data/x.tif")]) as server:
        catalog = open_catalog(server.url)
        (item,) = catalog.search("sentinel-2-l2a", SITE)
        # Relative to the server, as any relative address on the web is.
        assert item.asset("B04").href == f"{server.url}/data/x.tif"
        with pytest.raises(CatalogError, match="has no local files"):
            catalog.sign("/etc/passwd")


@pytest.mark.parametrize(
    ("fields", "epsg"),
    [
        ({"proj:epsg": 32633}, 32633),
        ({"proj:epsg": "32633"}, 32633),
        ({"proj:epsg": None, "proj:code": "EPSG:32633"}, 32633),
        ({"proj:code": "epsg:32633"}, 32633),
        ({"proj:code": "IAU_2015:30100"}, 32632),
        ({"proj:code": None}, 32632),
        ({}, 32632),
    ],
)
def test_crs_of_an_item(fields, epsg, collection_file):
    item = granule(0)
    del item["properties"]["proj:epsg"]
    item["properties"].update(fields)
    assert only(collection_file([item])).epsg == epsg


def test_crs_from_definitions_and_assets(collection_file):
    from pyproj import CRS

    crs = CRS.from_epsg(32719)
    for fields in ({"proj:wkt2": crs.to_wkt()}, {"proj:projjson": crs.to_json_dict()}):
        for place in ("properties", "assets"):
            item = granule(0)
            del item["properties"]["proj:epsg"]
            for holder in [item["properties"]] if place == "properties" else item["assets"].values():
                holder.update(fields)
            found = only(collection_file([item]))
            assert found.epsg == 32719
            assert found.asset("B04").epsg == 32719


@pytest.mark.parametrize(
    "fields",
    [
        {"proj:code": "https://evil.example/crs"},
        {"proj:code": "+init=/etc/passwd"},
        {"proj:code": "EPSG:32632\n"},
        {"proj:code": ["EPSG:32632"]},
        {"proj:wkt2": "https://evil.example/crs.wkt"},
        {"proj:wkt2": "+proj=utm +nadgrids=/etc/passwd"},
        {"proj:wkt2": "PROJCRS[" + "x" * 70000},
        {"proj:wkt2": 'BOUNDCRS[SOURCECRS[x],PARAMETERFILE["grid","https://evil.example/g.tif"]]'},
        {"proj:projjson": {"type": "ProjectedCRS", "base_crs": {"$ref": "https://evil.example"}}},
        {"proj:projjson": {"type": "ProjectedCRS", "id": {"authority": "https://evil.example", "code": 1}}},
        {"proj:projjson": {"name": "x" * 70000}},
    ],
)
def test_hostile_crs_is_refused_when_used(fields, collection_file):
    item = granule(0)
    del item["properties"]["proj:epsg"]
    item["properties"].update(fields)
    found = only(collection_file([item]))
    assert found.epsg is None
    with pytest.raises(ReadError, match="is refused: a CRS is a code"):
        found.asset("B04")
    single = only(collection_file([with_asset(**fields)]))
    assert set(single.refused) == {"B04"}


def test_signatures_are_stripped(collection_file):
    item = with_asset(
        href="https://user:pw@sentinel2l2a01.blob.core.windows.net/c/x.tif?v=2&st=2020&se=2021&sp=rl&sv=1&sr=c&sig=CANARY",
        alternate={"s3": {"href": "https://b.s3.amazonaws.com/x.tif?X-Amz-Signature=CANARY&X-Amz-Credential=CANARY"}},
    )
    item["links"] = [{"rel": "self", "href": "https://host/items/1?token=CANARY&key=1"}]
    item["assets"]["B02"]["href"] = "https://cdn.example/x.tif?Expires=1&Signature=CANARY&Key-Pair-Id=CANARY&page=3"
    item["assets"]["SCL"]["href"] = "file:///x?sig=CANARY"
    found = only(collection_file([item]))
    assert "CANARY" not in repr((found, found.raw, found.assets, found.refused))
    assert found.asset("B04").href == "https://sentinel2l2a01.blob.core.windows.net/c/x.tif?v=2"
    assert found.asset("B02").href == "https://cdn.example/x.tif?page=3"


def test_broken_entries_are_left_out_with_a_warning(collection_file):
    good = granule(0)
    bad = [
        "text",
        7,
        {**granule(1), "id": None},
        {**granule(2), "assets": None},
        {**granule(3), "properties": {"datetime": "yesterday"}},
        {**granule(4), "properties": {}},
        {**granule(5), "assets": {str(n): {} for n in range(3000)}},
        {**granule(6), "id": "x" * 600},
    ]
    path = collection_file([good, *bad])
    with pytest.warns(CubekitWarning, match=f"{len(bad)} entries are no valid items and are left out"):
        found = open_catalog(path).search("sentinel-2-l2a", SITE)
    assert [item.id for item in found] == [good["id"]]


def test_times_in_every_spelling(collection_file):
    spellings = [
        "2020-01-01T10:10:31.024Z",
        "2020-01-01T11:10:31.024000000+01:00",
        "2020-01-01 10:10:31.024",
        "2020-01-01T10:10:31.0240001Z",
    ]
    for spelling in spellings:
        item = granule(0)
        item["properties"]["datetime"] = spelling
        assert only(collection_file([item])).datetime.isoformat() == "2020-01-01T10:10:31.024000+00:00"


def test_days_are_whole_and_instants_exact(collection_file):
    import datetime

    import numpy as np

    catalog = open_catalog(collection_file([granule(0), granule(1)]))
    day = [("2020-01-01", "2020-01-01"), (datetime.date(2020, 1, 1),) * 2, (np.datetime64("2020-01-01"),) * 2, (None, "2020-01-01")]
    for start, end in day:
        assert len(catalog.search("sentinel-2-l2a", SITE, start, end)) == 1
    assert catalog.search("sentinel-2-l2a", SITE, "2020-01-01T00:00", "2020-01-01T10:10:31") == []
    assert len(catalog.search("sentinel-2-l2a", SITE, "2020-01-01T10:10:31.024+00:00", "2020-01-02T10:10:31.024")) == 2
    with pytest.raises(InputError, match="end 2019-01-01 is before start 2020-01-01"):
        catalog.search("sentinel-2-l2a", SITE, "2020-01-01", "2019-01-01")
    with pytest.raises(InputError, match="start 'soon' is not a date"):
        catalog.search("sentinel-2-l2a", SITE, "soon")


def test_intervals_overlap(collection_file):
    item = granule(0)
    item["properties"].update({"datetime": None, "start_datetime": "2021-01-01T00:00:00Z", "end_datetime": "2021-12-31T23:59:59Z"})
    catalog = open_catalog(collection_file([item]))
    assert len(catalog.search("sentinel-2-l2a", SITE, "2021-06-01", "2021-06-30")) == 1
    assert catalog.search("sentinel-2-l2a", SITE, "2022-01-01", "2022-06-30") == []


def test_baseline_and_its_offset(collection_file):
    cases = [("02.12", 0.0), ("03.01", 0.0), ("04.00", -1000.0), ("05.11", -1000.0), ("99.99", -1000.0)]
    for baseline, offset in cases:
        item = only(collection_file([granule(0, baseline=baseline)]))
        assert (item.processing_baseline, item.offset("B04"), item.profile.catalogue) == (baseline, offset, "planetary-computer")
    for written, read in ((5.1, "05.10"), ("N0510", "05.10"), ("0400", "04.00"), ("4.00", "04.00")):
        item = granule(0)
        item["properties"]["s2:processing_baseline"] = written
        assert only(collection_file([item])).processing_baseline == read
    item = granule(0, baseline="04.00")
    del item["properties"]["s2:processing_baseline"]
    assert only(collection_file([item])).processing_baseline == "04.00"
    for key in ("s2:product_uri", "s2:datatake_id"):
        del item["properties"][key]
    found = only(collection_file([item]))
    assert found.processing_baseline is None
    with pytest.raises(CatalogError, match="does not tell its processing baseline"):
        found.offset("B04")
    assert found.offset("SCL") == 0


def test_missing_asset_and_unknown_band(collection_file):
    item = only(collection_file([granule(0)]))
    with pytest.raises(ReadError, match="has no asset 'B08' for band B08"):
        item.asset("B08")
    with pytest.raises(InputError, match="has no band 'B99'"):
        item.asset("B99")
    with pytest.raises(InputError, match="has no band 'B99'"):
        item.offset("B99")


def test_item_can_be_sent_to_another_process(collection_file):
    item = only(collection_file([granule(0)]))
    copy = pickle.loads(pickle.dumps(item))
    assert copy == item
    assert hash(copy) == hash(item)
    assert (copy.assets, copy.profile, copy.raw) == (item.assets, item.profile, item.raw)
    with pytest.raises(AttributeError):
        item.id = "other"
    with pytest.raises(TypeError):
        item.profile.bands["B04"] = None


def test_catalogue_can_be_sent_to_another_process(collection_file):
    path = collection_file([granule(0)])
    for where in (path, "planetary-computer", [path, "earth-search"]):
        copy = pickle.loads(pickle.dumps(open_catalog(where)))
        assert copy.name == open_catalog(where).name
    assert len(pickle.loads(pickle.dumps(open_catalog(path))).search("sentinel-2-l2a", SITE)) == 1


@pytest.mark.parametrize(
    ("profile", "offset", "scale"),
    [
        ({"bands": {"red": {"keys": ["B04"], "scale": 0.0001}}, "offset": -500.0}, -500.0, 1e-4),
        ({"bands": {"red": {"keys": "B04", "scale": 0.5}}, "offset": "by-baseline"}, -1000.0, 0.5),
        ({"bands": {"red": {"keys": ["nope", "B04"], "offset": 3.0}}}, 3.0, 1.0),
        ({"bands": {"red": "B04"}}, 0.0, 1.0),
    ],
)
def test_user_profiles(profile, offset, scale, collection_file):
    path = collection_file([granule(0)])
    for key in ("sentinel-2-l2a", "*"):
        item = only(path, profiles={key: profile})
        assert item.asset("red").key == "B04"
        assert (item.offset("red"), item.scale("red")) == (offset, scale)
    assert only(path, profiles={"*": ProfileSpec.model_validate(profile)}).offset("red") == offset


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"bands": {"red": {"key": "B04"}}}, r"bands.red.*(keys|key): "),
        ({"bands": {}, "ofset": 0.0}, "ofset: Extra inputs"),
        ({"bands": {"red": "B04"}, "offset": "sometimes"}, "offset"),
        ({"bands": {"red": "B04"}, "signer": "mine"}, "signer: Input should be 'planetary-computer'"),
    ],
)
def test_wrong_user_profiles_name_the_field(profile, said, collection_file):
    with pytest.raises(InputError, match=said):
        open_catalog(collection_file([granule(0)]), profiles={"x": profile})


def test_tables_of_another_catalogue(collection_file):
    item = granule(0)
    for asset in item["assets"].values():
        asset["href"] = asset["href"].replace("sentinel2l2a01.blob.core.windows.net", "mirror.example")
    item["assets"]["B04"]["raster:bands"] = [{"scale": 0.0001, "offset": 0}]
    path = collection_file([item])
    assert only(path).offset_decision("B04")[:2] == (0.0, "declared")
    assert only(path, profiles="planetary-computer").offset_decision("B04")[:2] == (-1000.0, "by-baseline")
    assert only(path, profiles="earth-search").offset("B04") == 0
    with pytest.raises(InputError, match=r"Unknown profiles 'nasa'.*demo, earth-search"):
        open_catalog(path, profiles="nasa")
