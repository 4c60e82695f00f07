"""`cubekit lock`: pin what a cube is to be made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cubekit_cli import _options as o

app = o.new_app()


@app.command()
def lock(
    lat: o.Lat,
    lon: o.Lon,
    start: o.Start = None,
    end: o.End = None,
    edge_size: o.EdgeSize = None,
    units: o.Units = None,
    resolution: o.Resolution = None,
    bands: o.Bands = None,
    catalog: o.Catalog = None,
    collection: o.Collection = None,
    nbar: o.NbarChoice = None,
    recipe: o.RecipePath = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Lock to write (JSON); replaced if it exists.")] = Path("cube.lock.json"),
    cache_dir: o.CacheDir = None,
) -> None:
    """Pin items, sizes, ETags and versions of a build; `cubekit build --locked FILE` makes the same cube, or says what changed."""
    from cubekit.api import make_recipe
    from cubekit.layers import Session
    from cubekit.locking import lock_cube
    from cubekit.site import Site

    options = o.given(
        edge_size=edge_size, units=units, resolution=resolution, bands=bands, catalog=catalog, collection=collection, nbar=nbar
    )
    site = Site(lat, lon)
    session = Session(cache_dir=cache_dir)
    content = lock_cube(make_recipe(recipe, start=start, end=end, session=session, **options), site, out, session=session)
    items = sum(len(search["items"]) for search in content["searches"])
    rest = f"; not pinned: {', '.join(content['unpinned'])}" if content["unpinned"] else ""
    typer.echo(f"{out}: {items} items, {len(content['files'])} files{rest}")
