"""What catalogues really send: every recorded answer, served by a scripted server, by a real one and from files."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from cubekit.catalog import ApiOptions, open_catalog
from cubekit.errors import InputError
from cubekit.testing import shared_data
from cubekit.testing.stacserver import StacServer, real_server

from .conftest import recorded

WORLD = (-180.0, -90.0, 180.0, 90.0)
ANSWERS = sorted(
    str(path.relative_to(shared_data("a_stac"))) for path in shared_data("a_stac").glob("**/*.json") if "collection" not in path.name
)


def entries(relative):
    """Items of a recorded answer by collection; examples that belong to none count as sentinel-2-l2a."""
    found = {}
    for item in recorded(relative):
        found.setdefault(item.get("collection") or "sentinel-2-l2a", []).append(
            {**item, "collection": item.get("collection") or "sentinel-2-l2a"}
        )
    return found


def check(item):
    assert item.epsg is not None or "proj:wkt2" in item.properties
    assert item.bbox is not None
    assert item.geometry is not None
    assert item.profile.collection == item.collection
    assert not any("sig=" in asset.href or asset.href.startswith(("./", "../")) for asset in item.assets.values())
    if item.platform and item.platform.startswith("sentinel-2") and "worldcover" not in item.collection:
        assert item.tile is not None
        assert item.datatake.startswith(("S2A_", "S2B_"))
        assert item.processing_baseline is not None
        assert 1 <= item.relative_orbit <= 143
        assert item.epsg == (32600 if item.tile[2] >= "N" else 32700) + int(item.tile[:2])
        assert item.granule_metadata is not None or "granule_metadata" in item.refused
        assert item.offset("B04") in (0.0, -1000.0)


@pytest.mark.parametrize("relative", ANSWERS)
def test_scripted_server_serves_recorded_items(relative):
    for collection, items in entries(relative).items():
        with StacServer(items, count=False, paging="merge") as server:
            catalog = open_catalog(server.url, options=ApiOptions(page_limit=3))
            found = catalog.search(collection, WORLD)
            assert {item.id for item in found} == {item["id"] for item in items}
            assert len(found) == len(items)
            for item in found:
                check(item)


@pytest.mark.parametrize("relative", ANSWERS)
def test_files_and_servers_agree(relative, collection_file, tmp_path):
    path = collection_file(recorded(relative))
    for collection, items in entries(relative).items():
        with StacServer(items) as server:
            remote = open_catalog(server.url).search(collection, WORLD)
        local = open_catalog(path).search(collection, WORLD)
        assert [item.id for item in local] == [item.id for item in remote]
        for ours, theirs in zip(local, remote, strict=True):
            check(ours)
            facts = (
                "epsg",
                "tile",
                "datatake",
                "platform",
                "relative_orbit",
                "processing_baseline",
                "sun_zenith",
                "view_zenith",
                "profile",
            )
            assert [getattr(ours, fact) for fact in facts] == [getattr(theirs, fact) for fact in facts]


def test_real_server_pages_and_filters(collection_file):
    path = collection_file(
        [*recorded("planetary_computer/sentinel-2-l2a-items.json"), *recorded("earth_search/es_v1_c1_l2a_items_13TDE.json")]
    )
    with real_server(path) as url:
        catalog = open_catalog(url, options=ApiOptions(page_limit=3))
        denver = (-105.2, 40.0, -105.1, 40.1)
        found = catalog.search("sentinel-2-c1-l2a", denver, "2024-04-01", "2024-04-20")
        expected = sorted(
            (item["properties"]["datetime"], item["id"])
            for item in recorded("earth_search/es_v1_c1_l2a_items_13TDE.json")
            if "2024-04-01" <= item["properties"]["datetime"][:10] <= "2024-04-20"
        )
        assert [item.id for item in found] == [identifier for _, identifier in expected]
        assert len(found) > 6
        assert len(catalog.search("sentinel-2-l2a", WORLD)) == 4
        assert catalog.search("sentinel-2-l2a", denver) == []
        assert catalog.search("no-such-collection", WORLD) == []


# Truth by hand: Planetary Computer by baseline, c1 always, Earth Search's sentinel-2-l2a never, others as declared.
OFFSETS = [
    ("planetary_computer/sentinel-2-l2a-items.json", "sentinel-2-l2a", "by-baseline", -1000.0),
    ("planetary_computer/s2_search_page_1.json", "sentinel-2-l2a", "by-baseline", -1000.0),
    ("misc/pc_s2_T06VVN.json", "sentinel-2-l2a", "by-baseline", 0.0),
    ("earth_search/es_v1_c1_l2a_items_13TDE.json", "sentinel-2-c1-l2a", "fixed", -1000.0),
    ("recorded/es_v1_s2_c1_s1_mixed.json", "sentinel-2-c1-l2a", "fixed", -1000.0),
    ("recorded/es_v1_s2_c1_s1_mixed.json", "sentinel-2-l2a", "fixed", 0.0),
    ("earth_search/es_v0_s2_l2a_cogs_search.json", "sentinel-s2-l2a-cogs", "fixed", 0.0),
    ("faulty/proj_code_not_epsg.json", "sentinel-2-l2a", "declared", -1000.0),
    ("sentinel2_edge/T33XWJ_svalbard_N0400.json", "sentinel-2-l2a", "declared", -1000.0),
]


@pytest.mark.parametrize(("relative", "collection", "policy", "value"), OFFSETS)
def test_offsets_follow_the_catalogue(relative, collection, policy, value, collection_file):
    for item in open_catalog(collection_file(recorded(relative))).search(collection, WORLD):
        for band in ("B02", "B8A", "B12"):
            decision = item.offset_decision(band)
            assert (decision.policy, decision.value) == (policy, value)
            assert decision.reason
        if "SCL" in item.profile.bands:
            assert item.offset_decision("SCL") == (0.0, "none", "class codes")


def test_earth_search_declares_an_offset_that_its_pixels_do_not_have(collection_file):
    found = open_catalog(collection_file(recorded("recorded/es_v1_s2_c1_s1_mixed.json"))).search("sentinel-2-l2a", WORLD)
    assert {item.asset("B04").offset for item in found} <= {-0.1, 0.0, None}
    assert {item.properties["earthsearch:boa_offset_applied"] for item in found}
    assert {item.offset("B04") for item in found} == {0.0}


def test_two_products_with_one_id(collection_file):
    pair = recorded("sentinel2_edge/T01WCP_022157.json") + recorded("sentinel2_edge/T01WCP_022158.json")
    assert len({item["id"] for item in pair}) == 1
    for order in (pair, pair[::-1]):
        found = open_catalog(collection_file(order)).search("sentinel-2-l2a", WORLD)
        assert [item.product for item in found] == ["S2A_MSIL2A_20230625T234621_N0509_R073_T01WCP_20230626T022158.SAFE"]


@pytest.mark.parametrize("relative", ["sentinel2_edge/T01WCP_022157.json", "sentinel2_edge/T01WCP_022158.json"])
@pytest.mark.parametrize(
    ("area", "hits"),
    [
        ((179.0, 66.0, 179.1, 66.1), 1),
        ((-179.6, 66.0, -179.5, 66.1), 1),
        ((179.9, 66.0, -179.9, 66.1), 1),
        ((0.0, 66.0, 0.1, 66.1), 0),
        ((-178.0, 66.0, -177.9, 66.1), 0),
    ],
)
def test_antimeridian_tile_is_found_from_both_sides(relative, area, hits, collection_file):
    items = [{**item, "collection": "sentinel-2-l2a"} for item in recorded(relative)]
    assert len(open_catalog(collection_file(items)).search("sentinel-2-l2a", area)) == hits
    with StacServer(items) as server:
        assert len(open_catalog(server.url).search("sentinel-2-l2a", area)) == hits


def test_polar_tiles(collection_file):
    path = collection_file(recorded("planetary_computer/sentinel-2-l2a-items.json"))
    found = open_catalog(path).search("sentinel-2-l2a", (95.0, 81.2, 95.1, 81.3))
    assert {(item.tile, item.epsg) for item in found} == {("46XER", 32646), ("47XML", 32647)}


def test_recorded_pages_follow_their_next_links():
    pages = [json.loads(shared_data(f"a_stac/planetary_computer/s2_search_page_{number}.json").read_text()) for number in (1, 2)]

    class Replay(StacServer):
        def answer(self, request, record):
            if record.path != "/search":
                return super().answer(request, record)
            page = dict(
                pages[1]
                if "T19PHS" in str(record.parameters.get("token"))
                else pages[0]
                if "token" not in record.parameters
                else {"features": []}
            )
            page["links"] = [{**link, "href": f"{self.url}/search"} if link["rel"] == "next" else link for link in page.get("links", [])]
            return request.reply(200, json.dumps(page).encode())

    with Replay([]) as server:
        found = open_catalog(server.url, options=ApiOptions(page_limit=1)).search("sentinel-2-l2a", WORLD)
        assert [item.tile for item in found] == ["21UYT", "19PHS"]
        assert "T21UYT" in server.searches[-1].parameters["token"]


def test_requester_pays_and_other_schemes(collection_file):
    mixed = open_catalog(collection_file(recorded("recorded/es_v1_s2_c1_s1_mixed.json")))
    item = mixed.search("sentinel-2-l2a", WORLD)[0]
    kinds = Counter(asset.requester_pays for asset in item.assets.values())
    assert kinds[True] == sum(asset.href.startswith("s3://sentinel-s2-l2a/") for asset in item.assets.values()) > 0
    assert not item.asset("B04").requester_pays
    cdse = open_catalog(collection_file(recorded("faulty/proj_code_not_epsg.json"))).search("sentinel-2-l2a", WORLD)[0]
    assert cdse.asset("B02").href.endswith("_B02_10m.jp2")
    assert cdse.asset("B01").href.endswith("_B01_20m.jp2")
    assert cdse.profile.bands["B02"].keys == ("B02_10m", "B02_20m", "B02_60m")
    assert cdse.asset("B05").epsg == 32636


def test_profiles_of_other_collections(collection_file):
    dem = open_catalog(collection_file(recorded("planetary_computer/cop-dem-glo-30-items.json"))).search("cop-dem-glo-30", WORLD)[0]
    assert dem.asset("DEM").transform[0] != -dem.asset("DEM").transform[4]
    assert dem.profile.bands["DEM"].nodata is None
    landsat = open_catalog(collection_file(recorded("recorded/pc_landsat_items_paged.json"))).search("landsat-c2-l2", WORLD)[0]
    assert landsat.offset("red") * landsat.scale("red") == pytest.approx(-0.2)
    assert landsat.asset("red").offset == -0.2
    left, top = landsat.asset("red").transform[2], landsat.asset("red").transform[5]
    assert (left % 30, top % 30) == landsat.profile.phase(30, south=True) == (15, 15)
    radar = open_catalog(collection_file(recorded("planetary_computer/sentinel-1-rtc-items.json"))).search("sentinel-1-rtc", WORLD)[0]
    assert radar.profile.bands["vv"].nodata == radar.asset("vv").nodata == -32768
    with pytest.raises(InputError, match=r"has no band 'B04'.*Use any of: vv, vh"):
        radar.asset("B04")


def test_native_phase_of_sentinel2_grids(collection_file):
    for relative, collection in (
        ("earth_search/es_v0_s2_l2a_cogs_search.json", "sentinel-s2-l2a-cogs"),
        ("planetary_computer/sentinel-2-l2a-items.json", "sentinel-2-l2a"),
    ):
        for item in open_catalog(collection_file(recorded(relative))).search(collection, WORLD):
            for band in ("B01", "B02", "B05"):
                a, _, left, _, _, top = item.asset(band).transform
                assert (left % a, top % a) == item.profile.phase(a, south=item.epsg >= 32700)


def test_modis_has_a_grid_without_a_code(collection_file):
    item = open_catalog(collection_file(recorded("misc/modis_13A1_061_item.json"))).search("modis-13A1-061", WORLD)[0]
    assert item.epsg is None
    assert item.profile.bands["500m_16_days_EVI"].scale == 1e-4
