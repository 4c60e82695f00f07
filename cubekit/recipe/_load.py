"""YAML in, recipe out; every mistake with file, key path and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from cubekit.errors import CubekitError, RecipeError
from cubekit.layers import Layer, layer_kinds
from cubekit.recipe._model import Recipe

__all__ = ["OPTIONS", "load_recipe", "parse_recipe", "recipe_schema"]

MAX_BYTES = 1_000_000
"""Larger files are no recipes."""

OPTIONS = "options"
"""Source of a recipe that was made of keywords alone."""


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a YAML file.

    Raises
    ------
    RecipeError
        If the file is missing, too large, no plain YAML mapping, or does not fit; `context` has `path` and `key`.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(f"Recipe {path} has {path.stat().st_size} bytes", remedy=f"A recipe has at most {MAX_BYTES}", path=str(path))
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(f"Recipe {path} cannot be read: {reason}", remedy="Give the path of a YAML file", path=str(path)) from None
    return parse_recipe(text, source=str(path))


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (a few lines can expand to gigabytes) and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed in recipes", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} is not text", key.start_mark)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} stands twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def parse_recipe(content: str | Mapping[str, Any], source: str = "recipe") -> Recipe:
    """Make a recipe from YAML text or a mapping.

    Parameters
    ----------
    content
        YAML, or what it would parse to.
    source
        Named in errors.
    """
    if isinstance(content, str):
        try:
            content = yaml.load(content, Loader=_Loader)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as error:
            raise RecipeError(f"{source} is not plain YAML: {_where(error)}", remedy="Check the syntax there", path=source) from None
        except RecursionError:
            raise RecipeError(f"{source} is nested too deeply", remedy="Check the syntax", path=source) from None
    if not isinstance(content, Mapping):
        raise RecipeError(
            f"{source} holds {type(content).__name__}, not keys and values", remedy="Start from recipes/sentinel2", path=source
        )
    try:
        return Recipe.model_validate(dict(content))
    except ValidationError as error:
        raise _explain(error, content, source) from None
    except CubekitError as error:
        raise RecipeError(f"{source}: {error.message}", remedy=error.remedy, path=source) from None


def _where(error: yaml.YAMLError) -> str:
    """What YAML objects to on one line, with the place."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})" if problem and mark else " ".join(str(error).split())


def _explain(error: ValidationError, content: Mapping[str, Any], source: str) -> RecipeError:
    problems = []
    first_key = ""
    for detail in error.errors():
        location = [part for part in detail["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
        key = ".".join(str(part) for part in location)
        first_key = first_key or key
        if detail["type"] == "extra_forbidden":
            allowed = _allowed_at(location[:-1], content)
            close = difflib.get_close_matches(str(location[-1]), allowed, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"{key}: unknown key{hint} (allowed: {', '.join(allowed)})")
        elif detail["type"] == "missing":
            problems.append(f"{key}: is missing")
        else:
            message = detail["msg"].removeprefix("Value error, ")
            shown = "" if isinstance(detail["input"], (dict, list, tuple)) else f", got {detail['input']!r}"
            problems.append(f"{key}: {message}{shown}")
    asked = source == OPTIONS
    return RecipeError(
        f"{'These options do' if asked else f'{source} does'} not fit: " + "; ".join(problems),
        remedy="Change them" if asked else "`cubekit recipe schema` prints all keys and their types",
        path=source,
        key=first_key,
    )


def _allowed_at(location: list[Any], content: Any) -> list[str]:
    """Names of the fields that the model at a key path knows."""
    model: type[BaseModel] | None = Recipe
    for part in location:
        if isinstance(content, Mapping):
            content = content.get(part)
        elif isinstance(content, (list, tuple)) and isinstance(part, int) and part < len(content):
            content = content[part]
            kind = content.get("kind") if isinstance(content, Mapping) else None
            model = layer_kinds().get(kind) if isinstance(kind, str) else Layer
            continue
        if model is not None and part in model.model_fields:
            model = _model_of(model.model_fields[part].annotation)
    return sorted(model.model_fields) if model is not None else []


def _model_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), None)


def recipe_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of recipes, with every layer that is installed."""
    schema = Recipe.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    options = []
    for kind, model in sorted(layer_kinds().items()):
        layer = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(layer.pop("$defs", {}))
        definitions[f"layer-{kind}"] = layer
        options.append({"$ref": f"#/$defs/layer-{kind}"})
    schema["properties"]["layers"]["items"] = {"oneOf": options}
    definitions.pop("Layer", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
