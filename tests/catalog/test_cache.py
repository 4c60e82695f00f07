"""Answers kept on disk: asked once, never wrong, never secret."""

from __future__ import annotations

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from cubekit.catalog import open_catalog
from cubekit.catalog._cache import tile_boxes
from cubekit.grid import Grid
from cubekit.testing.stacserver import Fault, StacServer

from .conftest import QUICK, SITE, granule

ITEMS = [granule(5 * n) for n in range(6)]
IDS = [item["id"] for item in ITEMS]
YEAR = ("2020-01-01", "2020-02-10")


def ids(catalog, area=SITE, year=YEAR, **options):
    return [item.id for item in catalog.search("sentinel-2-l2a", area, *year, **options)]


def test_second_search_asks_nobody(tmp_path):
    with StacServer(ITEMS) as server:
        for _ in range(3):
            catalog = open_catalog(server.url, options=QUICK, cache_dir=tmp_path / "cache")
            assert ids(catalog) == IDS
        asked = len(server.searches)
        assert asked == 2
        assert ids(catalog, (13.0, 50.3, 13.1, 50.4)) == IDS
        assert ids(catalog, year=("2020-01-01", "2020-01-07")) == IDS[:2]
        assert ids(catalog, query={"eo:cloud_cover": {"lt": 1}}) == IDS[:1]
        assert len(server.searches) > asked


def test_all_sites_of_a_tile_share_one_search(tmp_path):
    sites = [Grid.around(50.05 + 0.07 * n, 12.3 + 0.06 * n, 128) for n in range(6)]
    assert len({tile_boxes(site.footprint()) for site in sites}) == 1
    with StacServer(ITEMS) as server:
        catalog = open_catalog(server.url, options=QUICK, cache_dir=tmp_path, share="tile")
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(lambda site: ids(catalog, site), sites)) == [IDS] * 6
        assert len(server.searches) == 2
        # Nothing of the neighbours leaks into a site: footprints are tested for each.
        assert ids(catalog, Grid.around(50.9, 13.49, 128)) == IDS
        far = Grid.around(49.9, 12.4, 128)
        assert ids(catalog, far) == []


def test_tile_boxes_hold_the_area():
    for lat, lon in ((50.05, 12.2), (-33.9, 18.4), (0.01, 179.2), (83.5, 12.0), (-79.5, -170.0)):
        footprint = Grid.around(lat, lon, 512).footprint()
        ((west, south, east, north),) = tile_boxes(footprint)
        inner = footprint.bounds
        assert west <= inner[0] <= inner[2] <= east
        assert south <= inner[1] <= inner[3] <= north
        assert north - south < 3
    assert tile_boxes(Grid.around(-16.7, 179.9999, 128).footprint()) == ()
    assert tile_boxes(Grid.around(88, 12, 128).footprint()) == ()


def test_old_and_damaged_answers_are_asked_for_again(tmp_path):
    with StacServer(ITEMS) as server:
        catalog = open_catalog(server.url, options=QUICK, cache_dir=tmp_path, cache_max_age=3600)
        assert ids(catalog) == IDS
        (kept,) = tmp_path.iterdir()
        whole = kept.read_bytes()
        for damaged in (b"", whole[: len(whole) // 2], b"\x1f\x8bxx", gzip.compress(b"{}"), gzip.compress(b'{"features": 3}')):
            kept.write_bytes(damaged)
            before = len(server.searches)
            assert ids(catalog) == IDS
            assert len(server.searches) > before
        os.utime(kept, (0, 0))
        before = len(server.searches)
        assert ids(catalog) == IDS
        assert len(server.searches) > before
        assert [path.name for path in tmp_path.iterdir()] == [kept.name]


def test_failures_are_not_kept(tmp_path):
    from cubekit.errors import CatalogError

    with StacServer(ITEMS, faults=[Fault("status", 400)]) as server:
        catalog = open_catalog(server.url, options=QUICK, cache_dir=tmp_path)
        with pytest.raises(CatalogError, match="answers 400"):
            ids(catalog)
        assert list(tmp_path.iterdir()) == []
        assert ids(catalog) == IDS


def test_no_signature_reaches_the_disk(tmp_path):
    item = granule(0)
    item["assets"]["B04"]["href"] += "?sv=1&sig=CANARY"
    item["assets"]["B04"]["alternate"] = {"s3": {"href": "https://x/y?X-Amz-Signature=CANARY"}}
    item["links"] = [{"rel": "self", "href": "https://x/y?token=CANARY"}, {"rel": "next", "href": "https://x/y?token=CANARY"}]
    from dataclasses import replace

    with StacServer([item]) as server:
        catalog = open_catalog(server.url, options=replace(QUICK, headers={"X-Api-Key": "CANARY"}), cache_dir=tmp_path)
        assert len(catalog.search("sentinel-2-l2a", SITE)) == 1
        (kept,) = tmp_path.iterdir()
        text = gzip.decompress(kept.read_bytes()).decode()
        assert "CANARY" not in text
        assert json.loads(text)["features"][0]["id"] == item["id"]
        assert ids(catalog) == [item["id"]]
