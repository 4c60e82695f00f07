"""cubekit: from two coordinates to an analysis-ready Earth System Data Cube."""

from __future__ import annotations

__version__ = "0.1.0"
