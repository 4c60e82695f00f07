"""Assemble, describe, check and compare cubes."""

from __future__ import annotations

from cubekit.cube._assemble import assemble, spatial_ref
from cubekit.cube._attributes import flat_attrs
from cubekit.cube._diff import Difference, diff
from cubekit.cube._globals import CONVENTIONS, zarr_conventions
from cubekit.cube._info import describe
from cubekit.cube._problem import Problem
from cubekit.cube._validate import validate

__all__ = [
    "CONVENTIONS",
    "Difference",
    "Problem",
    "assemble",
    "describe",
    "diff",
    "flat_attrs",
    "spatial_ref",
    "validate",
    "zarr_conventions",
]
