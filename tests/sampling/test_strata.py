"""Samples: purity against counting, spacing, partners, and the same sites whatever the order of the candidates."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.errors import InputError
from cubekit.sampling import Candidates, SampleSpec, candidates_from_grid, class_purity, read_sites, sample_sites, write_sites
from cubekit.sampling._sphere import distance_km, unit_vectors


def world(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "lon": rng.uniform(170, 190, n) % 360 - 360 * (rng.uniform(170, 190, n) > 400),
        "lat": rng.uniform(-5, 5, n),
        "land_cover": rng.choice(["forest", "grass", "crop"], n, p=[0.6, 0.3, 0.1]),
        "purity": rng.uniform(0.7, 1, n),
        "event": rng.choice(["", "", "", "e1", "e2", "e3"], n),
        "climate_zone": rng.choice(["A", "B"], n),
    }


def distances(table):
    points = unit_vectors(table.lon, table.lat)
    return distance_km(np.linalg.norm(points[:, None] - points, axis=2))


SPEC = SampleSpec(per_stratum=8, min_purity=0.9, min_distance=30.0, partner_distance=400.0, seed=3)


def test_a_matched_sample_keeps_its_promises():
    columns = world()
    table, report = sample_sites(Candidates.from_columns(columns), SPEC)
    assert sum(report.drawn.values()) == len(table) >= 40
    gaps = distances(table)
    assert gaps[~np.eye(len(table), dtype=bool)].min() >= 30.0
    assert min(table.column("purity")) >= 0.9
    pairs = table.column("pair")
    for pair in set(pairs):
        one, other = (entry for entry in table if entry["pair"] == pair)
        assert (one["land_cover"], one["climate_zone"]) == (other["land_cover"], other["climate_zone"])
        assert one["event"]
        assert not other.get("event")
        i, j = table.ids.index(one.id), table.ids.index(other.id)
        assert gaps[i, j] <= 400.0
    for (cover, zone, event), count in report.drawn.items():
        assert count <= 8
        assert count == sum((e["land_cover"], e["climate_zone"], bool(e.get("event"))) == (cover, zone, event) for e in table)
    assert set(table.column("sample")) == {str(SPEC)}


def test_a_sample_depends_on_seed_and_places_not_on_order(tmp_path):
    columns = world()
    order = np.random.default_rng(9).permutation(len(columns["lon"]))
    first, _ = sample_sites(Candidates.from_columns(columns), SPEC)
    second, _ = sample_sites(Candidates.from_columns({key: values[order] for key, values in columns.items()}), SPEC)
    other, _ = sample_sites(Candidates.from_columns(columns), SampleSpec(per_stratum=8, min_distance=30.0, partner_distance=400.0, seed=4))
    assert sorted(first.ids) == sorted(second.ids)
    assert set(first.ids) != set(other.ids)
    again = read_sites(write_sites(first, tmp_path / "sites.csv"))
    assert again.ids == first.ids
    assert again.column("stratum") == first.column("stratum")


def test_an_unmatched_sample_draws_strata_by_themselves():
    table, report = sample_sites(Candidates.from_columns(world()), SampleSpec(per_stratum=5, min_distance=10, matched=False))
    assert report.without_partner == 0
    assert set(report.drawn.values()) == {5}
    assert len(report.drawn) == 12
    assert table.column("pair") == [None] * 60


def test_sites_without_a_partner_are_not_used_and_counted():
    columns = {"lon": [0.0, 50.0, 0.5], "lat": [0.0, 0.0, 0.0], "land_cover": [1, 1, 1], "event": [7, 8, 0]}
    table, report = sample_sites(Candidates.from_columns(columns), SampleSpec(per_stratum=5, min_distance=5, partner_distance=100))
    assert sorted(table.lon) == [0.0, 0.5]
    assert report.without_partner == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2), st.integers(0, 2), st.booleans())
def test_purity_equals_counting_cells(seed, rows, most, wrap):
    rng = np.random.default_rng(seed)
    cover = rng.integers(1, 4, (2, 6, 9))
    cover[1][rng.random((6, 9)) < 0.7] = cover[0][rng.random((6, 9)) < 0.7][0]
    columns = rng.integers(0, most + 1, 6)
    found = class_purity(cover, rows, columns, wrap=wrap)
    for y in range(6):
        for x in range(9):
            ys = [v for v in range(y - rows, y + rows + 1) if 0 <= v < 6]
            xs = range(x - columns[y], x + columns[y] + 1)
            xs = [v % 9 for v in xs] if wrap else [v for v in xs if 0 <= v < 9]
            own = cover[0, y, x]
            shares = [np.mean([[cover[year, v, u] == own for u in xs] for v in ys]) for year in range(2)]
            expected = min(shares) if cover[1, y, x] == own else 0.0
            assert found[y, x] == pytest.approx(expected, abs=1e-9)


def test_candidates_of_maps():
    lat, lon = np.arange(60.5, 50, -1.0), np.arange(-179.5, 180)
    cover = xr.DataArray(np.full((len(lat), 360), 10), coords={"lat": lat, "lon": lon}, dims=("lat", "lon"))
    cover[5, 100] = 20
    cover[0, :] = 0
    events = xr.DataArray(np.zeros((2, 11, 360), int), coords={"lat": lat, "lon": lon}, dims=("time", "lat", "lon"))
    events[0, 3, 7], events[1, 3, 7] = 5, 6
    found = candidates_from_grid(cover, edge=300_000, min_purity=0.9, events=events)
    where = {(x, y): (c, p, e) for x, y, c, p, e in zip(found.lon, found.lat, found.land_cover, found.purity, found.event, strict=True)}
    assert (lon[100], lat[5]) not in where
    assert where[lon[101], lat[5]][1] == pytest.approx(14 / 15)
    assert where[lon[7], lat[3]][2] == "5;6"
    assert all(y < 60 for _, y in where)
    assert where[-179.5, 54.5] == ("10", 1.0, "")
    assert not any(0 < (found.lat == 59.5)[i] * (1 - found.purity[i]) < 0.05 for i in range(len(found)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SampleSpec(per_stratum=0), "per_stratum is 0"),
        (lambda: SampleSpec(min_purity=1.1), "min_purity is 1.1"),
        (lambda: SampleSpec(min_distance=10, partner_distance=5), "10 and 5 km do not fit"),
        (lambda: SampleSpec(seed=-1), "seed is -1"),
        (lambda: Candidates.from_columns({"lon": [1.0], "lat": [1.0]}), "no column land_cover"),
        (lambda: Candidates.from_columns({"lon": [1.0], "lat": [1.0, 2.0], "land_cover": [1]}), "1 longitudes but"),
        (lambda: Candidates.from_columns({"lon": [1.0], "lat": [1.0], "land_cover": [1], "purity": [95]}), "Purity runs from 95"),
        (lambda: sample_sites(Candidates.from_columns(world()), SampleSpec(min_purity=1.0)), "None of 1500 candidates"),
        (lambda: candidates_from_grid(xr.DataArray(np.ones((2, 2)), dims=("y", "x")), edge=1), "Rename them to lat and lon|has dims"),
        (lambda: candidates_from_grid(xr.DataArray(np.ones((2, 2)), dims=("lat", "lon")), edge=0), "edge is 0 m"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_what_is_no_number_is_named():
    columns = {"lon": [1, 2], "lat": [1, 2], "land_cover": ["a", "a"], "purity": [0.9, ""]}
    with pytest.raises(InputError, match="purity of candidate 2 is '', no number"):
        Candidates.from_columns(columns)


@pytest.mark.parametrize("nothing", ["", "0", "0.0", "False", "false", False, 0.0, None, float("nan")])
def test_what_means_no_event(nothing):
    columns = {"lon": [1], "lat": [1], "land_cover": ["a"], "event": [nothing]}
    assert Candidates.from_columns(columns).event == ("",)
