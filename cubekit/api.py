"""What notebooks and the command line call: keywords in, a recipe made of them, the pipeline run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cubekit.bands import sentinel2_bands
from cubekit.errors import InputError
from cubekit.layers import LayerPlan, Session
from cubekit.locking import open_lock
from cubekit.pipeline import BuildResult, build_cube, plan_cube
from cubekit.recipe import Recipe, load_recipe, parse_recipe
from cubekit.site import Site, TimeRange
from cubekit.store import open_cube

__all__ = ["build", "make_recipe", "open_cube", "plan", "run_build", "run_locked"]

S2 = "sentinel-2-l2a"


def make_recipe(
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    *,
    start: Any = None,
    end: Any = None,
    edge_size: float | None = None,
    units: str | None = None,
    resolution: float | None = None,
    bands: Sequence[str] | str | None = None,
    catalog: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    collection: str | None = None,
    nbar: str | None = None,
    session: Session | None = None,
) -> Recipe:
    """Make a recipe from keywords, or change some values of one.

    Without a recipe: one Sentinel-2 layer with the bands of 10 and 20 m from Planetary Computer, 128 px at 10 m, and all days of the
    catalogue where that is a file, else the twelve months up to yesterday.

    Parameters
    ----------
    recipe
        File, mapping or `Recipe` to start from.
    start, end
        First and last day, see `TimeRange`.
    edge_size, units, resolution
        See `cubekit.grid.Grid.around`.
    bands, catalog, collection, nbar
        Options of the Sentinel-2 layer.
    session
        Opens the catalogue whose days are asked for.

    Raises
    ------
    InputError
        If the recipe does not fit, or has no Sentinel-2 layer that `bands`, `catalog`, `collection` or `nbar` could apply to.
    """
    if isinstance(recipe, Recipe):
        content = {**recipe.model_dump(mode="json", exclude={"layers"}), "layers": [layer.canonical() for layer in recipe.layers]}
        source = "recipe"
    elif isinstance(recipe, Mapping):
        content, source = dict(recipe), "recipe"
    elif recipe is not None:
        return make_recipe(**{**locals(), "recipe": load_recipe(recipe)})
    else:
        content, source = {"name": "cube", "layers": [{"kind": "sentinel2"}]}, "options"
    _put(content, "grid", edge_size=edge_size, units=units, resolution=resolution)
    names = [band.name for band in sentinel2_bands(_several(bands, "bands"))] if bands is not None else None
    catalogs = [os.fspath(one) for one in _several(catalog, "catalog")] if catalog is not None else None
    options = {"bands": names, "catalog": catalogs, "collection": collection, "nbar": nbar}
    given = {key: value for key, value in options.items() if value is not None}
    layers = [dict(layer) if isinstance(layer, Mapping) else {"kind": layer} for layer in content.get("layers", [])]
    if given:
        targets = [layer for layer in layers if layer.get("kind") == "sentinel2"]
        if not targets:
            raise InputError(f"The recipe has no sentinel2 layer for {', '.join(given)}", remedy="Leave these out, or add the layer")
        for layer in targets:
            layer.update(given)
    if recipe is not None:
        _put(content, "time", **_days(start, end))
    elif start is not None and end is not None:
        content["time"] = _default_days(start, end, None)
    else:
        known = (session or Session()).catalog(tuple(catalogs)).days(collection or S2) if catalogs else None
        content["time"] = _default_days(start, end, known)
    return parse_recipe({**content, "layers": layers}, source=source)


def _several(given: Any, option: str) -> list[Any]:
    """One name (or path), or several, as a list."""
    if isinstance(given, (str, os.PathLike)):
        return [given]
    names = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(one, (str, os.PathLike)) for one in names):
        raise InputError(f"{option} {given!r} is no name and no list of names", remedy="Give text, or a list of texts")
    return names


def _put(content: dict[str, Any], key: str, **values: Any) -> None:
    given = {name: value for name, value in values.items() if value is not None}
    if given:
        content[key] = {**content.get(key, {}), **given}


def _days(start: Any, end: Any) -> dict[str, str]:
    days = {}
    if start is not None:
        days["start"] = str(TimeRange(start, start).start)
    if end is not None:
        days["end"] = str(TimeRange(end, end).end)
    return days


def _default_days(start: Any, end: Any, known: tuple[str, str] | None) -> dict[str, str]:
    """Both days: what is given, else those of the catalogue if they are known, else twelve months up to yesterday."""
    if end is None:
        end = date.today() - timedelta(days=1) if known is None else max(known[1], _days(start, None).get("start", ""))
    if start is None:
        last = TimeRange(end, end).end
        start = last - np.timedelta64(364, "D") if known is None else min(np.datetime64(known[0]), last)
    checked = TimeRange(start, end)
    return {"start": str(checked.start), "end": str(checked.end)}


def build(
    lat: float,
    lon: float,
    start: Any = None,
    end: Any = None,
    *,
    out: str | Path | None = None,
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    site_id: str = "",
    overwrite: bool = False,
    session: Session | None = None,
    **options: Any,
) -> xr.DataTree:
    """Build one cube, commit it and open it.

    Parameters
    ----------
    lat, lon
        Centre, degrees.
    start, end
        First and last day.
    out
        Store to make; by default ``<site id>.zarr`` in the current folder.
    recipe
        File, mapping or `Recipe`; see `make_recipe` for what it is without one.
    site_id
        Name of the site; made from the coordinates by default.
    overwrite
        Whether an existing cube is replaced.
    session
        How to run: engine, cache, progress.
    **options
        `edge_size`, `units`, `resolution`, `bands`, `catalog`, `collection`, `nbar`, see `make_recipe`.

    Returns
    -------
    DataTree
        The committed cube, opened lazily.
    """
    site = Site(lat, lon, site_id)
    made = make_recipe(recipe, start=start, end=end, session=session, **options)
    return open_cube(run_build(made, site, out=out, overwrite=overwrite, session=session).path)


def run_build(
    recipe: Recipe, site: Site, *, out: str | Path | None = None, overwrite: bool = False, session: Session | None = None
) -> BuildResult:
    """Build a recipe's cube at a site, by default as ``<site id>.zarr`` in the current folder, and tell what it cost."""
    return build_cube(recipe, site, str(out) if out is not None else f"{site.id}.zarr", overwrite=overwrite, session=session)


def run_locked(
    lock: str | Path,
    given: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    session: Session | None = None,
) -> BuildResult:
    """Build from a lock: the same cube bit for bit, or `UpstreamChangedError` with what changed.

    Parameters
    ----------
    lock
        File that `cubekit.locking.lock_cube` wrote; brings recipe and site.
    given
        Other options of the caller; none may be set.
    out, overwrite, session
        As in `build`.
    """
    if surplus := sorted(name for name, value in (given or {}).items() if value is not None):
        raise InputError(f"A lock brings its own site and recipe; {surplus[0]} was given too", remedy="Leave it out, or make a new lock")
    held = open_lock(lock)
    return run_build(held.recipe, held.site, out=out, overwrite=overwrite, session=held.session(session))


def plan(
    lat: float,
    lon: float,
    start: Any = None,
    end: Any = None,
    *,
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    session: Session | None = None,
    **options: Any,
) -> list[LayerPlan]:
    """What `build` would take, layer by layer: scenes, requests, bytes and memory; reads headers and metadata, but no imagery."""
    site = Site(lat, lon)
    return plan_cube(make_recipe(recipe, start=start, end=end, session=session, **options), site, session=session)
