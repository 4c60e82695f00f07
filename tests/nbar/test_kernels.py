"""Identities of the kernels and of c, compiled and not, and a dumb oracle beside."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubekit.errors import InputError, ScienceWarning
from cubekit.nbar import BORROWED, NBAR_BANDS, PARAMETERS, c_factor, c_tan, kernels_deg, kernels_tan
from cubekit.nbar._kernels import c_loop, c_loop_parallel

SUN = st.floats(0.0, 70.0)
VIEW = st.floats(0.0, 25.0)
AZIMUTH = st.floats(-360.0, 360.0)
MODES = [pytest.param(lambda f: f, id="jit"), pytest.param(lambda f: f.py_func, id="python")]


def tan_vector(zenith: float, azimuth: float) -> tuple[float, float]:
    tangent = math.tan(math.radians(zenith))
    return tangent * math.sin(math.radians(azimuth)), tangent * math.cos(math.radians(azimuth))


@pytest.mark.parametrize("mode", MODES)
@given(sun=SUN, view=VIEW, raa=AZIMUTH)
def test_kernels_equal_the_textbook(mode, sun, view, raa):
    vol, geo = mode(kernels_deg)(sun, view, raa)
    assert vol == pytest.approx(oracle.k_vol(sun, view, raa), abs=2e-7)  # the textbook's arc cosine loses half the digits near the hot spot
    assert geo == pytest.approx(oracle.k_geo(sun, view, raa), abs=2e-7)


@pytest.mark.parametrize("mode", MODES)
@given(sun=SUN, view=VIEW, raa=AZIMUTH)
def test_kernels_are_even_in_relative_azimuth(mode, sun, view, raa):
    assert mode(kernels_deg)(sun, view, raa) == pytest.approx(mode(kernels_deg)(sun, view, -raa), abs=1e-12)


@pytest.mark.parametrize("mode", MODES)
@given(sun=st.floats(0.0, 60.0), view=st.floats(0.0, 60.0), raa=AZIMUTH)
def test_kernels_are_reciprocal(mode, sun, view, raa):
    assert mode(kernels_deg)(sun, view, raa) == pytest.approx(mode(kernels_deg)(view, sun, raa), abs=1e-11)


@pytest.mark.parametrize("mode", MODES)
def test_kernels_vanish_with_sun_and_sensor_overhead(mode):
    assert mode(kernels_deg)(0.0, 0.0, 123.0) == pytest.approx((0.0, 0.0), abs=1e-15)


@pytest.mark.parametrize("mode", MODES)
@given(sun=SUN, saa=AZIMUTH, view=VIEW, vaa=AZIMUTH)
def test_tan_vectors_are_angles(mode, sun, saa, view, vaa):
    by_vector = mode(kernels_tan)(*tan_vector(sun, saa), *tan_vector(view, vaa))
    assert by_vector == pytest.approx(mode(kernels_deg)(sun, view, saa - vaa), abs=1e-9)


@pytest.mark.parametrize("mode", MODES)
@given(sun=SUN, saa=AZIMUTH, band=st.sampled_from(NBAR_BANDS))
def test_c_is_one_at_nadir(mode, sun, saa, band):
    iso, geo, vol = PARAMETERS[BORROWED.get(band, band)]
    assert mode(c_tan)(*tan_vector(sun, saa), 0.0, 0.0, math.nan, iso, geo, vol) == pytest.approx(1.0, abs=1e-14)


@given(sun=SUN, view=VIEW, raa=AZIMUTH, band=st.sampled_from(NBAR_BANDS), target=st.one_of(st.none(), SUN))
def test_c_equals_the_dumb_oracle(sun, view, raa, band, target):
    ours = float(c_factor(sun, view, raa, [band], target_sun_zenith="observed" if target is None else target).item())
    assert ours == pytest.approx(oracle.c(band, sun, view, raa, target), rel=1e-6)


@given(sun=SUN, view=VIEW, raa=AZIMUTH)
def test_c_of_sentinel2_angles_is_a_small_correction(sun, view, raa):
    c = c_factor(sun, view, raa).values
    assert np.isfinite(c).all()
    assert ((c > 0.5) & (c < 1.6)).all()


def test_serial_and_parallel_loops_are_one():
    rng = np.random.default_rng(1)
    sun, view = rng.uniform(-1, 1, (50, 2)), rng.uniform(-0.3, 0.3, (4, 50, 2))
    factors = np.array([PARAMETERS[band] for band in ("B02", "B04", "B08", "B12")])
    serial, parallel = np.empty((4, 50)), np.empty((4, 50))
    c_loop(sun, view, np.full(50, np.nan), factors, serial)
    c_loop_parallel(sun, view, np.full(50, np.nan), factors, parallel)
    np.testing.assert_array_equal(serial, parallel)
    assert np.isfinite(serial).all()


def test_a_granule_without_compilation_gives_the_same_c(tmp_path):
    code = (
        "import numpy as np, sys; sys.path.insert(0, sys.argv[1]); from conftest import make_xml;"
        "from cubekit.nbar import c_factor_from_metadata as c;"
        "np.save(sys.argv[2], c(make_xml(bands=[1, 8]), ['B02', 'B8A'], detectors='each').values)"
    )
    results = []
    for disabled in ("0", "1"):
        out = tmp_path / f"c{disabled}.npy"
        env = os.environ | {"NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        subprocess.run([sys.executable, "-c", code, os.path.dirname(__file__), str(out)], env=env, check=True, cwd=os.getcwd())
        results.append(np.load(out))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-13)
    assert np.isfinite(results[0]).all()


@pytest.mark.parametrize("zenith", [80.5, 85.0, 89.0, 89.999, 95.0])
def test_a_sun_too_low_gives_no_c(zenith):
    with pytest.warns(ScienceWarning, match=f"sun zenith reaches {zenith:.1f}"):
        assert np.isnan(c_factor(zenith, 8.0, 100.0)).all()


def test_a_low_sun_warns():
    with pytest.warns(ScienceWarning, match="hold to about 70"):
        assert np.isfinite(c_factor(75.0, 8.0, 100.0)).all()


def test_missing_angles_stay_missing():
    c = c_factor(np.array([30.0, np.nan, 30.0]), np.array([5.0, 5.0, np.nan]), 10.0, ["B04"])
    np.testing.assert_array_equal(np.isnan(c.values[0]), [False, True, True])


@pytest.mark.parametrize(("sun", "view"), [(-1.0, 5.0), (30.0, -0.1), (30.0, 90.0), (181.0, 0.0)])
def test_impossible_angles_are_refused(sun, view):
    with pytest.raises(InputError, match="angles out of range"):
        c_factor(sun, view, 0.0)


def test_bands_without_parameters_are_refused():
    with pytest.raises(InputError, match="'B09' has no BRDF parameters"):
        c_factor(30.0, 5.0, 0.0, ["B02", "B09"])
    with pytest.raises(InputError, match="'SCL' is no spectral band"):
        c_factor(30.0, 5.0, 0.0, ["SCL"])


def test_b8a_is_flagged_as_borrowed():
    c = c_factor(30.0, 5.0, 20.0, ["B08", "nir08"])
    assert float(c[0]) == float(c[1])
    assert c.attrs["borrowed_parameters"] == "B8A uses B08"


@pytest.mark.parametrize("target", ["hsl", -1, 81, math.nan, True, None])
def test_a_target_that_is_none_is_refused(target):
    with pytest.raises(InputError, match="target_sun_zenith="):
        c_factor(30.0, 5.0, 0.0, target_sun_zenith=target)
