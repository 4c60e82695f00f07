"""Commit on the local disk: a hidden sibling directory, then one rename."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import shutil
import threading
import time
import uuid
from pathlib import Path

from cubekit.errors import CommitError, TargetExistsError
from cubekit.layout import ROOT_KEY
from cubekit.location import Location
from cubekit.store._flush import Flusher, flush_one

__all__ = ["LocalAttempt", "check_local", "restore_interrupted", "sweep_local"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PLACE = {*_FULL, errno.EACCES, errno.EIO, errno.ENODEV, errno.ENOENT, errno.ENOTCONN, errno.EPERM, errno.EROFS, errno.ESTALE}
"""What is the matter with the place, not with the cube."""
_TOKEN = re.compile(r"[0-9a-f]{12}")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class Lock:
    """Advisory lock on a hidden file beside the target; the kernel drops it with the process that holds it.

    The file names the staging directory of its holder. It is removed with the lock, so a file that is found tells what its last holder,
    who must be dead, left behind (`left`).

    On NFS it excludes writers on other machines only where the server supports locks (NFSv4, or v3 with lockd).
    """

    def __init__(self, location: Location, timeout: float) -> None:
        self.path = Path(location.base) / f".{location.name}.lock"
        deadline = time.monotonic() + timeout
        while (fd := self._try()) is None:
            if time.monotonic() >= deadline:
                raise CommitError(
                    f"{location.url} is being written by another process",
                    remedy="Wait for it, or write to another path",
                    target=location.url,
                )
            time.sleep(0.05)
        self._fd = fd
        self.left = os.pread(fd, 4096, 0).decode("ascii", "replace")

    def note(self, token: str) -> None:
        """Tell the next holder what to clean up if this one dies."""
        os.pwrite(self._fd, token.encode(), 0)
        os.fsync(self._fd)

    def _try(self) -> int | None:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The file may have been removed by its last owner between open and lock.
            if os.fstat(fd).st_ino == os.stat(self.path).st_ino:
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(fd)
        return None

    def release(self, *, tidy: bool = True) -> None:
        """Let others write; unless all is `tidy`, the file stays and tells what is left."""
        if tidy:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
        os.close(self._fd)


class LocalAttempt:
    """A writer's try on the local disk.

    The directory ``.NAME.TOKEN.partial`` beside the target takes everything, root metadata last; it is flushed to the disk and renamed.
    Files are flushed while others are still being made, so that before the rename hardly any is left to wait for.
    An existing cube changes places with it in one system call where the kernel can (Linux, macOS), else it is moved aside first
    (``.NAME.TOKEN.old``) and moved back by whoever looks next, should the writer die in between.
    """

    def __init__(self, location: Location, *, overwrite: bool, lock_timeout: float = 0.0) -> None:
        self._location, self._target = location, location.path
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._lock: Lock | None = Lock(location, lock_timeout)
        except OSError as error:
            raise _failed(location, error) from error
        try:
            _clean(location, [self._lock.left])
            self._lock.left = ""
            self._replace = check_local(location, overwrite)
            token = uuid.uuid4().hex[:12]
            self._lock.note(token)
            self._stage = _stage(location, token, "partial")
            self._stage.mkdir()
            self._folders, self._making = {str(self._stage)}, threading.Lock()
            self._flusher = Flusher()
        except BaseException as error:
            self._lock.release(tidy=not self._lock.left)
            if isinstance(error, OSError):
                raise _failed(location, error) from error
            raise

    def put(self, key: str, data: bytes) -> None:
        """Write one object; `commit` waits until it is on the disk."""
        try:
            path = f"{self._stage}/{key}"
            with self._making:
                self._make(os.path.dirname(path))
            _write(path, data)
        except OSError as error:
            raise _failed(self._location, error) from error
        self._flusher.add(path)

    def _make(self, folder: str) -> None:
        """Make a folder below the staging directory, unless that is done."""
        if folder not in self._folders:
            self._make(os.path.dirname(folder))
            os.mkdir(folder)
            self._folders.add(folder)

    def commit(self, root: bytes) -> None:
        """Write the root's metadata and take the target's name."""
        self.put(ROOT_KEY, root)
        try:
            self._flusher.finish(sorted(self._folders))
            if self._replace:
                _exchange(self._stage, self._target)
            else:
                os.rename(self._stage, self._target)
            flush_one(self._target.parent)
        except OSError as error:
            raise _failed(self._location, error) from error

    def abandon(self) -> None:
        """Remove the staging directory, or the replaced cube that now has its name, and release the lock."""
        if self._lock is not None:
            self._flusher.stop()
            shutil.rmtree(self._stage, ignore_errors=True)
            self._lock.release(tidy=not self._stage.exists())
            self._lock = None


def sweep_local(location: Location) -> int:
    """Remove leftovers of dead writers; 0 while a writer is alive."""
    if not location.path.parent.is_dir():
        return 0
    try:
        lock = Lock(location, 0.0)
    except CommitError:
        return 0
    try:
        return _clean(location, _tokens(location))
    finally:
        lock.release()


def restore_interrupted(location: Location) -> None:
    """Give a cube its name back that was moved aside by a writer who died before the new one took it."""
    if not location.path.exists() and any(_stage(location, token, "old").exists() for token in _tokens(location)):
        sweep_local(location)


def _clean(location: Location, tokens: list[str]) -> int:
    """Remove what the owners of `tokens` left; the caller holds the lock, so they are dead."""
    count = 0
    for token in filter(_TOKEN.fullmatch, tokens):
        old, partial = _stage(location, token, "old"), _stage(location, token, "partial")
        if old.exists() and not location.path.exists():
            os.rename(old, location.path)
            count += 1
        for path in (old, partial):
            if path.exists():
                shutil.rmtree(path)
                count += 1
    return count


def _stage(location: Location, token: str, kind: str) -> Path:
    return Path(location.base) / f".{location.name}.{token}.{kind}"


def _tokens(location: Location) -> list[str]:
    """Tokens of all staging directories beside a target."""
    pattern = re.compile(rf"\.{re.escape(location.name)}\.({_TOKEN.pattern})\.(partial|old)")
    try:
        with os.scandir(location.base) as entries:
            return sorted({match[1] for entry in entries if (match := pattern.fullmatch(entry.name))})
    except FileNotFoundError:
        return []


def check_local(location: Location, overwrite: bool) -> bool:
    """Whether a cube has to be replaced."""
    target = location.path
    if not os.path.lexists(target):
        _check_parent(location)
        return False
    if not overwrite:
        raise TargetExistsError(f"{location.url} exists", remedy="Choose another name or allow to overwrite", target=location.url)
    if target.is_symlink() or not target.is_dir() or not (target / ROOT_KEY).is_file():
        raise CommitError(
            f"{location.url} is no Zarr store, so it is not replaced", remedy="Move it away or choose another name", target=location.url
        )
    return True


def _check_parent(location: Location) -> None:
    """The nearest folder that exists takes files."""
    parent = next(path for path in location.path.absolute().parents if os.path.lexists(path))
    if not parent.is_dir():
        raise CommitError(f"{parent} is no folder, so {location.url} cannot be written", remedy="Choose another place", target=location.url)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise CommitError(
            f"{parent} is not writable for this user", remedy="Choose another place, or change its mode", target=location.url, storage=True
        )


def _exchange(stage: Path, target: Path) -> None:
    if _exchange_names(stage, target):
        return
    old = stage.with_suffix(".old")
    os.rename(target, old)
    os.rename(stage, target)
    shutil.rmtree(old)


def _exchange_names(first: Path, second: Path) -> bool:
    """Swap two names atomically; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        result = libc.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    elif hasattr(libc, "renamex_np"):
        result = libc.renamex_np(os.fsencode(first), os.fsencode(second), _RENAME_EXCHANGE)
    else:
        return False
    if result == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def _failed(location: Location, error: OSError) -> CommitError:
    if isinstance(error, CommitError):
        return error
    if error.errno in _FULL:
        message, remedy = f"No space left for {location.url} ({error.strerror})", "Free some space or write elsewhere; nothing was kept"
    else:
        message, remedy = f"Cannot write {location.url}: {error.strerror or error}", "Check that the folder exists and may be written"
    return CommitError(message, remedy=remedy, target=location.url, errno=error.errno, storage=error.errno in _PLACE)
