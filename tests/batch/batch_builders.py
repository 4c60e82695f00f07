"""Builders for tests: small real cubes with known content, and every way in which a build can go wrong, chosen by the site's id."""

from __future__ import annotations

import gc
import os
import resource
import signal
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from cubekit.errors import AccessDeniedError, CatalogError, CubekitWarning, NothingFoundError
from cubekit.store import content_digest, write_cube

SECRET = "CANARY0f3a9"


@dataclass(frozen=True)
class Result:
    digest: str
    scenes: int = 3
    holes: int = 1
    requests: int = 7
    bytes: int = 1000
    retries: int = 2


def cube_of(recipe, site):
    """Pixels that depend on recipe and site only."""
    size = int(recipe.grid.edge_size)
    seed = [round((site.lat + 90) * 1e6), round((site.lon + 180) * 1e6)]
    values = np.random.default_rng(seed).integers(0, 10_000, (3, size, size)).astype("int16")
    data = xr.Dataset({"B04": (("time", "y", "x"), values)}, attrs={"site": site.id, "recipe_digest": recipe.digest})
    return xr.DataTree.from_dict({"/": data})


def build(recipe, site, out, *, overwrite, session):
    trouble(site.id, out)
    # No file may grow: what a full disk does, through the same calls.
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limit[1]) if site.id.startswith("full") else limit)
    try:
        write_cube(cube_of(recipe, site), out, overwrite=overwrite)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    return Result(content_digest(out))


def once(name):
    """True the first time it is asked for a name; counts across processes."""
    try:
        os.close(os.open(Path(os.environ["CUBEKIT_TEST_STATE"]) / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def trouble(name, out):
    kind = name.partition("-")[0]
    if kind == "segv" or (kind == "segvonce" and once(name)):
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "die" or (kind == "dieonce" and once(name)):
        leave_staging(out)
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        time.sleep(600)
    if kind == "slow":
        time.sleep(1.0)
    if kind == "eat":
        hoard = [np.ones(50_000_000 // 8) for _ in range(200)]
        time.sleep(600 + len(hoard))
    if kind == "raise" or (kind == "raiseonce" and once(name)):
        raise ZeroDivisionError(
            f"GET https://a.blob/x.tif?sv=1&sig={SECRET} with AWS_SECRET_ACCESS_KEY={os.environ.get('AWS_SECRET_ACCESS_KEY')}"
        )
    if kind == "nothing":
        raise NothingFoundError(f"No scene at {name}", remedy="Try other days")
    if kind == "denied":
        raise AccessDeniedError(f"https://a.blob/x.tif?sig={SECRET} refused", remedy="Log in")
    if kind == "chain":
        try:
            raise OSError(f"https://user:{SECRET}@host/x?sig={SECRET}")
        except OSError as error:
            raise CatalogError(f"down: Authorization: Bearer {SECRET}") from error
    if kind == "warn":
        warnings.warn(f"odd: https://a.blob/x.tif?sig={SECRET}", CubekitWarning, stacklevel=2)
    if kind == "print":
        print(f"https://a.blob/x.tif?sig={SECRET}", flush=True)
        os.write(2, f"token={SECRET}\n".encode())
    if kind == "refused":
        raise CatalogError("503 Service Unavailable", remedy="Wait", retry_after=0.01)
    if kind == "throttle" and once(name):
        raise CatalogError("429 Too Many Requests", remedy="Wait", retry_after=1.0)


def leave_staging(out):
    """What a writer leaves that dies in the middle, as the store names it."""
    from cubekit.location import Location
    from cubekit.store._local import LocalAttempt

    attempt = LocalAttempt(Location.parse(out), overwrite=True, lock_timeout=0.0)
    attempt.put("B04/c/0/0/0", b"half")


def quality(path):
    """QA values of a cube, as the registry wants them."""
    return {"valid_fraction": 0.5, "checksum": "abc", "secret": f"https://a.blob/x.tif?sig={SECRET}"}


def frozen(recipe, site, out, *, overwrite, session):
    """Tells how many objects the garbage collector leaves alone."""
    return Result("", scenes=gc.get_freeze_count())


def orphan(recipe, site, out, *, overwrite, session):
    """Kills the worker that this process is a child of, once."""
    if once("orphan"):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return Result("")


def together(recipe, site, out, *, overwrite, session):
    """The real builder; a process that has not read anything waits for another to come so far, for a while."""
    from cubekit.layers.sentinel2 import _pixels
    from cubekit.pipeline import build_cube

    read, folder = _pixels.read_assets, Path(os.environ["CUBEKIT_TEST_STATE"])

    def wait_and_read(*arguments, **options):
        (folder / f"begun-{os.getpid()}").touch()
        until = time.monotonic() + 4.0
        while len(list(folder.glob("begun-*"))) < 2 and time.monotonic() < until:
            time.sleep(0.001)
        return read(*arguments, **options)

    _pixels.read_assets = wait_and_read
    try:
        return build_cube(recipe, site, out, overwrite=overwrite, session=session)
    finally:
        _pixels.read_assets = read


current = build
"""What `delegate` calls; for tests that run in this process."""


def delegate(recipe, site, out, **more):
    return current(recipe, site, out, **more)


def reads(recipe, site, out, *, overwrite, session):
    """Reads one file again and again for three seconds, while another worker does the same."""
    from cubekit.read import AssetRead, ReadOptions, forget_headers, read_assets

    folder = Path(os.environ["CUBEKIT_TEST_STATE"])
    (folder / f"reads-{site.id}").touch()
    while len(list(folder.glob("reads-*"))) < 2:
        time.sleep(0.01)
    until, grid, statuses = time.monotonic() + 3.0, recipe.grid.around(site), set()
    while time.monotonic() < until:
        forget_headers()
        array = np.zeros(grid.shape, np.uint16)
        read = AssetRead(f"{os.environ['CUBEKIT_TEST_FILES']}/{site.id}.tif", nodata=0)
        statuses |= {outcome.status.name for outcome in read_assets([read], grid, [array], options=ReadOptions())}
        time.sleep(0.01)
    return Result(",".join(sorted(statuses)))
