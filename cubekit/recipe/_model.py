"""The recipe: everything that decides what a cube holds, and nothing that does not."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cubekit.grid import Grid, edge_in_pixels
from cubekit.layers import Layer, layer_from
from cubekit.site import Site, TimeRange

__all__ = ["GridSpec", "Recipe", "TimeSpec"]

_MODEL = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class GridSpec(BaseModel):
    """Extent and pixel size of the cubes of a recipe."""

    model_config = _MODEL

    edge_size: Annotated[float, Field(gt=0)] = 128
    """Edge length in `units`."""

    units: str = "px"
    """``px``, ``m``, ``km`` or another length of scipy.constants."""

    resolution: Annotated[float, Field(gt=0)] = 10
    """Pixel size, m."""

    epsg: int | None = None
    """CRS; by default the UTM or UPS zone of the site."""

    phase: tuple[float, float] = (0.0, 0.0)
    """Offset (x, y) of pixel edges from multiples of the resolution, m."""

    @model_validator(mode="before")
    @classmethod
    def _phase(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("phase"), list):
            return {**value, "phase": tuple(value["phase"])}
        return value

    @model_validator(mode="after")
    def _edge(self) -> GridSpec:
        edge_in_pixels(self.edge_size, self.resolution, self.units)
        return self

    def around(self, site: Site) -> Grid:
        """The grid of a site."""
        return Grid.around(site.lat, site.lon, self.edge_size, self.resolution, self.units, self.epsg, self.phase)


class TimeSpec(BaseModel):
    """Days that the cubes of a recipe cover, both ends included."""

    model_config = _MODEL

    start: str
    """ISO date."""

    end: str
    """ISO date."""

    @model_validator(mode="before")
    @classmethod
    def _dates(cls, value: Any) -> Any:
        # YAML reads an unquoted 2020-01-31 as a date.
        return {k: v.isoformat() if hasattr(v, "isoformat") else v for k, v in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _range(self) -> TimeSpec:
        _ = self.range
        return self

    @property
    def range(self) -> TimeRange:
        """As a checked range of days."""
        return TimeRange(self.start, self.end)  # type: ignore[arg-type]


AnyLayer = Annotated[Layer, BeforeValidator(layer_from)]


class Recipe(BaseModel):
    """What to build: a grid, a time range and layers. Frozen and strict: unknown keys are errors."""

    model_config = ConfigDict(**_MODEL, arbitrary_types_allowed=True)

    cubekit: Literal[1] = 1
    """Version of the recipe format."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "cube"
    """Short name, used in file names and registries."""

    title: str = ""
    """One line for people; becomes the cube's title."""

    grid: GridSpec = GridSpec()
    """Extent and pixel size."""

    time: TimeSpec
    """First and last day."""

    layers: Annotated[tuple[AnyLayer, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v), Field(min_length=1)]
    """What the cube is made of, in order; `kind` selects the layer, its other keys are the layer's options."""

    @model_validator(mode="after")
    def _distinct(self) -> Recipe:
        kinds = [layer.kind for layer in self.layers]
        if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
            raise ValueError(f"layer {twice[0]!r} stands in the recipe twice; its variables would collide")
        return self

    def canonical(self) -> str:
        """The recipe with all defaults filled in, as JSON with sorted keys and no spaces."""
        return self._text([layer.canonical() for layer in self.layers])

    def published(self) -> str:
        """The canonical form with local paths reduced to their last part: what is written into cubes, the same on every machine."""
        return self._text([layer.published() for layer in self.layers])

    def _text(self, layers: list[dict[str, Any]]) -> str:
        content = {**self.model_dump(mode="json", exclude={"layers"}), "layers": layers}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the published form: recipes with the same digest ask for the same cubes, wherever their local files lie."""
        return hashlib.sha256(self.published().encode()).hexdigest()

    @cached_property
    def local_digest(self) -> str:
        """SHA-256 of the canonical form: differs as well where local files are others of the same name."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
