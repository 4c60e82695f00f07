"""Where a cube is kept: a local path, or a URL of an object store."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cubekit.errors import CommitError, InputError, ReadError
from cubekit.layout import DIGEST, FORMAT, FORMAT_VERSION, ROOT_KEY, digest_of, metadata_hash
from cubekit.objectstore import check_slashes, object_store, store_error
from cubekit.redact import redact
from cubekit.typing import JSON

if TYPE_CHECKING:
    from zarr.abc.store import Store

__all__ = ["Location", "content_digest", "stored_hashes"]

_WRITABLE = {"s3", "gs", "az"}
_SCHEMES = {*_WRITABLE, "http", "https"}


@dataclass(frozen=True)
class Location:
    """A parsed target.

    Parameters
    ----------
    scheme
        ``""`` for the local disk, else ``s3``, ``gs``, ``az``, ``http`` or ``https``.
    base
        Folder that holds the cube: a local directory, or a URL without its last part.
    name
        Last part: the name of the cube.
    options
        Settings of the object store (endpoint, region, ...), see obstore; never stored or shown.
    """

    scheme: str
    base: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, target: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Location:
        """Read a path or URL.

        Raises
        ------
        InputError
            For an empty name, an unknown scheme, or a URL with credentials or a query in it.
        """
        text = os.fspath(target)
        if "\0" in text or not text.strip():
            raise InputError(
                f"{text!r} is not a path or URL", remedy="Give a path such as cube.zarr, or a URL such as s3://bucket/cube.zarr"
            )
        if "://" not in text:
            check_slashes(text)
            path = Path(text).absolute()
            if path.name in ("", "..") or path.name.startswith("."):
                raise InputError(f"{text!r} does not end in the name of a cube", remedy="Give a path such as out/cube.zarr")
            return cls("", str(path.parent), path.name)
        parts = urlsplit(text)
        if parts.scheme == "file":
            return cls.parse(parts.path)
        if parts.scheme not in _SCHEMES:
            raise InputError(f"Cannot use {redact(text)!r}", remedy=f"Use a path or one of {', '.join(sorted(_SCHEMES))}://")
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise InputError(
                f"{redact(text)!r} carries credentials or a query", remedy="Give credentials by the environment, not in the URL"
            )
        base, _, name = parts.path.rstrip("/").rpartition("/")
        if not parts.netloc or not name:
            raise InputError(
                f"{redact(text)!r} does not end in the name of a cube", remedy="Give a URL such as s3://bucket/folder/cube.zarr"
            )
        return cls(parts.scheme, f"{parts.scheme}://{parts.netloc}{base}", name, dict(options or {}))

    @property
    def local(self) -> bool:
        """Whether the cube is on the local disk."""
        return self.scheme == ""

    @property
    def writable(self) -> bool:
        """Whether cubes can be written there."""
        return self.local or self.scheme in _WRITABLE

    @property
    def path(self) -> Path:
        """Local path; only of a local cube."""
        return Path(self.base) / self.name

    @property
    def url(self) -> str:
        """Path or URL, without secrets, for messages."""
        return str(self.path) if self.local else f"{self.base}/{self.name}"

    def bucket(self, *, inside: bool = False) -> Any:
        """The obstore store of the folder (`inside`: of the cube itself)."""
        return object_store(f"{self.base}/{self.name}" if inside else self.base, self.options)

    def zarr_store(self) -> Store:
        """Read-only zarr store of the cube."""
        if self.local:
            from zarr.storage import LocalStore

            return LocalStore(self.path, read_only=True)
        from zarr.storage import ObjectStore

        return ObjectStore(self.bucket(inside=True), read_only=True)

    def get(self, key: str) -> bytes | None:
        """Bytes of one object of the cube; None where there is none.

        Raises
        ------
        AccessDeniedError, ReadError
            Where the store refuses or fails.
        """
        if self.local:
            try:
                return (self.path / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                raise ReadError(f"Cannot read {self.path / key}: {error.strerror}", href=str(self.path / key)) from error
        from obstore.exceptions import BaseError, NotFoundError

        try:
            return bytes(self.bucket().get(f"{self.name}/{key}").bytes())
        except (NotFoundError, FileNotFoundError):
            return None
        except BaseError as error:
            raise store_error(error, "read from", self.url, ReadError) from error

    def _nothing(self) -> bool:
        """Whether nothing at all stands at this place; over http(s), which cannot list, nobody knows."""
        if self.local:
            return not self.path.exists()
        if not self.writable:
            return False
        from obstore.exceptions import BaseError

        try:
            return not next(iter(self.bucket().list(prefix=self.name, chunk_size=1)), None)
        except (BaseError, OSError) as error:
            raise store_error(error, "list", self.base, ReadError) from error

    def keys(self) -> list[str]:
        """Keys of all objects of the cube, sorted; not over http(s), which cannot list."""
        if self.local:
            return sorted(path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        start = f"{self.name}/"
        return sorted(
            item["path"].removeprefix(start)
            for page in self.bucket().list(prefix=self.name)
            for item in page
            if item["path"].startswith(start)
        )

    def committed_root(self) -> JSON:
        """Metadata of the root of a committed cube.

        Raises
        ------
        InputError
            Where there is nothing at all.
        CommitError
            Where a cube is not complete, or is none of ours.
        """
        data = self.get(ROOT_KEY)
        if data is None:
            if self._nothing():
                raise InputError(f"No cube at {self.url}", remedy="Check the path, or build the cube first", path=self.url)
            raise CommitError(
                f"{self.url} is not a committed cube: it has no root metadata",
                remedy="A build was interrupted or is running: build it again, or wait",
                target=self.url,
            )
        try:
            root: JSON = json.loads(data)
            attrs = root["attributes"]
            marks = attrs.get(FORMAT), attrs.get(DIGEST)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CommitError(f"{self.url} has root metadata that is not readable", remedy="Build it again", target=self.url) from error
        if not all(marks):
            raise CommitError(
                f"{self.url} does not carry the marks of a committed cube", remedy="Open it with xarray, or build it again", target=self.url
            )
        if marks[0] != FORMAT_VERSION:
            raise CommitError(f"{self.url} has layout {marks[0]!r}, not {FORMAT_VERSION!r}", remedy="Update cubekit", target=self.url)
        return root


def content_digest(target: str | os.PathLike[str], *, recompute: bool = False, storage_options: Mapping[str, Any] | None = None) -> str:
    """Digest of the content of a committed cube: equal for identical builds.

    It covers the bytes of every chunk and the metadata, but nothing that may differ between identical builds: ``date_created``,
    ``date_modified``, ``history``, ``software_versions``.

    Parameters
    ----------
    target
        Path or URL.
    recompute
        Compute it from what is stored now, which reads everything; else tell the one the cube was committed with. The two are equal
        unless something was changed or lost.
    storage_options
        Settings of the object store, see obstore.

    Raises
    ------
    CommitError
        For a cube that was not committed.
    """
    location = Location.parse(target, storage_options)
    root = location.committed_root()
    return digest_of(stored_hashes(location)) if recompute else str(root["attributes"][DIGEST])


def stored_hashes(location: Location) -> dict[str, str]:
    """SHA-256 by key of all objects of a cube: of the bytes of chunks, of the canonical form of metadata."""

    def one(key: str) -> tuple[str, str]:
        data = location.get(key) or b""
        if key.rpartition("/")[2] == ROOT_KEY:
            return key, metadata_hash(json.loads(data), root=key == ROOT_KEY)
        return key, hashlib.sha256(data).hexdigest()

    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        return dict(pool.map(one, location.keys()))
