"""`cubekit export`: a cube in the layout of a published dataset."""

from __future__ import annotations

from typing import Annotated

import typer

from cubekit_cli import _options as o

app = o.new_app()


@app.command()
def export(
    cube: Annotated[str, typer.Argument(help="Path or URL of a cube.")],
    out: Annotated[str, typer.Argument(help="Folder to make: one flat Zarr v2 group.")],
    layout: Annotated[str, typer.Option("--layout", help="Layout to write: deepextremecubes.")] = "deepextremecubes",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing group once the new one is complete.")] = False,
) -> None:
    """Write a cube in the layout of a published dataset, so that its loaders open it."""
    from cubekit.exchange import export_cube

    typer.echo(export_cube(cube, out, layout, overwrite=overwrite))
