"""What all tests share: the simulated world, written once and kept in the user's cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import xarray as xr

from cubekit.demo import World, ensure_world


@pytest.fixture(scope="session")
def world() -> World:
    return ensure_world()


@pytest.fixture(scope="session")
def build(world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., xr.DataTree]:
    """Build a cube of the simulated world with `cubekit.build`; equal arguments give the same cube again."""
    made: dict[str, Path] = {}

    def builder(site: str = "centre", **options: object) -> xr.DataTree:
        import cubekit

        key = repr((site, sorted(options.items())))
        if key not in made:
            lon, lat = world.sites[site]
            out = tmp_path_factory.mktemp("cube") / f"{site}.zarr"
            given = {"start": world.parameters.start, "end": world.parameters.end, "catalog": str(world.catalog), **options}
            cubekit.build(lat, lon, out=out, **given)  # type: ignore[arg-type]
            made[key] = out
        return cubekit.open(made[key])

    return builder
