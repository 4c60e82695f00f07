"""The published template is what the code makes, wherever and whenever it makes it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cubekit
from cubekit.api import make_recipe
from cubekit.demo import World

pytestmark = pytest.mark.filterwarnings("ignore:.*sun zenith reaches:cubekit.errors.ScienceWarning")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    path = Path(__file__).with_name("make_template.py")
    spec = importlib.util.spec_from_file_location("make_template", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published(maker: ModuleType) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(maker.TEMPLATE.read_text(encoding="utf-8"))
    return content


def test_the_code_still_makes_the_template(maker: ModuleType, tmp_path: Path) -> None:
    made = json.loads(json.dumps(maker.build_template(tmp_path)))
    assert made == published(maker), "if this is meant, run: python tests/recipe/make_template.py"


def test_the_template_holds_for_another_place_and_time(maker: ModuleType, world: World, tmp_path: Path) -> None:
    lon, lat = world.sites["zone32"]
    options = {"start": "2022-02-10", "end": "2022-05-20", "edge_size": 21, "resolution": 20, "catalog": str(world.catalog)}
    cube = cubekit.build(lat, lon, recipe=make_recipe(maker.RECIPE, **options), out=tmp_path / "cube.zarr")
    assert json.loads(json.dumps(maker.template_of(cube))) == published(maker)


def test_the_template_tells_no_place_no_time_and_no_versions(maker: ModuleType, world: World) -> None:
    text = maker.TEMPLATE.read_text(encoding="utf-8")
    for told in ("51.33", "12.00", "2021", "2022", "S2A_", "S2B_", "32633", str(world.root), cubekit.__version__ + '"'):
        assert told not in text, told
