"""Site tables from files: CSV, GeoJSON, GeoParquet, YAML. Nothing is guessed about text: ``NO`` and ``0123`` stay what they are."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cubekit.errors import InputError
from cubekit.sampling._model import SiteTable
from cubekit.sampling._rows import ALIASES, Row, parse_rows

__all__ = ["MAX_BYTES", "read_sites"]

MAX_BYTES = 1 << 30
"""Site tables that are larger than this after decompression are refused."""

_COORDINATES = {*ALIASES["lon"], *ALIASES["lat"]}
_DELIMITERS = ",;\t|"
_WGS84 = {"EPSG:4326", "OGC:CRS84", "EPSG:4979"}


def read_sites(path: str | Path, *, columns: Mapping[str, str] | None = None) -> SiteTable:
    """Read a site table; every row that cannot be used is reported and the others go on.

    Parameters
    ----------
    path
        ``.csv`` (also ``.tsv``, ``.txt``; separators ``, ; | tab``), ``.geojson`` or ``.json``, ``.geojsonl`` or ``.ndjson``, ``.parquet``,
        ``.yaml``; all but Parquet also with ``.gz``.
    columns
        Role (``id``, ``lon``, ``lat``, ``start``, ``end``, ``layers``) to column name, for roles whose column has an unusual name.

    Returns
    -------
    SiteTable
        Columns with a dot in their name are overrides of that recipe key; all others are kept as properties.

    Raises
    ------
    InputError
        If the file cannot be read at all, or has no longitude or latitude column.
    """
    path = Path(path)
    name = path.name.casefold().removesuffix(".gz")
    reader = next((reader for suffix, reader in _READERS.items() if name.endswith(suffix)), None)
    if reader is None:
        raise InputError(f"Site table {path} has an unknown suffix", remedy=f"Use one of {', '.join(_READERS)} (all but .parquet also .gz)")
    try:
        return parse_rows(reader(path), columns=columns, source=str(path))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"Site table {path} cannot be read: {error}", remedy="Give a readable file", path=str(path)) from None


def _content(path: Path) -> bytes:
    opener = gzip.open if path.name.casefold().endswith(".gz") else open
    with opener(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"Site table {path} holds more than {MAX_BYTES} bytes", remedy="Split it into several tables")
    return bytes(content)


def _csv_rows(path: Path) -> Iterator[Row]:
    # One line is one row: a stray quote then spoils its own line and not the rest of the file.
    content = _content(path)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"Site table {path} is UTF-16", remedy="Save it as UTF-8")
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", errors="surrogateescape", newline=None)
    header: list[str] | None = None
    delimiter = ","
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\n")
        if not line.strip():
            continue
        if header is None:
            delimiter = max(_DELIMITERS, key=line.count)
            header = _header(line, delimiter, path)
            continue
        yield _csv_row(number, line, header, delimiter)
    if header is None:
        raise InputError(f"Site table {path} is empty", remedy="Give a header line and rows")


def _header(line: str, delimiter: str, path: Path) -> list[str]:
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise InputError(f"Column {twice[0]!r} stands twice in {path}", remedy="Give every column its own name")
    return names


def _csv_row(number: int, line: str, header: list[str], delimiter: str) -> Row:
    nothing = dict.fromkeys(header)
    try:
        cells = next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        return Row(number, nothing, line, f"no proper CSV: {error}")
    if any("\udc80" <= char <= "\udcff" for char in line):
        return Row(number, nothing, line, "not UTF-8")
    if len(cells) != len(header):
        return Row(number, nothing, line, f"has {len(cells)} cells where the header has {len(header)}")
    return Row(number, dict(zip(header, cells, strict=True)), line)


def _geojson_rows(path: Path) -> Iterator[Row]:
    try:
        content = json.loads(_content(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"Site table {path} is no JSON: {error}", remedy="Give a GeoJSON FeatureCollection of points") from None
    features = content.get("features") if isinstance(content, dict) and content.get("type") == "FeatureCollection" else None
    if not isinstance(features, list):
        raise InputError(f"Site table {path} is no FeatureCollection", remedy="Give a GeoJSON FeatureCollection of points")
    _check_crs(content.get("crs"), path)
    for number, feature in enumerate(features, 1):
        yield _feature_row(number, feature)


def _check_crs(crs: Any, path: Path) -> None:
    """Old GeoJSON may name a CRS; GIS still write it."""
    properties = crs.get("properties") if isinstance(crs, dict) else None
    name = str(properties.get("name") if isinstance(properties, dict) else crs)
    if crs is not None and not re.search(r"CRS84|EPSG:+4326$", name):
        raise InputError(f"Site table {path} is in {name[:60]!r}", remedy="Reproject it to longitude and latitude (EPSG:4326)")


def _ndjson_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_content(path).splitlines(), 1):
        if line.strip():
            try:
                feature = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Row(number, {}, repr(line), f"no JSON: {error}")
            else:
                yield _feature_row(number, feature)


def _feature_row(number: int, feature: Any) -> Row:
    text = json.dumps(feature)[:300]
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(geometry, dict) or geometry.get("type") != "Point":
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        return Row(number, {}, text, f"feature {number} is no Point but {kind!r}")
    point = geometry.get("coordinates")
    properties = feature.get("properties") or {}
    if not isinstance(point, list) or len(point) < 2 or not isinstance(properties, dict):
        return Row(number, {}, text, f"feature {number} has no coordinates")
    given = {"id": feature["id"]} if feature.get("id") is not None else {}
    known = {key: value for key, value in properties.items() if key.casefold() not in _COORDINATES}
    return Row(number, {"lon": point[0], "lat": point[1], "id": None, **known, **given}, text)


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError("Reading Parquet needs pyarrow", remedy="pip install 'cubekit[publish]'") from None
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise InputError(f"Site table {path} is no Parquet: {error}", remedy="Give a GeoParquet file of points") from None
    geo = json.loads((table.schema.metadata or {}).get(b"geo", b"{}"))
    column = geo.get("primary_column")
    points = _points(table.column(column).to_pylist(), geo["columns"][column], path) if column else None
    names = [name for name in table.column_names if name != column and not (points and name.casefold() in _COORDINATES)]
    columns = [table.column(name).to_pylist() for name in names]
    for number in range(table.num_rows):
        cells = {name: values[number] for name, values in zip(names, columns, strict=True)}
        if points is None:
            yield Row(number + 1, cells, str(cells))
            continue
        kind, x, y = points[number]
        broken = "" if kind == "Point" else f"geometry is no Point but {kind!r}"
        yield Row(number + 1, cells | {"lon": x, "lat": y}, str(cells), broken)


def _points(geometry: list[bytes | None], meta: Mapping[str, Any], path: Path) -> list[tuple[str | None, float, float]]:
    """Kind of geometry (None where there is none), x and y of every row."""
    import pyproj
    import shapely

    crs = meta.get("crs", "OGC:CRS84")
    authority = pyproj.CRS.from_user_input(crs).to_authority() if crs else ("EPSG", "4326")
    if authority is None or ":".join(authority) not in _WGS84:
        raise InputError(
            f"Site table {path} is in {authority or 'an unknown CRS'}", remedy="Reproject it to longitude and latitude (EPSG:4326)"
        )
    if meta.get("encoding", "WKB") != "WKB":
        raise InputError(f"Site table {path} has {meta['encoding']!r} geometry", remedy="Write it with WKB geometry")
    shapes = shapely.from_wkb(geometry, on_invalid="ignore")
    kinds = [shape.geom_type if shape is not None else None for shape in shapes]
    return list(zip(kinds, shapely.get_x(shapes).tolist(), shapely.get_y(shapes).tolist(), strict=True))


def _yaml_rows(path: Path) -> Iterator[Row]:
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    text = _content(path)
    try:
        # BaseLoader builds text only: no tags are run, and NO, 0123 and 12:30:45 stay as they are written.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
            raise InputError(f"Site table {path} uses YAML aliases", remedy="Write every site out")
        content = yaml.load(text, Loader=loader)  # noqa: S506
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"Site table {path} is no YAML: {error}", remedy="Give a list of mappings with id, lon and lat") from None
    if isinstance(content, dict):
        content = content.get("sites")
    if not isinstance(content, list):
        raise InputError(f"Site table {path} holds no list of sites", remedy="Give a list of mappings with id, lon and lat")
    for number, record in enumerate(content, 1):
        if isinstance(record, dict):
            yield Row(number, {"id": None, **{str(key): value for key, value in record.items()}}, str(record))
        else:
            yield Row(number, {}, str(record), f"entry {number} is no mapping")


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _csv_rows,
    ".tsv": _csv_rows,
    ".txt": _csv_rows,
    ".geojson": _geojson_rows,
    ".json": _geojson_rows,
    ".geojsonl": _ndjson_rows,
    ".ndjson": _ndjson_rows,
    ".parquet": _parquet_rows,
    ".geoparquet": _parquet_rows,
    ".yaml": _yaml_rows,
    ".yml": _yaml_rows,
}
