"""`cubekit diff`: what differs between two cubes."""

from __future__ import annotations

from typing import Annotated

import typer

from cubekit_cli import _options as o

app = o.new_app()


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="Path or URL of a cube.")],
    b: Annotated[str, typer.Argument(help="Path or URL of another.")],
    as_json: o.Json = False,
) -> None:
    """Say what differs between two cubes, by layer, time and cause; exits with 3 if anything does."""
    from dataclasses import asdict

    from cubekit.cube import diff as diff_
    from cubekit_cli._words import print_json

    found = diff_(a, b)
    if as_json:
        print_json([asdict(difference) for difference in found])
    else:
        for difference in found:
            typer.echo(str(difference))
        typer.echo(f"{len(found)} differences" if found else "no difference")
    if found:
        raise typer.Exit(3)
