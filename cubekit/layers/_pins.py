"""What a cube was made of, written down: items, and the version of every file; and the check that it is still so."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cubekit.errors import InputError, UpstreamChangedError
from cubekit.redact import unsigned
from cubekit.typing import JSON

if TYPE_CHECKING:
    from cubekit.catalog import Item
    from cubekit.read import AssetRead

__all__ = ["Pins"]

Version = tuple[str | None, int | None]
"""(ETag, bytes) of a file; of small files (sha256, bytes)."""


@dataclass(eq=False)
class Pins:
    """Items by catalogue and collection, and versions by href; either being noted, or being held to.

    Parameters
    ----------
    held
        Whether builds have to find what is noted here, or add to it.
    items
        STAC items by (catalogues, collection).
    files
        Version of every file by its unsigned href.
    """

    held: bool = False
    items: dict[tuple[str, str], list[JSON]] = field(default_factory=dict)
    files: dict[str, Version] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answer(self, catalogs: str, collection: str) -> list[JSON]:
        """Noted items of a search; InputError where there are none."""
        if (catalogs, collection) not in self.items:
            known = ", ".join(f"{name} of {where}" for where, name in self.items) or "nothing"
            raise InputError(f"The lock has no items of {collection} of {catalogs}", remedy=f"It pins {known}: make it with this recipe")
        return self.items[catalogs, collection]

    def note_items(self, catalogs: str, collection: str, items: Sequence[Item]) -> None:
        """Note what a search found."""
        with self._lock:
            self.items[catalogs, collection] = [item.raw for item in items]

    def see(self, versions: Mapping[str, Version | None]) -> None:
        """Note the versions of files, or compare them with those noted.

        Raises
        ------
        UpstreamChangedError
            If a file is not what it was; names the first ones.
        """
        with self._lock:
            if not self.held:
                self.files.update({unsigned(href): version for href, version in versions.items() if version is not None})
                return
            changed = [
                f"{href}: {_words(self.files.get(unsigned(href)))} became {_words(version)}"
                for href, version in versions.items()
                if version is not None and unsigned(href) in self.files and tuple(version) != tuple(self.files[unsigned(href)])
            ]
            unknown = [f"{href} is not in the lock" for href in versions if unsigned(href) not in self.files]
        if changed or unknown:
            listed = "; ".join([*changed, *unknown][:3])
            raise UpstreamChangedError(
                f"{len(changed)} files changed upstream and {len(unknown)} are new: {listed}",
                remedy="Lock again, or build without the lock",
                changed=len(changed),
            )

    def see_reads(self, reads: Sequence[AssetRead], etags: Sequence[str | None] | None = None) -> None:
        """`see` for reads, by the headers that are remembered, and where given the ETags that the reads met."""
        from cubekit.read import known_versions

        found: dict[str, Version | None] = {}
        for number, (read, version) in enumerate(zip(reads, known_versions(reads), strict=True)):
            met = etags[number] if etags is not None else None
            if version is not None:
                found[read.href] = (met or version[0], version[1])
            elif met is not None and not self.held:
                found[read.href] = (met, None)
        self.see(found)

    def see_bytes(self, href: str, content: bytes) -> None:
        """`see` for a small file that was read whole."""
        self.see({href: (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))})

    def as_json(self) -> JSON:
        """Plain data, the same for the same pins."""
        searches: list[Any] = [
            {"catalog": where, "collection": collection, "items": items} for (where, collection), items in sorted(self.items.items())
        ]
        files = {href: {"etag": version[0], "size": version[1]} for href, version in sorted(self.files.items())}
        return {"searches": searches, "files": files}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Pins:
        """Pins to be held to.

        Raises
        ------
        InputError
            For what is no lock.
        """
        try:
            items = {(one["catalog"], one["collection"]): list(one["items"]) for one in content["searches"]}
            files = {href: (one["etag"], one["size"]) for href, one in content["files"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"The lock is not readable: {error!r}", remedy="Make it anew with `cubekit lock`") from None
        return cls(True, items, files)


def _words(version: Version | None) -> str:
    return "absent" if version is None else f"{version[0]} ({version[1]} bytes)"
