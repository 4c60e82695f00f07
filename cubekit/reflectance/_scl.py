"""The scene classification of Sentinel-2 Level-2A (Sen2Cor)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from types import MappingProxyType

import numpy as np

from cubekit.errors import InputError
from cubekit.typing import UInt8Array

__all__ = ["CLEAR_CLASSES", "SCL", "SceneClass", "clear_mask"]


class SceneClass(IntEnum):
    """Classes of the SCL band (ESA, Sentinel-2 Level-2A Algorithm Theoretical Basis Document)."""

    NO_DATA = 0
    SATURATED_OR_DEFECTIVE = 1
    DARK_AREA = 2
    CLOUD_SHADOW = 3
    VEGETATION = 4
    NOT_VEGETATED = 5
    WATER = 6
    UNCLASSIFIED = 7
    CLOUD_MEDIUM_PROBABILITY = 8
    CLOUD_HIGH_PROBABILITY = 9
    THIN_CIRRUS = 10
    SNOW_OR_ICE = 11


SCL = MappingProxyType({item.value: item.name.lower() for item in SceneClass})
"""Meaning by class value."""

CLEAR_CLASSES = (4, 5, 6, 7, 11)
"""Classes that count as clear by default."""


def clear_mask(scl: UInt8Array, clear: Iterable[int] = CLEAR_CLASSES) -> UInt8Array:
    """Flag pixels that are not clear.

    Parameters
    ----------
    scl
        Scene classes of any shape; values above 11 and class 0 are no data.
    clear
        Classes that count as clear.

    Returns
    -------
    ndarray of uint8
        0 clear, 1 not clear, 255 no data; same shape.
    """
    clear = tuple(clear)
    if unknown := sorted(set(clear) - set(range(1, 12))):
        raise InputError(f"Scene classes {unknown} cannot be clear", remedy="Use values from 1 to 11")
    table = np.full(256, 255, np.uint8)
    table[1:12] = 1
    table[list(clear)] = 0
    return table[scl]
