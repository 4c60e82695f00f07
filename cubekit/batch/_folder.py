"""The folder of a batch, on the local disk or in an object store: cubes, outcomes, items, registry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from cubekit.batch._outcome import Outcome
from cubekit.errors import CommitError, InputError
from cubekit.objectstore import check_slashes, check_writable, object_store, store_error

__all__ = ["BatchFolder", "open_folder"]

_THREADS = 32


class _Files(Protocol):
    """Small files below a root; a file appears complete or not at all."""

    def put(self, key: str, content: bytes) -> None: ...

    def get(self, key: str) -> bytes | None: ...

    def names(self, folder: str) -> list[str]: ...

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None: ...

    def check(self) -> None: ...

    def beat(self, key: str, content: bytes) -> None: ...


class _LocalFiles:
    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def put(self, key: str, content: bytes) -> None:
        path = self._root / key
        staged = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with staged.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, path)
        except OSError as error:
            raise CommitError(
                f"Cannot write {path}: {error.strerror}", remedy="Make room, or check the permissions", path=str(path), storage=True
            ) from error
        finally:
            with suppress(OSError):
                staged.unlink()

    def get(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self._root / folder) if not entry.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, key: str) -> bool:
        return (self._root / key).is_file()

    def delete(self, key: str) -> None:
        (self._root / key).unlink(missing_ok=True)

    def check(self) -> None:
        self.put("probe", b"")
        self.delete("probe")

    def beat(self, key: str, content: bytes) -> None:
        # In place: on NFS, other machines might see a file that was replaced a minute late.
        (self._root / key).write_bytes(content)


class _ObjectFiles:
    def __init__(self, root: str, hasty: bool) -> None:
        self._root, self._store = root, object_store(root, hasty=hasty)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as error:
            raise store_error(error, what, self._root) from error

    def put(self, key: str, content: bytes) -> None:
        with self._asking("write to"):
            self._store.put(key, content)

    def get(self, key: str) -> bytes | None:
        try:
            with self._asking("read from"):
                return bytes(self._store.get(key).bytes())
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        start = f"{folder}/"
        with self._asking("list"):
            paths = [item["path"] for page in self._store.list(prefix=folder) for item in page]
        return sorted(path.removeprefix(start) for path in paths if path.startswith(start) and "/" not in path.removeprefix(start))

    def exists(self, key: str) -> bool:
        try:
            with self._asking("read from"):
                self._store.head(key)
        except FileNotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        with self._asking("write to"):
            if self.exists(key):
                self._store.delete(key)

    def check(self) -> None:
        check_writable(self._root)

    def beat(self, key: str, content: bytes) -> None:
        self.put(key, content)


class BatchFolder:
    """Outcomes, items and registry of a batch; see `open_folder`.

    Parameters
    ----------
    root
        Folder or URL.
    hasty
        Give an object store up after seconds instead of minutes.
    """

    def __init__(self, root: str, *, hasty: bool = False) -> None:
        self.root = root.rstrip("/") or "/"
        self._files: _Files = _ObjectFiles(self.root, hasty) if "://" in self.root else _LocalFiles(self.root)

    def write_outcome(self, outcome: Outcome) -> Outcome:
        """Keep an outcome, and the STAC item of a built cube; return the one that stands.

        A failure does not replace the success that another writer reached for the same digest meanwhile.
        """
        key = f"outcomes/{outcome.id}.json"
        if not outcome.built:
            before = self.outcome(outcome.id)
            if before and before.built and before.digest == outcome.digest and outcome.started and before.finished > outcome.started:
                return before
        self._files.put(key, outcome.to_json())
        return outcome

    def outcome(self, site_id: str) -> Outcome | None:
        """The outcome of a site; None where there is none, or none that can be read."""
        content = self._files.get(f"outcomes/{site_id}.json")
        try:
            outcome = Outcome.from_json(content) if content is not None else None
        except ValueError:
            return None
        return outcome if outcome is not None and outcome.id == site_id else None

    def outcomes(self) -> dict[str, Outcome]:
        """All outcomes, by site id."""
        ids = [name.removesuffix(".json") for name in self._files.names("outcomes") if name.endswith(".json")]
        with ThreadPoolExecutor(_THREADS if "://" in self.root else 1) as pool:
            found = pool.map(self.outcome, ids)
            return {outcome.id: outcome for outcome in found if outcome is not None}

    def cubes(self, site_ids: list[str]) -> set[str]:
        """Those of the sites that have a committed cube."""
        with ThreadPoolExecutor(_THREADS if "://" in self.root else 1) as pool:
            there = pool.map(lambda name: self._files.exists(f"cubes/{name}.zarr/zarr.json"), site_ids)
            return {name for name, found in zip(site_ids, there, strict=True) if found}

    def put(self, key: str, content: bytes) -> None:
        """Write one file of the registry."""
        self._files.put(key, content)

    def get(self, key: str) -> bytes | None:
        """Read one file of the registry; None where there is none."""
        return self._files.get(key)

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder of the batch."""
        return self._files.names(folder)

    def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        return self._files.exists(key)

    def beat(self, key: str, content: bytes) -> None:
        """Write a sign of life: a few bytes that others look at, and that need not be whole."""
        self._files.beat(key, content)

    def items(self) -> Iterator[str]:
        """Ids of the item files."""
        return (name.removesuffix(".json") for name in self._files.names("items") if name.endswith(".json"))

    def delete(self, key: str) -> None:
        """Remove one file of the registry, if it is there."""
        self._files.delete(key)

    def check(self) -> None:
        """Raise `CommitError` or `AccessDeniedError` where nothing can be written."""
        self._files.check()

    def __repr__(self) -> str:
        return f"BatchFolder({self.root!r})"


def open_folder(root: str | os.PathLike[str]) -> BatchFolder:
    """The folder of a batch.

    Raises
    ------
    InputError
        For a URL that no object store serves, or one with credentials in it.
    """
    text = os.fspath(root)
    if "://" in text:
        scheme, _, rest = text.partition("://")
        if scheme not in ("s3", "gs", "az") or "@" in rest.split("/")[0] or "?" in rest:
            raise InputError(f"{text!r} cannot hold a batch", remedy="Give a folder, or an s3://, gs:// or az:// URL without credentials")
    else:
        check_slashes(text)
    return BatchFolder(text)
