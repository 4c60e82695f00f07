"""Credentials from the usual places, handed to the request that needs them and kept nowhere else."""

from __future__ import annotations

import base64
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

from cubekit.errors import AccessDeniedError, InputError

__all__ = ["basic", "bearer", "cds_key", "earthdatahub_token", "require_safe_host"]

EARTHDATAHUB_HOSTS = ("data.earthdatahub.destine.eu", "api.earthdatahub.destine.eu")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def cds_key() -> str | None:
    """Key of the Climate Data Store: ``$CDSAPI_KEY``, else ``key:`` in ``$CDSAPI_RC`` or ``~/.cdsapirc``; None where there is none."""
    key = os.environ.get("CDSAPI_KEY")
    if not key:
        path = Path(os.environ.get("CDSAPI_RC") or Path.home() / ".cdsapirc")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        pairs = dict(line.split(":", 1) for line in lines if ":" in line and not line.lstrip().startswith("#"))
        key = {name.strip(): value for name, value in pairs.items()}.get("key", "").strip()
    # The old service wrote UID:key; the token of today has no colon.
    return key.rpartition(":")[2] or None if key else None


def earthdatahub_token() -> tuple[str, str] | None:
    """(login, token) of DestinE's Earth Data Hub from ``$NETRC`` or ``~/.netrc``; None where there is none."""
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        entries = netrc.netrc(str(path))
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        # The parser's message quotes the offending token, which may be the password.
        line = getattr(error, "lineno", None)
        raise AccessDeniedError(
            f"{path} cannot be read" + (f" (line {line})" if line else ""), remedy="Correct it: machine HOST login edh password TOKEN"
        ) from None
    for host in EARTHDATAHUB_HOSTS:
        found = entries.hosts.get(host)
        if found and found[2]:
            return found[0] or "edh", found[2]
    return None


def bearer(token: str) -> dict[str, str]:
    """Header of a bearer token."""
    return {"Authorization": f"Bearer {token}"}


def basic(login: str, password: str) -> dict[str, str]:
    """Header of basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()}


def require_safe_host(url: str) -> None:
    """Refuse to send a secret over plain http to anything but this machine."""
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise InputError(f"{url} is not https: no credentials are sent there", remedy="Use an https URL")
