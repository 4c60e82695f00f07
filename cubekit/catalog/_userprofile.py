"""Profiles that users write: strict, with errors that name the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cubekit.catalog._profile import BandRule, OffsetPolicy, Profile
from cubekit.errors import InputError

__all__ = ["BandSpec", "ProfileSpec", "user_profile"]


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class BandSpec(BaseModel):
    """`BandRule` as a user writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    keys: Annotated[tuple[str, ...], BeforeValidator(_one_or_several)] = Field(min_length=1, strict=False)
    scale: float = 1.0
    nodata: float | None = 0.0
    classes: bool = False
    offset: float | None = None

    def rule(self) -> BandRule:
        """As a frozen table."""
        return BandRule(self.keys, self.scale, self.nodata, self.classes, self.offset)


class PhaseSpec(BaseModel):
    """Phase of the pixel edges at one resolution: m modulo the resolution."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    resolution: float = Field(gt=0)
    hemisphere: Literal["N", "S"]
    x: float = 0.0
    y: float = 0.0


class ProfileSpec(BaseModel):
    """`Profile` as a user writes it: `offset` is a policy or a number of digital counts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    bands: dict[str, BandSpec | str]
    offset: Literal["by-baseline", "declared"] | float = 0.0
    phases: tuple[PhaseSpec, ...] = Field(default=(), strict=False)
    metadata_assets: tuple[str, ...] = Field(default=(), strict=False)
    signer: Literal["planetary-computer"] | None = None
    nbar: Literal["none", "already"] = "none"

    def profile(self, collection: str) -> Profile:
        """As a frozen table."""
        policy: OffsetPolicy = self.offset if isinstance(self.offset, str) else "fixed"
        return Profile(
            catalogue="user",
            collection=collection,
            bands={name: band.rule() if isinstance(band, BandSpec) else BandRule((band,)) for name, band in self.bands.items()},
            offset=policy,
            fixed_offset=0.0 if isinstance(self.offset, str) else self.offset,
            phases={(phase.resolution, phase.hemisphere): (phase.x, phase.y) for phase in self.phases},
            metadata_assets=self.metadata_assets,
            signer=self.signer,
            nbar=self.nbar,
        )


def user_profile(collection: str, given: Profile | ProfileSpec | Mapping[str, Any]) -> Profile:
    """Profile from any form that a user may give.

    Raises
    ------
    InputError
        For unknown or wrong fields, named.
    """
    if isinstance(given, Profile):
        return given
    try:
        spec = given if isinstance(given, ProfileSpec) else ProfileSpec.model_validate(dict(given))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors())
        fields = ", ".join(ProfileSpec.model_fields)
        raise InputError(f"Profile of {collection!r} is wrong: {problems}", remedy=f"Fields are: {fields}", key=collection) from None
    return spec.profile(collection)
