"""STAC items for NBAR: which belongs to which time step, where its metadata is, and what was added to its pixels."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import xarray as xr

from cubekit.errors import AccessDeniedError, CubekitWarning, InputError, ReadError
from cubekit.redact import redact

__all__ = ["Fetch", "fetch_bytes", "fetch_metadata", "items_in_order", "metadata_href", "offset_of", "search_items"]

Fetch = Callable[[str], bytes]

METADATA_KEYS = ("granule-metadata", "granule_metadata", "metadata")
MAX_BYTES = 32 * 2**20
TIMEOUT = 60.0
THREADS = 8
PC_BLOB = re.compile(r"https://[\w-]+\.blob\.core\.windows\.net/")


def as_dict(item: Any) -> dict[str, Any]:
    """A STAC item as plain dict, from a dict or anything with ``to_dict``."""
    if isinstance(item, dict):
        return item
    if hasattr(item, "to_dict"):
        return dict(item.to_dict(transform_hrefs=False) if hasattr(item, "get_root") else item.to_dict())
    raise InputError(f"an item is {type(item).__name__}", remedy="Give pystac items or their dicts.")


def search_items(stac: str, collection: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Items by id from a STAC API, in the order the API gives."""
    from pystac_client import Client

    unique = list(dict.fromkeys(ids))
    found: list[dict[str, Any]] = []
    client = Client.open(stac)
    for start in range(0, len(unique), 100):
        found += client.search(ids=unique[start : start + 100], collections=[collection]).items_as_dicts()
    return found


def items_in_order(da: xr.DataArray, items: Iterable[Any]) -> list[dict[str, Any] | None]:
    """The item of each time step of a cube, None where there is none.

    Steps are matched by the coordinate ``id``; of items that share an id (one acquisition processed twice) the one nearest in time, each
    used once while there are enough. Without the coordinate, items must be as many as steps, in their order.

    Raises
    ------
    InputError
        No ``id`` and another number of items, or items whose time is not the step's.
    """
    found = [as_dict(item) for item in items]
    times = np.atleast_1d(da["time"].values).astype("datetime64[s]")
    if "id" not in da.coords:
        if len(found) != times.size:
            raise InputError(
                f"{len(found)} items for {times.size} time steps without the coordinate 'id'", remedy="Give the items the cube was made of."
            )
        late = [k for k, item in enumerate(found) if abs(_time_of(item) - times[k]) > np.timedelta64(1, "D")]
        if late:
            raise InputError(f"item {late[0]} is not of time step {times[late[0]]}", remedy="Give the items in the cube's order.")
        return list(found)
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in found:
        groups.setdefault(str(item.get("id")), []).append(item)
    out: list[dict[str, Any] | None] = []
    for name, time in zip(np.atleast_1d(da["id"].values), times, strict=True):
        candidates = groups.get(str(name), [])
        if not candidates:
            out.append(None)
            continue
        best = min(range(len(candidates)), key=lambda k: (abs(_time_of(candidates[k]) - time), k))
        out.append(candidates.pop(best) if len(candidates) > 1 else candidates[0])
    return out


def _time_of(item: dict[str, Any]) -> np.datetime64:
    properties = item.get("properties", {})
    text = properties.get("datetime") or properties.get("start_datetime") or "NaT"
    return np.datetime64(str(text).rstrip("Z").split("+")[0], "s")


def metadata_href(item: dict[str, Any]) -> str | None:
    """Href of an item's granule metadata; None where it has none."""
    assets = item.get("assets", {})
    return next((str(assets[key]["href"]) for key in METADATA_KEYS if assets.get(key, {}).get("href")), None)


def offset_of(item: dict[str, Any], baseline: str | None) -> float:
    """What has to be added to an item's digital numbers: -1000 from processing baseline 04.00, unless the catalogue did it.

    Earth Search's ``sentinel-2-l2a`` has it in the pixels whatever its fields say; its ``sentinel-2-c1-l2a`` and other catalogues do not.

    Raises
    ------
    InputError
        No baseline in the item nor in its metadata.
    """
    properties = item.get("properties", {})
    collection = str(item.get("collection", ""))
    if collection == "sentinel-2-l2a" and any(key.startswith("earthsearch:") for key in properties):
        return 0.0
    stated = properties.get("s2:processing_baseline") or properties.get("processing:version") or baseline
    match = re.fullmatch(r"N?(\d{2})\.?(\d{2})", str(stated))
    if match is None:
        raise InputError(
            f"processing baseline of {item.get('id')!r} is {stated!r}", remedy="Give offset= as a number.", item_id=str(item.get("id"))
        )
    return -1000.0 if int(match[1]) >= 4 else 0.0


def fetch_metadata(items: Sequence[dict[str, Any] | None], fetch: Fetch) -> list[bytes | None]:
    """Metadata of each item, fetched concurrently and once per href; None, with a warning, where it cannot be had."""
    hrefs = [None if item is None else metadata_href(item) for item in items]
    unique = [href for href in dict.fromkeys(hrefs) if href is not None]
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        bodies = dict(zip(unique, pool.map(lambda href: _attempt(fetch, href), unique), strict=True))
    failed = [redact(f"{href}: {body}") for href, body in bodies.items() if isinstance(body, Exception)]
    absent = sum(href is None for href in hrefs)
    if failed or absent:
        warnings.warn(
            f"{absent} of {len(items)} time steps have no granule metadata, {len(failed)} files cannot be read {failed[:3]}: "
            "they pass without NBAR (see nbar_status)",
            CubekitWarning,
            stacklevel=4,
        )
    found = [None if href is None else bodies[href] for href in hrefs]
    return [body if isinstance(body, bytes) else None for body in found]


def _attempt(fetch: Fetch, href: str) -> bytes | OSError:
    try:
        return fetch(href)
    except OSError as error:  # ReadError and AccessDeniedError are among them
        return error


def fetch_bytes(href: str) -> bytes:
    """Read an ``http`` or ``https`` href, at most 32 MB; blobs of Planetary Computer are signed first.

    Raises
    ------
    InputError
        Another scheme.
    AccessDeniedError, ReadError
        What the server says.
    """
    scheme = urllib.parse.urlsplit(href).scheme
    if scheme not in ("http", "https"):
        raise InputError(f"cannot fetch {href!r}", remedy="Give fetch= for other than http and https.", href=href)
    url = href
    if PC_BLOB.match(href) and "sig=" not in href:
        import planetary_computer

        url = planetary_computer.sign_url(href)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # scheme checked above
            body = bytes(response.read(MAX_BYTES + 1))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise AccessDeniedError(f"{href} answers {error.code}", remedy="Check the credentials.", href=href) from error
        raise ReadError(f"{href} answers {error.code}", remedy="Try again later.", href=href) from error
    except (urllib.error.URLError, TimeoutError) as error:
        raise ReadError(f"{href}: {error}", remedy="Check the connection.", href=href) from error
    if len(body) > MAX_BYTES:
        raise ReadError(f"{href} is larger than {MAX_BYTES} bytes", remedy="This is no granule metadata.", href=href)
    return body
