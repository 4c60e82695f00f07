"""NBAR of labelled cubes: what is kept, flagged, dropped and refused."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cubekit.errors import InputError, ReadError
from cubekit.nbar import CField, NbarStatus, apply_nbar, parse_granule_angles
from tests.nbar.conftest import make_xml

XML = make_xml(bands=[0, 1, 3, 8])
FIELD = CField.from_angles(parse_granule_angles(XML))
BANDS = ["B01", "B02", "B04", "B8A"]


def make_cube(times: int = 2, bands: list[str] | None = None, dtype: str = "uint16", epsg: int = 32632, **shift: float) -> xr.DataArray:
    names = BANDS if bands is None else bands
    x = 620_000 + shift.get("dx", 0.0) + 10.0 * np.arange(6) + 5
    y = 5_570_040 + shift.get("dy", 0.0) - 10.0 * np.arange(5) - 5
    dn = np.random.default_rng(0).integers(1, 9000, (times, len(names), 5, 6)).astype(dtype)
    dn[:, :, 0, 0] = 0
    coords = {
        "time": np.arange(times).astype("datetime64[D]"),
        "band": names,
        "y": y,
        "x": x,
        "epsg": epsg,
        "id": ("time", list("ab")[:times]),
    }
    return xr.DataArray(dn, dims=("time", "band", "y", "x"), coords=coords, attrs={"collection": "sentinel-2-l2a"})


def test_a_cube_is_adjusted_and_says_so():
    cube = make_cube()
    done = apply_nbar(cube, [XML, XML], offset="baseline")
    c, _ = FIELD.c(BANDS, cube.x.values, cube.y.values)
    expected = (cube.values.astype(float) - 1000) * np.where(np.isnan(c), 1.0, c)
    expected[:, :, 0, 0] = -32768
    np.testing.assert_allclose(done.values, expected, atol=0.505)
    assert done.nbar_status.values.tolist() == [[4, 0, 0, 0]] * 2
    assert done.nbar_status.attrs["flag_meanings"].startswith("applied ")
    assert done.attrs["nbar"] == "c-factor"
    assert done.attrs["nbar_borrowed_parameters"] == "B8A uses B08"
    assert (done.attrs["scale_factor"], done.attrs["_FillValue"]) == (1e-4, -32768)
    assert done.attrs["collection"] == "sentinel-2-l2a"
    assert done.id.values.tolist() == ["a", "b"]
    assert "nbar" not in cube.attrs


def test_never_twice():
    done = apply_nbar(make_cube(), [XML, XML], offset=0)
    with pytest.raises(InputError, match="nadir-adjusted already"):
        apply_nbar(done, [XML, XML], offset=0)


def test_a_scene_without_time_and_without_an_id_is_fine():
    scene = make_cube(1).isel(time=0, drop=True)
    done = apply_nbar(scene, [XML], offset=0, dtype="float32")
    assert done.dims == scene.dims
    assert done.nbar_status.dims == ("band",)
    assert np.isnan(done.values[:, 0, 0]).all()
    assert "scale_factor" not in done.attrs


def test_floats_with_nan_are_digital_numbers_too():
    whole = make_cube()
    floats = whole.astype("float64").where(whole > 0)
    np.testing.assert_array_equal(apply_nbar(floats, [XML] * 2, offset=0).values, apply_nbar(whole, [XML] * 2, offset=0).values)
    with pytest.raises(InputError, match="does not hold digital numbers"):
        apply_nbar(floats * 1e-4, [XML] * 2, offset=0)


def test_a_cube_in_the_neighbouring_zone_gets_the_same_c():
    from pyproj import Transformer

    cube = make_cube(1)
    to_33 = Transformer.from_crs(32632, 32633, always_xy=True)
    x0, y0 = to_33.transform(float(cube.x[2]), float(cube.y[2]))
    other = cube.assign_coords(x=x0 + cube.x - cube.x[2], y=y0 + cube.y - cube.y[2], epsg=32633)
    flat = xr.full_like(other, 10_000)
    near, far = apply_nbar(xr.full_like(cube, 10_000), [XML], offset=0, dtype="float32"), apply_nbar(flat, [XML], offset=0, dtype="float32")
    assert far.nbar_status.values.tolist() == [[4, 0, 0, 0]]
    np.testing.assert_allclose(far[0, :, 2, 2], near[0, :, 2, 2], rtol=1e-6)
    np.testing.assert_allclose(far.values, near.values, rtol=1e-4)


def test_missing_metadata_is_flagged_dropped_or_fatal():
    cube = make_cube()
    flagged = apply_nbar(cube, [None, XML], offset=0)
    assert flagged.nbar_status.values.tolist() == [[1] * 4, [4, 0, 0, 0]]
    np.testing.assert_array_equal(flagged.values[0, :, 1:], cube.values[0, :, 1:].astype("int16"))
    assert apply_nbar(cube, [None, XML], offset=0, missing="drop").id.values.tolist() == ["b"]
    with pytest.raises(ReadError, match="1 of 2 time steps cannot be adjusted; step 0: no_metadata"):
        apply_nbar(cube, [None, XML], offset=0, missing="fail")


@pytest.mark.parametrize("data", [XML[:-100], b"<html></html>", b"<!DOCTYPE x><x/>"])
def test_unreadable_metadata_is_flagged_with_the_reason(data):
    done = apply_nbar(make_cube(), [XML, data], offset=0)
    assert done.nbar_status.values[1].tolist() == [1] * 4
    assert "step 1: granule metadata cannot be used" in done.attrs["nbar_unreadable"]
    assert done.sizes["time"] == 2
    with pytest.raises(ReadError, match="cannot be used"):
        apply_nbar(make_cube(), [XML, data], offset=0, missing="fail")


def test_a_granule_elsewhere_is_flagged():
    done = apply_nbar(make_cube(dx=300_000), [XML, XML], offset=0)
    assert done.nbar_status.values.tolist() == [[4, 2, 2, 2]] * 2


@pytest.mark.filterwarnings("ignore:sun zenith")
def test_a_sun_too_low_is_flagged_and_can_be_dropped():
    dark = make_xml(bands=[1, 3, 8], sun_zenith=89.0)
    done = apply_nbar(make_cube(), [dark, XML], offset=0)
    assert done.nbar_status.values[0].tolist() == [4, 3, 3, 3]
    assert apply_nbar(make_cube(), [dark, XML], offset=0, missing="drop").sizes["time"] == 1


def test_bands_that_have_no_parameters_do_not_make_a_step_missing():
    only = make_cube(bands=["B01", "B09"])
    assert apply_nbar(only, [XML, XML], offset=0, missing="fail").nbar_status.values.tolist() == [[NbarStatus.not_supported] * 2] * 2


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda c: c.values, {}, "cube has dims ndarray"),
        (lambda c: c.rename(x="lon"), {}, "cube has dims"),
        (lambda c: c.drop_vars("x"), {}, r"lacks the coordinates \['x'\]"),
        (lambda c: c.drop_vars("epsg"), {}, "CRS is unknown"),
        (lambda c: c.assign_coords(band=["B02", "SCL", "B04", "B8A"]), {}, "'SCL' is no spectral band"),
        (lambda c: c, {"metadata": [XML]}, "1 metadata for 2 time steps"),
        (lambda c: c, {"metadata": XML}, "metadata is bytes, no list"),
        (lambda c: c, {"missing": "skip"}, "missing='skip'"),
        (lambda c: c, {"compat": "other"}, "compat='other'"),
        (lambda c: c, {"detectors": "all"}, "detectors='all'"),
        (lambda c: c, {"offset": "esa"}, "offset='esa'"),
        (lambda c: c, {"offset": [1, 2, 3]}, "offset of shape"),
        (lambda c: c, {"offset": "baseline", "metadata": [XML, None]}, r"baseline of time steps \[1\] is unknown"),
        (lambda c: c, {"target_sun_zenith": "noon"}, "target_sun_zenith='noon'"),
    ],
)
def test_what_cannot_be_meant_is_refused(change, options, message):
    arguments = {"metadata": [XML, XML], "offset": 0} | options
    with pytest.raises(InputError, match=message):
        apply_nbar(change(make_cube()), arguments.pop("metadata"), **arguments)


def test_the_crs_is_found_where_it_is_written():
    from pyproj import CRS

    from cubekit.nbar import cube_epsg

    cube = make_cube().drop_vars("epsg")
    assert cube_epsg(cube) is None
    assert cube_epsg(cube.assign_attrs(crs="epsg:32633")) == 32633
    assert cube_epsg(cube.assign_coords({"proj:code": ("time", ["EPSG:32632"] * 2)})) == 32632
    assert cube_epsg(cube.assign_coords({"proj:epsg": ("time", [32632.0, 32631.0])})) is None
    ref = xr.DataArray(0, attrs={"crs_wkt": CRS.from_epsg(32634).to_wkt()})
    assert cube_epsg(cube.assign_coords(spatial_ref=ref)) == 32634


def test_hls_normalises_to_the_modelled_overpass():
    from cubekit.nbar import hls_sun_zenith
    from cubekit.nbar._target import utm_latitude

    angles = FIELD.angles
    latitude = utm_latitude(32632, angles.ulx + 54_900, angles.uly - 54_900)
    zenith = hls_sun_zenith(latitude, angles.sensing_time)
    assert zenith == pytest.approx(47.5, abs=0.3)  # 1 April, 49.9 N: 11:11 and 10:50 mean solar time, declination 4.4 degrees
    cube = make_cube(1)
    a = apply_nbar(cube, [XML], offset=0, target_sun_zenith="hls")
    b = apply_nbar(cube, [XML], offset=0, target_sun_zenith=zenith)
    np.testing.assert_array_equal(a.values, b.values)
    assert (a.values != apply_nbar(cube, [XML], offset=0).values).any()


@pytest.mark.parametrize(
    ("epsg", "x", "y"), [(32632, 300_000, 5_600_040), (32733, 700_000, 6_100_000), (32601, 399_960, 9_000_000), (32760, 500_000, 1_200_040)]
)
def test_latitude_of_a_tile_equals_proj(epsg, x, y):
    from pyproj import Transformer

    from cubekit.nbar._target import utm_latitude

    _, latitude = Transformer.from_crs(epsg, 4326, always_xy=True).transform(x, y)
    assert utm_latitude(epsg, x, y) == pytest.approx(latitude, abs=1e-6)


def test_modelled_sun_has_no_answer_beyond_the_orbit():
    from cubekit.nbar import hls_sun_zenith

    assert np.isnan(hls_sun_zenith(82.5, np.datetime64("2022-06-21")))
    equator = hls_sun_zenith(0.0, np.datetime64("2022-03-21"))
    assert equator == pytest.approx(90 - 15 * (10.34 - 6) + 1.8, abs=1.0)


def test_angles_at_pixels_are_what_the_grids_say():
    from cubekit.nbar import angles_at
    from tests.nbar.conftest import make_view

    x = FIELD.angles.ulx + 5000.0 * np.array([4.25, 17.5])
    y = FIELD.angles.uly - 5000.0 * np.array([3.5, 9.0])
    sun, view, relative = angles_at(FIELD, "B04", x, y)
    u, v = FIELD.node_coordinates(x, y)
    vectors = np.where((u < 10)[..., None], make_view(5, u, v), make_view(6, u, v))
    np.testing.assert_allclose(sun, 40 + 0.02 * v - 0.01 * u, atol=1e-3)
    np.testing.assert_allclose(view, np.degrees(np.arctan(np.hypot(vectors[..., 0], vectors[..., 1]))), atol=0.01)
    azimuth = np.degrees(np.arctan2(vectors[..., 0], vectors[..., 1]))
    expected = (150 + 0.03 * u - azimuth + 180) % 360 - 180
    np.testing.assert_allclose(relative, expected, atol=0.3)
