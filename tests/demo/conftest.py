"""A world small enough to be written for every run: nine months around the baseline change, 96 px."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cubekit.demo import World, write_world

SMALL: dict[str, Any] = {"start": "2021-05-01", "end": "2022-03-15", "climate_start": "2021-01-01", "size": 96, "max_cloud": 0.6}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("demo") / "world", **SMALL)


@pytest.fixture(scope="session")
def features(small: World) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(small.catalog.read_text())["features"]
    return content


@pytest.fixture(scope="session")
def scenes(features: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {feature["id"]: feature for feature in features if feature["collection"] == "sentinel-2-l2a"}
