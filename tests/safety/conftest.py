"""A few scenes of the simulated world on loopback: a scripted STAC server for searches, a scripted range server for files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cubekit.api import make_recipe
from cubekit.catalog import ApiOptions, Catalog, open_catalog
from cubekit.catalog._signing import PlanetaryComputerSigner
from cubekit.demo import World
from cubekit.layers import Session
from cubekit.pipeline import BuildResult, build_cube
from cubekit.read import ReadOptions, forget_headers
from cubekit.recipe import Recipe
from cubekit.site import Site
from cubekit.testing.rangeserver import RangeServer
from cubekit.testing.stacserver import StacServer, TokenServer

SCENES = 4
BANDS = ("B04", "B8A")
ASSETS = SCENES * (len(BANDS) + 1)
"""Rasters of a build: bands and scene classes."""
REPOSITORY = Path(__file__).parents[2]

SEARCHING = ApiOptions(connect_timeout=1, read_timeout=0.4, total_timeout=4, retries=3, backoff=0.02, max_wait=3, page_limit=2)
READING: dict[str, Any] = {"connect_timeout": 1.0, "first_byte_timeout": 0.4, "total_timeout": 3.0, "retries": 4, "backoff": 0.01}


@dataclass(eq=False)
class QuickSession(Session):
    """A session whose deadlines are short enough for tests; everything else is the real one."""

    searching: ApiOptions = SEARCHING
    reading: dict[str, Any] = field(default_factory=lambda: dict(READING))
    profiles: str | None = None

    def catalog(self, names: tuple[str, ...]) -> Catalog:
        if names not in self._catalogs:
            opened = open_catalog(list(names), options=self.searching, cache_dir=self.cache_dir, profiles=self.profiles)
            self._catalogs[names] = opened
        return self._catalogs[names]

    def read_options(self, catalog: Catalog) -> ReadOptions:
        return replace(super().read_options(catalog), **self.reading)


def rewritten(world: World, base: str, scenes: int = SCENES) -> list[dict[str, Any]]:
    """Items of one granule tile whose files are at `base`."""
    content = json.loads(world.catalog.read_text())
    items = [item for item in content["features"] if item["collection"] == "sentinel-2-l2a" and "33UTS" in item["id"]][10 : 10 + scenes]
    for item in items:
        for asset in item["assets"].values():
            asset["href"] = f"{base}/{asset['href'].removeprefix('./')}"
    return items


@dataclass(eq=False)
class Bench:
    """Servers, and builds against them."""

    world: World
    files: RangeServer
    stac: StacServer
    folder: Path
    clean: str = ""

    @property
    def site(self) -> Site:
        lon, lat = self.world.sites["centre"]
        return Site(lat, lon, "site")

    def recipe(self, **options: Any) -> Recipe:
        when = {"start": self.world.parameters.start, "end": self.world.parameters.end}
        return make_recipe(**{"catalog": self.stac.url, "bands": list(BANDS), "edge_size": 32, **when, **options})

    def build(self, name: str = "a.zarr", session: Session | None = None, **options: Any) -> BuildResult:
        forget_headers()
        return build_cube(self.recipe(**options), self.site, str(self.folder / name), overwrite=True, session=session or QuickSession())

    def script(self, *rules: dict[str, Any], **settings: Any) -> None:
        self.files.configure(**{"latency": 0.0, "rules": list(rules), **settings})
        self.files.stats(reset=True)

    def asked(self) -> int:
        return int(self.files.stats()["requests"])

    def assert_nothing(self, name: str = "a.zarr") -> None:
        """Nothing stands at the final name, and nothing is left beside it."""
        assert not os.path.lexists(self.folder / name)
        assert not [entry for entry in os.listdir(self.folder) if entry.startswith(".")]


@pytest.fixture(scope="session")
def servers(world: World) -> Iterator[tuple[RangeServer, StacServer]]:
    with RangeServer(world.root) as files, StacServer(rewritten(world, files.url)) as stac:
        yield files, stac


@pytest.fixture(scope="session")
def clean_digest(world: World, servers: tuple[RangeServer, StacServer], tmp_path_factory: pytest.TempPathFactory) -> str:
    files, stac = servers
    return Bench(world, files, stac, tmp_path_factory.mktemp("clean")).build().digest


@pytest.fixture
def bench(world: World, servers: tuple[RangeServer, StacServer], clean_digest: str, tmp_path: Path) -> Bench:
    files, stac = servers
    folder = tmp_path / "out"
    folder.mkdir()
    made = Bench(world, files, stac, folder, clean_digest)
    made.script()
    stac.script()
    return made


@pytest.fixture
def local_catalog(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """Writes items as a catalogue file."""

    def write(items: list[dict[str, Any]]) -> Path:
        path = tmp_path / "catalogue" / "items.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        return path

    return write


@pytest.fixture
def signed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Files of the range server belong to a container that wants tokens which have not expired."""
    host = bench.files.url + "/"
    monkeypatch.setattr(PlanetaryComputerSigner, "_container", lambda self, href: ("account", "box") if href.startswith(host) else None)
    return bench


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[TokenServer], QuickSession]]:
    """Makes the token server the one that planetary-computer's settings name."""
    from planetary_computer import sas
    from planetary_computer.settings import Settings

    def use(tokens: TokenServer) -> QuickSession:
        Settings.get.cache_clear()
        monkeypatch.setenv("PC_SDK_SAS_URL", tokens.url)
        return QuickSession(profiles="planetary-computer")

    monkeypatch.setattr(sas, "TOKEN_CACHE", {})
    yield use
    Settings.get.cache_clear()
