"""Jobs: recipe x sites, as a pure function, in the order in which neighbours share what they need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cubekit.batch._tiles import granule_tiles
from cubekit.errors import InputError
from cubekit.objectstore import check_slashes
from cubekit.recipe import Recipe, parse_recipe
from cubekit.sampling import BadRow, SiteEntry, SiteTable
from cubekit.site import Site

__all__ = ["Job", "Plan", "effective_recipe", "parse_shard", "plan"]

_TOP = ("grid", "time")


@dataclass(frozen=True, slots=True)
class Job:
    """One cube to make: small, frozen, picklable, and without secrets.

    Parameters
    ----------
    id, lat, lon
        The site; degrees.
    tile
        Name of the granule tile that holds the centre.
    out
        Path or URL of the cube.
    digest
        SHA-256 over recipe, site and overrides: equal digests ask for equal cubes.
    overrides
        (key, value) pairs that replace parts of the recipe.
    properties
        Columns of the site table for the registry; they do not change the cube or the digest.
    """

    id: str
    lat: float
    lon: float
    tile: str
    out: str
    digest: str
    overrides: tuple[tuple[str, Any], ...] = ()
    properties: tuple[tuple[str, Any], ...] = ()

    @property
    def site(self) -> Site:
        """As a checked site."""
        return Site(self.lat, self.lon, self.id)


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs of a recipe and sites, in order.

    Parameters
    ----------
    recipe
        What all jobs have in common.
    root
        Folder or URL of the batch.
    jobs
        Sorted by granule tile, then from north to south.
    rejected
        Sites that could not be planned, and rows that the site table refused.
    """

    recipe: Recipe
    root: str
    jobs: tuple[Job, ...]
    rejected: tuple[BadRow, ...] = ()

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs)

    def shard(self, number: int, of: int) -> Plan:
        """Part `number` (1 to `of`) of the plan; parts are disjoint, together complete, of equal size but for one job, and each a run of
        neighbouring tiles.
        """
        if not 1 <= number <= of:
            raise InputError(f"Shard {number}/{of} does not exist", remedy="Give 1/n to n/n")
        size = len(self.jobs)
        part = self.jobs[size * (number - 1) // of : size * number // of]
        return Plan(self.recipe, self.root, part, self.rejected if number == 1 else ())


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``"3/16"``.

    Raises
    ------
    InputError
        If it is no pair with 1 <= number <= of.
    """
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise InputError(f"Shard {text!r} is not of the form 3/16", remedy="Give 1/n to n/n")
    return int(number), int(of)


def plan(recipe: Recipe, sites: SiteTable, out: str) -> Plan:
    """Make the jobs of a batch. Pure: reads and writes nothing.

    Parameters
    ----------
    recipe
        What to build.
    sites
        Where, with what differs there.
    out
        Folder or URL of the batch; cubes are made in ``<out>/cubes``.

    Returns
    -------
    Plan
        Sites whose overrides do not fit the recipe are in `rejected`, with the line of their row.
    """
    root = _root(out)
    rejected = list(sites.rejected)
    checked: dict[str, str] = {}
    usable: list[SiteEntry] = []
    for entry in sites:
        reason = _misfit(recipe, entry, checked)
        if reason:
            rejected.append(BadRow(entry.line, f"{entry.id}: {dict(entry.overrides)}"[:200], reason))
        else:
            usable.append(entry)
    tiles = granule_tiles(*_coordinates(usable))
    order = sorted(range(len(usable)), key=lambda i: (tiles[i], -usable[i].site.lat, usable[i].site.lon, usable[i].id))
    jobs = tuple(_job(recipe, usable[i], tiles[i], root) for i in order)
    return Plan(recipe, root, jobs, tuple(sorted(rejected, key=lambda bad: bad.line)))


def _root(out: str) -> str:
    text = str(out)
    if not text.strip() or "\0" in text:
        raise InputError(f"{text!r} is no folder", remedy="Give a folder or a URL such as s3://bucket/folder")
    if "://" in text:
        return text.rstrip("/")
    check_slashes(text)
    # Workers elsewhere have another current folder.
    return str(Path(text).absolute())


def _coordinates(entries: list[SiteEntry]) -> tuple[Any, Any]:
    return [entry.site.lon for entry in entries], [entry.site.lat for entry in entries]


def _misfit(recipe: Recipe, entry: SiteEntry, checked: dict[str, str]) -> str:
    """Why the overrides of a site do not fit; empty if they do. Equal overrides are checked once."""
    if not entry.overrides:
        return ""
    key = repr(entry.overrides)
    if key not in checked:
        try:
            effective_recipe(recipe, entry.overrides)
            checked[key] = ""
        except InputError as error:
            checked[key] = error.message
    return checked[key]


def _job(recipe: Recipe, entry: SiteEntry, tile: str, root: str) -> Job:
    site = entry.site
    content = json.dumps([1, recipe.local_digest, site.id, site.lat, site.lon, entry.overrides], ensure_ascii=False)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Job(site.id, site.lat, site.lon, tile, f"{root}/cubes/{site.id}.zarr", digest, entry.overrides, entry.properties)


def effective_recipe(recipe: Recipe, overrides: tuple[tuple[str, Any], ...]) -> Recipe:
    """The recipe of one site.

    Parameters
    ----------
    recipe
        Of the batch.
    overrides
        ``start`` and ``end`` replace the days, ``layers`` keeps only the layers named, ``grid.<key>``, ``time.<key>`` and
        ``<layer kind>.<option>`` (or ``layers.<layer kind>.<option>``) replace single values.

    Raises
    ------
    InputError
        If a key is unknown, or the result is no recipe.
    """
    if not overrides:
        return recipe
    content: dict[str, Any] = json.loads(recipe.canonical())
    for key, value in overrides:
        _override(content, key, _plain(value))
    return parse_recipe(content, source="overrides")


def _override(content: dict[str, Any], key: str, value: Any) -> None:
    kinds = {layer["kind"]: layer for layer in content["layers"]}
    if key in ("start", "end"):
        content["time"][key] = value
        return
    if key == "layers":
        if unknown := [kind for kind in value if kind not in kinds]:
            raise InputError(
                f"layers: {unknown[0]!r} is not in the recipe, which has {', '.join(kinds)}", remedy="Name layers of the recipe"
            )
        content["layers"] = [layer for layer in content["layers"] if layer["kind"] in value]
        return
    place, _, rest = key.removeprefix("layers.").partition(".")
    target: Any = content[place] if place in _TOP and isinstance(content.get(place), dict) else kinds.get(place)
    if target is None or not rest:
        allowed = ", ".join(f"{name}.*" for name in (*_TOP, *kinds))
        raise InputError(
            f"Override {key!r} names nothing in the recipe (allowed: start, end, layers, {allowed})", remedy="Rename the column"
        )
    *path, last = rest.split(".")
    for part in path:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise InputError(f"Override {key!r}: {part!r} has no keys", remedy="Rename the column")
    target[last] = value


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
