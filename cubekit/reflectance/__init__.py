"""From digital numbers to surface reflectance: scene classification, offsets and their self-check, and why a pixel is empty.

Pure functions: arrays in, arrays out.
"""

from __future__ import annotations

from cubekit.reflectance._offset import MAX_NEGATIVE_SHARE, negative_share
from cubekit.reflectance._scl import CLEAR_CLASSES, SCL, SceneClass, clear_mask
from cubekit.reflectance._status import PixelStatus, pixel_status

__all__ = [
    "CLEAR_CLASSES",
    "MAX_NEGATIVE_SHARE",
    "SCL",
    "PixelStatus",
    "SceneClass",
    "clear_mask",
    "negative_share",
    "pixel_status",
]
