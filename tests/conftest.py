"""What all tests share: the simulated world, written once and kept in the user's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import xarray as xr

from cubekit.demo import World, ensure_world
from tests.s3servers import SERVERS, SETTINGS, new_bucket


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


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Callable[[str], str]]:
    """Address of an S3 server by name (``moto``, ``ceph``), started when it is first asked for."""
    addresses: dict[str, str] = {}
    with ExitStack() as stack:

        def start(name: str) -> str:
            if name not in addresses:
                addresses[name] = stack.enter_context(SERVERS[name]())
            return addresses[name]

        yield start


@pytest.fixture
def make_bucket(s3_server: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Makes an empty bucket on a server by name; its URL. The environment leads to it."""

    def make(name: str) -> str:
        endpoint = s3_server(name)
        for key, value in {**SETTINGS, "AWS_ENDPOINT_URL": endpoint}.items():
            monkeypatch.setenv(key, value)
        return new_bucket(endpoint)

    return make


@pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.ceph)])
def bucket(request: pytest.FixtureRequest, make_bucket: Callable[[str], str]) -> str:
    """URL of an empty bucket, on every server there is; the environment leads to it."""
    return make_bucket(request.param)
