"""Deterministic randomness as functions of position: hashes and smooth value noise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["fractal", "hash01", "value_noise"]

_PERIOD = 128
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def hash01(seed: int, *keys: Any) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1), one per combination of integer keys (splitmix64 finaliser chained over the keys)."""
    state = np.asarray(seed, np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = state + _GOLDEN + np.asarray(key, np.int64).astype(np.uint64)
            state = (state ^ (state >> np.uint64(30))) * _MIX_1
            state = (state ^ (state >> np.uint64(27))) * _MIX_2
            state = state ^ (state >> np.uint64(31))
    return np.asarray((state >> np.uint64(11)).astype(np.float64) * 2.0**-53)


@lru_cache(maxsize=256)
def _table(seed: int) -> npt.NDArray[np.float32]:
    index = np.arange(_PERIOD)
    return (2.0 * hash01(seed, index[:, None], index[None, :]) - 1.0).astype(np.float32)


def value_noise(x: npt.NDArray[Any], y: npt.NDArray[Any], scale: float, seed: int) -> npt.NDArray[np.float32]:
    """Smooth noise in [-1, 1] with features of `scale` metres, repeating after 128 of them.

    Parameters
    ----------
    x, y
        Position, metres; any equal shapes.
    scale
        Distance of the lattice of random values, metres.
    seed
        Which noise.
    """
    table = _table(seed)
    u, v = np.asarray(x, np.float64) / scale, np.asarray(y, np.float64) / scale
    iu, iv = np.floor(u), np.floor(v)
    fu, fv = (u - iu).astype(np.float32), (v - iv).astype(np.float32)
    fu, fv = fu * fu * fu * (fu * (fu * 6 - 15) + 10), fv * fv * fv * (fv * (fv * 6 - 15) + 10)
    i0, j0 = iv.astype(np.int64) % _PERIOD, iu.astype(np.int64) % _PERIOD
    i1, j1 = (i0 + 1) % _PERIOD, (j0 + 1) % _PERIOD
    top = table[i0, j0] * (1 - fu) + table[i0, j1] * fu
    bottom = table[i1, j0] * (1 - fu) + table[i1, j1] * fu
    return np.asarray(top * (1 - fv) + bottom * fv)


def fractal(x: npt.NDArray[Any], y: npt.NDArray[Any], scale: float, octaves: int, seed: int, gain: float = 0.5) -> npt.NDArray[np.float32]:
    """Sum of `octaves` value noises, each half as large in scale and `gain` as strong as the one before; within about [-1, 1]."""
    total = np.zeros(np.shape(x), np.float32)
    norm = 0.0
    for octave in range(octaves):
        weight = gain**octave
        shift = 1017.3 * octave
        total += np.float32(weight) * value_noise(np.asarray(x) + shift, np.asarray(y) - shift, scale * 0.5**octave, seed + 101 * octave)
        norm += weight
    return total / np.float32(norm)
