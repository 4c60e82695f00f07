"""`cubekit plan`: a dry run on the real code path."""

from __future__ import annotations

import typer

from cubekit_cli import _options as o

app = o.new_app()


@app.command()
def plan(
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
    engine: o.Engine = "window",
    cache_dir: o.CacheDir = None,
    as_json: o.Json = False,
) -> None:
    """Say what a build would take: scenes, requests, bytes, memory. Reads headers and metadata, but no imagery."""
    from dataclasses import asdict

    from cubekit.api import plan as plan_
    from cubekit.layers import Session
    from cubekit_cli._words import bytes_, print_json

    options = o.given(
        edge_size=edge_size, units=units, resolution=resolution, bands=bands, catalog=catalog, collection=collection, nbar=nbar
    )
    plans = plan_(lat, lon, start, end, recipe=recipe, session=Session(engine=engine, cache_dir=cache_dir), **options)
    if as_json:
        print_json([asdict(layer) for layer in plans])
        return
    for layer in plans:
        typer.echo(
            f"{layer.kind}: {layer.scenes} scenes, {layer.items} items, {layer.assets} assets; "
            f"{layer.requests} requests, {bytes_(layer.bytes)}, about {bytes_(layer.memory)} of memory"
        )
        for note in layer.notes:
            typer.echo(f"  {note}")
