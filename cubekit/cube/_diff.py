"""What differs between two cubes: by layer, time and cause."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from cubekit.cube._source import open_packed
from cubekit.layout import VOLATILE, group_dataset
from cubekit.location import Location
from cubekit.reflectance import PixelStatus
from cubekit.typing import JSON

__all__ = ["Difference", "diff"]

_STEPS_NAMED = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between cube A and cube B.

    Parameters
    ----------
    kind
        ``"missing"`` (only in A), ``"added"`` (only in B), ``"steps"``, ``"shape"``, ``"type"``, ``"values"``, ``"attribute"`` or
        ``"encoding"``.
    layer
        Group, ``"/"`` for the imagery.
    variable
        Name of the variable, empty for the group itself.
    what
        The difference, with both values.
    times
        Time steps that it concerns, ISO; empty for what has no time.
    cause
        Why the values of an imagery step differ, as far as its coordinates tell: another item, another processing baseline, another
        offset, another pixel status; else ``"pixels"``.
    """

    kind: Literal["missing", "added", "steps", "shape", "type", "values", "attribute", "encoding"]
    layer: str
    variable: str
    what: str
    times: tuple[str, ...] = ()
    cause: str = ""

    def __str__(self) -> str:
        place = self.layer if not self.variable else f"{self.layer.rstrip('/')}/{self.variable}"
        shown = ", ".join(self.times[:_STEPS_NAMED]) + (
            f" and {len(self.times) - _STEPS_NAMED} more" if len(self.times) > _STEPS_NAMED else ""
        )
        return f"{place}: {self.what}" + (f" at {shown}" if shown else "") + (f" ({self.cause})" if self.cause else "")


Target = str | os.PathLike[str] | xr.DataTree


def diff(a: Target, b: Target, *, storage_options: Mapping[str, Any] | None = None) -> list[Difference]:
    """Compare two cubes as they are stored.

    Attributes that may differ between identical builds (dates, history, versions) are not compared.

    Parameters
    ----------
    a, b
        Paths, URLs, or trees as `assemble` returns them.
    storage_options
        Settings of the object store, see obstore.

    Returns
    -------
    list of Difference
        Empty for equal cubes.

    Raises
    ------
    InputError, CommitError
        Where one is no committed cube.
    """
    (first, documents_a), (second, documents_b) = (_open(target, storage_options) for target in (a, b))
    return [*_groups(first, second), *_encodings(documents_a, documents_b)]


def _open(target: Target, storage_options: Mapping[str, Any] | None) -> tuple[xr.DataTree, Mapping[str, JSON]]:
    if isinstance(target, xr.DataTree):
        return target, {}
    location = Location.parse(target, storage_options)
    location.committed_root()
    tree, _, documents = open_packed(location)
    return tree, documents


def _groups(a: xr.DataTree, b: xr.DataTree) -> Iterator[Difference]:
    paths_a, paths_b = ([node.path for node in tree.subtree] for tree in (a, b))
    for path in paths_a:
        if path not in paths_b:
            yield Difference("missing", path, "", "only A has this layer")
    for path in paths_b:
        if path not in paths_a:
            yield Difference("added", path, "", "only B has this layer")
    for path in paths_a:
        if path in paths_b:
            yield from _datasets(path, group_dataset(a, path), group_dataset(b, path))


def _datasets(layer: str, a: xr.Dataset, b: xr.Dataset) -> Iterator[Difference]:
    yield from _attributes(layer, "", a.attrs, b.attrs)
    for name in map(str, a.variables):
        if name not in b.variables:
            yield Difference("missing", layer, name, "only A has this variable")
    for name in map(str, b.variables):
        if name not in a.variables:
            yield Difference("added", layer, name, "only B has this variable")
    causes: dict[str, str] = {}
    if "time" in a.coords and "time" in b.coords:
        yield from _steps(layer, a, b)
        common = np.intersect1d(a["time"].values, b["time"].values)
        a, b = (ds.isel(time=np.searchsorted(ds["time"].values, common)) for ds in (a, b))
        causes = _causes(a, b)
    for name in map(str, a.variables):
        if name in b.variables and name != "time":
            yield from _attributes(layer, name, a[name].attrs, b[name].attrs)
            yield from _values(layer, name, a[name], b[name], causes)


def _steps(layer: str, a: xr.Dataset, b: xr.Dataset) -> Iterator[Difference]:
    for kept, other, word in ((a, b, "A"), (b, a, "B")):
        only = np.setdiff1d(kept["time"].values, other["time"].values)
        if only.size:
            yield Difference("steps", layer, "time", f"{only.size} steps only in {word}", _iso(only))


def _values(layer: str, name: str, a: xr.DataArray, b: xr.DataArray, causes: Mapping[str, str]) -> Iterator[Difference]:
    if a.dtype != b.dtype and not {a.dtype.kind, b.dtype.kind} <= set("OUT"):
        yield Difference("type", layer, name, f"{a.dtype} in A, {b.dtype} in B")
        return
    if a.dims != b.dims or a.shape != b.shape:
        yield Difference("shape", layer, name, f"{dict(a.sizes)} in A, {dict(b.sizes)} in B")
        return
    if a.dims[:1] != ("time",):
        unlike = _unlike(a.values, b.values)
        if unlike.any():
            yield Difference("values", layer, name, _extent(a.values, b.values, unlike))
        return
    by_cause: dict[str, list[Any]] = {}
    for step in range(a.sizes["time"]):
        first, second = a[step].values, b[step].values
        unlike = _unlike(first, second)
        if unlike.any():
            time = _iso(a["time"].values[step : step + 1])[0]
            by_cause.setdefault(causes.get(time, ""), []).append((time, _extent(first, second, unlike)))
    for cause, found in by_cause.items():
        more = f" in the first of {len(found)} steps" if len(found) > 1 else ""
        yield Difference("values", layer, name, f"{found[0][1]}{more}", tuple(time for time, _ in found), cause)


def _unlike(a: Any, b: Any) -> np.ndarray:
    a, b = np.asarray(a), np.asarray(b)
    unlike = np.asarray(a != b)
    if a.dtype.kind in "fcmM" and b.dtype.kind == a.dtype.kind:
        unlike &= ~(np.isnan(a) & np.isnan(b))
    return unlike


def _extent(a: Any, b: Any, unlike: np.ndarray) -> str:
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind not in "iuf":
        return f"{a[unlike].flat[0]!s} in A, {b[unlike].flat[0]!s} in B"
    largest = (
        np.nanmax(np.abs(a[unlike].astype(float) - b[unlike].astype(float))) if not np.isnan(a[unlike].astype(float)).all() else np.nan
    )
    return f"{int(unlike.sum())} of {unlike.size} values differ, by up to {largest:g}"


def _causes(a: xr.Dataset, b: xr.Dataset) -> dict[str, str]:
    """Why the imagery differs, by time step."""
    if "pixel_status" not in a or "pixel_status" not in b or a["pixel_status"].shape != b["pixel_status"].shape:
        return {}
    told = {"item_id": "item", "processing_baseline": "processing baseline", "boa_offset": "offset"}
    known = {name: word for name, word in told.items() if name in a.variables and name in b.variables}
    causes = {}
    for step, time in enumerate(_iso(a["time"].values)):
        reasons = [
            f"{word} {a[n].values[step]} -> {b[n].values[step]}"
            for n, word in known.items()
            if not np.array_equal(a[n].values[step], b[n].values[step])
        ]
        first, second = a["pixel_status"][step].values, b["pixel_status"][step].values
        changed = first != second
        if changed.any():
            before, after = PixelStatus(int(first[changed][0])), PixelStatus(int(second[changed][0]))
            reasons.append(f"pixel status {before.name.lower()} -> {after.name.lower()}")
        causes[time] = "; ".join(reasons) or "pixels"
    return causes


def _attributes(layer: str, name: str, a: Mapping[Any, Any], b: Mapping[Any, Any]) -> Iterator[Difference]:
    for key in sorted({*map(str, a), *map(str, b)} - VOLATILE):
        first, second = (np.asarray(attrs[key]).tolist() if key in attrs else None for attrs in (a, b))
        if first != second:
            yield Difference("attribute", layer, name, f"attribute {key} is {_short(first)} in A, {_short(second)} in B")


def _encodings(a: Mapping[str, JSON], b: Mapping[str, JSON]) -> Iterator[Difference]:
    for path in sorted(set(a) & set(b)):
        layer, _, name = f"/{path}".rpartition("/")
        for key in ("chunk_grid", "codecs", "fill_value", "data_type"):
            first, second = a[path].get(key), b[path].get(key)
            if first != second:
                yield Difference("encoding", layer or "/", name, f"{key} is {_short(first)} in A, {_short(second)} in B")


def _iso(times: Any) -> tuple[str, ...]:
    return tuple(str(text) for text in np.datetime_as_string(np.asarray(times).astype("datetime64[s]")))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
