"""Items as Planetary Computer writes them, made for tests, and patience that ends soon."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cubekit.catalog import ApiOptions
from cubekit.testing import shared_data

QUICK = ApiOptions(connect_timeout=2, read_timeout=1.0, total_timeout=8, retries=4, backoff=0.02, max_wait=3, page_limit=4, ranges=3)


def granule(
    day: int, *, tile: str = "32UPC", baseline: str = "05.10", made: str = "20240101T000000", orbit: int = 22, **changes: Any
) -> dict[str, Any]:
    """An item of the shape that Planetary Computer serves; `day` counts from 2020-01-01."""
    import datetime

    sensed = datetime.datetime(2020, 1, 1, 10, 10, 31, 24000, datetime.UTC) + datetime.timedelta(days=day)
    stamp = f"{sensed:%Y%m%dT%H%M%S}"
    west, south = 12.0, 50.0
    ring = [[west, south], [west + 1.5, south], [west + 1.5, south + 1], [west, south + 1], [west, south]]
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"S2A_MSIL2A_{stamp}_R{orbit:03d}_T{tile}_{made}",
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, west + 1.5, south + 1],
        "properties": {
            "datetime": f"{sensed:%Y-%m-%dT%H:%M:%S}.024000Z",
            "platform": "Sentinel-2A",
            "proj:epsg": 32632,
            "eo:cloud_cover": float(day % 100),
            "s2:mgrs_tile": tile,
            "s2:processing_baseline": baseline,
            "s2:datatake_id": f"GS2A_{stamp}_012345_N{baseline}",
            "s2:product_uri": f"S2A_MSIL2A_{stamp}_N{baseline.replace('.', '')}_R{orbit:03d}_T{tile}_{made}.SAFE",
        },
        "assets": {
            key: {"href": f"https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/{stamp}/{made}/{key}.tif", "type": "image/tiff"}
            for key in ("B02", "B04", "SCL")
        },
        "links": [],
    }
    item["assets"]["granule-metadata"] = {"href": f"https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/{stamp}/MTD_TL.xml"}
    return {**item, **changes}


SITE = (12.3, 50.3, 12.4, 50.4)


@pytest.fixture
def collection_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes items into a file below a folder of its own."""

    def write(items: list[dict[str, Any]], name: str = "items.json") -> Path:
        path = tmp_path / name
        lines = name.endswith(("ndjson", "jsonl"))
        text = "\n".join(json.dumps(item) for item in items) if lines else json.dumps({"type": "FeatureCollection", "features": items})
        path.write_text(text)
        return path

    return write


def recorded(relative: str) -> list[dict[str, Any]]:
    """All items in a recorded answer of the shared data, whatever it is wrapped in."""
    return list(_items(json.loads(shared_data(f"a_stac/{relative}").read_text())))


def _items(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for entry in node:
            yield from _items(entry)
    elif isinstance(node, dict):
        if node.get("type") == "Feature":
            yield node
        else:
            yield from _items(node.get("features") or node.get("response") or [])
