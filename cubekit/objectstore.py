"""Object stores: opened as the environment says, asked whether they take what is written, and their answers in plain words."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from cubekit.errors import AccessDeniedError, CommitError, CubekitError, InputError

__all__ = ["check_slashes", "check_writable", "first_line", "object_store", "store_error"]

_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_REMEDIES = {
    "AuthorizationHeaderMalformed": "Set AWS_REGION to the region of the bucket",
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID; a temporary one also needs AWS_SESSION_TOKEN",
    "NoSuchBucket": "Create it, or correct the URL or AWS_ENDPOINT_URL",
    "PermanentRedirect": "Set AWS_REGION to the region of the bucket",
    "RequestTimeTooSkewed": "Set the clock of this machine",
    "QuotaExceeded": "Make room there, or raise the quota",
    "SignatureDoesNotMatch": "Correct AWS_SECRET_ACCESS_KEY",
    "UserSuspended": "Ask who runs the store to enable the user of these keys",
}
"""What to do, by the code in the answer of an S3 store."""

_HASTY = {
    "client_options": {"connect_timeout": "5s", "timeout": "10s"},
    "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=15)},
}


def object_store(url: str, options: Mapping[str, Any] | None = None, *, hasty: bool = False) -> Any:
    """The obstore store of a URL; an endpoint that is given as ``http://``, in `options` or the environment, is meant so.

    Parameters
    ----------
    url
        Folder in a bucket.
    options
        Settings, see obstore; what they leave out comes from the environment.
    hasty
        Give up after seconds instead of minutes.

    Raises
    ------
    InputError
        For an endpoint that is no http(s) address.
    """
    from obstore.store import from_url

    settings: dict[str, Any] = {**(_HASTY if hasty else {}), **(options or {})}
    endpoint = _endpoint(settings) if url.startswith("s3://") else url
    if endpoint.startswith("http://"):
        settings["client_options"] = {"allow_http": True, **settings.get("client_options", {})}
    return from_url(url, **settings)


def _endpoint(settings: Mapping[str, Any]) -> str:
    given = (settings.get("endpoint") or settings.get("aws_endpoint"), *map(os.environ.get, _ENDPOINTS))
    endpoint = str(next(filter(None, given), ""))
    if endpoint and not re.match(r"https?://[^/\s]", endpoint):
        raise InputError(f"AWS_ENDPOINT_URL {endpoint!r} is no address", remedy="Write it with http:// or https://")
    return endpoint


def check_slashes(path: str) -> None:
    """Raise `InputError` for ``s3:/bucket/cube``, which would be a folder called ``s3:``."""
    if found := re.match(r"(s3|gs|az|https?):/?(?!/)", path):
        raise InputError(f"{path!r} is neither a path nor a URL", remedy=f"Write {found[1]}://, or ./{path} for a folder")


def check_writable(folder: str, options: Mapping[str, Any] | None = None) -> None:
    """List in a folder, put one small object there, see that it is not put again on the condition that it is not there, and remove it.

    Raises
    ------
    CommitError, AccessDeniedError
        Where one of these fails, within seconds, or where the store does not heed conditions: two writers of a cube would both win.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    key = f".{uuid.uuid4().hex}.probe"
    store = object_store(folder, options, hasty=True)
    steps: dict[str, Callable[[], object]] = {
        "list": lambda: next(iter(store.list(prefix=key, chunk_size=1)), None),
        "write to": lambda: store.put(key, b"", mode="create"),
        "write twice to": lambda: store.put(key, b"", mode="create"),
        "delete from": lambda: store.delete(key),
    }
    heeds = False
    for doing, step in steps.items():
        try:
            step()
        except (AlreadyExistsError, PreconditionError) as error:
            if doing != "write twice to":
                raise store_error(error, doing, folder) from error
            heeds = True
        except (BaseError, OSError) as error:
            raise store_error(error, doing, folder) from error
    if not heeds:
        raise CommitError(
            f"The store of {folder} puts an object that is there already on the condition that it is not (If-None-Match: *)",
            remedy="Two writers of a cube would both win: write elsewhere, or update the store",
            target=folder,
            storage=True,
        )


def store_error(error: Exception, doing: str, url: str, kind: type[CubekitError] = CommitError) -> CubekitError:
    """What a store answered, in cubekit's terms: an `AccessDeniedError` where it is about credentials, else one of a kind.

    Parameters
    ----------
    error
        Of obstore.
    doing
        What failed, such as ``"write to"``.
    url
        Where.
    kind
        Of the error made.
    """
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    said = first_line(error)
    # Whoever does many things there can tell that it is not the thing's fault.
    storage = {"storage": True} if kind is CommitError else {}
    found = re.search(r"(?:<Code>|\(code: )(\w+)", str(error))
    code = found[1] if found else ""
    remedy = _REMEDIES.get(code, "")
    if code == "QuotaExceeded":  # says 403, as if it were about credentials
        return kind(f"No space left: cannot {doing} {url} ({code})", remedy=remedy, target=url, **storage)
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or code == "AccessDenied" or "403 Forbidden: <" in said:
        remedy = remedy or "Set credentials in the environment that may list, read, write and delete there"
        return AccessDeniedError(f"Not allowed to {doing} {url}{f' ({code})' if code else ''}", remedy=remedy, **storage)
    # Without credentials the client asks the metadata service of a cloud machine for some.
    if "169.254." in said or "metadata.google.internal" in said:
        names = _CREDENTIALS.get(url.partition(":")[0], "them")
        remedy = f"Set {names} in the environment; files of other tools are not read"
        return AccessDeniedError(f"No credentials for {url}", remedy=remedy, **storage)
    if code == "NoSuchBucket" or (isinstance(error, FileNotFoundError) and doing == "write to"):
        said, remedy = "there is no such bucket", _REMEDIES["NoSuchBucket"]
    elif "error sending request" in said:
        said = f"{_host(said)} does not answer"
        remedy = "Check AWS_ENDPOINT_URL and the network" if url.startswith("s3://") else "Check the network"
    elif "incorrectly configured region" in said:
        remedy = _REMEDIES["PermanentRedirect"]
    return kind(f"Cannot {doing} {url}: {said}", remedy=remedy or "Check the URL and the store, and try again", target=url, **storage)


def _host(said: str) -> str:
    found = re.search(r"https?://[^/\s]+", said)
    return found[0] if found else "the store"


def first_line(error: BaseException) -> str:
    """What an error of obstore says before it shows its insides."""
    return str(error).partition("\n")[0][:300]
