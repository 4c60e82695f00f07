"""`cubekit validate`: check a cube and name what is wrong."""

from __future__ import annotations

from typing import Annotated

import typer

from cubekit_cli import _options as o

app = o.new_app()


@app.command()
def validate(cube: Annotated[str, typer.Argument(help="Path or URL of a cube.")], as_json: o.Json = False) -> None:
    """Check a cube and name what is wrong; exits with 3 if anything is."""
    from dataclasses import asdict

    from cubekit.cube import validate as validate_
    from cubekit_cli._words import print_json

    problems = validate_(cube)
    if as_json:
        print_json([asdict(problem) for problem in problems])
    else:
        for problem in problems:
            typer.echo(str(problem))
        typer.echo(f"{cube}: {_count(len(problems))}")
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(3)


def _count(problems: int) -> str:
    return "valid" if problems == 0 else "1 problem" if problems == 1 else f"{problems} problems"
