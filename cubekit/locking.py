"""Locks: what a cube is to be made of, pinned, so that it can be made again bit for bit, or the difference be named."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from cubekit import __version__
from cubekit.errors import CommitError, InputError, NothingFoundError
from cubekit.layers import LayerRequest, Pins, Session
from cubekit.recipe import Recipe, parse_recipe
from cubekit.site import Site

__all__ = ["Lock", "lock_cube", "open_lock"]

VERSION = 1


class Lock:
    """A recipe, a site, and the items and versions of files that they led to.

    Attributes
    ----------
    recipe, site
        What to build, and where.
    pins
        Held: a session with them builds from exactly these, or raises `UpstreamChangedError`.
    """

    def __init__(self, recipe: Recipe, site: Site, pins: Pins) -> None:
        self.recipe, self.site, self.pins = recipe, site, pins

    def __repr__(self) -> str:
        items = sum(len(found) for found in self.pins.items.values())
        return f"<Lock of {self.site.id}: {items} items, {len(self.pins.files)} files>"

    def session(self, like: Session | None = None) -> Session:
        """A session that holds builds to the lock, otherwise like the one given."""
        base = like or Session()
        return Session(base.engine, base.cache_dir, base.threads, base.progress, replace(self.pins, held=True), base.memory)


def lock_cube(recipe: Recipe, site: Site, path: str | Path, *, session: Session | None = None) -> dict[str, Any]:
    """Pin all items and file versions of a build and write them to `path` (JSON).

    Searches, reads headers and metadata, but no pixels of imagery. Pinned are STAC items, and for every file its ETag and size, for granule
    metadata the SHA-256. Climate and event layers are not pinned: their sources have no versions; `unpinned` names such layers.

    Returns
    -------
    dict
        What was written.

    Raises
    ------
    InputError
        For a path that cannot be a file.
    CommitError
        If it cannot be written.
    """
    target = Path(path)
    _check(target)
    base = session or Session()
    pins = Pins()
    noting = Session(base.engine, base.cache_dir, base.threads, base.progress, pins, base.memory)
    request = LayerRequest(site, recipe.grid.around(site), recipe.time.range, noting)
    unpinned = []
    for layer in recipe.layers:
        if layer.group != "/":
            unpinned.append(layer.kind)
            continue
        try:
            layer.pin(request)
        except NothingFoundError:
            if layer.missing == "fail":
                raise
    content = {
        "cubekit_lock": VERSION,
        "cubekit": __version__,
        "recipe": json.loads(recipe.canonical()),
        "recipe_digest": recipe.digest,
        "site": {"id": site.id, "lat": site.lat, "lon": site.lon},
        "unpinned": unpinned,
        **pins.as_json(),
    }
    _write(target, json.dumps(content, indent=1, sort_keys=True))
    return content


def _check(target: Path) -> None:
    if target.is_dir() or not target.parent.is_dir():
        raise InputError(f"{target} is no file in a folder that exists", remedy="Name another file, or make the folder")


def _write(target: Path, text: str) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CommitError(f"Cannot write {target}: {reason}", remedy="Check that the folder may be written") from None


def open_lock(path: str | Path) -> Lock:
    """Read a lock.

    Raises
    ------
    InputError
        For what is missing, no lock, or of another version.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Lock {path} cannot be read: {error}", remedy="Make one with `cubekit lock`") from None
    if not isinstance(content, dict) or content.get("cubekit_lock") != VERSION:
        raise InputError(f"{path} is no lock of version {VERSION}", remedy="Make one with `cubekit lock`")
    try:
        where = content["site"]
        site = Site(where["lat"], where["lon"], where["id"])
        recipe = parse_recipe(content["recipe"], source=str(path))
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is not complete: {error!r}", remedy="Make it anew with `cubekit lock`") from None
    return Lock(recipe, site, Pins.from_json(content))
