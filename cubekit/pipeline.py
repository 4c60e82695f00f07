"""The whole flow on one page: a recipe and a site in, one committed cube out."""

from __future__ import annotations

import time
from dataclasses import dataclass

import xarray as xr

from cubekit.cube import assemble
from cubekit.errors import NothingFoundError
from cubekit.layers import LayerPlan, LayerRequest, Session, Tally
from cubekit.recipe import Recipe
from cubekit.site import Site
from cubekit.store import check_target, content_digest, write_cube

__all__ = ["BuildResult", "build_cube", "plan_cube"]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made (`path`, `digest` of the content, `scenes`) and what it cost.

    `holes` are asset reads that failed; `requests`, `bytes` and `retries` are those of all reads; `seconds` is wall time.
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
    """Build the cube of a site and commit it to `out` (path or URL); an existing cube stays until the new one is complete.

    A `session` shared by builds in one process opens catalogues, headers and metadata once.

    Raises
    ------
    CubekitError
        The reason why there is no cube; nothing stands at `out` then that was not there before.
    """
    began = time.perf_counter()
    check_target(out, overwrite=overwrite)
    request = LayerRequest(site, recipe.grid.around(site), recipe.time.range, session or Session(), Tally())
    groups, missing = _load(recipe, request)
    hrefs = [href for parts in groups.values() for part in parts for href in part.attrs.pop("item_hrefs", "").split()]
    merged = {group: xr.merge(parts, combine_attrs="no_conflicts", join="exact", compat="no_conflicts") for group, parts in groups.items()}
    cube = assemble(
        merged,
        request.grid,
        site,
        {"item_hrefs": hrefs or "none"},
        recipe=recipe.canonical(),
        digest=recipe.digest,
        title=recipe.title or None,
        time=request.time,
        missing=missing,
    )
    path = write_cube(cube, out, overwrite=overwrite)
    cost, scenes = request.tally, cube.sizes.get("time", 0)
    seconds = time.perf_counter() - began
    return BuildResult(path, content_digest(path), scenes, cost.holes, cost.requests, cost.bytes, cost.retries, seconds)


def _load(recipe: Recipe, request: LayerRequest) -> tuple[dict[str, list[xr.Dataset]], list[str]]:
    """Datasets by group, and the kinds of the layers that have nothing here and may."""
    groups: dict[str, list[xr.Dataset]] = {}
    missing = []
    for layer in recipe.layers:
        try:
            groups.setdefault(layer.group, []).append(layer.load(request))
        except NothingFoundError:
            if layer.missing == "fail":
                raise
            missing.append(layer.kind)
    return {group: parts for group, parts in groups.items() if parts}, missing


def plan_cube(recipe: Recipe, site: Site, *, session: Session | None = None) -> list[LayerPlan]:
    """What building would take, layer by layer; asks catalogues and reads headers, but no pixels."""
    request = LayerRequest(site, recipe.grid.around(site), recipe.time.range, session or Session())
    return [layer.plan(request) for layer in recipe.layers]
