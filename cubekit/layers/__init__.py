"""Layers: everything a cube can be made of.

A layer is a frozen, strict pydantic model: the recipe entry *is* the object. ``kind`` selects it, its fields are its options, and
``load(request)`` returns a dataset on the request's grid or raises. Third parties add theirs by the entry-point group ``cubekit.layers``.
"""

from __future__ import annotations

from cubekit.layers._base import Layer, LayerPlan, LayerRequest
from cubekit.layers._pins import Pins
from cubekit.layers._registry import layer_from, layer_kinds
from cubekit.layers._session import Progress, Session, Tally

__all__ = ["Layer", "LayerPlan", "LayerRequest", "Pins", "Progress", "Session", "Tally", "layer_from", "layer_kinds"]
