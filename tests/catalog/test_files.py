"""Catalogues in files, names, and what opening them costs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from cubekit.catalog import ENDPOINTS, PROFILES, open_catalog
from cubekit.errors import CatalogError, InputError

from .conftest import SITE, granule, recorded

ITEMS = [granule(5 * n) for n in range(7)]
IDS = [item["id"] for item in ITEMS]


def write_parquet(path, items):
    rustac = pytest.importorskip("rustac")

    async def write():
        await rustac.write(str(path), items)

    asyncio.run(write())


def ids(path, **options):
    return [item.id for item in open_catalog(path, **options).search("sentinel-2-l2a", SITE)]


@pytest.mark.parametrize("name", ["items.json", "items.geojson", "items", "items.ndjson", "items.jsonl"])
def test_json_and_lines(name, collection_file):
    assert ids(collection_file(ITEMS, name)) == IDS
    assert ids(str(collection_file(ITEMS, name))) == IDS


def test_lines_under_the_name_json_one_item_and_a_bare_list(tmp_path):
    path = tmp_path / "items.json"
    path.write_text("\n".join(json.dumps(item) for item in ITEMS))
    assert ids(path) == IDS
    path.write_text(json.dumps(ITEMS[0]))
    assert ids(path) == IDS[:1]
    path.write_text(json.dumps(ITEMS))
    assert ids(path) == IDS


@pytest.mark.parametrize("writer", ["rustac", "stac-geoparquet"])
def test_geoparquet(writer, tmp_path, collection_file):
    path = tmp_path / "items.parquet"
    if writer == "rustac":
        write_parquet(path, ITEMS)
    else:
        arrow = pytest.importorskip("stac_geoparquet.arrow")
        arrow.to_parquet(arrow.parse_stac_items_to_arrow(ITEMS), path)
    found, plain = (open_catalog(file).search("sentinel-2-l2a", SITE) for file in (path, collection_file(ITEMS)))
    assert [item.id for item in found] == IDS
    for ours, theirs in zip(found, plain, strict=True):
        facts = ("datetime", "epsg", "tile", "datatake", "processing_baseline", "assets", "bbox", "product")
        assert [getattr(ours, fact) for fact in facts] == [getattr(theirs, fact) for fact in facts]
        assert ours.offset("B04") == theirs.offset("B04")


@pytest.mark.parametrize("relative", ["planetary_computer/sentinel-2-l2a-items.json", "earth_search/es_v1_c1_l2a_items_13TDE.json"])
def test_geoparquet_of_recorded_items(relative, tmp_path):
    items = recorded(relative)
    path = tmp_path / "items.parquet"
    write_parquet(path, items)
    found = open_catalog(path).search(items[0]["collection"], (-180, -90, 180, 90))
    assert {item.id for item in found} == {item["id"] for item in items}
    assert {item.offset("B04") for item in found} == {-1000.0}
    assert {item.asset("B04").shape for item in found} == {(10980, 10980)}


def test_geoparquet_without_its_packages(tmp_path, monkeypatch):
    path = tmp_path / "items.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(CatalogError, match="is no stac-geoparquet"):
        ids(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CatalogError, match=r"needs the package pyarrow. Install cubekit\[publish\]"):
        ids(path)


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (b"", CatalogError, "is no JSON"),
        (b"{]", CatalogError, "is no JSON"),
        (b"\xff\xfe", CatalogError, "is no JSON"),
        (b"[" * 100_000, CatalogError, "is no JSON"),
        (b'{"type": "Catalog", "links": []}', InputError, "is no item collection but 'Catalog'"),
        (b'"text"', InputError, "is no item collection but 'str'"),
        (b'{"a": 1}\n{"b":', CatalogError, "Line 2 of .* is no JSON"),
    ],
)
def test_files_that_are_no_collection(content, kind, said, tmp_path):
    path = tmp_path / "items.json"
    path.write_bytes(content)
    with pytest.raises(kind, match=said):
        ids(path)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("planetary-compter", "There is no catalogue 'planetary-compter'.*planetary-computer, earth-search, demo"),
        ("demo", "needs the folder of a simulated world"),
        ("http://", "is no URL of a STAC API"),
        ([], "list of catalogues is empty"),
        (7, "7 is no catalogue"),
        (None, "None is no catalogue"),
    ],
)
def test_names_that_cannot_be_meant(where, said):
    with pytest.raises(InputError, match=said):
        open_catalog(where)


def test_demo_is_a_local_catalogue_with_the_shape_of_planetary_computer(tmp_path):
    item = granule(0, baseline="04.00")
    for key, asset in item["assets"].items():
        asset["href"] = f"./pixels/{key}.tif"
    dem = {**granule(0), "id": "dem", "collection": "cop-dem-glo-30", "assets": {"data": {"href": "dem.tif"}}}
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "FeatureCollection", "features": [item, dem]}))
    for root in (tmp_path, tmp_path / "catalog.json"):
        catalog = open_catalog("demo", root=root)
        (found,) = catalog.search("sentinel-2-l2a", SITE)
        assert (catalog.name, catalog.local_root) == ("demo", tmp_path.resolve())
        assert found.offset_decision("B04")[:2] == (-1000.0, "by-baseline")
        assert found.asset("SCL").href == str(tmp_path.resolve() / "pixels" / "SCL.tif")
        assert found.granule_metadata == str(tmp_path.resolve() / "pixels" / "granule-metadata.tif")
        assert found.profile is PROFILES["demo", "sentinel-2-l2a"]
        (ground,) = catalog.search("cop-dem-glo-30", SITE)
        assert ground.asset("DEM").href.endswith("dem.tif")
        with pytest.raises(InputError, match="There is no catalogue 'demo'"):
            open_catalog("demo", root=tmp_path / "nowhere")


def test_known_catalogues_are_recognised_by_url():
    for name, endpoint in ENDPOINTS.items():
        assert open_catalog(name).name == open_catalog(endpoint.url + "/").name == name
        assert open_catalog(name).profile("sentinel-2-l2a") is PROFILES[name, "sentinel-2-l2a"]
    assert open_catalog("https://example.org/stac").name == "https://example.org/stac"
    assert open_catalog("https://example.org/stac").profile("sentinel-2-l2a") is None


def test_tables_are_complete_and_frozen():
    from cubekit.bands import SENTINEL2

    for (catalogue, collection), profile in PROFILES.items():
        assert (profile.catalogue, profile.collection) == (catalogue, collection)
        if "sentinel-2" in collection or "sentinel-s2" in collection:
            assert set(profile.bands) >= {*SENTINEL2, "SCL"}
            assert profile.phase(60, south=True) == (0, 40)
            assert profile.phase(10) == profile.phase(20, south=True) == profile.phase(60) == (0, 0)
        if "hls" in collection.lower():
            assert profile.nbar == "already"
            assert profile.bands["B04"].nodata == -9999
        with pytest.raises(TypeError):
            profile.bands["B04"] = None
    assert {profile.signer for (name, _), profile in PROFILES.items() if name == "planetary-computer"} == {"planetary-computer"}
    assert {profile.signer for (name, _), profile in PROFILES.items() if name != "planetary-computer"} == {None}


def test_files_do_not_pay_for_the_client(collection_file):
    path = collection_file(ITEMS)
    code = f"""
import sys
from cubekit.catalog import open_catalog
assert len(open_catalog({str(path)!r}).search("sentinel-2-l2a", {SITE!r})) == 7
heavy = {{"pystac_client", "pystac", "requests", "planetary_computer", "pyarrow", "xarray", "rasterio", "dask", "cubekit.read"}}
loaded = set(sys.modules) & heavy
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=".")
