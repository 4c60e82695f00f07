"""Vectors give what the plain loop gives, to the bit: every length, alignment and type, with and without bounds and c."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from cubekit.nbar._convert import FILL, LANES, PART, TOGETHER, convert_rows


@njit(error_model="numpy")
def compiled(*arguments):
    return convert_rows(*arguments)


FILLS = {"int16": np.int16(FILL), "float32": np.float32(np.nan)}


@pytest.mark.parametrize("kind", ["uint16", "int16"])
@pytest.mark.parametrize("result", ["int16", "float32"])
@given(
    count=st.one_of(st.integers(1, 70), st.sampled_from([PART - 1, PART, PART + 1, PART + LANES, 2 * PART + 3])),
    rows=st.integers(1, 2 * TOGETHER + 1),
    margin=st.integers(0, 40),
    add=st.sampled_from([-1000.0, 0.0, 12.5]),
    largest=st.sampled_from([1.0, 3.0]),
    missing=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_vectors_equal_the_plain_loop(kind, result, count, rows, margin, add, largest, missing, seed):
    rng = np.random.default_rng(seed)
    width = count + margin % 7
    dn = rng.integers(0, 2**16, margin + rows * width, dtype="uint16").view(kind)
    dn[rng.random(dn.size) < 0.1] = 0
    level, tilt = (rng.random(count).astype("float32") * scale for scale in (np.float32(largest), np.float32(0.1)))
    if missing:
        level[rng.random(count) < 0.2] = np.nan
    given_ = (margin, rows, width, 0.25, 0.5, np.float32(add), level, tilt, -1, not missing, dn.dtype.type(0), FILLS[result])
    outs = [np.full(dn.size, 7, dtype=result) for _ in range(2)]
    counts = [do(dn, *given_, out) for do, out in zip((convert_rows, compiled), outs, strict=True)]
    assert counts[0] == counts[1]
    np.testing.assert_array_equal(outs[0].view("uint16"), outs[1].view("uint16"))
    if result == "int16":
        assert compiled(dn, *given_, dn.view("int16")) == counts[0]
        inside = np.concatenate([np.arange(count) + margin + row * width for row in range(rows)])
        np.testing.assert_array_equal(dn.view("int16")[inside], outs[0][inside])


def test_numbers_within_the_limit_need_no_bounds():
    dn = np.arange(4096, dtype="uint16")
    level, tilt, out = np.full(4096, 1.5, dtype="float32"), np.zeros(4096, dtype="float32"), np.empty(4096, dtype="int16")
    assert compiled(dn, 0, 1, 4096, 0.0, 0.0, np.float32(-1000), level, tilt, 4095, True, np.uint16(0), np.int16(FILL), out) == (
        0,
        0,
    )
    assert out[0] == FILL
    np.testing.assert_array_equal(out[1:], np.rint((dn[1:] - np.float32(1000)) * np.float32(1.5)))
