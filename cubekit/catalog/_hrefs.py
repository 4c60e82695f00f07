"""Which hrefs may be opened at all: everything an item says is taken for hostile."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urljoin, urlsplit, urlunsplit

from cubekit.catalog._tables import REQUESTER_PAYS
from cubekit.errors import ReadError
from cubekit.redact import redact

__all__ = ["REMOTE_SCHEMES", "RefusedHrefError", "below_root", "checked_href", "is_remote", "requester_pays", "scrub", "without_signature"]

REMOTE_SCHEMES = frozenset({"http", "https", "s3", "gs", "az", "abfs", "abfss"})
MAX_HREF = 4096

# Schemes, and the prefixes by which GDAL's drivers take addresses apart.
_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+._-]*:")
_HOST = re.compile(r"[A-Za-z0-9]+://(?:[^/?#]*@)?[^/?#@]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Parameters of Azure SAS; `sig` alone makes a signature of them, but PC's own client takes any of st, se, sp for one.
_SAS = frozenset("sig se st sp sv sr si ss srt sip spr skoid sktid skt ske sks skv ses sdd".split())
_SECRET = re.compile(
    r"(?i)x-amz-.+|x-goog-.+|awsaccesskeyid|googleaccessid|signature|expires|policy|key-pair-id|.*token|api[_-]?key|.*secret.*|password|credential"
)


class RefusedHrefError(ReadError):
    """An href that may not be opened; ``context`` has ``href``."""


def is_remote(href: str) -> bool:
    """True for an href with one of the schemes that may be opened over the network."""
    return href.partition("://")[0].lower() in REMOTE_SCHEMES and "://" in href


def without_signature(href: str) -> str:
    """Return `href` without signature, token, user information and fragment; other query parameters stay.

    >>> without_signature("https://u:p@a.blob.core.windows.net/c/x.tif?v=2&se=2026&sig=abc#f")
    'https://a.blob.core.windows.net/c/x.tif?v=2'
    """
    if "?" not in href and "@" not in href and "#" not in href:
        return href
    try:
        parts = urlsplit(href)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:  # no address at all: what stands before a query is all that may be shown
        return re.split("[?#]", href, maxsplit=1)[0].rpartition("@")[2]
    sas = bool({key.lower() for key, _ in pairs} & {"sig", "se", "st", "sp"})
    kept = [(k, v) for k, v in pairs if not _SECRET.fullmatch(k) and not (sas and k.lower() in _SAS)]
    # Untouched queries keep their spelling: some servers care.
    query = parts.query if len(kept) == len(pairs) else "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in kept)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def scrub(item: dict[str, Any]) -> None:
    """Free all texts of an item from signatures and tokens, in place; for what is kept on disk."""
    stack: list[Any] = [item]
    while stack:
        node = stack.pop()
        for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
            if isinstance(value, str):
                if "=" in value and "://" in value:
                    node[key] = redact(value)
            elif isinstance(value, (dict, list)):
                stack.append(value)


def checked_href(href: object, *, base: str | None, root: Path | None) -> str:
    """Return the unsigned, absolute form of an asset's href, or raise `RefusedHrefError`.

    Parameters
    ----------
    href
        What the item says.
    base
        URL of the item, or folder of the catalogue file, that a relative href is relative to.
    root
        Folder below which local paths are allowed; None where they are not.

    Notes
    -----
    Links in the file system are not followed here (no I/O); `below_root` does that when the asset is used.
    """
    if not isinstance(href, str) or not href.strip():
        raise RefusedHrefError(f"Asset href {str(href)[:80]!r} is no text", remedy="Correct the item")
    if len(href) > MAX_HREF or _CONTROL.search(href) or href.lstrip().startswith(("<", "{", "[")):
        raise _refusal(href, "it is no address but a document, or holds control characters")
    if is_remote(href):
        if not _HOST.match(href) or not _is_address(href):
            raise _refusal(href, "it names no host or bucket")
        return without_signature(href)
    if _SCHEME.match(href):
        raise _refusal(href, f"only {', '.join(sorted(REMOTE_SCHEMES))} are opened")
    if href.startswith(("//", "\\\\")) or "/vsi" in href.lower():
        raise _refusal(href, "it is a path for a driver or a network share")
    if base is not None and is_remote(base):
        try:
            return without_signature(urljoin(base, href))
        except ValueError:
            raise _refusal(href, "it is no address") from None
    return _local(href, base, root)


def _is_address(href: str) -> bool:
    try:
        parts = urlsplit(href)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _local(href: str, base: str | None, root: Path | None) -> str:
    if root is None:
        raise _refusal(href, "local paths are only allowed in a local catalogue")
    path = os.path.normpath(os.path.join(base or root, href))
    if not Path(path).is_relative_to(root):
        raise _refusal(href, f"it lies outside the catalogue's folder {root}")
    return path


def below_root(path: str, root: Path) -> str:
    """Return `path` with links resolved if it still lies below `root`, else raise `RefusedHrefError`."""
    resolved = os.path.realpath(path)
    if not Path(resolved).is_relative_to(os.path.realpath(root)):
        raise _refusal(path, f"it leads outside the catalogue's folder {root}")
    return resolved


def requester_pays(href: str) -> bool:
    """True where the reader pays for the transfer: buckets such as ``s3://sentinel-s2-l2a`` need signed requests with that consent."""
    parts = urlsplit(href)
    if parts.scheme == "s3":
        return parts.netloc in REQUESTER_PAYS
    bucket, _, rest = parts.netloc.partition(".s3")
    return bucket in REQUESTER_PAYS and rest.endswith(".amazonaws.com")


def _refusal(href: str, why: str) -> RefusedHrefError:
    shown = without_signature(href[:200])
    return RefusedHrefError(f"Asset href {shown!r} is refused: {why}", remedy="Correct the item, or leave the asset out", href=shown)
