"""From a name, URL, path or list of them to a catalogue."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from cubekit.catalog._cache import SearchCache
from cubekit.catalog._catalog import Catalog
from cubekit.catalog._files import SUFFIXES, FileSource
from cubekit.catalog._geometry import Area
from cubekit.catalog._hrefs import is_remote
from cubekit.catalog._model import Item
from cubekit.catalog._options import ApiOptions
from cubekit.catalog._profile import Profile
from cubekit.catalog._question import Moment
from cubekit.catalog._signing import Signer, signer_named
from cubekit.catalog._tables import ENDPOINTS, PROFILES, Endpoint
from cubekit.catalog._userprofile import ProfileSpec, user_profile
from cubekit.errors import CatalogError, CubekitWarning, InputError
from cubekit.typing import JSON

__all__ = ["CatalogChain", "Where", "open_catalog"]

Where = str | os.PathLike[str] | Catalog
Given = Mapping[str, Any] | Profile | ProfileSpec
DAY = 86400.0


class CatalogChain(Catalog):
    """Several catalogues: the next is asked where one is down (`CatalogError`), with a warning that says so.

    A catalogue that answers "nothing there" has answered, and one that refuses the credentials is not down: neither is passed over.
    """

    def __init__(self, catalogs: Sequence[Catalog]) -> None:
        self.catalogs = tuple(catalogs)
        self.name = ", ".join(catalog.name for catalog in catalogs)
        self.public_name = ", ".join(catalog.public_name for catalog in catalogs)
        self.local_root = next((catalog.local_root for catalog in catalogs if catalog.local_root is not None), None)

    def search(
        self,
        collection: str,
        area: Area,
        start: Moment = None,
        end: Moment = None,
        *,
        max_items: int | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> list[Item]:
        """As `Catalog.search`, of the first catalogue that is not down."""
        failures: list[CatalogError] = []
        for position, catalog in enumerate(self.catalogs):
            try:
                return catalog.search(collection, area, start, end, max_items=max_items, query=query)
            except CatalogError as error:
                failures.append(error)
                if position + 1 < len(self.catalogs):
                    following = self.catalogs[position + 1].name
                    warnings.warn(f"{error.message}; using {following} instead of {catalog.name}", CubekitWarning, stacklevel=2)
        told = "; ".join(error.message for error in failures)
        raise CatalogError(
            f"None of the catalogues {self.name} answers: {told}", remedy="Check the network, or try again later"
        ) from failures[-1]

    def sign(self, href: str, fresh: bool = False) -> str:
        """As `Catalog.sign`, by the catalogue that signs hrefs of this host."""
        local = not is_remote(href)
        for catalog in self.catalogs:
            if local and catalog.local_root is not None and Path(os.path.normpath(href)).is_relative_to(catalog.local_root):
                return catalog.sign(href)
            if not local and (signed := catalog.sign(href, fresh)) != href:
                return signed
        return self.catalogs[0].sign(href, fresh)

    def signs(self, href: str) -> bool:
        """As `Catalog.signs`, of any of the catalogues."""
        return any(catalog.signs(href) for catalog in self.catalogs)

    def pinned(self, items: Mapping[str, list[JSON]]) -> Catalog:
        """As `Catalog.pinned`, of every catalogue; the first answers."""
        return CatalogChain([catalog.pinned(items) for catalog in self.catalogs])

    def days(self, collection: str) -> tuple[str, str] | None:
        """From the first to the last day of any of the catalogues; None unless all are files that have items."""
        each = [catalog.days(collection) for catalog in self.catalogs]
        known = [days for days in each if days is not None]
        return (min(first for first, _ in known), max(last for _, last in known)) if len(known) == len(each) else None

    def profile(self, collection: str) -> Profile | None:
        """The table of the first catalogue that has one."""
        return next((found for catalog in self.catalogs if (found := catalog.profile(collection)) is not None), None)


def open_catalog(
    where: Where | Sequence[Where],
    *,
    root: str | os.PathLike[str] | None = None,
    profiles: str | Mapping[str, Given] | None = None,
    options: ApiOptions | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_max_age: float = 7 * DAY,
    share: Literal["area", "tile"] = "area",
) -> Catalog:
    """Open a catalogue; nothing is asked or read before the first search.

    Parameters
    ----------
    where
        ``"planetary-computer"``, ``"earth-search"``, ``"demo"`` (with `root`), the URL of a STAC API, the path of an item collection
        (JSON, one item, newline-delimited JSON, stac-geoparquet), an open catalogue, or a list of these to fall back on in order.
    root
        Folder below which a local catalogue's assets may lie: by default the one its file is in. For ``"demo"`` the folder of the
        simulated world.
    profiles
        Name of the built-in tables to use instead of the catalogue's own (``"planetary-computer"`` for a mirror of it), or profiles by
        collection id, ``"*"`` for any: see `ProfileSpec`.
    options
        Limits for asking STAC APIs.
    cache_dir
        Folder for answers; None keeps none.
    cache_max_age
        Seconds for which a kept answer is good.
    share
        ``"tile"`` asks for whole squares of 100 km, so that with a cache all sites of one granule tile share one search; ``"area"`` asks
        for the area alone.

    Raises
    ------
    InputError
        For a name, URL, path, root or profile that cannot be meant.
    """
    keep = SearchCache(Path(cache_dir), cache_max_age) if cache_dir is not None else None
    if isinstance(where, (list, tuple)):
        if not where:
            raise InputError("The list of catalogues is empty", remedy=f"Give some of: {_names()}, a URL, a path")
        opened = [_opened(entry, root, profiles, options or ApiOptions(), keep, share) for entry in where]
        return opened[0] if len(opened) == 1 else CatalogChain(opened)
    if isinstance(where, (str, os.PathLike, Catalog)):
        return _opened(where, root, profiles, options or ApiOptions(), keep, share)
    raise InputError(f"{where!r} is no catalogue", remedy=f"Give one of: {_names()}, a URL, a path, or a list of these")


def _opened(
    where: Where,
    root: str | os.PathLike[str] | None,
    profiles: str | Mapping[str, Given] | None,
    options: ApiOptions,
    cache: SearchCache | None,
    share: Literal["area", "tile"],
) -> Catalog:
    if isinstance(where, Catalog):
        return where
    table, own = _tables(profiles)
    name = os.fspath(where)
    if name in ENDPOINTS or name.startswith(("http://", "https://")):
        return _api(name, table, own, options, cache, share)
    if name != "demo":
        path = Path(name).expanduser()
        return _file(path, Path(root) if root is not None else None, table, own, name)
    if root is None:
        raise InputError("The catalogue 'demo' needs the folder of a simulated world", remedy="Give root=, as written by `cubekit demo`")
    folder = Path(root).expanduser()
    path = folder / "catalog.json" if folder.is_dir() else folder
    return _file(path, path.parent, table or "demo", own, "demo")


def _tables(profiles: str | Mapping[str, Given] | None) -> tuple[str | None, dict[str, Profile]]:
    if isinstance(profiles, str):
        if profiles not in (known := {catalogue for catalogue, _ in PROFILES}):
            raise InputError(f"Unknown profiles {profiles!r}", remedy=f"Use one of: {', '.join(sorted(known))}, or a mapping")
        return profiles, {}
    return None, {collection: user_profile(collection, given) for collection, given in (profiles or {}).items()}


def _api(
    name: str, table: str | None, own: dict[str, Profile], options: ApiOptions, cache: SearchCache | None, share: Literal["area", "tile"]
) -> Catalog:
    # pystac-client takes a third of a second to import, which catalogues in files do not need.
    from cubekit.catalog._api import ApiSource

    try:
        urlsplit(name)
    except ValueError:
        raise InputError(f"{name!r} is no URL of a STAC API", remedy=f"Give one of: {_names()}, or the root of an API") from None
    known = (
        name if name in ENDPOINTS else next((key for key, endpoint in ENDPOINTS.items() if urlsplit(name).hostname in endpoint.hosts), None)
    )
    endpoint = ENDPOINTS[known] if known else Endpoint(name, (), 100)
    url = (endpoint.url if name == known else name).rstrip("/")
    if not urlsplit(url).hostname:
        raise InputError(f"{name!r} is no URL of a STAC API", remedy=f"Give one of: {_names()}, or the root of an API")
    source = ApiSource(url, options, page_limit=endpoint.page_limit, search_url=f"{url}/search" if name == known else None)
    signer = _signer(endpoint.signer, table, own)
    return Catalog(known or url, source, base=url, table=table or known, profiles=own, signer=signer, cache=cache, share=share)


def _file(path: Path, root: Path | None, table: str | None, own: dict[str, Profile], name: str) -> Catalog:
    if not path.is_file():
        hint = f"Use one of: {_names()}, a URL, or the path of an item collection ({', '.join(SUFFIXES)})"
        raise InputError(f"There is no catalogue {name!r}: {path} is no file", remedy=hint, path=str(path))
    # Paths are compared as text, so both have to be free of links.
    file = Path(os.path.realpath(path))
    folder = Path(os.path.realpath(root)) if root is not None else file.parent
    signer = None if name == "demo" else _signer("planetary-computer", table, own, any_account=table == "planetary-computer")
    return Catalog(name, FileSource(file), base=str(file.parent), local_root=folder, table=table, profiles=own, signer=signer)


def _signer(default: str | None, table: str | None, own: dict[str, Profile], *, any_account: bool = True) -> Signer | None:
    names = [profile.signer for profile in own.values() if profile.signer] + (
        ["planetary-computer"] if table == "planetary-computer" else []
    )
    return signer_named(names[0] if names else default, any_account=any_account or bool(names))


def _names() -> str:
    return ", ".join([*ENDPOINTS, "demo"])
