"""Recipes: strict, frozen models; YAML in; canonical form and digest out."""

from __future__ import annotations

from cubekit.recipe._load import OPTIONS, load_recipe, parse_recipe, recipe_schema
from cubekit.recipe._model import GridSpec, Recipe, TimeSpec

__all__ = ["OPTIONS", "GridSpec", "Recipe", "TimeSpec", "load_recipe", "parse_recipe", "recipe_schema"]
