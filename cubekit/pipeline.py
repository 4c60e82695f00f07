"""The whole flow on one page: a recipe and a site in, one committed cube out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import xarray as xr

from cubekit.cube import assemble
from cubekit.errors import NothingFoundError
from cubekit.layers import Layer, LayerPlan, LayerRequest, Session, Tally
from cubekit.recipe import Recipe
from cubekit.site import Site
from cubekit.store import Committed, check_target, commit_cube

__all__ = ["BuildResult", "build_cube", "plan_cube"]


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made, and what all its reads cost; `digest` is of the content, `holes` are asset reads that failed.

    `misses` are tiles whose leading part, asked for by estimate, was too short, and `retries` requests asked again: by these a run may
    differ from its plan.
    """

    path: str
    digest: str
    scenes: int
    holes: int
    requests: int
    bytes: int
    retries: int
    seconds: float
    misses: int = 0


def build_cube(recipe: Recipe, site: Site, out: str, *, overwrite: bool = False, session: Session | None = None) -> BuildResult:
    """Build the cube of a site and commit it to `out` (path or URL); an existing cube stays until the new one is complete.

    Raises `CubekitError` with the reason where there is no cube; nothing stands at `out` then that was not there before.
    """
    began = time.perf_counter()
    target = check_target(out, overwrite=overwrite)
    request = LayerRequest(site, recipe.grid.around(site), recipe.time.range, session or Session(), Tally())
    with request.session.building(target) as own:
        (path, digest), scenes = _built(recipe, replace(request, session=own), out, overwrite)
    cost, seconds = request.tally, round(time.perf_counter() - began, 3)
    return BuildResult(path, digest, scenes, cost.holes, cost.requests, cost.bytes, cost.retries, seconds, cost.misses)


def _built(recipe: Recipe, request: LayerRequest, out: str, overwrite: bool) -> tuple[Committed, int]:
    """Load the layers, assemble, commit; what was committed and the number of scenes."""
    groups: dict[str, list[xr.Dataset]] = {}
    missing = []
    for layer in recipe.layers:
        if (found := _found(layer, layer.load, request)) is None:
            missing.append(layer.kind)
        else:
            groups.setdefault(layer.group, []).append(found)
    hrefs = [href for parts in groups.values() for part in parts for href in part.attrs.pop("item_hrefs", "").split()]
    merged = {group: parts[0] if len(parts) == 1 else _merged(parts) for group, parts in groups.items()}
    sources, text, title = {"item_hrefs": hrefs or "none"}, recipe.published(), recipe.title or None
    cube = assemble(
        merged, request.grid, request.site, sources, recipe=text, digest=recipe.digest, title=title, time=request.time, missing=missing
    )
    return commit_cube(cube, out, overwrite=overwrite, workers=request.session.threads), cube.sizes.get("time", 0)


def _merged(parts: list[xr.Dataset]) -> xr.Dataset:
    return xr.merge(parts, combine_attrs="no_conflicts", join="exact", compat="no_conflicts")


def plan_cube(recipe: Recipe, site: Site, *, session: Session | None = None) -> list[LayerPlan]:
    """What building would take, layer by layer, by the code that builds; see `cubekit.layers.Layer.plan`."""
    request = LayerRequest(site, recipe.grid.around(site), recipe.time.range, session or Session())
    return [_found(layer, layer.plan, request) or LayerPlan(layer.kind, notes=("left out",)) for layer in recipe.layers]


def _found(layer: Layer, work: Callable[[LayerRequest], Any], request: LayerRequest) -> Any:
    """What a layer gives; None where it has nothing here and may."""
    try:
        return work(request)
    except NothingFoundError:
        if layer.missing != "fill":
            raise
    return None
