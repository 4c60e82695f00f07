"""Site tables into files: CSV, GeoJSON, GeoParquet, with all digits of the coordinates."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cubekit.errors import InputError
from cubekit.sampling._model import SiteTable

__all__ = ["write_sites"]


def write_sites(table: SiteTable, path: str | Path) -> Path:
    """Write a site table as ``.csv``, ``.csv.gz``, ``.geojson`` or ``.parquet``; `read_sites` gives the same sites back.

    Coordinates are written with all their digits. The file appears complete or not at all.

    Raises
    ------
    InputError
        If the suffix is another one.
    """
    path = Path(path)
    name = path.name.casefold()
    if name.endswith((".csv", ".csv.gz")):
        content = _to_csv(table)
        content = gzip.compress(content, mtime=0) if name.endswith(".gz") else content
    elif name.endswith((".geojson", ".json")):
        content = _to_geojson(table)
    elif name.endswith((".parquet", ".geoparquet")):
        content = _to_parquet(table)
    else:
        raise InputError(f"Site table {path} has an unknown suffix", remedy="Use .csv, .csv.gz, .geojson or .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staged = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(staged, 0o644)
        os.replace(staged, path)
    finally:
        Path(staged).unlink(missing_ok=True)
    return path


def _records(table: SiteTable) -> Iterator[dict[str, Any]]:
    for entry in table:
        yield {"id": entry.id, "lon": entry.site.lon, "lat": entry.site.lat, **dict(entry.overrides), **dict(entry.properties)}


def _to_csv(table: SiteTable) -> bytes:
    extra = sorted({key for entry in table for key, _ in (*entry.overrides, *entry.properties)})
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["id", "lon", "lat", *extra], restval="", lineterminator="\n")
    writer.writeheader()
    for record in _records(table):
        writer.writerow({key: _cell(key, value) for key, value in record.items()})
    return buffer.getvalue().encode()


def _cell(key: str, value: Any) -> Any:
    if key == "layers" and isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, str):
        return value.replace("\n", " ").replace("\r", " ")
    return repr(value) if isinstance(value, float) else json.dumps(value)


def _to_geojson(table: SiteTable) -> bytes:
    features = []
    for record in _records(table):
        name, lon, lat = record.pop("id"), record.pop("lon"), record.pop("lat")
        features.append({"type": "Feature", "id": name, "geometry": {"type": "Point", "coordinates": [lon, lat]}, "properties": record})
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False).encode()


def _to_parquet(table: SiteTable) -> bytes:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError("Writing Parquet needs pyarrow", remedy="pip install 'cubekit[publish]'") from None
    import shapely

    records = list(_records(table))
    names = ["id", "lon", "lat", *sorted({key for record in records for key in record} - {"id", "lon", "lat"})]
    columns = {name: _arrow([record.get(name) for record in records]) for name in names}
    columns["geometry"] = pa.array(list(shapely.to_wkb(shapely.points(table.lon, table.lat))), pa.binary())
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB", "geometry_types": ["Point"]}}}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata({"geo": json.dumps(geo)}), sink, compression="zstd")
    return sink.getvalue()


def _arrow(values: list[Any]) -> Any:
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if (len(kinds) > 1 and not kinds <= {int, float}) or kinds & {tuple, list, dict}:
        values = [
            value if value is None or isinstance(value, str) else " ".join(value) if _words(value) else json.dumps(value)
            for value in values
        ]
    return pa.array(values)


def _words(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(word, str) for word in value)
