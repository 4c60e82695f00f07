"""One item per acquisition, in one order; footprints that really touch."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shapely.geometry import MultiPolygon, Point, Polygon, box, mapping, shape

from cubekit.catalog import open_catalog
from cubekit.catalog._geometry import Ground, area_of, footprint_geometry, search_boxes, touches
from cubekit.errors import InputError
from cubekit.grid import Grid, transformer, utm_epsg

from .conftest import SITE, granule


def search(path, **options):
    return open_catalog(path).search("sentinel-2-l2a", SITE, **options)


def test_newest_baseline_only(collection_file):
    old, new = granule(0, baseline="02.11", made="20200102T000000"), granule(0, baseline="05.00", made="20230501T000000")
    newest = granule(0, baseline="05.10", made="20220101T000000")
    (kept,) = search(collection_file([old, newest, new]))
    assert kept.processing_baseline == "05.10"
    assert kept.datatake == "S2A_20200101T101031"


def test_newest_product_of_one_baseline(collection_file):
    items = [granule(0, made=made) for made in ("20200102T000000", "20200102T000001")]
    assert [item.product[-20:-5] for item in search(collection_file(items))] == ["20200102T000001"]


def test_halves_of_a_datatake_are_both_kept(collection_file):
    west, east = granule(0, made="20200102T000000"), granule(0, made="20200102T000001")
    west["geometry"], east["geometry"] = mapping(box(12.0, 50, 12.36, 51)), mapping(box(12.34, 50, 13.5, 51))
    assert len(search(collection_file([west, east]))) == 2
    west["properties"]["s2:processing_baseline"] = "02.11"
    assert len(search(collection_file([west, east]))) == 1


def test_other_tiles_orbits_and_days_stay(collection_file):
    items = [granule(0), granule(0, tile="33UUS"), granule(1), granule(0, tile="32UQC", orbit=65)]
    found = search(collection_file(items))
    assert len(found) == 4
    assert [(item.datetime, item.id) for item in found] == sorted((item.datetime, item.id) for item in found)


def test_order_of_arrival_never_matters(collection_file):
    items = [
        granule(day, tile=tile, baseline=baseline, made=made)
        for day in (0, 1)
        for tile in ("32UPC", "33UUS")
        for baseline in ("02.11", "05.10")
        for made in ("20200102T000000", "20230102T000000")
    ]
    items += [{**items[0], "properties": {**items[0]["properties"], "updated": "2024"}}]
    expected = [(item.id, item.product) for item in search(collection_file(items))]
    assert len(expected) == 4
    for seed in range(5):
        random.Random(seed).shuffle(items)
        assert [(item.id, item.product) for item in search(collection_file(items))] == expected


def test_other_collections_are_not_mixed(collection_file):
    dem = {**granule(0), "collection": "cop-dem-glo-30", "id": "dem"}
    path = collection_file([granule(0), dem])
    assert len(search(path)) == 1
    assert [item.id for item in open_catalog(path).search("cop-dem-glo-30", SITE)] == ["dem"]


def test_query_operators(collection_file):
    path = collection_file([granule(day) for day in (0, 10, 20, 30)])
    for query, days in (
        ({"eo:cloud_cover": {"lt": 20}}, [0, 10]),
        ({"eo:cloud_cover": {"gte": 10, "lte": 20}}, [10, 20]),
        ({"eo:cloud_cover": 30.0}, [30]),
        ({"s2:mgrs_tile": {"in": ["32UPC"]}, "eo:cloud_cover": {"neq": 0}}, [10, 20, 30]),
        ({"s2:mgrs_tile": {"startsWith": "33"}}, []),
        ({"no:such": {"lt": 20}}, []),
        ({"s2:mgrs_tile": {"lt": 20}}, []),
    ):
        assert [item.cloud_cover for item in search(path, query=query)] == days
    with pytest.raises(InputError, match="Unknown operator 'below'"):
        search(path, query={"eo:cloud_cover": {"below": 20}})


def test_footprint_decides_not_the_box(collection_file):
    triangle = granule(0)
    triangle["geometry"] = mapping(Polygon([(13.5, 50), (13.5, 51), (12.9, 51)]))
    assert search(collection_file([triangle])) == []
    without = granule(0, geometry=None)
    assert len(search(collection_file([without]))) == 1
    neither = granule(0, geometry=None, bbox=None)
    assert len(search(collection_file([neither]))) == 1
    bowtie = granule(0, geometry=mapping(Polygon([(12, 50), (13, 51), (13, 50), (12, 51)])))
    assert len(search(collection_file([bowtie]))) == 1


def test_areas_in_every_form(collection_file):
    path = collection_file([granule(0)])
    catalog = open_catalog(path)
    grid = Grid.around(50.35, 12.35, 64)
    for area in (SITE, list(SITE), [SITE, (0, 0, 1, 1)], box(*SITE), Point(12.3, 50.3), MultiPolygon([box(*SITE), box(0, 0, 1, 1)]), grid):
        assert len(catalog.search("sentinel-2-l2a", area)) == 1
    for area in ((0, 0, 1, 1), [(0, 0, 1, 1)], Point(-12.3, 50.3)):
        assert catalog.search("sentinel-2-l2a", area) == []
    for area, said in (
        ((600000, 5500000, 601000, 5501000), "is not .west, south, east, north. in degrees"),
        (Polygon(), "is empty"),
        ((1, 2, 3), "is not"),
        ((0, 10, 1, 5), "south <= north"),
        (box(5e5, 5e6, 6e5, 6e6), "(is not in degrees|is empty)"),
    ):
        with pytest.raises(InputError, match=said):
            catalog.search("sentinel-2-l2a", area)


def test_rings_that_jump_over_the_antimeridian():
    ring = Polygon([(178.5, 65), (-179, 65), (-179, 66), (178.5, 66)])
    repaired = shape(footprint_geometry(mapping(ring), None))
    assert repaired.area == pytest.approx(2.5)
    assert repaired.contains(Point(179, 65.5))
    assert repaired.contains(Point(-179.5, 65.5))
    assert not repaired.intersects(Point(0, 65.5))
    beyond = shape(footprint_geometry(mapping(box(179, 0, 181, 1)), None))
    assert beyond.contains(Point(-179.5, 0.5))
    assert beyond.bounds[2] <= 180
    from_box = shape(footprint_geometry(None, [178.5, 65, -179, 66]))
    assert from_box.equals(repaired)
    globe = shape(footprint_geometry(mapping(box(-180, -90, 180, 90)), None))
    assert globe.area == pytest.approx(360 * 180)


def test_search_boxes_never_span_the_globe():
    geometry = area_of((179.9, -17, -179.9, -16.5))
    assert sorted(search_boxes(geometry)) == [(-180, -17, -179.9, -16.5), (179.9, -17, 180, -16.5)]
    assert search_boxes(area_of(box(-180, -90, 180, 90))) == [(-180, -90, 180, 90)]
    grid = Grid.around(-16.7, 179.9999, 128)
    assert sorted(search_boxes(area_of(grid))) == sorted(tuple(part) for part in grid.search_boxes())


@given(lon=st.floats(-179.99, 179.99), lat=st.floats(-79, 83), x=st.floats(0.001, 0.999), y=st.floats(0.001, 0.999))
@example(lon=179.5, lat=-38.0, x=0.5, y=0.001)
@settings(max_examples=200, deadline=None)
def test_every_point_of_a_granule_is_in_its_footprint(lon, lat, x, y):
    """A square of 110 km in UTM, given in degrees by its corners only, touches every point that it holds."""
    epsg = utm_epsg(lat, lon)
    east, north = transformer(4326, epsg).transform(lon, lat)
    left, bottom = np.floor(east / 1e5) * 1e5, np.floor(north / 1e5) * 1e5
    corners = transformer(epsg, 4326).transform(
        [left, left + 109800, left + 109800, left], [bottom, bottom, bottom + 109800, bottom + 109800]
    )
    footprint = footprint_geometry(mapping(Polygon(list(zip(*corners, strict=True)))), None)
    point = transformer(epsg, 4326).transform(left + x * 109800, bottom + y * 109800)
    assert touches(Ground.of(footprint), Point(*point))
