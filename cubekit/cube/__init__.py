"""Assemble, describe, check and compare cubes."""

from __future__ import annotations

from cubekit.cube._assemble import assemble
from cubekit.cube._globals import CONVENTIONS, provenance, zarr_conventions

__all__ = ["CONVENTIONS", "assemble", "provenance", "zarr_conventions"]
