"""The simulated world: a small but real catalogue of which the truth is known.

`write_world` writes STAC items, cloud-optimised rasters, granule metadata, elevation, land cover and thirty years of hourly climate
in seconds; the `World` it returns tells what every pixel, angle and day really is.
"""

from __future__ import annotations

from cubekit.demo._model import Parameters
from cubekit.demo._weather import PlantedEvent
from cubekit.demo._world import World, ensure_world, open_world, write_world

__all__ = ["Parameters", "PlantedEvent", "World", "ensure_world", "open_world", "write_world"]
