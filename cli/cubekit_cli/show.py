"""`cubekit show`: draw a cube's contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cubekit_cli import _options as o

app = o.new_app()


@app.command()
def show(
    cube: Annotated[str, typer.Argument(help="Path or URL of a cube.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", callback=o.local, help="PNG to write. Default: the cube's name with .png.")
    ] = None,
) -> None:
    """Draw a cube's contact sheet: clear scenes, NDVI with clear fraction, status, climate and events."""
    from cubekit.show import contact_sheet
    from cubekit.store import open_cube

    path = out or Path(cube.rstrip("/").rsplit("/", 1)[-1]).with_suffix(".png")
    contact_sheet(open_cube(cube), path)
    typer.echo(str(path))
