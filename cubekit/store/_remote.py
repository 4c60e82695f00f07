"""Commit on an object store: a lease, chunks first, the root's metadata by conditional put."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from cubekit.errors import AccessDeniedError, CommitError, TargetExistsError
from cubekit.layout import ROOT_KEY
from cubekit.location import Location
from cubekit.objectstore import check_writable, store_error

__all__ = ["RemoteAttempt", "check_remote", "sweep_remote"]

LEASE_SECONDS = 60.0
"""A writer that has not renewed its lease for so long has stopped writing, and others may take its place."""
_MARGIN = 10.0
"""Seconds that an answer of the store may be late."""
_CONNECTIONS = 16


class Lease:
    """Exclusive right to write one target: the object ``.NAME.lock``, made and renewed by conditional puts.

    The holder renews it from a thread of its own. It asks `check` before each write, which fails once the lease may have run out, so that
    a writer that was suspended does not disturb its successor. The lease of a process that died on this machine is taken over at once.
    A lease taken over (`taken_over`) tells that its last holder may have left something behind.
    """

    def __init__(self, location: Location, bucket: Any, timeout: float, seconds: float = LEASE_SECONDS) -> None:
        self._location, self._bucket, self._seconds = location, bucket, seconds
        self._key = f".{location.name}.lock"
        self._owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex}
        self._stop = threading.Event()
        self._count = 0
        self.taken_over = False
        deadline = time.monotonic() + timeout
        while not self._acquire():
            if time.monotonic() >= deadline:
                raise CommitError(
                    f"{location.url} is being written by another process",
                    remedy=f"Wait for it (the lease of a dead writer runs out after {seconds:g} s), or write elsewhere",
                    target=location.url,
                )
            time.sleep(min(1.0, seconds / 10))
        self._thread = threading.Thread(target=self._renew, name="cubekit-lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise `CommitError` if the lease may have run out."""
        if time.monotonic() >= self._until:
            raise CommitError(f"Lost the lease on {self._location.url}", remedy="Build it again", target=self._location.url)

    def release(self, *, tidy: bool = True) -> None:
        """Let others write, if the lease is still ours; unless all is `tidy`, it is left to run out, which tells the next to clean up."""
        self._stop.set()
        self._thread.join()
        if tidy and time.monotonic() < self._until:
            with contextlib.suppress(BaseError, OSError):
                self._bucket.delete(self._key)

    def _body(self) -> bytes:
        # No two are alike: many stores make the ETag of the content, and who takes a lease over must not mistake a renewed one for the old.
        self._count += 1
        return json.dumps({**self._owner, "seconds": self._seconds, "count": self._count}).encode()

    def _put(self, mode: Any) -> None:
        self._sent, self._last = time.monotonic(), self._body()
        self._hold(self._bucket.put(self._key, self._last, mode=mode)["e_tag"])

    def _hold(self, etag: str) -> None:
        self._etag, self._until = etag, self._sent + self._seconds

    def _landed(self, etag: str, content: bytes) -> bool:
        """Whether what was refused is there all the same: the client puts again what it got no answer for, and meets itself."""
        if content == self._last:
            self._hold(etag)
        return content == self._last

    def _replace(self, etag: str) -> None:
        """Put the lease in the place of one that has this ETag still."""
        # Ceph 16 wants the ETag of a put without the quotes that it gives it with. The condition is the same.
        ways = [etag, etag.strip('"')]
        while ways:
            try:
                self._put({"e_tag": ways.pop(0)})
                return
            except PreconditionError:
                found = self._bucket.get(self._key)
                if self._landed(found.meta["e_tag"], bytes(found.bytes())):
                    return
                if found.meta["e_tag"] != etag or not ways:
                    raise

    def _acquire(self) -> bool:
        try:
            self._put("create")
            return True
        except (AlreadyExistsError, PreconditionError):
            return self._take_over()

    def _take_over(self) -> bool:
        try:
            found = self._bucket.get(self._key)
            content = bytes(found.bytes())
            if self._landed(found.meta["e_tag"], content):
                return True
            owner = json.loads(content)
            if not _dead_here(owner) and self._age(found.meta) <= float(owner.get("seconds", 0)) + _MARGIN:
                return False
            self._replace(found.meta["e_tag"])
            self.taken_over = True
            return True
        except (FileNotFoundError, PreconditionError, AlreadyExistsError):
            return False

    def _age(self, meta: Any) -> float:
        """Seconds since a lease was renewed, by the clock of the store: those of the writers' machines need not agree."""
        key = f"{self._key}.now"
        self._bucket.put(key, b"")
        now = self._bucket.head(key)["last_modified"]
        # Of several who delete it at once, Ceph 16 tells some of an unknown error.
        with contextlib.suppress(BaseError, OSError):
            self._bucket.delete(key)
        return float((now - meta["last_modified"]).total_seconds())

    def _renew(self) -> None:
        while not self._stop.wait(self._seconds / 4):
            try:
                self._replace(self._etag)
            except (PreconditionError, FileNotFoundError):
                self._until = 0.0
                return
            except (BaseError, OSError):
                continue


def _dead_here(owner: dict[str, Any]) -> bool:
    return owner.get("host") == socket.gethostname() and not _alive(int(owner.get("pid", 0)))


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class RemoteAttempt:
    """A writer's try on an object store.

    A new cube goes to its final keys; it does not exist until its root ``zarr.json`` does, which is put on the condition that there is
    none. A cube that replaces another is first written beside it (``.NAME.partial/TOKEN/``). When it is complete, ``.NAME.swap`` names
    it, and it is copied over the old one on the store's side: old root deleted, objects copied, root last. A writer that dies before
    ``.NAME.swap`` leaves the old cube; one that dies after it leaves no visible cube, and the next writer or `sweep` finishes the copy.
    """

    def __init__(self, location: Location, *, overwrite: bool, lock_timeout: float = 0.0) -> None:
        self._location, self._bucket = location, location.bucket()
        with _failures(location):
            lease = Lease(location, self._bucket, lock_timeout)
            try:
                _clean(location, self._bucket, lease)
                lease.taken_over = False
                self._replace = _check_free(location, self._bucket, overwrite)
            except BaseException:
                lease.release(tidy=not lease.taken_over)
                raise
        self._lease: Lease | None = lease
        self._place = f"{_stages(location)}/{uuid.uuid4().hex[:12]}" if self._replace else location.name
        self._committed = self._beaten = False

    def put(self, key: str, data: bytes) -> None:
        """Put one object."""
        with _failures(self._location):
            self._held().check()
            self._bucket.put(f"{self._place}/{key}", data)

    def commit(self, root: bytes) -> None:
        """Put the root's metadata, on the condition that nobody else has."""
        lease = self._held()
        with _failures(self._location):
            lease.check()
            try:
                self._bucket.put(f"{self._place}/{ROOT_KEY}", root, mode="create")
            except (AlreadyExistsError, PreconditionError) as error:
                # The client puts again what it got no answer for, and meets itself.
                if bytes(self._bucket.get(f"{self._place}/{ROOT_KEY}").bytes()) != root:
                    self._beaten = True
                    message = f"{self._location.url} was committed by another process"
                    raise CommitError(message, remedy="Allow to overwrite it, or keep it", target=self._location.url) from error
            self._committed = not self._replace
            if self._replace:
                lease.check()
                self._bucket.put(_swap_key(self._location), self._place.encode())
                _finish_swap(self._location, self._bucket)
                self._committed = True

    def abandon(self) -> None:
        """Remove what was not committed, and let others write."""
        if self._lease is None:
            return
        # What stands at the final keys of a beaten writer is the other's cube.
        tidy = self._committed or self._beaten
        if not tidy:
            with contextlib.suppress(BaseError, OSError):
                self._lease.check()
                # A swap that has begun is not undone but finished by whoever comes next.
                if not _exists(self._bucket, _swap_key(self._location)):
                    _delete_folder(self._bucket, self._place)
                    tidy = True
        self._lease.release(tidy=tidy)
        self._lease = None

    def _held(self) -> Lease:
        if self._lease is None:
            raise CommitError(f"The attempt to write {self._location.url} is over", target=self._location.url)
        return self._lease


def sweep_remote(location: Location) -> int:
    """Remove leftovers of dead writers and finish an interrupted swap; 0 while a writer is alive."""
    bucket = location.bucket()
    with _failures(location):
        try:
            lease = Lease(location, bucket, 0.0)
        except CommitError:
            return 0
        try:
            return _clean(location, bucket, lease)
        finally:
            lease.release()


def _clean(location: Location, bucket: Any, lease: Lease) -> int:
    """Finish a swap, then remove what a dead writer left; what nobody of us wrote is left alone."""
    count = 0
    if _exists(bucket, _swap_key(location)):
        _finish_swap(location, bucket)
        count += 1
    count += _delete_folder(bucket, _stages(location)) > 0
    if lease.taken_over and not _exists(bucket, f"{location.name}/{ROOT_KEY}"):
        count += _delete_folder(bucket, location.name) > 0
    return count


def check_remote(location: Location, overwrite: bool) -> None:
    """Raise `CommitError` where a cube exists and may not be replaced, or where the store does not take what is written."""
    if location.options:
        check_writable(location.base, location.options)
    else:
        _check_once(location.base)
    with _failures(location):
        if not overwrite and _exists(location.bucket(), f"{location.name}/{ROOT_KEY}"):
            raise _taken(location)


@cache
def _check_once(folder: str) -> None:
    """One answer is enough for all cubes that a process makes in a folder, until one fails; a refusal is not remembered."""
    check_writable(folder)


def _taken(location: Location) -> CommitError:
    return TargetExistsError(f"{location.url} exists", remedy="Choose another name or allow to overwrite", target=location.url)


def _check_free(location: Location, bucket: Any, overwrite: bool) -> bool:
    exists = _exists(bucket, f"{location.name}/{ROOT_KEY}")
    if not exists and next(iter(bucket.list(prefix=location.name, chunk_size=1)), None):
        raise CommitError(f"{location.url} holds objects but no cube", remedy="Remove them, or choose another name", target=location.url)
    if exists and not overwrite:
        raise _taken(location)
    return exists


def _stages(location: Location) -> str:
    return f".{location.name}.partial"


def _swap_key(location: Location) -> str:
    return f".{location.name}.swap"


def _finish_swap(location: Location, bucket: Any) -> None:
    """Copy the staged cube over the target; may be repeated at any point."""
    stage = bytes(bucket.get(_swap_key(location)).bytes()).decode()
    staged = _keys(bucket, stage)
    if ROOT_KEY in staged:  # else the copy was complete and only the tidying up is left
        bucket.delete(f"{location.name}/{ROOT_KEY}")
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(lambda key: bucket.copy(f"{stage}/{key}", f"{location.name}/{key}"), sorted(staged - {ROOT_KEY})))
        _delete(bucket, location.name, _keys(bucket, location.name) - staged)
        bucket.copy(f"{stage}/{ROOT_KEY}", f"{location.name}/{ROOT_KEY}")
        bucket.delete(f"{stage}/{ROOT_KEY}")
    _delete_folder(bucket, stage)
    bucket.delete(_swap_key(location))


def _keys(bucket: Any, folder: str) -> set[str]:
    start = f"{folder}/"
    return {item["path"].removeprefix(start) for page in bucket.list(prefix=folder) for item in page if item["path"].startswith(start)}


def _delete_folder(bucket: Any, folder: str) -> int:
    keys = _keys(bucket, folder)
    _delete(bucket, folder, keys)
    return len(keys)


def _delete(bucket: Any, folder: str, keys: set[str]) -> None:
    """Delete many objects by few requests, where the store can."""
    if keys:
        bucket.delete([f"{folder}/{key}" for key in sorted(keys)])


def _exists(bucket: Any, key: str) -> bool:
    try:
        bucket.head(key)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _failures(location: Location) -> Any:
    """Turn what the store says into our errors."""
    try:
        yield
    except (CommitError, AccessDeniedError):
        raise
    except (BaseError, OSError) as error:
        _check_once.cache_clear()
        raise store_error(error, "write", location.url) from error
