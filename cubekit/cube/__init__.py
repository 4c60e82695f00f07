"""Assemble, describe, check and compare cubes."""

from __future__ import annotations

from cubekit.cube._assemble import assemble
from cubekit.cube._globals import CONVENTIONS, zarr_conventions

__all__ = ["CONVENTIONS", "assemble", "zarr_conventions"]
