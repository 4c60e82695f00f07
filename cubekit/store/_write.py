"""Commit a cube: chunks first, the root's metadata last."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import xarray as xr

from cubekit.errors import CommitError
from cubekit.layout import ROOT_KEY, canonical_json, digest_of, metadata_hash
from cubekit.location import Location
from cubekit.store._local import LocalAttempt, check_local
from cubekit.store._objects import Array, Objects, Region, describe_objects, root_document
from cubekit.typing import JSON

__all__ = ["Attempt", "Committed", "check_target", "commit_cube", "sweep", "write_cube"]


class Attempt(Protocol):
    """One writer's try to make a cube at a place."""

    def put(self, key: str, data: bytes) -> None:
        """Keep one object, out of sight."""

    def commit(self, root: bytes) -> None:
        """Make everything visible at once, or raise `CommitError`."""

    def abandon(self) -> None:
        """Remove what was kept and let others write; after a commit, only the latter."""


class Committed(NamedTuple):
    """Where a cube is, as an absolute path or URL, and the digest of its content."""

    target: str
    digest: str


def write_cube(
    tree: xr.DataTree,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    lock_timeout: float = 0.0,
    storage_options: Mapping[str, Any] | None = None,
) -> str:
    """Write a cube so that it exists completely or not at all.

    Parameters
    ----------
    tree
        What `cubekit.cube.assemble` returns. Lazy arrays are computed chunk by chunk and memory maps are read so; no variable is ever held
        in memory as a whole.
    target
        Local path, or URL of an object store (``s3://``, ``gs://``, ``az://``).
    overwrite
        Replace an existing cube: the new one is made beside it and takes its place when complete.
    workers
        Threads that compress and write; one per core by default.
    lock_timeout
        Seconds to wait for another writer of the same target.
    storage_options
        Settings of the object store, see obstore; by default it takes them from the environment.

    Returns
    -------
    str
        The target, as an absolute path or URL. `content_digest` tells the digest it was committed with.

    Raises
    ------
    InputError
        For a target or tree that cannot be meant; before anything is written.
    CommitError
        Where the target exists already or is being written, or storage is full or fails. Nothing is left behind.
    """
    return commit_cube(
        tree, target, overwrite=overwrite, workers=workers, lock_timeout=lock_timeout, storage_options=storage_options
    ).target


def commit_cube(
    tree: xr.DataTree,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    lock_timeout: float = 0.0,
    storage_options: Mapping[str, Any] | None = None,
) -> Committed:
    """As `write_cube`, and tell the digest too."""
    location = Location.parse(target, storage_options)
    objects = describe_objects(tree)
    attempt = _open_attempt(location, overwrite, lock_timeout)
    try:
        hashes = _write_objects(objects, attempt, workers or min(8, os.cpu_count() or 1))
        digest = digest_of({**hashes, ROOT_KEY: metadata_hash(root_document(objects, None), root=True)})
        attempt.commit(_encoded(root_document(objects, digest)))
    finally:
        attempt.abandon()
    return Committed(location.url, digest)


def check_target(target: str | os.PathLike[str], *, overwrite: bool = False, storage_options: Mapping[str, Any] | None = None) -> str:
    """Check early that a cube may be written to `target`; returns it as an absolute path or URL.

    Raises
    ------
    InputError
        For a target that cannot be meant.
    CommitError
        Where a cube exists and `overwrite` is false, or something that is no cube.
    """
    location = Location.parse(target, storage_options)
    if location.local:
        check_local(location, overwrite)
    elif location.writable:
        from cubekit.store._remote import check_remote

        check_remote(location, overwrite)
    else:
        raise _read_only(location)
    return location.url


def _read_only(location: Location) -> CommitError:
    return CommitError(f"Cannot write to {location.url}", remedy="Write to a local path, s3://, gs:// or az://", target=location.url)


def _open_attempt(location: Location, overwrite: bool, lock_timeout: float) -> Attempt:
    if location.local:
        return LocalAttempt(location, overwrite=overwrite, lock_timeout=lock_timeout)
    if location.writable:
        from cubekit.store._remote import RemoteAttempt

        return RemoteAttempt(location, overwrite=overwrite, lock_timeout=lock_timeout)
    raise _read_only(location)


def sweep(target: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> int:
    """Remove what writers of `target` left behind that are no longer alive, and finish a swap that was interrupted.

    Returns
    -------
    int
        Number of leftovers removed. A target that is being written is left alone (0).
    """
    location = Location.parse(target, storage_options)
    if location.local:
        from cubekit.store._local import sweep_local

        return sweep_local(location)
    from cubekit.store._remote import sweep_remote

    return sweep_remote(location)


def _encoded(document: JSON) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _write_objects(objects: Objects, attempt: Attempt, workers: int) -> dict[str, str]:
    """Write all but the root; returns the hash of every object."""
    from dask.base import is_dask_collection

    hashes: dict[str, str] = {}
    lazy: list[Array] = []
    ready: list[Array] = []
    for array in objects.arrays:
        (lazy if is_dask_collection(array.variable) else ready).append(array)
    # The longest work first: what is left for the end is small.
    ready.sort(key=lambda array: array.variable.nbytes, reverse=True)
    with ThreadPoolExecutor(workers, thread_name_prefix="cubekit-store") as pool:
        tasks = [pool.submit(_write_chunk, array, key, region, attempt) for array in ready for key, region in array.regions()]
        try:
            hashes.update(_write_document(key, document, attempt) for key, document in objects.documents.items())
            hashes.update(_store_lazy(lazy, attempt, workers))
            hashes.update(task.result() for task in tasks)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return hashes


def _write_chunk(array: Array, key: str, region: Region, attempt: Attempt) -> tuple[str, str]:
    # An array of one chunk needs no cutting, which takes longer than to write it where it is small.
    whole = array.variable.shape == tuple(part.stop - part.start for part in region)
    data = array.encode((array.variable if whole else array.variable[region]).values)
    attempt.put(key, data)
    return key, hashlib.sha256(data).hexdigest()


def _write_document(key: str, document: JSON, attempt: Attempt) -> tuple[str, str]:
    """What is written is what is hashed: the canonical form."""
    data = canonical_json(document).encode()
    attempt.put(key, data)
    return key, hashlib.sha256(data).hexdigest()


class _Target:
    """What dask stores into: takes whole chunks and writes them."""

    def __init__(self, array: Array, attempt: Attempt, hashes: dict[str, str], lock: threading.Lock) -> None:
        self.array, self.attempt, self.hashes, self.lock = array, attempt, hashes, lock

    def __setitem__(self, region: Region, values: Any) -> None:
        data = self.array.encode(values)
        key = self.array.key(region)
        self.attempt.put(key, data)
        with self.lock:
            self.hashes[key] = hashlib.sha256(data).hexdigest()


def _store_lazy(arrays: list[Array], attempt: Attempt, workers: int) -> dict[str, str]:
    """Compute lazy arrays in one graph, so that what they share is computed once, and write each chunk as it is ready."""
    if not arrays:
        return {}
    import dask.array as da

    hashes: dict[str, str] = {}
    lock = threading.Lock()
    sources = [array.variable.data.rechunk(array.chunks) for array in arrays]
    targets = [_Target(array, attempt, hashes, lock) for array in arrays]
    store: Any = da.store
    store(sources, targets, lock=False, compute=True, scheduler="threads", num_workers=workers)
    return hashes
