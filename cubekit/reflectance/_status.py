"""Why a pixel is empty."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from cubekit.typing import UInt8Array

__all__ = ["PixelStatus", "pixel_status"]


class PixelStatus(IntEnum):
    """Why a pixel is empty in at least one band, as stored in `pixel_status`; the strongest reason wins, in the order below."""

    VALID = 0
    OUTSIDE_FOOTPRINT = 1
    NODATA_AT_SOURCE = 2
    READ_FAILED = 3
    MASKED = 4
    NO_ACQUISITION = 5


def pixel_status(empty: npt.NDArray[np.bool_], outside: npt.NDArray[np.bool_], failed: bool) -> UInt8Array:
    """Status of the pixels of one scene before masking.

    Parameters
    ----------
    empty
        (height, width); true where at least one band that was read has no data, and everywhere if no band was read.
    outside
        (height, width); true where no granule of the scene has a footprint. Footprints are drawn roughly: only empty pixels are outside.
    failed
        Whether at least one band could not be read.

    Returns
    -------
    ndarray of uint8, shape (height, width)
        Values of `PixelStatus`. A failed read does not hide that a pixel lies outside of the footprint.
    """
    status = np.where(empty, np.uint8(PixelStatus.NODATA_AT_SOURCE), np.uint8(PixelStatus.VALID))
    if failed:
        status[...] = PixelStatus.READ_FAILED
    status[empty & outside] = PixelStatus.OUTSIDE_FOOTPRINT
    return status
