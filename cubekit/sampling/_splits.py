"""Splits for cross-validation: what lies close together, or shares an event, stays together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from cubekit.errors import InputError
from cubekit.sampling._sphere import chord, connected, distance_km, neighbours, unit_vectors
from cubekit.typing import Float1D, IntArray

__all__ = ["SplitReport", "cluster_sites", "deal", "split_report", "split_sites", "temporal_periods"]

EMBARGOED = -1
"""Period of a cube that touches a cut or its embargo."""


def cluster_sites(lon: Float1D, lat: Float1D, *, distance: float = 50.0, events: Sequence[Any] | None = None) -> IntArray:
    """Single-linkage clusters of sites.

    Two sites are linked if their centres lie at most `distance` apart on the sphere (radius 6371.0088 km), or if they share an event.

    Parameters
    ----------
    lon, lat
        Centres, degrees, shape (n,).
    distance
        Threshold, km; the linkage is inclusive.
    events
        Per site its event, a list of its events, or nothing (`None`, NaN, an empty text, 0 or an empty list).

    Returns
    -------
    ndarray of int64, shape (n,)
        Cluster of each site, 0 for the largest; clusters of one size from west to east by their
        westernmost site. Independent of row order.
    """
    points = unit_vectors(lon, lat)
    if len(points) == 0:
        return np.zeros(0, dtype=np.int64)
    links = [neighbours(points, chord(distance))]
    if events is not None:
        links.append(_event_links(events, len(points)))
    first, second = np.concatenate(links).T
    return _by_size(connected(first, second, len(points)), np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64))


def event_sets(events: Sequence[Any]) -> list[frozenset[str]]:
    """The events of each site as text; nothing for `None`, NaN, an empty text, 0 or false."""
    return [frozenset(str(event) for event in _listed(value) if not _nothing(event)) for value in events]


def _listed(value: Any) -> Sequence[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(";")]
    return list(value) if isinstance(value, list | tuple | set | frozenset | np.ndarray) else [value]


def _nothing(event: Any) -> bool:
    return event is None or event != event or str(event).casefold() in ("", "0", "0.0", "false")


def _event_links(events: Sequence[Any], n: int) -> IntArray:
    if len(events) != n:
        raise InputError(f"events has {len(events)} values for {n} sites", remedy="Give one value per site")
    first: dict[str, int] = {}
    links = [(first.setdefault(event, index), index) for index, found in enumerate(event_sets(events)) for event in found]
    return np.array(links, dtype=np.int64).reshape(-1, 2)


def _by_size(labels: IntArray, lon: Float1D, lat: Float1D) -> IntArray:
    sizes = np.bincount(labels)
    order = np.lexsort((lat, (lon + 180) % 360))
    corner = np.zeros(len(sizes), dtype=np.int64)
    corner[labels[order[::-1]]] = np.arange(len(labels))[::-1]
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.lexsort((corner, -sizes))] = np.arange(len(sizes))
    return rank[labels]


def deal(clusters: IntArray, groups: int = 10) -> IntArray:
    """Deal clusters, in the order of their numbers, each to the group that has the fewest sites so far (ties: the lowest number).

    Returns
    -------
    ndarray of int64, shape (n,)
        Group of each site, 1 to `groups`.
    """
    if groups < 1:
        raise InputError(f"groups is {groups}", remedy="Give 1 or more groups")
    clusters = np.asarray(clusters, dtype=np.int64)
    load = np.zeros(groups, dtype=np.int64)
    sizes = np.bincount(clusters)
    chosen = np.empty(len(sizes), dtype=np.int64)
    for cluster, size in enumerate(sizes):
        chosen[cluster] = int(np.argmin(load))
        load[chosen[cluster]] += size
    return chosen[clusters] + 1 if len(clusters) else clusters


@dataclass(frozen=True, slots=True)
class SplitReport:
    """How good a split is.

    Parameters
    ----------
    sites, clusters
        Counts.
    distance
        Threshold that was asked for, km.
    sizes
        Sites per group, in the order of the group numbers.
    largest_cluster
        Share of all sites in the largest cluster, 0 to 1.
    min_cross_distance
        Least great-circle distance between sites of different groups, km; infinite with one group.
    shared_events
        Events with sites in more than one group.
    """

    sites: int
    clusters: int
    distance: float
    sizes: tuple[int, ...]
    largest_cluster: float
    min_cross_distance: float
    shared_events: int

    @property
    def balance(self) -> float:
        """Size of the smallest group over that of the largest; 1 is perfect."""
        largest = max(self.sizes, default=0)
        return min(self.sizes) / largest if largest else 1.0

    def __str__(self) -> str:
        finite = np.isfinite(self.min_cross_distance)
        apart = f"least distance between groups {self.min_cross_distance:.3f} km" if finite else "all sites in one group"
        return (
            f"{self.sites} sites in {self.clusters} cluster{'s' * (self.clusters != 1)} at {self.distance:g} km "
            f"(largest {self.largest_cluster:.1%}), "
            f"dealt to {len(self.sizes)} groups of {min(self.sizes, default=0)}-{max(self.sizes, default=0)} sites; "
            f"{apart}; {self.shared_events} events in more than one group"
        )


def split_sites(
    lon: Float1D, lat: Float1D, *, distance: float = 50.0, groups: int = 10, events: Sequence[Any] | None = None
) -> tuple[IntArray, IntArray, SplitReport]:
    """Clusters, groups and report of a spatial (and event-disjoint) split; parameters as for `cluster_sites` and `deal`.

    Returns
    -------
    clusters, groups : ndarray of int64, shape (n,)
        From 0, largest first; and from 1 to `groups`.
    report : SplitReport
    """
    clusters = cluster_sites(lon, lat, distance=distance, events=events)
    dealt = deal(clusters, groups)
    return clusters, dealt, split_report(lon, lat, dealt, clusters=clusters, distance=distance, groups=groups, events=events)


def split_report(
    lon: Float1D,
    lat: Float1D,
    group: IntArray,
    *,
    clusters: IntArray | None = None,
    distance: float = 50.0,
    groups: int | None = None,
    events: Sequence[Any] | None = None,
) -> SplitReport:
    """Measure any split, one's own or a published one."""
    group = np.asarray(group, dtype=np.int64)
    clusters = cluster_sites(lon, lat, distance=distance, events=events) if clusters is None else clusters
    points = unit_vectors(lon, lat)
    names = range(1, groups + 1) if groups else sorted(set(group.tolist()))
    spread: dict[str, set[int]] = {}
    for found, own in zip(event_sets(events) if events is not None else [], group.tolist(), strict=False):
        for event in found:
            spread.setdefault(event, set()).add(own)
    sizes = np.bincount(clusters) if len(clusters) else np.zeros(1)
    return SplitReport(
        sites=len(points),
        clusters=int(np.count_nonzero(sizes)),
        distance=float(distance),
        sizes=tuple(int(np.count_nonzero(group == name)) for name in names),
        largest_cluster=float(sizes.max() / max(len(points), 1)),
        min_cross_distance=_least_cross_distance(points, group),
        shared_events=sum(len(own) > 1 for own in spread.values()),
    )


def _least_cross_distance(points: Any, group: IntArray) -> float:
    least = np.inf
    for name in np.unique(group)[1:]:
        own, lower = points[group == name], points[group < name]
        least = min(least, float(cKDTree(lower).query(own)[0].min()))
    return float(distance_km(least)) if np.isfinite(least) else float("inf")


def temporal_periods(start: Any, end: Any, cuts: Sequence[Any], *, embargo: int = 0) -> IntArray:
    """Deal cubes to periods of time, so that cubes of different periods are more than `embargo` days apart.

    Period k runs from cut k to the day before cut k + 1; the first begins and the last ends nowhere. From the second period on, the first
    `embargo` days after its cut belong to no period.

    Parameters
    ----------
    start, end
        First and last day of each cube (both included), datetime64 or ISO text, shape (n,).
    cuts
        First days of the second, third, ... period, ascending.
    embargo
        Days after each cut that no cube may touch.

    Returns
    -------
    ndarray of int64, shape (n,)
        0 to ``len(cuts)``; -1 for a cube that lies in no period as a whole.
    """
    first, last = np.asarray(start, dtype="datetime64[D]"), np.asarray(end, dtype="datetime64[D]")
    edges = np.asarray(cuts, dtype="datetime64[D]")
    if embargo < 0:
        raise InputError(f"embargo is {embargo} days", remedy="Give 0 or more days")
    if np.isnat(first).any() or np.isnat(last).any() or (first > last).any():
        raise InputError("A cube ends before it starts, or has no dates", remedy="Give start <= end for every site")
    if np.isnat(edges).any() or (np.diff(edges) <= np.timedelta64(embargo, "D")).any():
        raise InputError(
            f"Cuts {[str(cut) for cut in edges]} do not ascend by more than the embargo of {embargo} days", remedy="Move them apart"
        )
    period = np.searchsorted(edges, first, side="right")
    same = period == np.searchsorted(edges, last, side="right")
    opened = np.concatenate([[np.datetime64("0001-01-01", "D")], edges + np.timedelta64(embargo, "D")])
    return np.where(same & (first >= opened[period]), period, EMBARGOED).astype(np.int64)
