"""Builders for batches: the real one, with a limit of the kernel around one site, chosen by its id."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cubekit.layers import Session
from cubekit.pipeline import BuildResult, build_cube
from cubekit.recipe import Recipe
from cubekit.site import Site


@contextmanager
def limited(kind: int, size: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def build(recipe: Recipe, site: Site, out: str, *, overwrite: bool = False, session: Session | None = None) -> BuildResult:
    options: dict[str, Any] = {"overwrite": overwrite, "session": session}
    if site.id.startswith("full"):
        with limited(resource.RLIMIT_FSIZE, 1024):
            return build_cube(recipe, site, out, **options)
    if site.id.startswith("narrow"):
        big = recipe.model_copy(update={"grid": recipe.grid.model_copy(update={"edge_size": 4096})})
        with limited(resource.RLIMIT_AS, address_space() + (100 << 20)):
            return build_cube(big, site, out, **options)
    return build_cube(recipe, site, out, **options)
