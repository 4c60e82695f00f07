"""A world is whole or absent, the same for the same parameters, and refuses what cannot be meant."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from cubekit.demo import Parameters, World, ensure_world, open_world, write_world
from cubekit.demo._place import pixel_centres
from cubekit.errors import InputError

TINY: dict[str, Any] = {"start": "2022-01-10", "end": "2022-02-10", "climate_start": "2021-06-01", "size": 48, "max_cloud": 1.0}


def digests(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def test_equal_parameters_give_equal_bytes(tmp_path: Path) -> None:
    one, two = write_world(tmp_path / "a", **TINY, threads=1), write_world(tmp_path / "b", **TINY, threads=3)
    assert digests(one.root) == digests(two.root)
    assert len(digests(one.root)) > 50
    other = write_world(tmp_path / "c", **{**TINY, "seed": 8, "size": 60})
    assert other.digest != one.digest
    assert digests(other.root) != digests(one.root)


def test_a_world_knows_itself_when_opened_again(small: World) -> None:
    again = open_world(small.root)
    assert again == small
    assert again.item_ids
    content = json.loads((small.root / "world.json").read_text())
    assert content["digest"] == small.digest
    assert set(content["sites"]) == set(small.sites)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("cubekit.demo._write.write_elevation", fail)
    with pytest.raises(OSError, match="disk full"):
        write_world(tmp_path / "a", **TINY)
    assert list(tmp_path.iterdir()) == []


def test_ensure_world_writes_once_and_reuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def write(target: Path) -> World:
        calls.append(target)
        target.mkdir(parents=True)
        content = {"parameters": {"seed": Parameters().seed}, "digest": Parameters().digest}
        (target / "world.json").write_text(json.dumps(content))
        return World(target, Parameters())

    monkeypatch.setattr("cubekit.demo._write.write_world", write)
    first, second = ensure_world(tmp_path), ensure_world(tmp_path)
    assert first == second
    assert calls == [tmp_path / f"world-{Parameters().digest}"]


def test_a_full_folder_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(InputError, match="not an empty folder"):
        write_world(tmp_path, **TINY)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start": "2022-02-30"}, "start '2022-02-30' is no date"),
        ({"start": "2022-03-01"}, "end 2022-02-10 lies before start 2022-03-01"),
        ({"climate_start": "2022-02-01"}, "climate_start 2022-02-01 lies after"),
        ({"start": "2014-01-01", "climate_start": "2013-01-01"}, "before 2016"),
        ({"size": 50}, "size 50 is not a multiple of 12"),
        ({"max_cloud": 0.0}, "max_cloud 0.0"),
    ],
)
def test_parameters_that_cannot_be_meant(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_world(tmp_path / "a", **{**TINY, **given})
    assert list(tmp_path.iterdir()) == []


def test_questions_that_cannot_be_answered(small: World, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="band 'B01' is not simulated"):
        small.nadir_reflectance(["B01"], 0.0, 0.0, 32633, "2021-07-01")
    with pytest.raises(InputError, match="no item 'x' in this world"):
        small.c_factor("x", ["B04"], 0.0, 0.0, 32633)
    with pytest.raises(InputError, match="lies outside the climate"):
        small.stress("1980-01-01")
    with pytest.raises(InputError, match="no simulated world in"):
        open_world(tmp_path)
    (tmp_path / "world.json").write_text(json.dumps({"parameters": {}, "digest": "0"}))
    with pytest.raises(InputError, match="has digest 0"):
        open_world(tmp_path)


def test_elevation_and_land_cover_are_the_truth_on_both_sides_of_the_seam(small: World, features: list[dict[str, Any]]) -> None:
    counts = {"cop-dem-glo-30": 0, "esa-worldcover": 0}
    for feature in features:
        if feature["collection"] not in counts:
            continue
        (asset,) = feature["assets"].values()
        with rasterio.open(small.root / asset["href"]) as source:
            pixels, transform = source.read(1), list(source.transform)[:6]
            assert np.allclose(transform, feature["properties"]["proj:transform"], atol=1e-12)
        x, y = pixel_centres(feature["properties"]["proj:transform"], pixels.shape)
        if feature["collection"] == "cop-dem-glo-30":
            assert np.abs(pixels - small.elevation(x, y, 4326)).max() < 0.006
            assert np.ptp(pixels) > 1
        else:
            year = int(feature["properties"]["start_datetime"][:4])
            assert np.array_equal(pixels, small.land_cover(x, y, 4326, year))
            assert set(np.unique(pixels)) <= {10, 30, 40, 50, 80, 90}
        assert (x.max() < 12) or (x.min() >= 12)
        counts[feature["collection"]] += 1
    assert counts == {"cop-dem-glo-30": 2, "esa-worldcover": 4}


def test_the_default_world_has_what_it_is_for(world: World) -> None:
    items = [world.granule(name) for name in world.item_ids]
    assert 60 <= len(items) <= 100
    assert {g.acquisition.orbit for g in items} == {22, 65}
    assert {g.tile.name for g in items} == {"33UTS", "33UTT", "32UQB"}
    assert {g.offset for g in items} == {0, 1000}
    assert sum(p.stat().st_size for p in world.root.rglob("*") if p.is_file()) < 100e6
