"""A check of the radiometric offset against the pixels themselves."""

from __future__ import annotations

import numpy as np

from cubekit.typing import IntArray

__all__ = ["MAX_NEGATIVE_SHARE", "negative_share"]

MAX_NEGATIVE_SHARE = 0.05
"""Share of clearly negative reflectance above which an offset is suspect: real scenes stay well below it."""

_MARGIN = 100
"""DN; reflectance below -0.01 is beyond the noise of atmospheric correction over dark targets."""


def negative_share(dn: IntArray, offset: int, nodata: int = 0) -> float:
    """Share of the valid pixels whose reflectance would be below -0.01 with `offset`.

    A large share over dark pixels tells that the offset was subtracted already, or that it does not belong to these data.

    Parameters
    ----------
    dn
        Digital numbers of any shape.
    offset
        Added to the digital numbers before scaling.
    nodata
        Digital number of empty pixels.

    Returns
    -------
    float
        Between 0 and 1; 0 where no pixel is valid.
    """
    valid = dn != nodata
    count = int(np.count_nonzero(valid))
    return float(np.count_nonzero(valid & (dn < -offset - _MARGIN)) / count) if count else 0.0
