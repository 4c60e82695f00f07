"""One redactor for logs, errors, attributes and reports: secrets leave the process in no form."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit, urlunsplit

__all__ = ["placeless", "redact", "unsigned"]

# Query parameters of signed URLs (Azure SAS, AWS SigV4, GCS V4) and the usual names of tokens.
_SECRET_PARAMETER = re.compile(
    r"""(?ix)
    (?:(?<![\w.-])|(?<=%3F)|(?<=%26))(?P<key>(?:
        sig | se | st | sp | sv | sr | skoid | sktid | skt | ske | sks | skv | ses
      | x-amz-[a-z-]+ | x-goog-[a-z-]+ | awsaccesskeyid | googleaccessid | signature | expires | policy | key-pair-id
      | [a-z_-]*token | api[_-]?key | [a-z_-]*secret[a-z_-]* | password | passwd | credential
    )(?:=|%3D|["']\s*:\s*["']))
    (?:(?!%26)[^&\s"'<>,;)\]}\\])+
    """
)
_AUTHORIZATION = re.compile(
    r"(?i)((?:authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)\s+)"
    r"|(?:(?:x-api-key|private-token|cookie|[a-z-]{0,40}subscription-key)['\"]?\s*[:=]\s*['\"]?))[^\s'\",}]+"
)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_ENVIRONMENT = re.compile(
    r"(?i)\b([A-Z0-9_]*(?:SECRET|TOKEN|PASSWORD|ACCESS_KEY|API_KEY|SUBSCRIPTION_KEY)[A-Z0-9_]*['\"]?\s*[=:]\s*['\"]?)[^\s,;'\"}]+"
)

_REMEMBERED = 1000
"""Characters of the longest text that is remembered."""


def redact(text: str) -> str:
    """Return `text` with the values of signatures, tokens, passwords and keys replaced by ``***``.

    >>> redact("GET https://a.blob/x.tif?se=2026&sig=abc failed")
    'GET https://a.blob/x.tif?se=***&sig=*** failed'
    """
    if "=" not in text and ":" not in text and "%" not in text:
        return text
    return _again(text) if len(text) <= _REMEMBERED else _redacted(text)


def _redacted(text: str) -> str:
    text = _SECRET_PARAMETER.sub(lambda match: f"{match['key']}***", text)
    text = _AUTHORIZATION.sub(r"\1***", text)
    text = _ENVIRONMENT.sub(r"\1***", text)
    return _USERINFO.sub("***@", text)


# A batch says the same things of every cube.
_again = lru_cache(maxsize=4096)(_redacted)


def unsigned(href: str) -> str:
    """Return `href` without query, fragment and user information: the stable name of the object it points at.

    >>> unsigned("https://user:pw@a.blob/x.tif?sig=abc#frag")
    'https://a.blob/x.tif'
    """
    if "://" not in href:
        return href.split("?", 1)[0]
    try:
        parts = urlsplit(href)
    except ValueError:  # no address at all
        return re.split("[?#]", href, maxsplit=1)[0].rpartition("@")[2]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def placeless(name: str) -> str:
    """Return a path as its last part, so that it tells nothing of the machine it is on; names and URLs as they are.

    >>> placeless("/home/me/items.json"), placeless("demo"), placeless("https://stac.example.org/v1")
    ('items.json', 'demo', 'https://stac.example.org/v1')
    """
    return name if "://" in name else name.rstrip("/").rpartition("/")[2]
