"""What the checks of a cube say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import xarray as xr

from cubekit.location import Location
from cubekit.typing import JSON

__all__ = ["Check", "Problem", "Subject", "error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a cube.

    Parameters
    ----------
    severity
        ``"error"``: the cube must not be used as it is; ``"warning"``: something that readers may stumble over.
    where
        Group, variable or attribute, such as ``"/B04"`` or ``"/climate@title"``.
    what
        What is wrong, with the value.
    remedy
        What can be done about it.
    """

    severity: Literal["error", "warning"]
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.what}. {self.remedy}"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked.

    Parameters
    ----------
    tree
        The cube with packed values, attributes as stored.
    location
        Where it is stored; None for a tree in memory.
    root
        Metadata document of the stored root, else None.
    documents
        Metadata documents of the stored arrays and groups by path, else empty.
    """

    tree: xr.DataTree
    location: Location | None = None
    root: JSON | None = None
    documents: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def imagery(self) -> xr.Dataset:
        """The root group."""
        return self.tree.to_dataset(inherit=False)

    def nodes(self) -> Iterator[tuple[str, xr.Dataset]]:
        """Path (``"/"``, ``"/climate"``) and own variables of every group."""
        for node in self.tree.subtree:
            yield node.path, node.to_dataset(inherit=False)

    def variables(self) -> Iterator[tuple[str, str, xr.Variable]]:
        """Where, name and variable of everything in the cube."""
        for path, ds in self.nodes():
            for name, variable in ds.variables.items():
                yield f"{path.rstrip('/')}/{name}", str(name), variable


Check: TypeAlias = Callable[[Subject], Iterator[Problem]]

_BUILD = "Build the cube again"


def error(where: str, what: str, remedy: str = _BUILD) -> Problem:
    return Problem("error", where, what, remedy)


def warning(where: str, what: str, remedy: str = _BUILD) -> Problem:
    return Problem("warning", where, what, remedy)
