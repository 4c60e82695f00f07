"""`cubekit import`: a published minicube, its defects named, described by CF."""

from __future__ import annotations

from typing import Annotated

import typer

from cubekit_cli import _options as o

app = o.new_app()


@app.command()
def import_(
    path: Annotated[str, typer.Argument(help="Minicube of DeepExtremeCubes or earthnet-minicuber: Zarr or NetCDF.")],
    out: Annotated[str | None, typer.Argument(help="Cube to make. Default: only report.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing cube once the new one is complete.")] = False,
    as_json: o.Json = False,
) -> None:
    """Report the known defects of a published minicube and describe it by CF; no value is changed."""
    from cubekit.exchange import import_cube
    from cubekit_cli._words import print_json

    _, defects = import_cube(path, out, overwrite=overwrite)
    if as_json:
        print_json({"path": path, "out": out, "defects": defects})
        return
    for defect in defects or ["no known defect"]:
        typer.echo(defect)
