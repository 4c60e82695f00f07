"""`cubekit recipe`: check recipes and print their schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cubekit_cli import _options as o

app = o.new_app(no_args_is_help=True, help="Check recipes and print their schema.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, with every layer that is installed."""
    from cubekit.recipe import recipe_schema
    from cubekit_cli._words import print_json

    print_json(recipe_schema())


@app.command()
def check(path: Annotated[Path, typer.Argument(help="Recipe file (YAML).")]) -> None:
    """Check a recipe; print its canonical form and digest."""
    import json

    from cubekit.recipe import load_recipe
    from cubekit_cli._words import print_json

    recipe = load_recipe(path)
    print_json({"digest": recipe.digest, "recipe": json.loads(recipe.canonical())})
