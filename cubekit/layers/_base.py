"""What a layer is: options in the constructor, site, grid and time in the call, a dataset out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import xarray as xr
from pydantic import BaseModel, ConfigDict

from cubekit.grid import Grid
from cubekit.layers._session import Session, Tally
from cubekit.redact import placeless
from cubekit.site import Site, TimeRange

__all__ = ["Layer", "LayerPlan", "LayerRequest"]


@dataclass(frozen=True, slots=True)
class LayerRequest:
    """What a layer is asked for.

    Parameters
    ----------
    site, grid, time
        Who, where and when: all that decides the result, together with the layer's own options.
    session
        How the work is run: engine, concurrency, open catalogues, progress. Never changes a pixel.
    tally
        Where the layer counts what its reads cost.
    """

    site: Site
    grid: Grid
    time: TimeRange
    session: Session = field(default_factory=Session, compare=False)
    tally: Tally = field(default_factory=Tally, compare=False)


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """What loading a layer would take.

    Parameters
    ----------
    kind
        Of the layer.
    scenes, items, assets
        Acquisitions, catalogue items and files involved.
    requests, bytes
        HTTP requests and bytes of headers, pixels and metadata as a build counts them that knows no headers yet: exact but for
        retries and for tiles whose leading part, asked for by estimate, proves too short (`cubekit.read.AssetOutcome.misses`).
        The search is not counted.
    memory
        Peak bytes held, an estimate.
    notes
        Anything a user should know before the run.
    """

    kind: str
    scenes: int = 0
    items: int = 0
    assets: int = 0
    requests: int = 0
    bytes: int = 0
    memory: int = 0
    notes: tuple[str, ...] = ()


class Layer(BaseModel, ABC):
    """Base of all layers: a frozen, strict model whose fields are the options of its recipe entry.

    Subclasses set `kind` (a `Literal` field that selects them), `group` (where in the cube their data go) and write `load`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    group: ClassVar[str] = "/"
    """Group of the cube that the layer's variables belong to."""

    places: ClassVar[tuple[str, ...]] = ()
    """Options, dotted where they are nested, that may hold a path of the machine that builds."""

    kind: str
    """Selects the layer."""

    missing: Literal["fail", "fill"] = "fail"
    """What happens where the layer finds nothing at all: fail, or leave the layer out and say so in `missing_layers`."""

    @abstractmethod
    def load(self, request: LayerRequest) -> xr.Dataset:
        """Return the layer's data for the request.

        Returns
        -------
        Dataset
            On the request's grid (dims ``y, x`` or ``time, y, x``) or on the layer's own dims, complete with attributes.

        Raises
        ------
        NothingFoundError
            Where the source has nothing for the request.
        CubekitError
            For anything else that keeps the layer from being what was asked for.
        """

    def plan(self, request: LayerRequest) -> LayerPlan:
        """What `load` would take, by the counts that it adds to the tally; looks into catalogues and headers but reads no imagery."""
        return LayerPlan(self.kind, notes=("what its source is asked for is not counted",))

    def pin(self, request: LayerRequest) -> None:
        """Let the session's pins see all items and files that `load` would use; reads no more of them than that takes."""
        self.plan(request)

    def canonical(self) -> dict[str, Any]:
        """The layer's options as plain JSON values."""
        return self.model_dump(mode="json")

    def published(self) -> dict[str, Any]:
        """The same with paths reduced to their last part, as it is written into cubes."""
        content = self.canonical()
        for place in self.places:
            *parents, name = place.split(".")
            inner = content
            for parent in parents:
                inner = inner[parent]
            if (value := inner.get(name)) is not None:
                inner[name] = placeless(value) if isinstance(value, str) else [placeless(one) for one in value]
        return content
