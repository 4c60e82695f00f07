"""`cubekit build`: one site, one cube."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cubekit.errors import InputError
from cubekit_cli import _options as o

app = o.new_app()


@app.command()
def build(
    lat: Annotated[float | None, typer.Option("--lat", help="Latitude of the centre, degrees north. Needed without --locked.")] = None,
    lon: Annotated[float | None, typer.Option("--lon", help="Longitude of the centre, degrees east. Needed without --locked.")] = None,
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
    locked: Annotated[Path | None, typer.Option("--locked", help="Lock to hold to; it brings site and recipe.")] = None,
    engine: o.Engine = "window",
    cache_dir: o.CacheDir = None,
    as_json: o.Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Build the cube of one site and commit it."""
    from dataclasses import asdict

    from cubekit.api import make_recipe, run_build, run_locked
    from cubekit.layers import Session
    from cubekit.site import Site
    from cubekit_cli._progress import progress
    from cubekit_cli._words import bytes_, print_json

    options = o.given(
        edge_size=edge_size, units=units, resolution=resolution, bands=bands, catalog=catalog, collection=collection, nbar=nbar
    )
    with progress(quiet) as report:
        session = Session(engine=engine, cache_dir=cache_dir, progress=report)
        if locked is not None:
            given = {"--lat": lat, "--lon": lon, "--start": start, "--end": end, "--recipe": recipe, **options}
            result = run_locked(locked, given, out=out, overwrite=overwrite, session=session)
        else:
            site = Site(_required(lat, "--lat"), _required(lon, "--lon"))
            made = make_recipe(recipe, start=start, end=end, session=session, **options)
            result = run_build(made, site, out=out, overwrite=overwrite, session=session)
    if as_json:
        print_json(asdict(result))
    else:
        holes = f", {result.holes} holes" if result.holes else ""
        cost = f"{result.requests} requests, {bytes_(result.bytes)}, {result.seconds:.1f} s"
        typer.echo(f"{Path(result.path).name}: {result.scenes} scenes{holes}; {cost}")


def _required(value: float | None, option: str) -> float:
    if value is None:
        raise InputError(f"Missing option '{option}'", remedy="Give both --lat and --lon, or --locked")
    return value
