"""Which layers there are: the built-in ones by name, others by the entry-point group ``cubekit.layers``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from cubekit.errors import InputError
from cubekit.layers._base import Layer

__all__ = ["layer_from", "layer_kinds"]

_BUILT_IN = {
    "sentinel2": "cubekit.layers.sentinel2:Sentinel2",
    "era5land": "cubekit.layers.climate:Era5Land",
    "events": "cubekit.layers.climate:Events",
    "dem": "cubekit.layers.static:Dem",
    "landcover": "cubekit.layers.static:LandCover",
}


@cache
def _built_in(kind: str) -> type[Layer]:
    module, _, name = _BUILT_IN[kind].partition(":")
    model: type[Layer] = getattr(import_module(module), name)
    return model


@cache
def layer_kinds() -> Mapping[str, type[Layer]]:
    """All layers that are installed, by kind. Built-in layers cannot be replaced."""
    kinds = {kind: _built_in(kind) for kind in _BUILT_IN}
    for point in entry_points(group="cubekit.layers"):
        if point.name in kinds:
            raise InputError(
                f"Package {point.value!r} offers a layer {point.name!r}, which exists", remedy="Uninstall it, or rename its layer"
            )
        model = point.load()
        if not (isinstance(model, type) and issubclass(model, Layer)):
            raise InputError(f"Entry point {point.value!r} is no subclass of cubekit.layers.Layer", remedy="Uninstall or fix that package")
        kinds[point.name] = model
    return kinds


def layer_from(value: Any) -> Any:
    """Make a layer from its recipe entry; layers pass unchanged."""
    if isinstance(value, Layer):
        return value
    if isinstance(value, str):
        value = {"kind": value}
    if not isinstance(value, Mapping):
        raise ValueError("a layer is a mapping with a key 'kind'")  # noqa: TRY004 - pydantic collects ValueError
    kind = str(value.get("kind"))
    if kind in _BUILT_IN:  # the others, and what they import, are not needed
        return _built_in(kind).model_validate(dict(value))
    kinds = layer_kinds()
    if kind not in kinds:
        close = difflib.get_close_matches(kind, kinds, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"unknown layer kind {kind!r}{hint} (allowed: {', '.join(sorted(kinds))})")
    return kinds[kind].model_validate(dict(value))
