"""A table of sites: who gets a cube, what differs there from the recipe, and which rows could not be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cubekit.errors import InputError
from cubekit.site import Site
from cubekit.typing import Float1D

__all__ = ["BadRow", "SiteEntry", "SiteTable"]


@dataclass(frozen=True, slots=True)
class SiteEntry:
    """One usable row of a site table.

    Parameters
    ----------
    site
        Id, latitude and longitude.
    overrides
        Sorted (key, value) pairs that replace parts of the recipe here: ``start``, ``end``, ``layers`` or a dotted recipe key.
    properties
        Sorted (column, value) pairs of all other columns; carried into the registry.
    line
        Where the row stands in its file, counted from 1; 0 if it comes from no file.
    """

    site: Site
    overrides: tuple[tuple[str, Any], ...] = ()
    properties: tuple[tuple[str, Any], ...] = ()
    line: int = 0

    @property
    def id(self) -> str:
        """Id of the site."""
        return self.site.id

    def __getitem__(self, column: str) -> Any:
        for key, value in (*self.properties, *self.overrides):
            if key == column:
                return value
        raise KeyError(column)

    def get(self, column: str, default: Any = None) -> Any:
        """Value of a column, or `default` where the row has none."""
        try:
            return self[column]
        except KeyError:
            return default


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: where it stands, what it said, and why that will not do."""

    line: int
    value: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason} [{self.value}]"


@dataclass(frozen=True, slots=True)
class SiteTable:
    """Sites with unique ids, and the rows that were refused.

    Parameters
    ----------
    entries
        Usable rows, in file order; ids are unique even where letter case is ignored.
    rejected
        Refused rows, in file order.
    source
        File name, for messages.

    Raises
    ------
    InputError
        If two entries share an id.
    """

    entries: tuple[SiteEntry, ...]
    rejected: tuple[BadRow, ...] = ()
    source: str = ""
    _index: dict[str, int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for position, entry in enumerate(self.entries):
            if self._index.setdefault(entry.id.casefold(), position) != position:
                raise InputError(f"Site id {entry.id!r} stands twice", remedy="Give every site its own id", site=entry.id)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[SiteEntry]:
        return iter(self.entries)

    def __getitem__(self, site_id: str) -> SiteEntry:
        entry = self.entries[self._index[site_id.casefold()]] if site_id.casefold() in self._index else None
        if entry is None or entry.id != site_id:
            raise KeyError(site_id)
        return entry

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in row order."""
        return tuple(entry.id for entry in self.entries)

    @property
    def lon(self) -> Float1D:
        """Longitudes in row order, degrees east."""
        return np.array([entry.site.lon for entry in self.entries], dtype=np.float64)

    @property
    def lat(self) -> Float1D:
        """Latitudes in row order, degrees north."""
        return np.array([entry.site.lat for entry in self.entries], dtype=np.float64)

    def column(self, name: str, default: Any = None) -> list[Any]:
        """Values of a column in row order, `default` where a row has none."""
        return [entry.get(name, default) for entry in self.entries]

    def columns(self) -> tuple[str, ...]:
        """Names of all property columns, sorted."""
        return tuple(sorted({key for entry in self.entries for key, _ in entry.properties}))

    def with_columns(self, **columns: Sequence[Any]) -> SiteTable:
        """Return a table with property columns added or replaced; one value per site, in row order.

        Raises
        ------
        InputError
            If a column has another length than the table.
        """
        for name, values in columns.items():
            if len(values) != len(self):
                raise InputError(f"Column {name!r} has {len(values)} values for {len(self)} sites", remedy="Give one value per site")
        entries = []
        for position, entry in enumerate(self.entries):
            merged = dict(entry.properties) | {name: values[position] for name, values in columns.items()}
            entries.append(replace(entry, properties=tuple(sorted(merged.items()))))
        return SiteTable(tuple(entries), self.rejected, self.source)

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]]) -> SiteTable:
        """Table of ``{"id", "lon", "lat", ...}`` mappings; ids are made where they are missing.

        Raises
        ------
        InputError
            If a record cannot be used; unlike files, records are the caller's own.
        """
        from cubekit.sampling._rows import Row, parse_rows

        table = parse_rows((Row(number, dict(record), str(dict(record))) for number, record in enumerate(records, 1)), source="records")
        if table.rejected:
            raise InputError(f"Record cannot be used: {table.rejected[0]}", remedy="Correct it, or read the sites from a file")
        return table
