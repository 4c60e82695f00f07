"""Splits: single linkage on the sphere against a dumb oracle, dealing, events, time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.errors import InputError
from cubekit.sampling import _sphere as sphere
from cubekit.sampling import cluster_sites, deal, read_sites, split_report, split_sites, temporal_periods
from cubekit.testing import shared_data


@pytest.fixture(scope="module")
def published():
    table = read_sites(shared_data("e_cubes/demc_full_10groups_50km.csv.gz"))
    return table.lon, table.lat, np.array(table.column("group"), dtype=int)


def haversine(lon, lat):
    """All distances in km, by the formula in every textbook."""
    lam, phi = np.radians(lon), np.radians(lat)
    a = np.sin((phi[:, None] - phi) / 2) ** 2 + np.cos(phi[:, None]) * np.cos(phi) * np.sin((lam[:, None] - lam) / 2) ** 2
    return 2 * sphere.EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(a, 1)))


def oracle(lon, lat, distance, events=None):
    """Clusters as sets, by flooding."""
    near = haversine(lon, lat) <= distance
    if events is not None:
        near |= np.array([[bool(a) and a == b for b in events] for a in events])
    left, found = set(range(len(lon))), set()
    while left:
        edge, cluster = [left.pop()], set()
        while edge:
            site = edge.pop()
            cluster.add(site)
            new = {int(n) for n in np.flatnonzero(near[site])} & left
            left -= new
            edge += new
        found.add(frozenset(cluster))
    return found


def as_sets(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def test_the_published_sites_give_the_published_split(published):
    lon, lat, group = published
    clusters, groups, report = split_sites(lon, lat)
    assert report.clusters == 1371
    assert round(100 * report.largest_cluster, 1) == 7.8
    assert sorted(report.sizes) == [3695] * 4 + [3696] * 6
    assert round(report.min_cross_distance, 3) == 50.006
    theirs = split_report(lon, lat, group)
    assert theirs.sizes == report.sizes
    assert round(theirs.min_cross_distance, 3) == 50.006
    sizes = np.bincount(clusters)
    alone = [cluster for cluster in range(len(sizes)) if np.count_nonzero(sizes == sizes[cluster]) == 1]
    assert len(alone) > 50
    for cluster in alone:
        members = clusters == cluster
        assert set(group[members]) == set(groups[members])
    for size in np.unique(sizes):
        members = np.isin(clusters, np.flatnonzero(sizes == size))
        assert np.array_equal(np.bincount(group[members], minlength=11), np.bincount(groups[members], minlength=11))


places = st.tuples(
    st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 180.0, 179.9])),
    st.one_of(st.floats(-90, 90), st.sampled_from([90.0, -90.0, 89.9])),
)
patch = st.tuples(st.floats(178.5, 181.5).map(lambda lon: (lon + 180) % 360 - 180), st.floats(-1.5, 1.5))


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.lists(places, min_size=1, max_size=30), st.lists(patch, min_size=1, max_size=30)),
    st.sampled_from([0.5, 50.0, 500.0]),
    st.data(),
)
def test_clusters_equal_the_oracle_in_both_ways_and_any_order(points, distance, data):
    lon, lat = np.array(points).T
    gaps = haversine(lon, lat)
    if np.any(np.abs(gaps - distance) < 1e-4):
        return
    events = data.draw(st.one_of(st.none(), st.lists(st.sampled_from(["", "", "", "e1", "e2"]), min_size=len(lon), max_size=len(lon))))
    labels = cluster_sites(lon, lat, distance=distance, events=events)
    assert as_sets(labels) == oracle(lon, lat, distance, events)
    assert (np.diff(np.bincount(labels)) <= 0).all()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sphere, "_PAIRS", -1)
        assert np.array_equal(cluster_sites(lon, lat, distance=distance, events=events), labels)
    order = np.array(data.draw(st.permutations(range(len(lon)))))
    if len({(round((x + 180) % 360, 9), y) for x, y in points}) == len(points) and np.all(np.abs(lat) < 89):
        shuffled = cluster_sites(lon[order], lat[order], distance=distance, events=[events[i] for i in order] if events else None)
        assert np.array_equal(shuffled, labels[order])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 12))
def test_dealing_is_the_greedy_rule(sizes, groups):
    sizes = sorted(sizes, reverse=True)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    group = deal(clusters, groups)
    load = [0] * groups
    for cluster, size in enumerate(sizes):
        smallest = load.index(min(load))
        assert set(group[clusters == cluster]) == {smallest + 1}
        load[smallest] += size


def test_sites_that_share_an_event_stay_together():
    lon, lat = np.array([0.0, 40.0, 80.0, 120.0, 160.0]), np.zeros(5)
    events = ["e1", "e2;e1", None, ["e3", "e2"], float("nan")]
    clusters, groups, report = split_sites(lon, lat, groups=2, events=events)
    assert as_sets(clusters) == {frozenset({0, 1, 3}), frozenset({2}), frozenset({4})}
    assert report.shared_events == 0
    apart = split_report(lon, lat, np.array([1, 2, 1, 1, 2]), events=events)
    assert apart.shared_events == 2
    assert groups.tolist() == [1, 1, 2, 1, 2]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 400)), min_size=1, max_size=20),
    st.lists(st.integers(100, 1900), max_size=3, unique=True),
    st.integers(0, 90),
)
def test_cubes_of_different_periods_keep_the_embargo(spans, cuts, embargo):
    epoch = np.datetime64("2015-01-01")
    start = np.array([epoch + first for first, _ in spans])
    end = np.array([epoch + first + length for first, length in spans])
    edges = sorted(epoch + cut for cut in cuts)
    if any(int((b - a).astype(int)) <= embargo for a, b in pairwise(edges)):
        with pytest.raises(InputError, match="do not ascend by more than the embargo"):
            temporal_periods(start, end, edges, embargo=embargo)
        return
    period = temporal_periods(start, end, edges, embargo=embargo)
    for i in range(len(spans)):
        for j in range(len(spans)):
            if -1 < period[i] < period[j]:
                assert (start[j] - end[i]).astype(int) > embargo
        if period[i] == -1:
            touched = [cut for cut in edges if start[i] < cut + embargo and end[i] >= cut]
            assert touched


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cluster_sites([0.0], [91.0]), "lat=91"),
        (lambda: cluster_sites([0.0, 1.0], [0.0]), "shapes"),
        (lambda: cluster_sites([0.0], [0.0], distance=-1), "-1 km makes no sense"),
        (lambda: cluster_sites([0.0], [0.0], distance=float("nan")), "nan km makes no sense"),
        (lambda: cluster_sites([0.0], [0.0], events=["a", "b"]), "2 values for 1 sites"),
        (lambda: deal(np.array([0]), 0), "groups is 0"),
        (lambda: temporal_periods(["2020-02-01"], ["2020-01-01"], []), "ends before it starts"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_no_sites_and_one_site_are_no_trouble():
    empty = np.zeros(0)
    clusters, groups, report = split_sites(empty, empty)
    assert (len(clusters), len(groups), report.clusters) == (0, 0, 0)
    _, groups, report = split_sites(np.array([12.0]), np.array([51.0]))
    assert (groups.tolist(), report.sizes[0], report.min_cross_distance) == ([1], 1, float("inf"))
