"""The EPSG code of an item or asset, out of every form STAC has had for it, without asking anybody."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cubekit.errors import ReadError

__all__ = ["HostileCrsError", "epsg_of", "shape_of", "transform_of"]

MAX_CRS_TEXT = 65536
_WKT = re.compile(r"\s*(PROJCRS|PROJCS|GEOGCRS|GEOGCS|GEODCRS|BOUNDCRS|COMPOUNDCRS|COMPD_CS|PROJECTEDCRS|GEOGRAPHICCRS|GEODETICCRS)\s*\[")
_CODE = re.compile(r"([A-Za-z][A-Za-z0-9_]{1,15}):([A-Za-z0-9_.-]{1,32})")
_PROSE = frozenset({"$schema", "remarks", "scope", "area"})


class HostileCrsError(ReadError):
    """A CRS that is an address or a document instead of a code or a definition."""


def epsg_of(fields: Mapping[str, Any]) -> int | None:
    """EPSG code that the projection fields of an item's properties or of an asset give.

    Reads ``proj:epsg``, ``proj:code``, ``proj:wkt2`` and ``proj:projjson`` in this order; None where there is no code (MODIS' sinusoidal
    grid).

    Raises
    ------
    HostileCrsError
        For a CRS given as URL, file or with references to elsewhere, and for definitions beyond 64 kB.
    """
    number = fields.get("proj:epsg")
    if isinstance(number, str) and number.isdigit():
        number = int(number)
    if isinstance(number, int) and not isinstance(number, bool) and 1000 <= number <= 999_999:
        return _registered(number)
    if (code := fields.get("proj:code")) is not None and (found := _from_code(code)) is not None:
        return found
    if isinstance(wkt := fields.get("proj:wkt2"), str) and wkt:
        return _from_wkt(wkt)
    if isinstance(projjson := fields.get("proj:projjson"), dict) and projjson:
        return _from_projjson(projjson)
    return None


def _from_code(code: object) -> int | None:
    match = _CODE.fullmatch(code) if isinstance(code, str) else None
    if match is None:
        raise _hostile("proj:code", str(code))
    return _registered(int(match[2])) if match[1].upper() == "EPSG" and match[2].isdecimal() and len(match[2]) <= 6 else None


@lru_cache(maxsize=512)
def _registered(code: int) -> int:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        CRS.from_epsg(code)
    except CRSError:
        raise HostileCrsError(f"EPSG:{code} is refused: there is no such CRS", remedy="Correct the item") from None
    return code


def _from_wkt(wkt: str) -> int | None:
    if len(wkt) > MAX_CRS_TEXT or not _WKT.match(wkt) or "://" in wkt:
        raise _hostile("proj:wkt2", wkt)
    return _identify(wkt)


def _from_projjson(projjson: Mapping[str, Any]) -> int | None:
    text = json.dumps(projjson)
    if len(text) > MAX_CRS_TEXT or _refers_elsewhere(projjson):
        raise _hostile("proj:projjson", text)
    return _identify(text)


def _refers_elsewhere(node: object) -> bool:
    if isinstance(node, Mapping):
        return "$ref" in node or any(_refers_elsewhere(value) for key, value in node.items() if key not in _PROSE)
    if isinstance(node, list):
        return any(_refers_elsewhere(value) for value in node)
    return isinstance(node, str) and ("://" in node or node.startswith(("/", "+init", "@")))


@lru_cache(maxsize=512)
def _identify(definition: str) -> int | None:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_json(definition) if definition.startswith("{") else CRS.from_wkt(definition)
        code = crs.to_epsg()
    except CRSError:
        return None
    return int(code) if code else None


def _hostile(key: str, value: str) -> HostileCrsError:
    return HostileCrsError(
        f"{key} {value[:80]!r} is refused: a CRS is a code such as 'EPSG:32632' or a WKT2 or PROJJSON definition, never an address",
        remedy="Correct the item",
    )


def shape_of(value: object) -> tuple[int, int] | None:
    """(height, width) of ``proj:shape``; None where it is missing or cannot be meant."""
    if (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(n, (int, float)) and 0 < n < 10_000_000 and n == int(n) for n in value)
    ):
        return int(value[0]), int(value[1])
    return None


def transform_of(value: object) -> tuple[float, float, float, float, float, float] | None:
    """Affine coefficients (a, b, c, d, e, f) of ``proj:transform``; None where it is missing or cannot be meant."""
    if isinstance(value, list) and len(value) in (6, 9) and all(isinstance(n, (int, float)) and math.isfinite(n) for n in value[:6]):
        a, b, c, d, e, f = (float(n) for n in value[:6])
        return (a, b, c, d, e, f) if a * e - b * d != 0 else None
    return None
