"""Parity with the oracle on real granules; nothing here knows a granule by name."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from cubekit.errors import ScienceWarning
from cubekit.nbar import CField, NbarStatus, apply_nbar, c_factor_from_metadata, parse_granule_angles
from cubekit.nbar._compat import compat_axes, compat_c, compat_pixels

TIGHT = 1e-6


@pytest.fixture(autouse=True)
def _polar_sun_is_expected() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScienceWarning)
        yield


def assert_same(ours: np.ndarray, reference: np.ndarray) -> None:
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(reference))
    np.testing.assert_allclose(ours, reference, rtol=TIGHT)


def assert_same_fill(ours: np.ndarray, reference: np.ndarray, known: np.ndarray) -> None:
    """Equal, but for nodes with several nearest neighbours, where SciPy 1.18 chooses another of them than the oracle's SciPy did."""
    rows, columns = np.indices(known.shape[1:])
    for k, i, j in np.argwhere(~np.isclose(ours, reference, rtol=TIGHT, equal_nan=True)):
        distance = np.where(known[k], np.hypot(rows - i, columns - j), np.inf)
        nearest = ours[k][distance == distance.min()]
        assert len(nearest) > 1
        assert np.isclose(nearest, ours[k, i, j]).any()
        assert np.isclose(nearest, reference[k, i, j]).any()


def names(golden: object) -> list[str]:
    return [str(band) for band in golden["bands9"]]  # type: ignore[index]


def test_the_parser_reads_what_an_independent_parser_reads(golden):
    oracle, xml = golden
    angles = parse_granule_angles(xml)
    assert list(angles.bands) == list(oracle["det_band"])
    np.testing.assert_array_equal(angles.detectors, oracle["det_id"])
    np.testing.assert_array_equal(angles.view_zenith, oracle["det_vza"])
    np.testing.assert_array_equal(angles.view_azimuth, oracle["det_vaa"])
    np.testing.assert_array_equal(angles.sun_zenith, oracle["raw_sza"])
    np.testing.assert_array_equal(angles.sun_azimuth, oracle["raw_saa"])
    assert (angles.epsg, angles.ulx, angles.uly) == (int(oracle["epsg"]), float(oracle["ulx"]), float(oracle["uly"]))


def test_compat_equals_sen2nbar_on_the_nodes(golden):
    oracle, xml = golden
    bare = c_factor_from_metadata(xml, names(oracle), compat="sen2nbar", fill=False)
    filled = c_factor_from_metadata(xml, names(oracle), compat="sen2nbar")
    assert_same(bare.values, oracle["c"])
    assert_same_fill(filled.values, oracle["c_ext"], np.isfinite(oracle["c"]))
    np.testing.assert_array_equal(bare.x, oracle["s2n_x"])
    np.testing.assert_array_equal(bare.y, oracle["s2n_y"])


def test_compat_equals_sen2nbar_on_minicubes(golden):
    oracle, xml = golden
    angles = parse_granule_angles(xml)
    assert_same_fill(compat_c(angles, names(oracle)), oracle["c_ext"], np.isfinite(oracle["c"]))
    for x, y, reference in zip(oracle["mc_x"], oracle["mc_y"], oracle["mc_c"], strict=True):
        assert_same(compat_pixels(oracle["c_ext"], *compat_axes(angles), x, y), reference)


def test_compat_reaches_the_pixels_of_a_cube(golden):
    import xarray as xr

    oracle, xml = golden
    x, y = oracle["mc_x"][0], oracle["mc_y"][0]
    dn = np.full((1, len(names(oracle)), y.size, x.size), 10_000, dtype="uint16")
    cube = xr.DataArray(
        dn, dims=("time", "band", "y", "x"), coords={"band": names(oracle), "y": y, "x": x}, attrs={"epsg": int(oracle["epsg"])}
    )
    done = apply_nbar(cube, [xml], offset=0, compat="sen2nbar", dtype="float32")
    assert (done.nbar_status == NbarStatus.applied).all()
    np.testing.assert_allclose(done.values[0], oracle["mc_c"][0], rtol=1e-6)


def test_the_mean_of_view_vectors_equals_the_reference(golden):
    oracle, xml = golden
    c = c_factor_from_metadata(xml, names(oracle), detectors="mean", fill=False)
    assert_same(c.values, oracle["ck_c"])
    np.testing.assert_array_equal(c.x, float(oracle["ulx"]) + 5000.0 * np.arange(23))
    np.testing.assert_array_equal(c.y, float(oracle["uly"]) - 5000.0 * np.arange(23))


def test_a_constant_target_sun_equals_the_reference(golden):
    oracle, xml = golden
    c = c_factor_from_metadata(xml, names(oracle), detectors="mean", fill=False, target_sun_zenith=45.0)
    assert_same(c.values, oracle["ck_c45"])


def test_each_detector_equals_the_reference(golden):
    oracle, xml = golden
    c = c_factor_from_metadata(xml, names(oracle), detectors="each", fill=False)
    for band, detector, reference in zip(oracle["ckd_band"], oracle["ckd_id"], oracle["ckd_c"], strict=True):
        assert_same(c.sel(band=str(band), detector=int(detector)).values, reference)


def test_continued_nodes_stay_near_what_was_seen(golden):
    _, xml = golden
    field = CField.from_angles(parse_granule_angles(xml))
    for band, view in field.views.items():
        c = field.nodes(band)
        assert np.isfinite(c).all()
        assert 0.8 < c.min() <= c.max() < 1.2, (band, view.detectors)


def test_withheld_nodes_are_continued_within_a_few_hundredths_of_a_degree(golden):
    from cubekit.nbar._vectors import continued, tan_vectors

    _, xml = golden
    angles = parse_granule_angles(xml)
    vectors = tan_vectors(angles.view_zenith, angles.view_azimuth)
    seen = np.isfinite(vectors[..., 0])
    enough = seen.sum(axis=(1, 2)) >= 60
    if not enough.any():
        pytest.skip("no detector with 60 nodes")
    border = seen[enough] & ~(np.roll(seen[enough], 1, axis=2) & np.roll(seen[enough], -1, axis=2))
    held = angles.view_zenith[enough].copy()
    held[border] = np.nan
    filled, _, _ = continued(held, angles.view_azimuth[enough], np.arange(len(held)))
    error = np.degrees(np.linalg.norm(filled[border] - vectors[enough][border], axis=-1))
    assert error.max() < 0.03
