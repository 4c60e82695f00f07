"""Exchange with other layouts: cubes out in the layout of published datasets, published minicubes in as described trees."""

from __future__ import annotations

from cubekit.exchange._export import LAYOUTS, export_cube
from cubekit.exchange._import import import_cube

__all__ = ["LAYOUTS", "export_cube", "import_cube"]
