"""One range server per module, and short deadlines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cubekit.grid import Grid
from cubekit.read import AssetRead, ReadOptions, forget_headers
from cubekit.testing.cogs import unique_pixels, write_cog
from cubekit.testing.rangeserver import RangeServer

GRID = Grid(epsg=32632, resolution=10.0, left=600500.0, top=5699300.0, width=64, height=48)
"""48 rows from row 70 and 64 columns from column 50 of the files below."""


class World:
    """A folder, the server over it, and reads of its files."""

    def __init__(self, root: Path, server: RangeServer) -> None:
        self.root = root
        self.server = server

    def read(self, name: str, **settings: object) -> AssetRead:
        return AssetRead(f"{self.server.url}/{name}", item_id="item", band="B02", **{"nodata": 0, **settings})  # type: ignore[arg-type]

    def rules(self, *rules: dict[str, object]) -> None:
        self.server.configure(rules=list(rules))
        self.server.stats(reset=True)

    def asked(self) -> int:
        return int(self.server.stats()["requests"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("served")
    write_cog(root / "a.tif", unique_pixels(256, 300), tile=128, predictor=2)
    with RangeServer(root) as server:
        yield World(root, server)


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    forget_headers()
    if "world" in request.fixturenames:
        request.getfixturevalue("world").rules()


@pytest.fixture
def quick() -> ReadOptions:
    """Deadlines short enough for tests, few retries."""
    return ReadOptions(connect_timeout=2, first_byte_timeout=0.3, total_timeout=3, retries=2, backoff=0.01)


@pytest.fixture
def expected(world: World) -> np.ndarray:
    return unique_pixels(256, 300)[0, 70:118, 50:114]
