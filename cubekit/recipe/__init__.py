"""Recipes: strict, frozen models; YAML in; canonical form and digest out."""

from __future__ import annotations

from cubekit.recipe._load import load_recipe, parse_recipe, recipe_schema
from cubekit.recipe._model import GridSpec, Recipe, TimeSpec

__all__ = ["GridSpec", "Recipe", "TimeSpec", "load_recipe", "parse_recipe", "recipe_schema"]
