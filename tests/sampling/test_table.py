"""Site tables: what is kept exactly, what is refused by line, and that names are unique by construction."""

from __future__ import annotations

import gzip
import json
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.errors import InputError
from cubekit.sampling import SiteTable, read_sites, write_sites
from cubekit.testing import shared_data

HOSTILE = [
    "../../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "nul\0",
    "x" * 300,
    "..",
    ".hidden",
    "12:30:45",
    "-rf",
    "CON",
    "a..b",
    "é",
    "a b",
    "a?sig=1",
    "~root",
]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_ids_are_refused_by_line_and_the_others_go_on(name, tmp_path):
    records = [{"id": name, "lon": 1, "lat": 2}, {"id": "good", "lon": 1, "lat": 2}]
    features = [{"type": "Feature", "id": r["id"], "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 2]}} for r in records]
    geojson = write(tmp_path / "a.geojson", json.dumps({"type": "FeatureCollection", "features": features}))
    files = [geojson]
    if "\0" not in name:
        files.append(write(tmp_path / "a.yaml", "".join(f"- id: {json.dumps(r['id'])}\n  lon: 1\n  lat: 2\n" for r in records)))
    if not name.isspace():
        files.append(write(tmp_path / "a.csv", "id,lon,lat\n" + "".join(f"{r['id']},1,2\n" for r in records)))
    for file in files:
        table = read_sites(file)
        assert table.ids == ("good",), file
        assert len(table.rejected) == 1
        assert table.rejected[0].line == (2 if file.suffix == ".csv" else 1)
        assert "not usable as a name" in table.rejected[0].reason
        assert "\0" not in table.rejected[0].value


@pytest.mark.parametrize("name", ["NO", "0123", "1e5", "null", "true", "0x1F", "2020-01-01", "1_000"])
def test_ids_that_parsers_like_to_change_stay_what_they_are(name, tmp_path):
    for file in (
        write(tmp_path / "a.csv", f"id,lon,lat\n{name},1,2\n"),
        write(tmp_path / "a.yaml", f"- id: {name}\n  lon: 1\n  lat: 2\n"),
        write(
            tmp_path / "a.ndjson",
            json.dumps({"type": "Feature", "properties": {"id": name}, "geometry": {"type": "Point", "coordinates": [1, 2]}}),
        ),
    ):
        table = read_sites(file)
        assert (table.ids, table.rejected) == ((name,), ()), file
        assert read_sites(write_sites(table, tmp_path / "b.parquet")).ids == (name,)
        assert read_sites(write_sites(table, tmp_path / "b.csv")).ids == (name,)


def test_every_bad_row_is_reported_with_its_line_and_value(tmp_path):
    table = read_sites(
        write(
            tmp_path / "a.csv",
            "\n".join(
                [
                    "id,lon,lat,start,end",
                    "a,1,2,,",
                    "b,1,91,,",
                    "c,500,1,,",
                    "d,nan,1,,",
                    "e,,1,,",
                    "",
                    'f,"1,2,,',
                    "g,1,2,2020-13-01,",
                    "h,1,2,2020-02-01,2020-01-01",
                    "i,1",
                    "a,3,4,,",
                    "A,3,4,,",
                    "j,eleven,4,,",
                    "k,5,6,2020-01-01,2020-02-01",
                ]
            ),
        )
    )
    assert table.ids == ("a", "k")
    reasons = {bad.line: bad.reason for bad in table.rejected}
    assert list(reasons) == [3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14]
    for line, part in {
        3: "Latitude 91", 4: "Longitude", 5: "lon is nan", 6: "lon is missing", 8: "no proper CSV", 9: "2020-13-01", 10: "before start",
        11: "has 2 cells where the header has 5", 12: "stands already in line 2", 13: "letter case from 'a' in line 2",
        14: "'eleven' is not a number",
    }.items():  # fmt: skip
        assert part in reasons[line], (line, reasons[line])
    assert table.rejected[0].value == "b,1,91,,"
    assert table["k"].overrides == (("end", "2020-02-01"), ("start", "2020-01-01"))


def test_columns_are_found_mapped_or_named_as_missing(tmp_path):
    file = write(
        tmp_path / "a.csv",
        'name;Longitude;LATITUDE;grid.edge_size;sentinel2.bands;layers;biome\nx;190;-5;64;"[""B04""]";sentinel2, dem;Bog\n',
    )
    table = read_sites(file, columns={"id": "name"})
    entry = table["x"]
    assert (entry.site.lon, entry.site.lat) == (-170.0, -5.0)
    assert dict(entry.overrides) == {"grid.edge_size": 64, "sentinel2.bands": ("B04",), "layers": ("sentinel2", "dem")}
    assert dict(entry.properties) == {"biome": "Bog"}
    with pytest.raises(InputError, match="no column 'nix'"):
        read_sites(file, columns={"lon": "nix"})
    with pytest.raises(InputError, match="Column role 'colour' is unknown"):
        read_sites(file, columns={"colour": "name"})
    with pytest.raises(InputError, match="no column for lat"):
        read_sites(write(tmp_path / "b.csv", "id,lon\na,1\n"))
    with pytest.raises(InputError, match="unknown suffix"):
        read_sites(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="cannot be read"):
        read_sites(tmp_path / "absent.csv")


def test_files_that_are_something_else_are_refused_whole(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"id,lon,lat\na,1,2\n" * 1000)[:40])
    with pytest.raises(InputError, match="cannot be read"):
        read_sites(tmp_path / "a.csv.gz")
    for name, text, message in (
        ("a.geojson", "[1, 2]", "no FeatureCollection"),
        ("b.geojson", "{", "is no JSON"),
        ("c.yaml", "- &a {id: x, lon: 1, lat: 2}\n- *a\n", "uses YAML aliases"),
        ("d.yaml", "a: [", "is no YAML"),
        ("e.parquet", "PAR1", "is no Parquet"),
        ("f.csv", "", "is empty"),
        ("g.csv", "lon,lat,lon\n1,2,3\n", "stands twice"),
    ):
        with pytest.raises(InputError, match=message):
            read_sites(write(tmp_path / name, text))


def test_yaml_tags_run_nothing(tmp_path):
    table = read_sites(
        write(tmp_path / "a.yaml", f"- id: !!python/object/apply:os.system ['touch {tmp_path}/owned']\n  lon: 1\n  lat: 2\n")
    )
    assert len(table) == 0
    assert not (tmp_path / "owned").exists()


def test_bytes_that_are_no_text_spoil_their_line_only(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfid,lon,lat\r\na,1,2\r\n\xff\xfe,1,2\r\nc,1,2\r\n")
    table = read_sites(tmp_path / "a.csv")
    assert table.ids == ("a", "c")
    assert [(bad.line, bad.reason) for bad in table.rejected] == [(3, "not UTF-8")]


def test_geoparquet_in_another_crs_is_refused(tmp_path):
    import geopandas

    frame = geopandas.GeoDataFrame({"id": ["a", "b"]}, geometry=geopandas.points_from_xy([12.0, 13.0], [51.0, 52.0]), crs=4326)
    frame.to_parquet(tmp_path / "a.parquet")
    table = read_sites(tmp_path / "a.parquet")
    assert [(e.id, e.site.lon, e.site.lat) for e in table] == [("a", 12.0, 51.0), ("b", 13.0, 52.0)]
    frame.to_crs(32633).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match="32633"):
        read_sites(tmp_path / "b.parquet")
    written = geopandas.read_parquet(write_sites(table, tmp_path / "c.parquet"))
    assert written.geometry.x.tolist() == [12.0, 13.0]
    assert written.crs.to_epsg() == 4326 or written.crs.to_authority() == ("OGC", "CRS84")


names = st.one_of(st.just(""), st.text(string.ascii_letters + string.digits + "._+-/ \0é", min_size=1, max_size=8))
degrees = st.tuples(st.floats(-180, 180), st.floats(-90, 90))
few = st.sampled_from([(0.0, 0.0), (-0.0, 0.0), (12.37, 51.34), (12.370000001, 51.34), (180.0, -17.0), (-180.0, -17.0)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(names, st.one_of(degrees, few), st.sampled_from(["", "x", "y"])), max_size=12), st.randoms())
def test_ids_are_unique_and_do_not_depend_on_the_order_of_rows(rows, random):
    from cubekit.sampling._rows import Row, parse_rows

    def table(order):
        return parse_rows(
            Row(line, {"id": n, "lon": lon, "lat": lat, "note": note}, "") for line, (n, (lon, lat), note) in enumerate(order, 2)
        )

    found = table(rows)
    assert len(found) + len(found.rejected) == len(rows)
    folded = [name.casefold() for name in found.ids]
    assert len(set(folded)) == len(folded)
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", name) for name in found.ids)
    shuffled = random.sample(rows, len(rows))
    other = table(shuffled)
    made = sorted((e.id, e.site.lon, e.site.lat, e.properties) for e in found if e.line and not rows[e.line - 2][0])
    again = sorted((e.id, e.site.lon, e.site.lat, e.properties) for e in other if not shuffled[e.line - 2][0])
    if len(found.rejected) == len(other.rejected):
        assert made == again


@settings(max_examples=40, deadline=None)
@given(st.lists(degrees, max_size=8), st.sampled_from(["csv", "csv.gz", "geojson", "parquet"]))
def test_tables_survive_a_round_trip_with_all_digits(tmp_path_factory, places, suffix):
    records = [{"lon": lon, "lat": lat, "group": str(n), "start": "2020-01-01" if n % 2 else None} for n, (lon, lat) in enumerate(places)]
    table = SiteTable.from_records(records)
    back = read_sites(write_sites(table, tmp_path_factory.mktemp("t") / f"sites.{suffix}"))
    assert [(e.site, e.overrides, e.properties) for e in back] == [(e.site, e.overrides, e.properties) for e in table]
    assert back.rejected == ()


def test_the_published_sites_are_all_usable():
    table = read_sites(shared_data("e_cubes/demc_full_10groups_50km.csv.gz"))
    assert (len(table), table.rejected) == (36_956, ())
    assert table.columns() == ("group",)


def test_records_of_the_callers_own_must_fit():
    with pytest.raises(InputError, match="Latitude 91"):
        SiteTable.from_records([{"lon": 1, "lat": 91}])
    with pytest.raises(InputError, match="2 values for 1 sites"):
        SiteTable.from_records([{"lon": 1, "lat": 1}]).with_columns(group=[1, 2])


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("id,Lon,lon,lat", "columns 'Lon' and 'lon' both could be lon"),
        ("id,lon,longitude,lat", "columns 'lon' and 'longitude' both could be lon"),
        ("sep=;", "has no column for lon and lat; it has sep="),
        ("# sites of 2024", "has no column for lon and lat"),
    ],
)
def test_a_header_that_leaves_open_what_is_meant_is_refused(tmp_path, header, told):
    path = tmp_path / "sites.csv"
    path.write_text(f"{header}\na,12,13,51\n")
    with pytest.raises(InputError, match=told):
        read_sites(path)


def test_of_two_columns_one_may_be_chosen(tmp_path):
    path = tmp_path / "sites.csv"
    path.write_text("id,lon,longitude,lat\na,12,13,51\n")
    assert read_sites(path, columns={"lon": "longitude"}).lon.tolist() == [13.0]


@pytest.mark.parametrize(
    ("value", "told"),
    [("51,34", "lat '51,34' is not a number: is the comma a decimal point"), ("5_1", "is not a number"), ("５１", "is not a number")],
)
def test_numbers_are_written_with_digits_and_a_point(tmp_path, value, told):
    path = tmp_path / "sites.csv"
    path.write_text(f"id;lon;lat\na;12;{value}\nb;12;51\n", encoding="utf-8")
    table = read_sites(path)
    assert table.ids == ("b",)
    assert told in table.rejected[0].reason


def test_utf16_is_named(tmp_path):
    path = tmp_path / "sites.csv"
    path.write_text("id,lon,lat\na,12,51\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"is UTF-16\. Save it as UTF-8"):
        read_sites(path)


@pytest.mark.parametrize(("name", "usable"), [("EPSG::3857", False), ("EPSG::4326", True), ("OGC:1.3:CRS84", True)])
def test_geojson_in_another_crs_is_refused(tmp_path, name, usable):
    """(12.5, 51.2) in metres would be a place off the coast of Ghana."""
    path = tmp_path / "sites.geojson"
    point = {"type": "Feature", "id": "a", "properties": {}, "geometry": {"type": "Point", "coordinates": [12.5, 51.2]}}
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{name}"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [point]}))
    if usable:
        assert read_sites(path).ids == ("a",)
    else:
        with pytest.raises(InputError, match="is in 'urn:ogc:def:crs:EPSG::3857'"):
            read_sites(path)


def test_polygons_in_parquet_are_named(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    shapely = pytest.importorskip("shapely")
    shapes = [shapely.Point(12, 51), shapely.box(12, 51, 13, 52), None]
    geopandas.GeoDataFrame({"id": ["a", "b", "c"]}, geometry=shapes, crs=4326).to_parquet(tmp_path / "sites.parquet")
    table = read_sites(tmp_path / "sites.parquet")
    assert table.ids == ("a",)
    assert [bad.reason for bad in table.rejected] == ["geometry is no Point but 'Polygon'", "geometry is no Point but None"]


def test_a_number_beyond_all_bounds_costs_its_row(tmp_path):
    features = [
        {"type": "Feature", "id": name, "properties": {}, "geometry": {"type": "Point", "coordinates": [lon, 51]}}
        for name, lon in (("a", 10**400), ("b", 12))
    ]
    table = read_sites(write(tmp_path / "sites.geojson", json.dumps({"type": "FeatureCollection", "features": features})))
    assert table.ids == ("b",)
    assert table.rejected[0].reason.startswith("lon is 1000")
