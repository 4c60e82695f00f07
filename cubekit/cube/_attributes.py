"""Attributes that every format can hold: text, numbers, and lists of one of them; never nested, never secret."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, TypeAlias

import numpy as np

from cubekit.layout import canonical_json
from cubekit.redact import redact

__all__ = ["Attribute", "flat", "flat_attrs", "is_flat", "secret_in"]

Attribute: TypeAlias = str | int | float | list[str] | list[int] | list[float]

# Beyond what the redactor knows: shapes of keys that have no parameter name in front of them.
_KEY_SHAPES = re.compile(
    r"""(?x)
    \b(?:AKIA|ASIA)[0-9A-Z]{16}\b                        # AWS access key ids
  | \bAIza[0-9A-Za-z_-]{35}\b                            # Google API keys
  | \bgh[pousr]_[0-9A-Za-z]{36,}\b                       # GitHub tokens
  | \beyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.     # JSON web tokens
  | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----
    """
)


def flat(value: Any) -> Attribute | None:
    """Bring one value into a form that survives JSON and NetCDF: nested values become canonical JSON text, None stays None.

    Text is redacted. Numbers that are not finite become text, since JSON has none.
    """
    value = _plain(value)
    if value is None or isinstance(value, (str, int, float)):
        return _scalar(value)
    if isinstance(value, (list, tuple)) and value:
        items = [_plain(item) for item in value]
        if all(isinstance(item, str) for item in items):
            return [redact(item) for item in items]
        if all(isinstance(item, (int, float)) and math.isfinite(item) for item in items):
            return items
    return redact(canonical_json(_listed(value)))


def flat_attrs(attrs: Mapping[Any, Any]) -> dict[str, Attribute]:
    """All of `attrs` through `flat`, without the None."""
    result = {str(key): flat(value) for key, value in attrs.items()}
    return {key: value for key, value in result.items() if value is not None}


def is_flat(value: Any) -> bool:
    """Whether an attribute is text, a number, or a list or array of one of them."""
    if isinstance(value, np.ndarray):
        return value.ndim <= 1 and value.dtype.kind in "iufUT"
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and (
            all(isinstance(item, str) for item in value) or all(isinstance(item, (int, float, np.number)) for item in value)
        )
    return isinstance(value, (str, int, float, np.number, np.str_)) and not isinstance(value, bool)


def secret_in(value: Any) -> bool:
    """Whether an attribute carries what looks like a signature, token, password or key."""
    texts = [value] if isinstance(value, str) else [item for item in np.ravel(value) if isinstance(item, str)]
    return any(redact(text) != text or _KEY_SHAPES.search(text) for text in texts)


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value


def _scalar(value: str | int | float | None) -> Attribute | None:
    if isinstance(value, str):
        return redact(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _listed(value: Any) -> Any:
    value = _plain(value)
    if isinstance(value, Mapping):
        return {str(key): _listed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_listed(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
