"""Writing the world: imagery, elevation, land cover and climate, all or nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cubekit.demo._climate_store import write_climate
from cubekit.demo._items import sentinel2_item
from cubekit.demo._model import Model, Parameters, model
from cubekit.demo._place import SITES
from cubekit.demo._render import render
from cubekit.demo._static import write_elevation, write_land_cover
from cubekit.demo._weather import CELLS, LATITUDES, LONGITUDES
from cubekit.demo._world import CATALOG, CLIMATE, PARAMETERS, World
from cubekit.errors import InputError

__all__ = ["write_world"]


def write_world(
    root: str | os.PathLike[str],
    *,
    seed: int = 6,
    start: str = "2021-01-01",
    end: str = "2022-12-31",
    climate_start: str = "1991-01-01",
    size: int = 516,
    max_cloud: float = 0.45,
    threads: int | None = None,
) -> World:
    """Write a simulated world: a STAC item collection, its rasters and metadata, and thirty years of hourly climate.

    Parameters
    ----------
    root
        Folder to write; it must not exist or be empty. Written beside and renamed, so that it is there completely or not at all.
    seed
        Of everything; equal parameters give equal bytes.
    start, end
        First and last day of imagery, ISO.
    climate_start
        First day of the climate, which ends with the imagery's last year.
    size
        Side of the rendered square in 10 m pixels, a multiple of 12.
    max_cloud
        Passes under more cloud are not delivered.
    threads
        Default: the number of cores, at most 4.

    Raises
    ------
    InputError
        A parameter that cannot be meant, or a folder that is not empty.
    """
    parameters = Parameters(seed, start, end, climate_start, size, max_cloud)
    target = Path(root).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} exists and is not an empty folder", remedy="Name another folder, or remove it first", path=str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write(model(parameters), beside, threads or min(os.cpu_count() or 1, 4))
        beside.chmod(0o755)
        if target.exists():
            target.rmdir()
        beside.rename(target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return World(target, parameters)


def _write(one: Model, root: Path, threads: int) -> None:
    with ThreadPoolExecutor(1) as pool:
        climate = pool.submit(write_climate, one, root / CLIMATE)
        items = _write_imagery(one, root, threads)
        items += write_elevation(one, root) + write_land_cover(one, root)
        climate.result()
    _write_json(root / CATALOG, {"type": "FeatureCollection", "features": items})
    world = World(root, one.parameters)
    content = {
        "parameters": asdict(one.parameters),
        "digest": one.parameters.digest,
        "sites": {name: {"lon": lon, "lat": lat} for name, (lon, lat) in SITES.items()},
        "events": world.event_table(),
        "climate_cells": [{"lat": float(LATITUDES[r]), "lon": float(LONGITUDES[c]), "elevation": z} for (r, c), z in CELLS.items()],
    }
    _write_json(root / PARAMETERS, content)


def _write_imagery(one: Model, root: Path, threads: int) -> list[Any]:
    granules = list(one.granules.values())
    with ThreadPoolExecutor(threads) as pool:
        rendered = list(pool.map(lambda granule: render(one, granule, root, f"sentinel-2-l2a/{granule.id}"), granules))
    return [sentinel2_item(item, "1.0.0" if order % 2 == 0 else "1.1.0") for order, item in enumerate(rendered)]


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
