"""Late signing: an href gets its token when it is read, and another one when that is refused."""

from __future__ import annotations

import threading
import time
import warnings
from typing import Any, Protocol
from urllib.parse import urlsplit

from cubekit.catalog._hrefs import without_signature
from cubekit.catalog._tables import PC_ACCOUNTS
from cubekit.errors import AccessDeniedError, CatalogError, CubekitError, CubekitWarning, InputError

__all__ = ["PlanetaryComputerSigner", "Signer", "signer_named"]

BLOBS = ".blob.core.windows.net"
RETRY_STATUS = (408, 429, 500, 502, 503, 504)


class Signer(Protocol):
    """Turns an unsigned href into one that can be read now."""

    def sign(self, href: str, *, fresh: bool = False) -> str:
        """Signed href; `fresh` asks for a new token because the one in use was refused."""
        ...

    def signs(self, href: str) -> bool:
        """Whether `sign` may change an href; known without asking anybody."""
        ...


class _Entry:
    """The token of one container, its lock, and when it was asked for (monotonic, s)."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.token: Any = None
        self.asked = float("-inf")
        self.renew = float("-inf")
        self.foreign = False
        self.failure: CubekitError | None = None


class PlanetaryComputerSigner:
    """Shared access signatures of Planetary Computer, one per container, renewed before they expire.

    The endpoint and the subscription key are planetary-computer's own settings (``PC_SDK_SAS_URL``, ``PC_SDK_SUBSCRIPTION_KEY``), and so
    are its token cache and its models; unlike in its client, requests have a timeout, threads that need the same token wait for one
    request, and a token that lives for less than the usual minute of reserve is used for most of its life instead of being asked for at
    every call.

    Parameters
    ----------
    any_account
        True signs every blob account that the endpoint has tokens for; False only those known as Planetary Computer's.
    timeout
        Seconds for one request for a token.
    retries
        Further attempts after 408, 429, 5xx and connection errors.
    """

    def __init__(self, *, any_account: bool = True, timeout: float = 30.0, retries: int = 5) -> None:
        self.any_account, self.timeout, self.retries = any_account, timeout, retries
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _signer, (self.any_account, self.timeout, self.retries)

    def sign(self, href: str, *, fresh: bool = False) -> str:
        """Href with the token of its container; hrefs of other hosts, and http, come back without any signature.

        With `fresh`, a signed `href` tells which token was refused: if another thread has renewed it since, no new one is asked for.

        Raises
        ------
        AccessDeniedError
            If the endpoint refuses a token (401, 403).
        CatalogError
            If the endpoint does not answer.
        """
        bare = without_signature(href)
        container = self._container(bare)
        if container is None:
            return bare
        token = self._token(container, href if fresh and href != bare else None, fresh)
        return bare if token is None else f"{bare}{'&' if '?' in bare else '?'}{token}"

    def signs(self, href: str) -> bool:
        """Whether `sign` may change an href; known without asking the endpoint."""
        return without_signature(href) != href or self._container(href) is not None

    def _container(self, href: str) -> tuple[str, str] | None:
        if BLOBS not in href:
            return None
        parts = urlsplit(href)
        account, _, domain = parts.netloc.partition(".")
        path = parts.path.lstrip("/").split("/", 1)
        if parts.scheme != "https" or f".{domain}" != BLOBS or len(path) < 2 or not account.isalnum() or not path[0]:
            return None
        # Thumbnails and other public files.
        if account == "ai4edatasetspublicassets" or not (self.any_account or account in PC_ACCOUNTS):
            return None
        return account, path[0]

    def _token(self, container: tuple[str, str], refused: str | None, fresh: bool) -> str | None:
        called = time.monotonic()
        with self._lock:
            entry = self._entries.setdefault(container, _Entry())
        with entry.lock:
            if entry.foreign:
                return None
            if entry.failure is not None and entry.asked >= called:
                raise entry.failure
            # What was asked for after this call began is new enough for it.
            renewed = entry.asked >= called or (refused is not None and entry.token is not None and entry.token.token not in refused)
            if entry.token is None or (fresh and not renewed) or (not fresh and time.monotonic() >= entry.renew):
                self._renew(entry, container)
            return None if entry.foreign else str(entry.token.token)

    def _renew(self, entry: _Entry, container: tuple[str, str]) -> None:
        try:
            token = _request_token(container, self.timeout, self.retries)
            entry.failure = None
        except CubekitError as error:
            entry.failure = error
            raise
        finally:
            entry.asked = asked = time.monotonic()
        if token is None:
            entry.foreign = True
            return
        entry.token = token
        life = token.ttl()
        if life <= 0:
            warnings.warn(
                f"Planetary Computer issued a token for {container[0]}/{container[1]} that expired {-life:.0f} s ago: "
                "is the clock of this machine right?",
                CubekitWarning,
                stacklevel=5,
            )
        entry.renew = asked + (life - 60 if life > 300 else 0.8 * life if life > 0 else 10.0)


def _request_token(container: tuple[str, str], timeout: float, retries: int) -> Any:
    """A new token of a container; None where the endpoint knows no such container."""
    import requests
    from planetary_computer.sas import TOKEN_CACHE, SASToken
    from planetary_computer.settings import Settings
    from pydantic import ValidationError
    from urllib3.util.retry import Retry

    settings = Settings.get()
    url = f"{settings.sas_url}/{container[0]}/{container[1]}"
    headers = {"Ocp-Apim-Subscription-Key": settings.subscription_key} if settings.subscription_key else {}
    retry = Retry(
        retries,
        connect=min(2, retries),
        backoff_factor=0.4,
        backoff_max=10,
        status_forcelist=RETRY_STATUS,
        raise_on_status=False,
        **_bounded_wait(),
    )
    with requests.Session() as session:
        adapter = requests.adapters.HTTPAdapter(max_retries=retry)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        try:
            response = session.get(url, headers=headers, timeout=timeout, allow_redirects=False)
        except requests.RequestException as error:
            raise CatalogError(
                f"The token endpoint {url} cannot be reached ({type(error).__name__})",
                remedy="Check the network, or try again later",
                url=url,
            ) from error
    if response.status_code in (400, 404):
        return None
    if response.status_code in (401, 403):
        raise AccessDeniedError(f"The token endpoint {url} answers {response.status_code}", remedy="Check PC_SDK_SUBSCRIPTION_KEY", url=url)
    try:
        token = SASToken(**response.json()) if response.status_code == 200 else None
    except (ValueError, TypeError, ValidationError):
        token = None
    if token is None:
        raise CatalogError(f"The token endpoint {url} answers {response.status_code} without a token", remedy="Try again later", url=url)
    TOKEN_CACHE[url] = token
    return token


def _bounded_wait() -> dict[str, Any]:
    """urllib3 from 2.6 on can bound Retry-After."""
    import inspect

    from urllib3.util.retry import Retry

    return {"retry_after_max": 60} if "retry_after_max" in inspect.signature(Retry.__init__).parameters else {}


def _signer(any_account: bool, timeout: float, retries: int) -> PlanetaryComputerSigner:
    return PlanetaryComputerSigner(any_account=any_account, timeout=timeout, retries=retries)


def signer_named(name: str | None, *, any_account: bool = True) -> Signer | None:
    """The signer of a profile or endpoint.

    Raises
    ------
    InputError
        For an unknown name.
    """
    if name is None:
        return None
    if name == "planetary-computer":
        return PlanetaryComputerSigner(any_account=any_account)
    raise InputError(f"Unknown signer {name!r}", remedy="Use 'planetary-computer' or none")
