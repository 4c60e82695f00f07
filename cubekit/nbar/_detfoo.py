"""Detector footprints as ESA shipped them until baseline 03.01: MSK_DETFOO in GML. (Later ones are rasters of detector numbers.)"""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, ParseError

import numpy as np
import numpy.typing as npt
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from numba import njit

from cubekit.errors import InputError, ReadError
from cubekit.nbar._granule import MAX_METADATA_BYTES
from cubekit.typing import FloatArray

__all__ = ["rasterise_detfoo"]

_IDENTIFIER = re.compile(r"detector_footprint-(B\w\w)-(\d{2})-\d+")


def rasterise_detfoo(data: bytes, x: FloatArray, y: FloatArray, *, source: str = "") -> npt.NDArray[np.uint8]:
    """Detector number at pixel centres from a MSK_DETFOO GML file.

    Parameters
    ----------
    data
        Bytes of ``MSK_DETFOO_Bxx.gml``.
    x, y
        Pixel centres in the granule's CRS, metres, both 1-D.
    source
        Where it came from; named in errors.

    Returns
    -------
    uint8 (y, x)
        0 outside all footprints. Where footprints overlap, the lower number, as in products whose masks do not overlap.

    Raises
    ------
    ReadError
        No MSK_DETFOO file, or malformed.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or y.ndim != 1:
        raise InputError(f"x of shape {x.shape}, y of shape {y.shape}", remedy="Give 1-D axes.")
    rings = _rings(data, source)
    out = np.zeros((y.size, x.size), dtype=np.uint8)
    for detector in sorted({number for number, _ in rings}, reverse=True):
        inside = np.zeros(out.shape, dtype=np.bool_)
        for number, ring in rings:
            if number == detector:
                _toggle(ring, x, y, inside)
        out[inside] = detector
    return out


def _rings(data: bytes, source: str) -> list[tuple[int, FloatArray]]:
    """(detector, (point, 2)) of every ring; interior rings count like exterior ones (even-odd)."""
    remedy = "Give a MSK_DETFOO_Bxx.gml file."
    if len(data) > MAX_METADATA_BYTES:
        raise ReadError(f"detector footprint {source} has {len(data)} bytes", remedy=remedy, href=source)
    try:
        root: Element = ElementTree.fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise ReadError(f"detector footprint {source} cannot be used: {error}", remedy=remedy, href=source) from error
    found = []
    for feature in root.iter():
        if not feature.tag.endswith("}MaskFeature"):
            continue
        name = next((value for key, value in feature.attrib.items() if key.endswith("id")), "")
        match = _IDENTIFIER.fullmatch(name)
        if match:
            found += [(int(match[2]), _points(element, source)) for element in feature.iter() if element.tag.endswith("}posList")]
    if not found:
        raise ReadError(f"detector footprint {source} holds no footprints", remedy=remedy, href=source)
    return found


def _points(element: Element, source: str) -> FloatArray:
    size = int(element.get("srsDimension", "3"))
    try:
        values = np.array((element.text or "").split(), dtype=np.float64)
        points = values.reshape(-1, size)[:, :2]
    except ValueError as error:
        raise ReadError(f"detector footprint {source} cannot be used: {error}", remedy="Fetch it again.", href=source) from error
    return np.ascontiguousarray(points)


@njit(cache=True)
def _toggle(ring, x, y, inside):  # type: ignore[no-untyped-def]
    """Flip ``inside`` (y, x) for the pixel centres within a closed ring."""
    n = ring.shape[0]
    ascending = y.shape[0] > 1 and y[1] > y[0]
    for k in range(n):
        x0, y0 = ring[k, 0], ring[k, 1]
        x1, y1 = ring[(k + 1) % n, 0], ring[(k + 1) % n, 1]
        if y0 == y1:
            continue
        low, high = min(y0, y1), max(y0, y1)
        first, last = 0, y.shape[0]
        if y.shape[0] > 1:
            pitch = abs(y[1] - y[0])
            edge = low if ascending else high
            near = int((edge - y[0]) / pitch) if ascending else int((y[0] - edge) / pitch)
            first = min(max(near - 1, 0), y.shape[0])
            last = min(max(near + int((high - low) / pitch) + 3, 0), y.shape[0])
        for i in range(first, last):
            if y[i] >= low and y[i] < high:
                cross = x0 + (y[i] - y0) * (x1 - x0) / (y1 - y0)
                for j in range(np.searchsorted(x, cross), x.shape[0]):
                    inside[i, j] = not inside[i, j]
