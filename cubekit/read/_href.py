"""Which addresses may be opened, and under which name an asset is remembered."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from cubekit.read._fault import Fault
from cubekit.read._types import ReadStatus
from cubekit.redact import redact

__all__ = ["PLAIN", "asset_key", "check_address", "check_redirect", "local_path", "scheme_of"]

_REMOTE = ("http", "https", "s3", "gs", "az")
# Most addresses are plain: nothing in them could be a secret, and all of one server are allowed or refused together.
PLAIN = re.compile(r"((?:https?|s3|gs|az)://[A-Za-z0-9.-]+(?::[0-9]{1,5})?)/[A-Za-z0-9._~/+-]*")
# Metadata services of clouds that do not sit on link-local addresses.
_METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata", "instance-data"})
_METADATA_ADDRESSES = frozenset({"100.100.100.200", "192.0.0.192", "fd00:ec2::254", "168.63.129.16"})


def asset_key(href: str) -> str:
    """Stable name of the object behind `href`: no user, no fragment, no secret, but the rest of its query."""
    return href if PLAIN.fullmatch(href) else redact(urldefrag(href)[0])


def scheme_of(href: str, local_root: Path | None) -> str:
    """Scheme of an href that may be opened (``file`` for a local path), or a `Fault`."""
    plain = PLAIN.fullmatch(href)
    return _scheme_of_server(plain[1]) if plain else _scheme_of(href, local_root)


@lru_cache(maxsize=256)
def _scheme_of_server(server: str) -> str:
    return _scheme_of(server, None)


def _scheme_of(href: str, local_root: Path | None) -> str:
    scheme, separator, _ = href.partition("://")
    scheme = scheme.lower()
    if separator and scheme in _REMOTE:
        try:
            host = (urlsplit(href).hostname or "").rstrip(".").lower()
        except ValueError as error:
            raise Fault(ReadStatus.REFUSED, f"href {href[:200]!r} is no address ({error})") from None
        if not host:
            raise Fault(ReadStatus.REFUSED, f"href {href!r} names no host")
        if host in _METADATA_HOSTS:
            raise Fault(ReadStatus.REFUSED, f"host {host!r} is a metadata service and never read")
        with contextlib.suppress(ValueError):  # of a name: it is checked once resolved
            check_address(host)
        return scheme
    if separator and scheme != "file":
        raise Fault(ReadStatus.REFUSED, f"href {href!r} has a scheme that is not read (http, https, s3, gs, az)")
    local_path(href, local_root)
    return "file"


def local_path(href: str, local_root: Path | None) -> Path:
    """Path of a local href, links resolved, below `local_root`; a `Fault` where it is not."""
    text = href
    if href.startswith("file://"):
        text = unquote(urlsplit(href).path)
    if text.startswith("/vsi"):
        raise Fault(ReadStatus.REFUSED, f"href {href!r} asks for a virtual file system and is never opened")
    if local_root is None:
        raise Fault(ReadStatus.REFUSED, f"href {href!r} is a local path, and no local_root allows any")
    root = _resolved(local_root)
    path = os.path.realpath(os.path.join(root, text))
    if path != root and not path.startswith(os.path.join(root, "")):
        raise Fault(ReadStatus.REFUSED, f"href {href!r} lies outside the folder {str(local_root)!r} that may be read")
    return Path(path)


@lru_cache(maxsize=64)  # should it come to lead elsewhere, what lies there is refused
def _resolved(folder: Path) -> str:
    return os.path.realpath(folder)


def check_address(address: str) -> bool:
    """Whether a numeric address is public; a `Fault` where it is link-local or a metadata service (never read), ValueError for a name."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_unspecified or ip.is_multicast or str(ip) in _METADATA_ADDRESSES:
        raise Fault(ReadStatus.REFUSED, f"address {address} is link-local or a metadata service and never read")
    return ip.is_global


def check_redirect(origin: str, target: str) -> None:
    """A `Fault` unless a redirect stays with http(s) and does not fall from https to http."""
    scheme = urlsplit(target).scheme.lower()
    if scheme not in ("http", "https"):
        raise Fault(ReadStatus.REFUSED, f"redirect from {origin!r} to {target!r} leaves http(s)")
    if urlsplit(origin).scheme == "https" and scheme == "http":
        raise Fault(ReadStatus.REFUSED, f"redirect from {origin!r} to {target!r} drops encryption")
    scheme_of(target, None)
