"""What notebooks and the command line call: keywords in, a recipe made of them, the pipeline run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import xarray as xr

from cubekit.bands import sentinel2_bands
from cubekit.errors import InputError
from cubekit.grid import check_lonlat
from cubekit.layers import LayerPlan, Session
from cubekit.locking import open_lock
from cubekit.pipeline import BuildResult, build_cube, plan_cube
from cubekit.recipe import Recipe, load_recipe, parse_recipe
from cubekit.site import Site, TimeRange
from cubekit.store import open_cube

__all__ = ["build", "make_recipe", "open_cube", "plan"]


def make_recipe(
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    *,
    start: Any = None,
    end: Any = None,
    edge_size: float | None = None,
    units: str | None = None,
    resolution: float | None = None,
    bands: Sequence[str] | str | None = None,
    catalog: str | Sequence[str] | None = None,
    collection: str | None = None,
    nbar: str | None = None,
) -> Recipe:
    """Make a recipe from keywords, or change some values of one.

    Without a recipe: one Sentinel-2 layer with the bands of 10 and 20 m from Planetary Computer, 128 px at 10 m, and the twelve months
    up to yesterday.

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
        return make_recipe(load_recipe(recipe), **{k: v for k, v in locals().items() if k != "recipe"})
    else:
        content, source = {"name": "cube", "layers": [{"kind": "sentinel2"}]}, "options"
    _put(content, "grid", edge_size=edge_size, units=units, resolution=resolution)
    _put(content, "time", **_days(start, end, default=recipe is None))
    names = [band.name for band in sentinel2_bands([bands] if isinstance(bands, str) else bands)] if bands is not None else None
    catalogs = [catalog] if isinstance(catalog, str) else list(catalog) if catalog is not None else None
    options = {"bands": names, "catalog": catalogs, "collection": collection, "nbar": nbar}
    given = {key: value for key, value in options.items() if value is not None}
    layers = [dict(layer) if isinstance(layer, Mapping) else {"kind": layer} for layer in content.get("layers", [])]
    if given:
        targets = [layer for layer in layers if layer.get("kind") == "sentinel2"]
        if not targets:
            raise InputError(f"The recipe has no sentinel2 layer for {', '.join(given)}", remedy="Leave these out, or add the layer")
        for layer in targets:
            layer.update(given)
    return parse_recipe({**content, "layers": layers}, source=source)


def _put(content: dict[str, Any], key: str, **values: Any) -> None:
    given = {name: value for name, value in values.items() if value is not None}
    if given:
        content[key] = {**content.get(key, {}), **given}


def _days(start: Any, end: Any, *, default: bool) -> dict[str, str]:
    if default:
        end = end if end is not None else date.today() - timedelta(days=1)
        if start is None:
            last = TimeRange(end, end).end
            start = last - np_days(364)
        checked = TimeRange(start, end)
        return {"start": str(checked.start), "end": str(checked.end)}
    days = {}
    if start is not None:
        days["start"] = str(TimeRange(start, start).start)
    if end is not None:
        days["end"] = str(TimeRange(end, end).end)
    return days


def np_days(days: int) -> Any:
    """`days` as a numpy time difference."""
    import numpy as np

    return np.timedelta64(days, "D")


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
    result = run_build(lat, lon, start, end, out=out, recipe=recipe, site_id=site_id, overwrite=overwrite, session=session, **options)
    return open_cube(result.path)


def run_build(
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
) -> BuildResult:
    """Like `build`, but returns what it cost instead of the opened cube."""
    check_lonlat(lat, lon)
    site = Site(lat, lon, site_id)
    made = make_recipe(recipe, start=start, end=end, **options)
    return build_cube(made, site, str(out) if out is not None else f"{site.id}.zarr", overwrite=overwrite, session=session)


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
    target = str(out) if out is not None else f"{held.site.id}.zarr"
    return build_cube(held.recipe, held.site, target, overwrite=overwrite, session=held.session(session))


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
    """What `build` would take, layer by layer: scenes, requests, bytes and memory; reads headers, but no pixels."""
    site = Site(lat, lon)
    return plan_cube(make_recipe(recipe, start=start, end=end, **options), site, session=session)
