"""Objects in S3, Google and Azure stores by obstore, with replies in the shape of HTTP."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, GenericError, NotFoundError, PermissionDeniedError, UnauthenticatedError

from cubekit.read._http import Reply
from cubekit.read._types import ReadOptions

__all__ = ["get_object"]

# A store keeps its own connections; one per bucket serves the process.
_stores: dict[str, Any] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stores.clear)
_SIGNED_BY = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"),
    "az": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_CLIENT_ID"),
}


async def get_object(href: str, start: int, stop: int, options: ReadOptions, deadline: float) -> Reply:
    """Bytes of an object, with the status HTTP would give; OSError where there was no answer."""
    parts = urlsplit(href)
    store = _store(parts.scheme, parts.netloc)
    path = parts.path.lstrip("/")
    left = max(0.001, min(options.first_byte_timeout, deadline - time.monotonic()))
    try:
        async with asyncio.timeout(left):
            answer = await obstore.get_async(store, path, options={"range": (start, stop)})
            body = await answer.bytes_async()
    except TimeoutError:
        raise TimeoutError(f"no answer for {left:.3g} s") from None
    except (NotFoundError, FileNotFoundError):
        return Reply(404, {}, memoryview(b""), True)
    except (PermissionDeniedError, UnauthenticatedError, PermissionError):
        return Reply(403, {}, memoryview(b""), True)
    except (GenericError, BaseError) as error:
        if "416" in str(error):
            return Reply(416, {}, memoryview(b""), True)
        raise OSError(str(error).splitlines()[0][:300]) from None
    meta = answer.meta
    headers = {"content-range": f"bytes {start}-/{meta['size']}"}
    if meta.get("e_tag"):
        headers["etag"] = str(meta["e_tag"])
    return Reply(206, headers, memoryview(body), True)


def _store(scheme: str, bucket: str) -> Any:
    key = f"{scheme}://{bucket}"
    store = _stores.get(key)
    if store is None:
        anonymous = not any(os.environ.get(name) for name in _SIGNED_BY[scheme])
        settings: dict[str, Any] = {"skip_signature": True} if anonymous else {}
        # Retries are ours: one place decides and counts.
        store = obstore.store.from_url(key, retry_config={"max_retries": 0}, **settings)
        _stores[key] = store
    return store
