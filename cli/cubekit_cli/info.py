"""`cubekit info`: describe a cube."""

from __future__ import annotations

from typing import Annotated

import typer

from cubekit_cli import _options as o

app = o.new_app()


@app.command()
def info(cube: Annotated[str, typer.Argument(help="Path or URL of a cube.")], as_json: o.Json = False) -> None:
    """Describe a cube: place, time, variables, clear share, holes, provenance."""
    from cubekit.cube import describe
    from cubekit.store import open_cube
    from cubekit_cli._words import print_json

    content = describe(open_cube(cube))
    if as_json:
        print_json(content)
        return
    width = max(len(key) for key in content)
    for key, value in content.items():
        typer.echo(f"{key:<{width}}  {', '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
