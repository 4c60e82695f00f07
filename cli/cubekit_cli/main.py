"""The command line: arguments in, one public call, words out."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cubekit_cli import _lazy
from cubekit_cli._errors import run
from cubekit_cli._options import new_app

__all__ = ["app", "main"]

app = new_app(
    name="cubekit",
    help="From two coordinates to an analysis-ready Earth System Data Cube.",
    cls=_lazy.LazyGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from cubekit import __version__

        typer.echo(f"cubekit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit with the status of DESIGN: 0, 1 internal, 2 usage, 3 failed, 4 nothing found, 5 denied."""
    sys.exit(run(app))
