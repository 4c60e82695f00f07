"""`cubekit demo`: the main job on the simulated world, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cubekit_cli import _options as o

app = o.new_app()

LAYERS = [
    {"kind": "sentinel2", "catalog": "demo"},
    {"kind": "dem", "catalog": "demo"},
    {"kind": "landcover", "catalog": "demo"},
    {"kind": "era5land", "source": "demo"},
    {"kind": "events", "source": "demo"},
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", callback=o.local, help="Folder for cube.zarr and cube.png.")] = Path("demo"),
    site: Annotated[str, typer.Option("--site", help="A place in the simulated world.")] = "centre",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Write the simulated world (once, into the user's cache), build a cube of it and draw the cube."""
    from cubekit.api import run_build
    from cubekit.demo import ensure_world
    from cubekit.errors import InputError
    from cubekit.layers import Session
    from cubekit.recipe import parse_recipe
    from cubekit.show import contact_sheet
    from cubekit.site import Site
    from cubekit.store import open_cube
    from cubekit_cli._progress import progress

    with progress(quiet) as report:
        report("world", 0, 1)
        world = ensure_world()
        report("world", 1, 1)
        if site not in world.sites:
            raise InputError(f"The simulated world has no site {site!r}", remedy=f"Use one of {', '.join(world.sites)}")
        lon, lat = world.sites[site]
        recipe = {
            "name": "demo",
            "title": "The simulated world",
            "time": {"start": world.parameters.start, "end": world.parameters.end},
            "layers": LAYERS,
        }
        out.mkdir(parents=True, exist_ok=True)
        target, picture = out / "cube.zarr", out / "cube.png"
        result = run_build(parse_recipe(recipe), Site(lat, lon, site), out=target, overwrite=True, session=Session(progress=report))
        report("picture", 0, 1)
        contact_sheet(open_cube(target), picture)
        report("picture", 1, 1)
    typer.echo(f"{target}: {result.scenes} scenes in {result.seconds:.1f} s; look at {picture}")
