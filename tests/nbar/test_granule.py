"""What the angle parser takes, and what it refuses."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.errors import InputError, ReadError
from cubekit.nbar import CField, NbarStatus, c_factor_from_metadata, parse_granule_angles
from cubekit.nbar._granule import MAX_METADATA_BYTES
from cubekit.testing import shared_data
from tests.nbar.conftest import grid_xml, make_angles, make_xml

X = 600_000 + 10.0 * np.arange(6000, 6016) + 5
Y = 5_600_040 - 10.0 * np.arange(3000, 3016) - 5


@pytest.mark.parametrize("prefix", ["n1", "ns0", "", "a-b.c"])
@pytest.mark.parametrize("level", ["1C", "2A"])
def test_prefix_and_level_do_not_matter(prefix, level):
    angles = parse_granule_angles(make_xml(prefix=prefix, level=level))
    assert (angles.level, angles.tile, angles.epsg, angles.baseline) == (f"L{level}", "32UPC", 32632, "04.00")
    assert str(angles.sensing_time) == "2022-04-01T10:03:19.283"
    assert len(angles.bands) == 26
    zenith, azimuth = make_angles(5, -1.0, 12.3)
    grid = angles.grids("B8A")[0]
    np.testing.assert_allclose(angles.view_zenith[grid], zenith, atol=1e-6)
    np.testing.assert_allclose(angles.view_azimuth[grid], azimuth, atol=1e-6)


def test_prefixes_on_every_element_and_comments_are_read():
    xml = make_xml().decode()
    for name in ("VALUES", "Zenith", "Azimuth", "Sun_Angles_Grid", "Viewing_Incidence_Angles_Grids", "TILE_ID", "ULX"):
        xml = xml.replace(f"<{name}", f"<q:{name}").replace(f"</{name}", f"</q:{name}")
    xml = xml.replace("<q:TILE_ID", "<!-- a > b & <c> --><q:TILE_ID").replace('bandId="3"', "  bandId = '3'")
    plain, odd = parse_granule_angles(make_xml()), parse_granule_angles(b"\xef\xbb\xbf" + xml.encode())
    np.testing.assert_array_equal(plain.view_zenith, odd.view_zenith)
    assert plain.bands == odd.bands


@given(st.lists(st.one_of(st.floats(0, 89.99), st.floats(1e-9, 1e-3), st.integers(0, 89)), min_size=23, max_size=23))
@settings(max_examples=60)
def test_numbers_are_read_as_python_reads_them(numbers):
    zenith, azimuth = make_angles(5, -1.0, 99.0)
    xml = make_xml(bands=[1], strips={5: (-1.0, 99.0)}).decode()
    first = grid_xml("Viewing_Incidence_Angles_Grids", zenith, azimuth, attributes=' bandId="1" detectorId="5"')
    start = xml.index("<VALUES>", xml.index(first[:50]))
    end = xml.index("</VALUES>", start)
    xml = xml[:start] + "<VALUES>" + " ".join(repr(x) for x in numbers) + xml[end:]
    read = parse_granule_angles(xml.encode()).view_zenith[0, 0]
    np.testing.assert_allclose(read, np.array(numbers, dtype=float), rtol=1e-14, atol=1e-25)


def test_truncated_anywhere_is_an_error(real_xml):
    cuts = np.unique(np.concatenate([np.arange(0, 3000, 7), np.linspace(3000, len(real_xml) - 1, 400).astype(int)]))
    end = real_xml.rindex(b">")
    for cut in cuts[cuts <= end]:
        with pytest.raises(ReadError, match="cannot be used"):
            parse_granule_angles(real_xml[:cut])


@pytest.mark.slow
def test_truncated_at_every_byte_is_an_error():
    xml = make_xml(bands=[1], strips={5: (-1.0, 12.3)})
    for cut in range(len(xml) - 1):
        with pytest.raises(ReadError, match="cannot be used"):
            parse_granule_angles(xml[:cut])


BOMB = b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]>'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends before its root"),
        (b"   \n", "ends before its root"),
        (b"not xml at all", "content outside the root"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00", "NUL byte"),
        (make_xml().decode().encode("utf-16"), "NUL byte"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "document type"),
        (b"<html><head><title>Sign in</title></head><body><p>Login<br></body></html>", "root element is 'html'"),
        (b"<html><body>Login</body></html>", "root element is 'html'"),
        (b'{"error": "expired"}', "content outside the root"),
        (BOMB + make_xml()[38:], "document type"),
        (make_xml().replace(b"<TILE_ID", b"<![CDATA[x]]><TILE_ID"), "CDATA"),
        (make_xml() + b"<more/>", "content outside the root"),
        (make_xml().replace(b"Level-2A_Tile_ID", b"Level-2A_User_Product"), "root element is 'n1:Level-2A_User_Product'"),
        (make_xml().replace(b"</Zenith>", b"</Azimuth>", 1), "does not match"),
        (make_xml().replace(b"<VALUES>", b"<VALUES>12,5 ", 1), "malformed number"),
        (make_xml().replace(b"<VALUES>", b"<VALUES>&#49; ", 1), "malformed number"),
        (make_xml().replace(b"<VALUES>", b"<VALUES>inf ", 1), "malformed number"),
        (make_xml().replace(b"<VALUES>", b"<VALUES>1e ", 1), "malformed number"),
        (b"<a>" * 100 + b"</a>" * 100, "nested deeper"),
        (make_xml(epsg="EPSG:4326", tile="xx"), "CRS is 'EPSG:4326'"),
        (make_xml().replace(b"<ULX>600000</ULX>", b""), "its corner is"),
        (make_xml().replace(b"<ULX>600000</ULX>", b"<ULX>nan</ULX>"), "its corner is"),
        (make_xml(bands=list(range(13)), strips=dict.fromkeys(range(1, 30), (0.0, 1.0))), "more angle grids"),
    ],
)
def test_what_is_no_metadata_is_one_clear_error(data, message):
    with pytest.raises(ReadError, match=message):
        parse_granule_angles(data, source="https://example.com/MTD_TL.xml?sig=secret")


def test_a_giant_body_is_refused_before_it_is_read():
    with pytest.raises(ReadError, match="more than"):
        parse_granule_angles(bytes(MAX_METADATA_BYTES + 1))


def test_a_deep_bomb_costs_nothing():
    start = time.monotonic()
    with pytest.raises(ReadError, match="nested deeper"):
        parse_granule_angles(b"<a>" * 5_000_000)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("data", ["text", None, 3])
def test_what_is_no_bytes_is_an_input_error(data):
    with pytest.raises(InputError, match="must be bytes"):
        parse_granule_angles(data)


def test_the_epsg_falls_back_on_the_tile():
    assert parse_granule_angles(make_xml(epsg="", tile="32UPC")).epsg == 32632
    assert parse_granule_angles(make_xml(epsg="", tile="34HCH")).epsg == 32734


def test_another_tile_is_noticed(synthetic):
    synthetic.check_tile("T32UPC")
    with pytest.raises(InputError, match="of tile '32UPC', not '33UUS'"):
        synthetic.check_tile("T33UUS")


def status_of(xml: bytes, bands: tuple[str, ...] = ("B02", "B01")) -> tuple[np.ndarray, np.ndarray]:
    return CField.from_angles(parse_granule_angles(xml)).c(bands, X, Y)


@pytest.mark.parametrize(
    "xml",
    [
        make_xml(bands=[]),
        make_xml(sun=False),
        make_xml(strips={5: (98.0, 99.0)}),  # all NaN
        make_xml(bands=[4, 5]),
        make_xml(step=0),
        make_xml().replace(b'bandId="1"', b'bandId="77"'),
        make_xml().replace(b"<VALUES>", b"<VALUES>-5 "),  # 24 numbers a row
        make_xml(sun_zenith=300.0),
    ],
    ids=["no grids", "no sun", "all NaN", "other bands", "step 0", "unknown band", "rows of 24", "sun at 300"],
)
def test_missing_angles_are_flagged_never_one(xml):
    c, status = status_of(xml)
    assert list(status) == [NbarStatus.no_angles, NbarStatus.not_supported]
    assert np.isnan(c).all()


def test_one_grid_is_enough():
    c, status = status_of(make_xml(strips={5: (-1.0, 99.0)}))
    assert status[0] == NbarStatus.applied
    assert np.isfinite(c[0]).all()


def test_a_repeated_grid_counts_once(synthetic):
    xml = make_xml(bands=[1])
    grid = xml[xml.index(b"<Viewing") : xml.index(b"</Tile_Angles>")]
    twice = parse_granule_angles(xml.replace(grid, grid + grid))
    assert len(twice.bands) == 4
    np.testing.assert_array_equal(CField.from_angles(twice).nodes("B02"), CField.from_angles(parse_granule_angles(xml)).nodes("B02"))


@pytest.mark.parametrize("zenith", [81.0, 85.5, 89.0, 120.0])
def test_a_low_sun_is_flagged(zenith):
    with pytest.warns(UserWarning, match="sun zenith reaches"):
        c, status = status_of(make_xml(sun_zenith=zenith))
    assert list(status) == [NbarStatus.sun_too_low, NbarStatus.not_supported]
    assert np.isnan(c).all()


@pytest.mark.filterwarnings("ignore:sun zenith reaches 82")
def test_odd_real_files_are_flagged():
    for name in ("S2A_L2A_T34VEL_20240108T101407_N0510.xml", "SYNTHETIC_eopf_cpm_stub.xml"):
        angles = parse_granule_angles((shared_data("nbar/edge") / name).read_bytes())
        field = CField.from_angles(angles)
        x = angles.ulx + 10.0 * np.arange(5) + 5
        c, status = field.c(["B02", "B12"], x, angles.uly - 10.0 * np.arange(5) - 5)
        assert set(status.tolist()) == {NbarStatus.no_angles}
        assert np.isnan(c).all()


def test_a_path_is_read_and_named_when_absent(tmp_path):
    path = tmp_path / "MTD_TL.xml"
    path.write_bytes(make_xml())
    assert c_factor_from_metadata(path, ["B02"]).epsg == 32632
    with pytest.raises(ReadError, match=r"cannot read .*gone\.xml"):
        c_factor_from_metadata(tmp_path / "gone.xml")
    (tmp_path / "big.xml").write_bytes(bytes(MAX_METADATA_BYTES + 1))
    with pytest.raises(ReadError, match="bytes"):
        c_factor_from_metadata(tmp_path / "big.xml")
