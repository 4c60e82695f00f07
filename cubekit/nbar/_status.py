"""What happened to a band of a granule, as CF flag values."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["NbarStatus", "status_attrs"]


class NbarStatus(IntEnum):
    """Why a band of a time step is, or is not, nadir BRDF-adjusted.

    The values are stable and fit int8; `status_attrs` gives the CF attributes of a variable that holds them.
    """

    applied = 0
    """c was multiplied."""
    no_metadata = 1
    """The granule metadata is absent or unreadable."""
    no_angles = 2
    """The metadata has no usable sun or view angles for this band, or does not cover these pixels."""
    sun_too_low = 3
    """The sun stands below what the kernels are made for (zenith above 80 degrees)."""
    not_supported = 4
    """There are no BRDF parameters for this band (B01, B09, B10)."""
    not_requested = 5
    """NBAR was switched off, or the product is NBAR already."""


def status_attrs() -> dict[str, object]:
    """CF attributes (``flag_values``, ``flag_meanings``) of a variable of `NbarStatus` values."""
    return {
        "long_name": "outcome of the nadir BRDF adjustment",
        "flag_values": np.array([status.value for status in NbarStatus], dtype="int8"),
        "flag_meanings": " ".join(status.name for status in NbarStatus),
    }
