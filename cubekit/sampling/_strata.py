"""Samples of sites by strata, spaced, with matched partners; the same seed and candidates give the same sites in any row order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from cubekit.errors import InputError, NothingFoundError
from cubekit.sampling._candidates import Candidates
from cubekit.sampling._model import SiteTable
from cubekit.sampling._sphere import chord, unit_vectors
from cubekit.typing import Float1D, Float2D, IntArray

__all__ = ["SampleReport", "SampleSpec", "sample_sites"]


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """What a sample shall be.

    Parameters
    ----------
    per_stratum
        Sites wanted per stratum; strata are land-cover class x climate zone x event or not.
    min_purity
        Least share of the footprint that has the site's class in every year.
    min_distance
        Least distance between the centres of any two sites, km.
    matched
        Draw for every site with an event one without, of the same class and zone; a site that finds no partner is not used.
    partner_distance
        Greatest distance of such a partner, km.
    seed
        Of the draw.
    """

    per_stratum: int = 100
    min_purity: float = 0.9
    min_distance: float = 5.0
    matched: bool = True
    partner_distance: float = 500.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.per_stratum < 1:
            raise InputError(f"per_stratum is {self.per_stratum}", remedy="Ask for 1 or more sites")
        if not 0 <= self.min_purity <= 1:
            raise InputError(f"min_purity is {self.min_purity}", remedy="Give a share from 0 to 1")
        if not self.min_distance >= 0 or not self.min_distance <= self.partner_distance:
            raise InputError(
                f"Distances {self.min_distance} and {self.partner_distance} km do not fit", remedy="Give 0 <= min <= partner distance"
            )
        if self.seed < 0:
            raise InputError(f"seed is {self.seed}", remedy="Give 0 or more")

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in asdict(self).items())


@dataclass(frozen=True, slots=True)
class SampleReport:
    """What became of a sample: per stratum (class, zone, with event) the candidates that were pure enough, and the sites drawn."""

    candidates: dict[tuple[str, str, bool], int]
    drawn: dict[tuple[str, str, bool], int]
    without_partner: int

    def __str__(self) -> str:
        rows = [
            f"{cover}{'/' + zone if zone else ''} {'event' if event else 'no event'}: {self.drawn.get((cover, zone, event), 0)} of {count}"
            for (cover, zone, event), count in sorted(self.candidates.items())
        ]
        return f"{sum(self.drawn.values())} sites; {'; '.join(rows)}; {self.without_partner} without a partner"


class _Spacing:
    """The sites chosen so far, in cells as wide as the least distance."""

    def __init__(self, points: Float2D, distance: float) -> None:
        self._points, self._reach = points, chord(distance)
        self._cells: dict[tuple[int, ...], list[int]] = defaultdict(list)

    def _cell(self, index: int) -> tuple[int, ...]:
        return tuple(np.floor(self._points[index] / max(self._reach, 1e-9)).astype(np.int64).tolist())

    def fits(self, index: int, *others: int) -> bool:
        cell = self._cell(index)
        near = [
            n for step in product((-1, 0, 1), repeat=3) for n in self._cells.get(tuple(a + b for a, b in zip(cell, step, strict=True)), ())
        ]
        near.extend(others)
        gaps = np.linalg.norm(self._points[near] - self._points[index], axis=1) if near else np.ones(1)
        return bool(gaps.min() >= self._reach and gaps.min() > 0)

    def add(self, *indices: int) -> None:
        for index in indices:
            self._cells[self._cell(index)].append(index)


def _priority(lon: Float1D, lat: Float1D, seed: int) -> IntArray:
    """A random number per place that depends on the place and the seed only (splitmix64 finaliser over the bits of both)."""
    value = np.full(len(lon), np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15), dtype=np.uint64)
    for part in (lon, lat):
        value ^= (np.asarray(part, dtype=np.float64) + 0.0).view(np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 0x9E3779B97F4A7C15)):
            value = (value ^ (value >> np.uint64(shift))) * np.uint64(factor)
    return value ^ (value >> np.uint64(29))


def sample_sites(candidates: Candidates, spec: SampleSpec | None = None) -> tuple[SiteTable, SampleReport]:
    """Draw a sample of sites.

    Strata are served from the rarest to the commonest; within one, places come in an order that only their coordinates and the seed
    decide, so neither the order of the rows nor candidates elsewhere change it.

    Parameters
    ----------
    candidates
        Places to draw from.
    spec
        What is wanted; the defaults of `SampleSpec` without one.

    Returns
    -------
    table : SiteTable
        With columns ``land_cover climate_zone event purity stratum pair sample``; ``pair`` is shared by matched partners, ``sample`` says
        how the site was drawn.
    report : SampleReport

    Raises
    ------
    InputError
        If no candidate is pure enough.
    NothingFoundError
        If no site could be drawn.
    """
    spec = spec or SampleSpec()
    pure = np.flatnonzero(candidates.purity >= spec.min_purity)
    if len(pure) == 0:
        raise InputError(f"None of {len(candidates)} candidates has purity {spec.min_purity} or more", remedy="Lower min_purity")
    draw = _Draw(candidates, spec, pure)
    for stratum in draw.order():
        draw.fill(stratum)
    report = SampleReport({key: len(members) for key, members in draw.strata.items()}, draw.counts(), draw.alone)
    if not draw.chosen:
        remedy = "Ask for no partners, or widen partner_distance" if spec.matched else "Lower min_distance"
        raise NothingFoundError(f"No site could be drawn: {report}", remedy=remedy)
    return draw.table(), report


class _Draw:
    def __init__(self, candidates: Candidates, spec: SampleSpec, pure: IntArray) -> None:
        self.candidates, self.spec = candidates, spec
        self.points = unit_vectors(candidates.lon, candidates.lat)
        self.spacing = _Spacing(self.points, spec.min_distance)
        rank = _priority(candidates.lon, candidates.lat, spec.seed)
        self.strata: dict[tuple[str, str, bool], list[int]] = defaultdict(list)
        for index in pure[np.lexsort((candidates.lat[pure], candidates.lon[pure], rank[pure]))].tolist():
            self.strata[self._stratum(index)].append(index)
        self._trees: dict[tuple[str, str, bool], tuple[cKDTree, Float2D]] = {}
        self.chosen: list[tuple[int, int]] = []
        self.alone = 0

    def _stratum(self, index: int) -> tuple[str, str, bool]:
        return self.candidates.land_cover[index], self.candidates.climate_zone[index], bool(self.candidates.event[index])

    def order(self) -> list[tuple[str, str, bool]]:
        """Strata to fill, rarest first; those without events come as partners when pairs are wanted."""
        wanted = [key for key in self.strata if key[2] or not self.spec.matched]
        return sorted(wanted, key=lambda key: (len(self.strata[key]), key))

    def fill(self, stratum: tuple[str, str, bool]) -> None:
        left = self.spec.per_stratum
        for index in self.strata[stratum]:
            if left == 0:
                return
            if not self.spacing.fits(index):
                continue
            partner = next(self._partners(index, stratum), None) if self.spec.matched else index
            if partner is None:
                self.alone += 1
                continue
            self.spacing.add(*{index, partner})
            self.chosen.append((index, partner))
            left -= 1

    def _partners(self, index: int, stratum: tuple[str, str, bool]) -> Iterator[int]:
        """Places without an event that fit beside the site and all others, nearest first."""
        key = (stratum[0], stratum[1], False)
        members = self.strata.get(key, [])
        if not members:
            return
        if key not in self._trees:
            points = self.points[members]
            self._trees[key] = cKDTree(points), points
        tree, points = self._trees[key]
        found = tree.query_ball_point(self.points[index], chord(self.spec.partner_distance))
        gaps = np.linalg.norm(points[found] - self.points[index], axis=1)
        for position in np.lexsort((found, gaps)).tolist():
            other = members[found[position]]
            if self.spacing.fits(other, index):
                yield other

    def counts(self) -> dict[tuple[str, str, bool], int]:
        counts: dict[tuple[str, str, bool], int] = defaultdict(int)
        for index, partner in self.chosen:
            for member in {index, partner}:
                counts[self._stratum(member)] += 1
        return dict(counts)

    def table(self) -> SiteTable:
        records = []
        for number, (index, partner) in enumerate(self.chosen, 1):
            for member in dict.fromkeys((index, partner)):
                cover, zone, event = self._stratum(member)
                records.append(
                    {
                        "id": "",
                        "lon": float(self.candidates.lon[member]),
                        "lat": float(self.candidates.lat[member]),
                        "land_cover": cover,
                        "climate_zone": zone,
                        "event": self.candidates.event[member],
                        "purity": float(self.candidates.purity[member]),
                        "stratum": "|".join([cover, zone, "event" if event else "none"]),
                        "pair": number if self.spec.matched else None,
                        "sample": str(self.spec),
                    }
                )
        return SiteTable.from_records(records)
