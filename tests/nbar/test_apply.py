"""The fused pass against a dumb oracle, and its refusals."""

from __future__ import annotations

import multiprocessing
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubekit.errors import InputError
from cubekit.nbar import FILL, CField, NbarStatus, apply_c, harmonise, parse_granule_angles, patch, patches, status_attrs
from cubekit.nbar._apply import THREADS
from cubekit.nbar._pixels import labels
from cubekit.nbar._rows import with_nodes
from tests.nbar.conftest import make_xml

BANDS = ("B01", "B02", "B8A", "B12")
FIELD = CField.from_angles(parse_granule_angles(make_xml(bands=[0, 1, 8, 12])))


def axes(column: float, row: float, size: int, pitch: float = 10.0, height: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    x = FIELD.angles.ulx + column + pitch * (np.arange(size) + 0.5)
    return x, FIELD.angles.uly - row - pitch * (np.arange(height or size) + 0.5)


def by_hand(dn: np.ndarray, c: np.ndarray, status: np.ndarray, offset: np.ndarray, nodata: int = 0) -> np.ndarray:
    """Reflectance in float64, NaN for nodata: offset, then c."""
    factor = np.where((status == 0)[:, None, None], c.astype(float), 1.0)
    return np.where(dn == nodata, np.nan, (dn.astype(float) + offset[:, None, None, None]) * factor * 1e-4)


def assert_stored(values: np.ndarray, expected: np.ndarray) -> None:
    """int16 equals the expected reflectance to half a unit (plus float32's rounding); clipped at what can be stored."""
    np.testing.assert_array_equal(values == FILL, np.isnan(expected))
    limited = np.clip(expected / 1e-4, -32767, 32767)
    known = ~np.isnan(expected)
    assert np.abs(values[known] - limited[known]).max() <= 0.505


@given(
    column=st.floats(-800, 100_000),
    row=st.floats(-800, 100_000),
    size=st.integers(1, 40),
    pitch=st.sampled_from([10.0, 20.0, 60.0, 700.0]),
    offsets=st.tuples(st.sampled_from([-1000.0, 0.0, 17.0]), st.sampled_from([-1000.0, 0.0])),
    parallel=st.booleans(),
    kind=st.sampled_from(["uint16", "int16"]),
    seed=st.integers(0, 99),
)
def test_the_pass_equals_the_oracle(column, row, size, pitch, offsets, parallel, kind, seed):
    rng = np.random.default_rng(seed)
    x, y = axes(column, row, size, pitch, height=5)
    low = -3000 if kind == "int16" else 0
    dn = rng.integers(low, 30_000, (2, len(BANDS), 5, size)).astype(kind)
    dn[rng.random(dn.shape) < 0.2] = 0
    c, status = FIELD.c(BANDS, x, y)
    known = patch(FIELD, BANDS, x, y)
    np.testing.assert_array_equal(known.status, status)
    fused = harmonise(dn, [known, known], offsets, parallel=parallel)
    pixelwise = apply_c(dn, c, status, offsets, parallel=parallel)
    expected = by_hand(dn, c, status, np.array(offsets))
    assert_stored(fused.values, expected)
    assert_stored(pixelwise.values, expected)
    outside = np.isnan(c) & (status == 0)[:, None, None] & (dn != 0)
    assert fused.uncorrected == pixelwise.uncorrected == outside.sum()
    as_float = harmonise(dn, [known, known], offsets, dtype="float32").values
    np.testing.assert_allclose(as_float, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("parallel", [False, True])
def test_a_whole_band_with_seams_equals_the_pixelwise_pass(parallel):
    x, y = axes(0, 0, 1830, 60.0)
    dn = np.random.default_rng(0).integers(0, 12_000, (1, 1, 1830, 1830)).astype("uint16")
    fused = harmonise(dn, [patch(FIELD, ["B02"], x, y)], -1000, parallel=parallel, dtype="float32").values
    c, status = FIELD.c(["B02"], x, y)
    np.testing.assert_allclose(fused, apply_c(dn, c, status, -1000, dtype="float32").values, rtol=1e-6)


@given(
    height=st.integers(1, 23),
    width=st.sampled_from([5, 64, 200, 2100]),
    seams=st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(-30, 30)), max_size=4),
    seed=st.integers(0, 2**20),
    parallel=st.booleans(),
)
def test_seams_of_any_slope_equal_the_oracle(height, width, seams, seed, parallel):
    """Steep ones pass many columns from row to row, and some meet; exact, as c is the same all over a detector."""
    rng = np.random.default_rng(seed)
    x, y = axes(15_000, 52_000, width, 9_000 / width, height=height)
    middle, top = 19_507.3 / 55_000 - 1, 52_000 / 55_000 - 1  # of the window, half its columns reach 0.08 from there
    made = np.array([(-middle - at - slope * top, 1.0, slope, 0.0, 0.0, 0.0) for at, slope in sorted(seams)]).reshape(-1, 6)
    factors = rng.choice([0.5, 1.0, 3.0, np.nan], len(seams) + 1)
    known = replace(
        patch(FIELD, ["B02"], x, y), nodes=np.ones((1, len(factors), 23, 23)) * factors[:, None, None], seams=made[None], corner=(0, 0)
    )
    dn = rng.integers(0, 2**16, (1, 1, height, width), dtype="uint16")
    dn[rng.random(dn.shape) < 0.1] = 0
    u, v = (origin + pitch * np.arange(size) for origin, pitch, size in zip(known.origin, known.pitch, (height, width), strict=True))
    looks = labels(np.broadcast_to(v, (height, width)), np.broadcast_to(u[:, None], (height, width)), made)
    value = np.where(dn == 0, np.nan, (dn.astype("float64") - 1000) * factors[looks])
    lost = np.isnan(factors[looks]) & (dn != 0)
    clipped = int((np.abs(value) >= 32767.5).sum())
    stored = np.where(np.isnan(value), FILL, np.clip(np.rint(value), -32767, 32767))
    done = harmonise(dn, [known], -1000, parallel=parallel)
    np.testing.assert_array_equal(done.values, stored)
    assert (done.clipped, done.uncorrected) == (clipped, lost.sum())
    floats = harmonise(dn, [known], -1000, scale=1.0, dtype="float32")
    np.testing.assert_array_equal(floats.values, value.astype("float32"))
    assert harmonise(dn, [known], -1000, out=dn.view("int16")).clipped == clipped
    np.testing.assert_array_equal(dn.view("int16"), stored)


def test_clipping_is_counted_and_only_where_needed():
    x, y = axes(20_000, 20_000, 4)
    dn = np.full((1, 1, 4, 4), 20_000, dtype="uint16")
    dn[0, 0, 0] = [0, 40_000, 65_535, 32_767]
    known = patch(FIELD, ["B02"], x, y)
    done = harmonise(dn, [known], 0)
    c, _ = FIELD.c(["B02"], x, y)
    assert done.clipped == 2 + int(round(32_767 * float(c[0, 0, 3])) > 32_767)
    assert list(done.values[0, 0, 0, :3]) == [FILL, 32_767, 32_767]
    assert harmonise(dn, [known], 0, dtype="float32").clipped == 0
    negative = np.full((1, 1, 4, 4), -32_000, dtype="int16")
    low = harmonise(negative, [known], -2000)
    assert low.clipped == 16
    assert (low.values == -32_767).all()


def test_negative_reflectance_is_kept():
    x, y = axes(20_000, 20_000, 4)
    done = harmonise(np.full((1, 1, 4, 4), 600, dtype="uint16"), [patch(FIELD, ["B02"], x, y)], -1000)
    assert ((done.values < -350) & (done.values > -450)).all()


def test_offset_comes_before_c():
    x, y = axes(20_000, 20_000, 4)
    done = harmonise(np.full((1, 1, 4, 4), 1000, dtype="uint16"), [patch(FIELD, ["B02"], x, y)], -1000)
    assert (done.values == 0).all()


def test_one_offset_per_time_step_is_not_taken_for_bands():
    dn = np.full((4, 4, 4, 4), 5000, dtype="uint16")
    done = harmonise(dn, [NbarStatus.not_requested] * 4, [0, -1000, 0, -2000])
    assert done.values[:, 0, 0, 0].tolist() == [5000, 4000, 5000, 3000]


def test_time_steps_without_metadata_pass_and_are_flagged():
    x, y = axes(20_000, 20_000, 4)
    dn = np.full((2, len(BANDS), 4, 4), 5000, dtype="uint16")
    done = harmonise(dn, [NbarStatus.no_metadata, patch(FIELD, BANDS, x, y)], 0)
    assert (done.values[0] == 5000).all()
    assert done.status.tolist() == [[1] * 4, [4, 0, 0, 0]]
    assert (done.values[1, 0] == 5000).all()
    assert (done.values[1, 1:] != 5000).all()


def test_patches_are_those_of_each_granule_and_statuses_stay():
    x, y = axes(20_000, 20_000, 6, height=3)
    fields = [FIELD, NbarStatus.no_metadata, FIELD]
    made = patches(fields, BANDS, x, y, detectors="mean", target=30.0)
    expected = patch(FIELD, BANDS, x, y, detectors="mean", target=30.0)
    assert made[1] is NbarStatus.no_metadata
    for known in (made[0], made[2]):
        assert (known.origin, known.pitch, known.corner) == (expected.origin, expected.pitch, expected.corner)
        for name in ("nodes", "seams", "status"):
            np.testing.assert_array_equal(getattr(known, name), getattr(expected, name))


def test_steps_of_different_granules_together_equal_each_alone():
    x, y = axes(5_000, 60_000, 300, 200.0, height=4)
    dn = np.random.default_rng(0).integers(0, 9000, (3, len(BANDS), 4, 300)).astype("uint16")
    known = [patch(FIELD, BANDS, x, y), NbarStatus.no_metadata, patch(FIELD, BANDS, x, y, detectors="mean")]
    assert known[0].nodes.shape != known[2].nodes.shape
    offsets = np.array([-1000.0, 0.0, -1000.0])
    together = harmonise(dn, known, offsets)
    for t, one in enumerate(known):
        alone = harmonise(dn[t : t + 1], [one], offsets[t])
        np.testing.assert_array_equal(together.values[t], alone.values[0])
        np.testing.assert_array_equal(together.status[t], alone.status[0])


def test_int16_can_be_written_in_place():
    x, y = axes(20_000, 20_000, 8)
    dn = np.random.default_rng(0).integers(1, 9000, (1, 2, 8, 8)).astype("int16")
    known = patch(FIELD, ["B02", "B12"], x, y)
    expected = harmonise(dn, [known], -1000).values
    assert harmonise(dn, [known], -1000, out=dn).values is dn
    np.testing.assert_array_equal(dn, expected)


@pytest.mark.parametrize("width", [8, 2100])
def test_uint16_can_be_written_in_place_through_a_view_without_a_copy(width, monkeypatch):
    x, y = axes(20_000, 20_000, width, height=8)
    dn = np.random.default_rng(0).integers(0, 65_536, (1, 2, 8, width)).astype("uint16")
    known, seen = patch(FIELD, ["B02", "B12"], x, y), []
    expected = harmonise(dn, [known], -1000)
    monkeypatch.setattr("cubekit.nbar._apply.with_nodes", lambda numbers, *rest: (seen.append(numbers), with_nodes(numbers, *rest)))
    done = harmonise(dn, [known], -1000, out=dn.view("int16"))
    assert np.shares_memory(seen[0], dn)
    np.testing.assert_array_equal(dn.view("int16"), expected.values)
    assert done.clipped == expected.clipped > 0


def test_pixelwise_c_can_be_written_in_place():
    x, y = axes(20_000, 20_000, 8)
    dn = np.random.default_rng(0).integers(0, 65_536, (2, 2, 8, 8)).astype("uint16")
    c, status = FIELD.c(["B02", "B12"], x, y)
    expected = apply_c(dn, c, status, -1000)
    done = apply_c(dn, c, status, -1000, out=dn.view("int16"))
    np.testing.assert_array_equal(dn.view("int16"), expected.values)
    assert done.clipped == expected.clipped > 0


def test_results_do_not_overtake_numbers_that_they_overlap():
    x, y = axes(20_000, 20_000, 8)
    room = np.random.default_rng(0).integers(1, 9000, 65).astype("int16")
    dn, out = room[:64].reshape(1, 1, 8, 8), room[1:].reshape(1, 1, 8, 8)
    known = patch(FIELD, ["B02"], x, y)
    expected = harmonise(dn.copy(), [known], -1000).values
    np.testing.assert_array_equal(harmonise(dn, [known], -1000, out=out).values, expected)


def test_clipping_is_counted_in_place_too():
    x, y = axes(20_000, 20_000, 8)
    dn = np.full((1, 1, 8, 8), -32_000, dtype="int16")
    assert harmonise(dn, [patch(FIELD, ["B02"], x, y)], -2000, out=dn).clipped == 64


@pytest.mark.parametrize("width", [300, 2049])
def test_seams_cells_and_the_tile_border_in_narrow_and_wide_rows(width):
    pitch = 111_000 / width
    x, y = axes(-700, 40_000, width, pitch, height=40)
    dn = np.random.default_rng(2).integers(0, 60_000, (1, len(BANDS), 40, width)).astype("uint16")
    fused = harmonise(dn, [patch(FIELD, BANDS, x, y)], -1000, dtype="float32")
    c, status = FIELD.c(BANDS, x, y)
    pixelwise = apply_c(dn, c, status, -1000, dtype="float32")
    np.testing.assert_allclose(fused.values, pixelwise.values, rtol=1e-6)
    assert fused.uncorrected == pixelwise.uncorrected > 0


@pytest.mark.parametrize("width", [700, 2100])
def test_values_do_not_depend_on_blocks_of_rows_or_threads(width):
    x, y = axes(20_000, 30_000, width, height=700)
    dn = np.random.default_rng(4).integers(0, 12_000, (1, 1, 700, width)).astype("uint16")
    whole = harmonise(dn, [patch(FIELD, ["B02"], x, y)], -1000).values
    np.testing.assert_array_equal(whole, harmonise(dn, [patch(FIELD, ["B02"], x, y)], -1000, parallel=True).values)
    for rows in (slice(0, 333), slice(333, 700)):
        part = harmonise(np.ascontiguousarray(dn[:, :, rows]), [patch(FIELD, ["B02"], x, y[rows])], -1000).values
        np.testing.assert_array_equal(whole[:, :, rows], part)


@pytest.mark.skipif(not hasattr(os, "fork") or THREADS < 2, reason="no fork, or one processor, on this machine")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_starts_threads_of_its_own():
    x, y = axes(20_000, 30_000, 1400)
    dn = np.random.default_rng(4).integers(0, 12_000, (1, 1, 1400, 1400)).astype("uint16")
    known = [patch(FIELD, ["B02"], x, y)]
    before = harmonise(dn, known, -1000, parallel=True).values
    fork = multiprocessing.get_context("fork")
    with fork.Pool(1) as pool:
        after, helped = pool.apply_async(_corrected_in_parallel, (dn, x, y)).get(timeout=60)
    np.testing.assert_array_equal(after, before)
    assert helped


def _corrected_in_parallel(dn, x, y):
    values = harmonise(dn, [patch(FIELD, ["B02"], x, y)], -1000, parallel=True).values
    return values, any(thread.name.startswith("cubekit-nbar") for thread in threading.enumerate())


def test_other_nodata_and_scale():
    dn = np.full((1, 1, 4, 4), 500, dtype="int16")
    dn[0, 0, 0, 0] = -9999
    done = harmonise(dn, [NbarStatus.not_requested], 0, scale=1e-3, nodata=-9999)
    assert done.values[0, 0, 0, 0] == FILL
    assert done.values[0, 0, 1, 1] == 5000


@pytest.mark.parametrize(
    ("dn", "patches", "options", "message"),
    [
        (np.zeros((1, 1, 2, 2), "float32"), 1, {}, "digital numbers are float32"),
        (np.zeros((1, 2, 2), "uint16"), 1, {}, r"of shape \(1, 2, 2\)"),
        ([[1]], 1, {}, "digital numbers are list"),
        (np.zeros((2, 1, 2, 2), "uint16"), 1, {}, "1 patches for 2 time steps"),
        (np.zeros((1, 1, 2, 2), "uint16"), 1, {"dtype": "float64"}, "dtype='float64'"),
        (np.zeros((1, 1, 2, 2), "uint16"), 1, {"offset": [1, 2, 3]}, "offset of shape"),
        (np.zeros((1, 1, 2, 2), "uint16"), 1, {"offset": np.nan}, "offset of shape"),
        (np.zeros((1, 1, 2, 2), "uint16"), 1, {"out": np.zeros((1, 1, 2, 3), "int16")}, "out is int16"),
    ],
)
def test_what_does_not_fit_is_refused(dn, patches, options, message):
    with pytest.raises(InputError, match=message):
        harmonise(dn, [NbarStatus.not_requested] * patches, **options)


def test_a_patch_of_other_bands_is_refused():
    x, y = axes(0, 0, 4)
    with pytest.raises(InputError, match="patch 0 has 2 bands, the stack 1"):
        harmonise(np.zeros((1, 1, 4, 4), "uint16"), [patch(FIELD, ["B02", "B12"], x, y)])
    with pytest.raises(InputError, match="the status 'applied'"):
        harmonise(np.zeros((1, 1, 4, 4), "uint16"), [NbarStatus.applied])
    with pytest.raises(InputError, match=r"c of shape \(1, 1, 4, 5\)"):
        apply_c(np.zeros((1, 1, 4, 4), "uint16"), np.ones((1, 4, 5)), [0])


def test_irregular_axes_are_refused():
    x, y = axes(0, 0, 4)
    with pytest.raises(InputError, match="x is not evenly spaced"):
        patch(FIELD, ["B02"], x + np.array([0, 0, 1, 0]), y)
    with pytest.raises(InputError, match="x must ascend"):
        patch(FIELD, ["B02"], x[::-1], y)


def test_status_attributes_name_every_code():
    attrs = status_attrs()
    assert attrs["flag_meanings"] == "applied no_metadata no_angles sun_too_low not_supported not_requested"
    assert attrs["flag_values"].tolist() == [0, 1, 2, 3, 4, 5]
