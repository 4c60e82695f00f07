"""`cubekit build`: one site, one cube."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cubekit_cli import _options as o

app = typer.Typer(add_completion=False)


@app.command()
def build(
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
    out: Annotated[str | None, typer.Option("--out", "-o", help="Zarr store to make. Default: <site>.zarr.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing cube once the new one is complete.")] = False,
    engine: o.Engine = "window",
    cache_dir: o.CacheDir = None,
    as_json: o.Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Build the cube of one site and commit it."""
    from dataclasses import asdict

    from cubekit.api import run_build
    from cubekit.layers import Session
    from cubekit_cli._progress import progress
    from cubekit_cli._words import bytes_, print_json

    options = o.given(
        edge_size=edge_size, units=units, resolution=resolution, bands=bands, catalog=catalog, collection=collection, nbar=nbar
    )
    with progress(quiet) as report:
        session = Session(engine=engine, cache_dir=cache_dir, progress=report)
        result = run_build(lat, lon, start, end, out=out, recipe=recipe, overwrite=overwrite, session=session, **options)
    if as_json:
        print_json(asdict(result))
    else:
        holes = f", {result.holes} holes" if result.holes else ""
        cost = f"{result.requests} requests, {bytes_(result.bytes)}, {result.seconds:.1f} s"
        typer.echo(f"{Path(result.path).name}: {result.scenes} scenes{holes}; {cost}")
