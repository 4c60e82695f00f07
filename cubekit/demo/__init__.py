"""The simulated world: a small but real catalogue of which the truth is known.

`write_world` writes STAC items, cloud-optimised rasters, granule metadata, elevation, land cover and thirty years of hourly climate
in seconds; the `World` it returns tells what every pixel, angle and day really is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cubekit.demo._model import Parameters
from cubekit.demo._weather import PlantedEvent
from cubekit.demo._world import World, ensure_world, open_world

if TYPE_CHECKING:
    from cubekit.demo._write import write_world

__all__ = ["Parameters", "PlantedEvent", "World", "ensure_world", "open_world", "write_world"]


def __getattr__(name: str) -> Any:
    if name != "write_world":
        raise AttributeError(f"module 'cubekit.demo' has no attribute {name!r}")
    # Writing needs xarray, zarr and the codecs; opening a world does not.
    from cubekit.demo._write import write_world

    return write_world
