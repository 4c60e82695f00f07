"""Pictures of cubes and sites."""

from __future__ import annotations

from cubekit.show._sheet import contact_sheet
from cubekit.show._sites import sites_map

__all__ = ["contact_sheet", "sites_map"]
