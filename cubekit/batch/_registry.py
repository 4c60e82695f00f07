"""The registry of a batch, merged from its outcomes: stac-geoparquet with one row per cube, and a STAC collection."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cubekit.batch._folder import BatchFolder, open_folder
from cubekit.batch._item import with_columns
from cubekit.batch._jobs import Plan
from cubekit.batch._outcome import Outcome
from cubekit.errors import InputError

__all__ = ["MergeReport", "merge"]

_PARQUET, _COLLECTION, _FAILURES = "registry.parquet", "collection.json", "failures.json"


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What a merge found.

    Parameters
    ----------
    cubes, failures
        Outcomes with and without a cube.
    registry, collection
        Path or URL of the files made; empty if there is no cube.
    """

    cubes: int
    failures: int
    registry: str = ""
    collection: str = ""


def merge(root: str, *, plan: Plan | None = None, title: str = "") -> MergeReport:
    """Make the registry of a batch anew from all its outcomes; may be run at any time, also beside a run.

    Writes ``registry.parquet`` (stac-geoparquet), ``collection.json`` (STAC, with a link per item), ``items/<id>.json`` and
    ``failures.json``. Each file appears complete or not at all.

    Parameters
    ----------
    root
        Folder or URL of the batch.
    plan
        Gives the newest columns of the site table, such as a split made after the cubes; by default those that were known when a cube
        was built.
    title
        Of the collection.

    Raises
    ------
    InputError
        If pyarrow and stac-geoparquet are not installed.
    """
    folder = open_folder(root)
    outcomes = folder.outcomes()
    columns = {job.id: dict(job.properties) for job in plan} if plan is not None else {}
    built = [outcome for outcome in outcomes.values() if outcome.built and outcome.item]
    failed = [outcome for outcome in outcomes.values() if not outcome.built]
    folder.put(_FAILURES, json.dumps([_failure(outcome) for outcome in failed], indent=1, ensure_ascii=False).encode())
    items = [with_columns(outcome.item, columns.get(outcome.id, outcome.properties)) for outcome in built]
    _write_items(folder, items)
    if not items:
        for name in (_PARQUET, _COLLECTION):
            folder.delete(name)
        return MergeReport(0, len(failed))
    folder.put(_PARQUET, _parquet([_rebased(item) for item in items]))
    folder.put(_COLLECTION, json.dumps(_collection(items, title), indent=1, ensure_ascii=False).encode())
    return MergeReport(len(items), len(failed), f"{folder.root}/{_PARQUET}", f"{folder.root}/{_COLLECTION}")


def _failure(outcome: Outcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in ("id", "lat", "lon", "status", "error", "message", "remedy", "attempts", "finished")}


def _write_items(folder: BatchFolder, items: list[dict[str, Any]]) -> None:
    """Write the items that are new or differ, and remove those of cubes that are no more."""

    def write(item: dict[str, Any]) -> None:
        links = [{"rel": name, "href": "../collection.json", "type": "application/json"} for name in ("root", "parent", "collection")]
        content = json.dumps({**item, "links": links}, indent=1, ensure_ascii=False).encode()
        key = f"items/{item['id']}.json"
        if folder.get(key) != content:
            folder.put(key, content)

    stale = set(folder.items()) - {item["id"] for item in items}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, items))
        list(pool.map(lambda name: folder.delete(f"items/{name}.json"), stale))


def _rebased(item: Mapping[str, Any]) -> dict[str, Any]:
    """The item with hrefs as seen from the folder of the registry."""
    assets = {key: {**asset, "href": f".{asset['href'].removeprefix('..')}"} for key, asset in item["assets"].items()}
    return {**item, "assets": assets}


def _parquet(items: list[dict[str, Any]]) -> bytes:
    try:
        import pyarrow as pa
        from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet
    except ImportError:
        raise InputError("The registry needs pyarrow and stac-geoparquet", remedy="pip install 'cubekit[publish]'") from None
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / _PARQUET
        table = pa.table(parse_stac_items_to_arrow(_uniform(items)))
        to_parquet(table, path)
        return path.read_bytes()


def _uniform(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All items with the same properties, each of one type in all of them, as columns want it."""
    kinds: dict[str, set[type]] = {}
    for item in items:
        for key, value in item["properties"].items():
            kinds.setdefault(key, set()).update({type(value)} if value is not None else set())
    texts = {key for key, found in kinds.items() if len(found) > 1 and found != {int, float}}
    floats = {key for key, found in kinds.items() if found == {int, float}}
    return [{**item, "properties": {key: _cell(key, item["properties"].get(key), texts, floats) for key in kinds}} for item in items]


def _cell(key: str, value: Any, texts: set[str], floats: set[str]) -> Any:
    if value is None:
        return None
    if key in texts:
        return value if isinstance(value, str) else json.dumps(value)
    return float(value) if key in floats else value


def _collection(items: list[dict[str, Any]], title: str) -> dict[str, Any]:
    names = sorted({item["collection"] for item in items})
    start = min(item["properties"]["start_datetime"] for item in items)
    end = max(item["properties"]["end_datetime"] for item in items)
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": names[0],
        "title": title or names[0],
        "description": f"{len(items)} Earth System Data Cubes made by cubekit",
        "license": "other",
        "extent": {"spatial": {"bbox": [_extent(items)]}, "temporal": {"interval": [[start, end]]}},
        "links": [
            {"rel": "root", "href": "./collection.json", "type": "application/json"},
            *({"rel": "item", "href": f"./items/{item['id']}.json", "type": "application/geo+json"} for item in items),
        ],
        "assets": {
            "registry": {
                "href": f"./{_PARQUET}",
                "type": "application/vnd.apache.parquet",
                "title": "All items as stac-geoparquet",
                "roles": ["collection-mirror"],
            }
        },
    }


def _extent(items: Iterable[Mapping[str, Any]]) -> list[float]:
    """Box around all items; the whole circle where one crosses the antimeridian."""
    boxes = [item["bbox"] for item in items]
    crossing = any(west > east for west, _, east, _ in boxes)
    west, east = (-180.0, 180.0) if crossing else (min(box[0] for box in boxes), max(box[2] for box in boxes))
    return [west, min(box[1] for box in boxes), east, max(box[3] for box in boxes)]
