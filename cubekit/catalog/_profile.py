"""What is true of one collection at one catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from cubekit.errors import InputError

__all__ = ["BandRule", "OffsetPolicy", "Profile"]

OffsetPolicy = Literal["by-baseline", "declared", "fixed"]
"""How the offset of a digital number is decided: ``by-baseline`` (-1000 from Sentinel-2 processing baseline 04.00 on, as ESA ships it),
``declared`` (what the item says of its asset) or ``fixed`` (`Profile.fixed_offset`, whatever the item says)."""


@dataclass(frozen=True, slots=True)
class BandRule:
    """Where a band is and how its numbers are read.

    Parameters
    ----------
    keys
        Asset keys that hold the band, best first.
    scale
        Physical value per digital number; 1 for class codes and for data that need no scaling.
    nodata
        Digital number of empty pixels; None where the source has none.
    classes
        True for codes, which are never interpolated and have no offset.
    fixed_offset
        Offset of this band in digital numbers that overrides the profile's policy.
    """

    keys: tuple[str, ...]
    scale: float = 1.0
    nodata: float | None = 0.0
    classes: bool = False
    fixed_offset: float | None = None


def _frozen(mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(dict(mapping))


@dataclass(frozen=True, slots=True)
class Profile:
    """A frozen table of what is true of one collection at one catalogue.

    Parameters
    ----------
    catalogue
        Name of the catalogue, such as ``"planetary-computer"``; ``"generic"`` where it was deduced from an item.
    collection
        Collection id as this catalogue writes it.
    bands
        `BandRule` per band name (``"B04"``, ``"SCL"``, ``"vv"``, ...).
    offset
        Policy for the offset in ``value = (DN + offset) * scale``.
    fixed_offset
        The offset in digital numbers where the policy is ``fixed``.
    phases
        (x, y) of the pixel edges modulo the resolution, m, per resolution (m) and hemisphere (``"N"``, ``"S"``); absent means (0, 0).
    metadata_assets
        Asset keys of the granule metadata (MTD_TL.xml), best first.
    signer
        Name of the signer for hrefs of this catalogue; None where nothing is signed.
    nbar
        ``"already"`` where reflectance is normalised at the source (HLS), else ``"none"``.
    """

    catalogue: str
    collection: str
    bands: Mapping[str, BandRule]
    offset: OffsetPolicy = "fixed"
    fixed_offset: float = 0.0
    phases: Mapping[tuple[float, str], tuple[float, float]] = field(default_factory=dict)
    metadata_assets: tuple[str, ...] = ()
    signer: str | None = None
    nbar: Literal["none", "already"] = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", _frozen(self.bands))
        object.__setattr__(self, "phases", _frozen(self.phases))

    def __reduce__(self) -> tuple[Any, ...]:
        # Mapping proxies cannot be pickled; plain dictionaries are frozen again on arrival.
        plain = (self.catalogue, self.collection, dict(self.bands), self.offset, self.fixed_offset, dict(self.phases))
        return Profile, (*plain, self.metadata_assets, self.signer, self.nbar)

    def phase(self, resolution: float, *, south: bool = False) -> tuple[float, float]:
        """(x, y) offset in m of the source's pixel edges from multiples of `resolution` (m), for grids that copy its pixels."""
        return self.phases.get((float(resolution), "S" if south else "N"), (0.0, 0.0))

    def band(self, name: str) -> BandRule:
        """The rule of a band.

        Raises
        ------
        InputError
            For a band that the collection does not have.
        """
        try:
            return self.bands[name]
        except KeyError:
            known = ", ".join(self.bands) or "none"
            raise InputError(
                f"Collection {self.collection!r} of {self.catalogue} has no band {name!r}", remedy=f"Use any of: {known}", band=name
            ) from None
