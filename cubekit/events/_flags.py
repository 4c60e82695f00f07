"""The bits of the daily event code, and the levels that set them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import InputError

__all__ = [
    "FLAGS",
    "INDICATORS",
    "WINDOWS",
    "Levels",
    "compound",
    "event_attrs",
]

WINDOWS: tuple[int, int, int] = (30, 90, 180)
"""Lengths of the PEI windows in days."""

INDICATORS: tuple[str, ...] = ("t2m_max", "pei_30", "pei_90", "pei_180")
"""The four indicators whose ranks make the code, in the order of bits 0-3."""

HEAT, DRY_30, DRY_90, DRY_180, NORMAL, MISSING = 1, 2, 4, 8, 16, 128
DRY = DRY_30 | DRY_90 | DRY_180

FLAGS: dict[str, int] = {"heat": HEAT, "dry_30": DRY_30, "dry_90": DRY_90, "dry_180": DRY_180, "normal": NORMAL, "missing": MISSING}
"""Meaning and mask of each bit of the uint8 event code."""

_T = TypeVar("_T", xr.DataArray, npt.NDArray[Any])


@dataclass(frozen=True, slots=True)
class Levels:
    """Rank levels of the event code; all comparisons are strict.

    Parameters
    ----------
    heat
        Tmax rank above which bit 0 (heat) is set.
    drought
        PEI rank below which bits 1-3 (drought) are set.
    normal_low, normal_high
        All four ranks strictly between these set bit 4 (normal).

    Raises
    ------
    InputError
        If not ``0 < drought <= normal_low < normal_high <= heat < 1``.
    """

    heat: float = 0.99
    drought: float = 0.01
    normal_low: float = 0.1
    normal_high: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.drought <= self.normal_low < self.normal_high <= self.heat < 1:
            raise InputError(f"rank levels are out of order: {self}", remedy="Keep 0 < drought <= normal_low < normal_high <= heat < 1.")


def compound(codes: _T) -> _T:
    """Cell-days that are hot and dry at once: the heat bit and any of the three drought bits.

    Parameters
    ----------
    codes
        Event codes (uint8), any shape.

    Returns
    -------
    same type, bool
        Bit 7 does not veto: a heat bit and a drought bit that are known suffice.
    """
    return ((codes & HEAT) > 0) & ((codes & DRY) > 0)


def event_attrs() -> dict[str, Any]:
    """CF attributes of the event code: ``flag_masks`` (uint8) and ``flag_meanings``."""
    return {
        "long_name": "dry-hot event code",
        "flag_masks": np.array(list(FLAGS.values()), dtype=np.uint8),
        "flag_meanings": " ".join(FLAGS),
        "comment": (
            "heat: rank of daily maximum temperature above its level; dry_n: rank of PEI_n below its level; normal: all four ranks inside "
            "the normal range; missing: at least one of the four indicators has no value or no reference (known bits are still set)"
        ),
    }
