"""Checks of attributes: flat, free of secrets, complete for CF and ACDD, with provenance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cubekit.cube._attributes import is_flat, secret_in
from cubekit.cube._globals import CONVENTIONS, zarr_conventions
from cubekit.cube._problem import Problem, Subject, error, warning
from cubekit.redact import unsigned

__all__ = ["check_attributes", "check_globals", "check_provenance", "check_variables"]

_REQUIRED = (
    "Conventions title summary keywords id license creator_name date_created history site_id "
    "geospatial_lat_min geospatial_lat_max geospatial_lon_min geospatial_lon_max geospatial_bounds"
).split()
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def check_attributes(subject: Subject) -> Iterator[Problem]:
    """No nested values, which NetCDF cannot hold, and no secrets, anywhere."""
    places: list[tuple[str, Mapping[Any, Any]]] = [(path, ds.attrs) for path, ds in subject.nodes()]
    places += [(where, variable.attrs) for where, _, variable in subject.variables()]
    places += [(f"/{path}", document.get("attributes", {})) for path, document in subject.documents.items()]
    seen = set()
    for where, attrs in places:
        for key, value in attrs.items():
            if (place := f"{where}@{key}") in seen:
                continue
            if not is_flat(value) and not (isinstance(value, str) and value == ""):
                seen.add(place)
                yield error(place, f"{type(value).__name__} does not survive NetCDF", "Use text, numbers or lists of one of them")
            elif secret_in(value):
                seen.add(place)
                yield error(place, "holds what looks like a signature, token or password", "Revoke it, and build the cube again")


def check_globals(subject: Subject) -> Iterator[Problem]:
    """Root attributes of CF, ACDD and the Zarr conventions."""
    attrs = subject.tree.attrs
    for key in _REQUIRED:
        if not str(attrs.get(key, "")).strip():
            yield error(f"/@{key}", "is missing")
    conventions = str(attrs.get("Conventions", ""))
    if not ("CF-1." in conventions and "ACDD-1." in conventions):
        yield error("/@Conventions", f"is {conventions!r}, without CF and ACDD")
    try:
        declared = {item.get("uuid") for item in zarr_conventions({str(key): value for key, value in attrs.items()})}
    except (ValueError, TypeError, AttributeError):
        declared = set()
    for convention in CONVENTIONS:
        if convention["uuid"] not in declared:
            yield error("/@zarr_conventions", f"the {convention['name'].rstrip(':')} convention is not declared")
    yield from _coverage(subject)


def _coverage(subject: Subject) -> Iterator[Problem]:
    times = subject.imagery.coords.get("time")
    if times is None or times.size == 0 or times.dtype.kind != "M":
        return
    for key, moment in (("time_coverage_start", times.values.min()), ("time_coverage_end", times.values.max())):
        stated = str(subject.tree.attrs.get(key, ""))
        try:
            same = np.datetime64(stated.removesuffix("Z"), "s") == moment.astype("datetime64[s]")
        except ValueError:
            same = False
        if not same:
            yield error(f"/@{key}", f"is {stated!r}, but the time axis says {np.datetime_as_string(moment, 's')}")


def check_provenance(subject: Subject) -> Iterator[Problem]:
    """The cube says which recipe, software and items made it."""
    attrs = subject.tree.attrs
    for key in ("recipe", "software_versions"):
        try:
            content = json.loads(attrs.get(key, ""))
        except (ValueError, TypeError):
            content = None
        if not isinstance(content, dict) or not content:
            yield error(f"/@{key}", "is missing or no JSON object")
        elif key == "software_versions" and "cubekit" not in content:
            yield error(f"/@{key}", "does not tell the version of cubekit")
    if not re.fullmatch(r"(sha256:)?[0-9a-f]{64}", str(attrs.get("recipe_digest", ""))):
        yield error("/@recipe_digest", f"is {attrs.get('recipe_digest')!r}, not a SHA-256")
    hrefs = attrs.get("item_hrefs")
    if hrefs is None:
        if subject.imagery.sizes.get("time", 0):
            yield warning("/@item_hrefs", "the cube does not tell which items it was made of", "Give the items' hrefs when assembling")
        return
    for href in [hrefs] if isinstance(hrefs, str) else list(hrefs):
        if unsigned(href) != href:
            yield error("/@item_hrefs", f"{unsigned(href)} stands there with a query, which may be a signature")
            break


def check_variables(subject: Subject) -> Iterator[Problem]:
    """Every variable has a usable name, says what it is, and in which unit; every name that attributes refer to exists."""
    for path, ds in subject.nodes():
        bounds = {str(variable.attrs["bounds"]) for variable in ds.variables.values() if "bounds" in variable.attrs}
        for name, variable in ds.variables.items():
            where, attrs = f"{path.rstrip('/')}/{name}", variable.attrs
            if not _NAME.fullmatch(str(name)):
                yield error(where, "the name is not usable in NetCDF", "Use letters, digits and _, starting with a letter")
            for key in ("bounds", "ancillary_variables", "grid_mapping"):
                for other in str(attrs.get(key, "")).split():
                    if other not in ds.variables:
                        yield error(f"{where}@{key}", f"refers to {other}, which does not exist")
            if name in bounds or "grid_mapping_name" in attrs:
                continue
            if not attrs.get("long_name") and not attrs.get("standard_name"):
                yield warning(where, "has neither long_name nor standard_name", "Say what it is")
            flagged = "flag_values" in attrs or "flag_masks" in attrs
            if variable.dtype.kind in "iuf" and not flagged and not str(attrs.get("units", "")):
                yield error(f"{where}@units", "is missing", "Give a unit, '1' for a pure number, or flag_values")
