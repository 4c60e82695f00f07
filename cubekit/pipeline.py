"""The whole flow on one page: a recipe and a site in, one committed cube out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import xarray as xr

from cubekit.cube import assemble
from cubekit.errors import NothingFoundError
from cubekit.layers import Layer, LayerPlan, LayerRequest, Session, Tally
from cubekit.recipe import Recipe
from cubekit.site import Site
from cubekit.store import check_target, content_digest, write_cube

__all__ = ["BuildResult", "build_cube", "plan_cube"]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made and what it cost.

    Parameters
    ----------
    path
        Of the committed cube.
    digest
        Of its content (pixels, coordinates, attributes without times of making): equal for equal cubes.
    scenes
        Time steps of the imagery.
    holes, requests, bytes, retries
        Asset reads that failed; HTTP requests, bytes and repeated requests of all reads.
    seconds
        Wall time.
    """

    path: str
    digest: str
    scenes: int
    holes: int
    requests: int
    bytes: int
    retries: int
    seconds: float


def build_cube(recipe: Recipe, site: Site, out: str, *, overwrite: bool = False, session: Session | None = None) -> BuildResult:
    """Build the cube of a site and commit it to `out`.

    Parameters
    ----------
    recipe, site
        What to build, and where.
    out
        Path or URL of the Zarr store to make.
    overwrite
        Whether an existing cube is replaced; it stays until the new one is complete.
    session
        How to run; shared by builds in one process so that catalogues, headers and metadata are opened once.

    Raises
    ------
    CubekitError
        The reason why there is no cube; nothing stands at `out` then that was not there before.
    """
    began = time.perf_counter()
    check_target(out, overwrite=overwrite)
    tally = Tally()
    request = LayerRequest(site, recipe.grid.around(site), recipe.time.range, session or Session(), tally)
    groups: dict[str, list[xr.Dataset]] = {}
    missing = []
    for layer in recipe.layers:
        try:
            groups.setdefault(layer.group, []).append(layer.load(request))
        except NothingFoundError:
            if layer.missing == "fail":
                raise
            missing.append(layer.kind)
    if not groups:
        raise NothingFoundError(f"No layer of recipe {recipe.name!r} has data at {site.id}", remedy="Check place and time")
    cube = assemble(
        {group: xr.merge(parts, combine_attrs="no_conflicts", join="exact", compat="no_conflicts") for group, parts in groups.items()},
        request.grid,
        site,
        recipe=recipe.canonical(),
        digest=recipe.digest,
        title=recipe.title,
        time=recipe.time.range,
        missing=missing,
    )
    path = write_cube(cube, out, overwrite=overwrite)
    scenes = cube.sizes.get("time", 0)
    seconds = time.perf_counter() - began
    return BuildResult(path, content_digest(path), scenes, tally.holes, tally.requests, tally.bytes, tally.retries, seconds)


def plan_cube(recipe: Recipe, site: Site, *, session: Session | None = None) -> list[LayerPlan]:
    """What building would take, layer by layer; asks catalogues and reads headers, but no pixels."""
    request = LayerRequest(site, recipe.grid.around(site), recipe.time.range, session or Session())
    return [_plan(layer, request) for layer in recipe.layers]


def _plan(layer: Layer, request: LayerRequest) -> LayerPlan:
    try:
        return layer.plan(request)
    except NothingFoundError as error:
        if layer.missing == "fail":
            raise
        return LayerPlan(layer.kind, notes=(str(error),))
