"""Rows as they stand in files become sites, or are refused by line."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cubekit.errors import InputError
from cubekit.sampling._model import BadRow, SiteEntry, SiteTable
from cubekit.site import Site, TimeRange, check_site_id, site_id

__all__ = ["ALIASES", "Row", "column_names", "parse_rows"]

ALIASES = {
    "id": ("id", "site_id", "mc_id", "cube_id", "site"),
    "lon": ("lon", "longitude", "lng", "long"),
    "lat": ("lat", "latitude"),
    "start": ("start", "start_date", "time_start"),
    "end": ("end", "end_date", "time_end"),
    "layers": ("layers",),
}
"""Names under which the columns are found without a mapping; letter case does not matter."""

_NUMBER = re.compile(r"\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?\s*|\s*[+-]?(nan|inf)\s*", re.IGNORECASE)
_FIRST_DAY, _LAST_DAY = "1900-01-01", "2199-12-31"


@dataclass(frozen=True, slots=True)
class Row:
    """A row before checking: its line, its cells by column, its text for messages, or why it could not even be split."""

    line: int
    cells: dict[str, Any]
    text: str
    broken: str = ""


@dataclass(frozen=True, slots=True)
class _Draft:
    row: Row
    id: str
    lat: float
    lon: float
    overrides: tuple[tuple[str, Any], ...]
    properties: tuple[tuple[str, Any], ...]


def column_names(found: Iterable[str], columns: Mapping[str, str] | None, source: str) -> dict[str, str]:
    """Which column of a file plays which role: by `columns`, else by `ALIASES`.

    Raises
    ------
    InputError
        If a role is unknown, a mapped column is not there, or ``lon`` or ``lat`` is found nowhere or twice.
    """
    found, given = list(found), dict(columns or {})
    columns = dict(given)
    for role, name in columns.items():
        if role not in ALIASES:
            raise InputError(f"Column role {role!r} is unknown", remedy=f"Map one of {', '.join(ALIASES)}")
        if name not in found:
            raise InputError(
                f"{source} has no column {name!r} (for {role!r}); it has {', '.join(found)}", remedy="Map a column that is there"
            )
    lower = {name.strip().casefold(): name for name in reversed(found)}
    for role, aliases in ALIASES.items():
        match = next((lower[alias] for alias in aliases if alias in lower and lower[alias] not in columns.values()), None)
        if role not in columns and match is not None:
            columns[role] = match
    for role in {"lon", "lat"} - set(given):
        several = [name for name in found if name.strip().casefold() in ALIASES[role] and name not in given.values()]
        if len(several) > 1:
            both = " and ".join(map(repr, several))
            raise InputError(f"{source}: columns {both} both could be {role}", remedy=f"Choose one with --column {role}=NAME")
    if missing := [role for role in ("lon", "lat") if role not in columns]:
        raise InputError(
            f"{source} has no column for {' and '.join(missing)}; it has {', '.join(found)[:500]}",
            remedy="Name it with --column, such as --column lon=x_coord",
        )
    return columns


def parse_rows(rows: Iterable[Row], *, columns: Mapping[str, str] | None = None, source: str = "") -> SiteTable:
    """Check rows, give names to the nameless and refuse what cannot be used.

    Parameters
    ----------
    rows
        In file order.
    columns
        Role (``id``, ``lon``, ``lat``, ``start``, ``end``, ``layers``) to column name; roles left out are found by `ALIASES`.
    source
        Named in messages.
    """
    rejected: list[BadRow] = []
    drafts: list[_Draft] = []
    rows = list(rows)
    # Records of JSON and YAML need not all have all keys.
    found = dict.fromkeys(key for row in rows for key in row.cells)
    names = column_names(found, columns, source) if found else {}
    for row in rows:
        if row.broken:
            rejected.append(_bad(row, row.broken))
            continue
        try:
            drafts.append(_draft(row, names))
        except InputError as error:
            rejected.append(_bad(row, error.message))
    entries = _named(drafts, rejected)
    return SiteTable(tuple(entries), tuple(sorted(rejected, key=lambda bad: bad.line)), source)


def _bad(row: Row, reason: str) -> BadRow:
    return BadRow(row.line, row.text[:200].encode("unicode_escape").decode("ascii"), reason)


def _draft(row: Row, names: Mapping[str, str]) -> _Draft:
    cells = row.cells
    lat, lon = _degrees(cells.get(names["lat"]), "lat"), _degrees(cells.get(names["lon"]), "lon")
    if 180 < lon <= 360:
        lon = math.fmod(lon, 360) - 360 if lon < 360 else 0.0
    name = _id(cells.get(names["id"])) if "id" in names else ""
    Site(lat, lon, name)
    overrides: dict[str, Any] = dict(_range(cells, names))
    if "layers" in names and (layers := _layers(cells.get(names["layers"]))):
        overrides["layers"] = layers
    used = {names[role] for role in names}
    properties = {}
    for column, value in cells.items():
        if column in used or _empty(value):
            continue
        if "." in column.strip("."):
            overrides[column.strip()] = _json(value)
        else:
            properties[column] = _plain(value)
    return _Draft(row, name, lat + 0.0, lon + 0.0, tuple(sorted(overrides.items())), tuple(sorted(properties.items())))


def _degrees(value: Any, name: str) -> float:
    if isinstance(value, bool) or _empty(value):
        raise InputError(f"{name} is {'missing' if _empty(value) else repr(value)}")
    # Python would also take 5_1 and other scripts' digits.
    if not isinstance(value, int | float) and not _NUMBER.fullmatch(str(value)):
        comma = ": is the comma a decimal point?" if "," in str(value) else ""
        raise InputError(f"{name} {str(value)[:60]!r} is not a number{comma}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{name} is {str(value)[:60]}")
    return number


def _id(value: Any) -> str:
    if _empty(value):
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return check_site_id(value)


def _range(cells: Mapping[str, Any], names: Mapping[str, str]) -> list[tuple[str, str]]:
    given = {role: cells[names[role]] for role in ("start", "end") if role in names and not _empty(cells.get(names[role]))}
    if not given:
        return []
    days = TimeRange(given.get("start", _FIRST_DAY), given.get("end", _LAST_DAY))
    return [(role, str(getattr(days, role))) for role in given]


def _layers(value: Any) -> tuple[str, ...]:
    if _empty(value):
        return ()
    if isinstance(value, str):
        value = value.replace(";", " ").replace(",", " ").split()
    if not isinstance(value, list | tuple) or not all(isinstance(kind, str) for kind in value):
        raise InputError(f"layers {value!r} is no list of layer kinds")
    return tuple(value)


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, float) and math.isnan(value))


def _plain(value: Any) -> Any:
    """A property as a JSON value; text stays exactly the text it was."""
    if isinstance(value, str | bool | int | float):
        return value
    return json.loads(json.dumps(value, default=str))


def _json(value: Any) -> Any:
    """An override: what JSON makes of the text where it is JSON, else the text itself."""
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return value
    return _frozen(value)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _frozen(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        raise InputError(f"override {str(value)[:60]!r} is a mapping; name its keys in the column, such as grid.edge_size")
    return value


def _named(drafts: list[_Draft], rejected: list[BadRow]) -> list[SiteEntry]:
    """Give names to the nameless and refuse the second of two rows with one id."""
    made = _made_ids(drafts)
    taken: dict[str, tuple[str, int]] = {}
    entries = []
    for position, draft in enumerate(drafts):
        name = draft.id or made[position]
        if name.casefold() in taken:
            first, line = taken[name.casefold()]
            how = "stands already" if first == name else f"differs only in letter case from {first!r}"
            rejected.append(_bad(draft.row, f"id {name!r} {how} in line {line}"))
            continue
        taken[name.casefold()] = (name, draft.row.line)
        entries.append(SiteEntry(Site(draft.lat, draft.lon, name), draft.overrides, draft.properties, draft.row.line))
    return entries


def _made_ids(drafts: list[_Draft]) -> dict[int, str]:
    """Names from coordinates; rows that share one to 0.1 m are numbered in the order of their content, not of the file."""
    given = {draft.id.casefold() for draft in drafts if draft.id}
    same: dict[str, list[int]] = defaultdict(list)
    for position, draft in enumerate(drafts):
        if not draft.id:
            same[site_id(draft.lat, draft.lon)].append(position)
    made: dict[int, str] = {}
    for base, positions in same.items():
        positions.sort(key=lambda p: (drafts[p].lat, drafts[p].lon, repr(drafts[p].overrides), repr(drafts[p].properties)))
        free = (
            name
            for number in range(1, len(drafts) + len(given) + 2)
            if (name := f"{base}-{number}" if number > 1 else base).casefold() not in given
        )
        made.update(zip(positions, free, strict=False))
    return made
