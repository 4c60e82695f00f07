"""A granule's angles: bytes of its metadata in, one frozen object out."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from numba import njit

from cubekit.errors import InputError, ReadError
from cubekit.nbar import _scan
from cubekit.nbar._coefficients import BAND_ORDER
from cubekit.typing import FloatArray

__all__ = ["MAX_METADATA_BYTES", "TILE_SIZE", "GranuleAngles", "parse_granule_angles"]

NODES = _scan.NODES
TILE_SIZE = 109_800.0
MAX_METADATA_BYTES = 32 * 2**20
MAX_GRIDS = 2 * 13 * 12

_LOCAL = threading.local()

_ROOT = re.compile(rb"(?:[\w.-]+:)?Level-(1C|2A)_Tile_ID")
_TILE = re.compile(r"_T(\d{2}[C-HJ-NP-X][A-HJ-NP-Z]{2})(?:_|$)")
_BASELINE = re.compile(r"_N(\d{2}\.\d{2})$")
_EPSG = re.compile(r"(?:EPSG:+)?(32[67]\d{2})")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?")


@dataclass(frozen=True, slots=True, eq=False)
class GranuleAngles:
    """Sun and view angles of one Sentinel-2 granule on its nodes.

    Attributes
    ----------
    tile
        MGRS tile, such as ``"32TNM"``.
    epsg, ulx, uly
        CRS of the granule and its upper-left corner, which is node (0, 0); metres.
    step
        Distance between nodes, metres; node (row, column) lies at ``(uly - row * step, ulx + column * step)``.
    level
        ``"L1C"`` or ``"L2A"``.
    baseline
        Processing baseline from the tile id (``"04.00"``), or None.
    sensing_time
        Start of sensing, UTC, or NaT.
    sun_zenith, sun_azimuth
        Degrees, (23, 23); NaN throughout where the file has no usable sun grid.
    bands, detectors
        Band and detector of each view grid, in the order of the file.
    view_zenith, view_azimuth
        Degrees, (grid, 23, 23); NaN where the detector did not see the node. The azimuth points from the ground to the sensor.
    mean_sun
        Mean (zenith, azimuth) of the sun as stated in the file, degrees.
    mean_view
        Mean (zenith, azimuth) per band as stated in the file, degrees, NaN where the file has none.
    skipped
        Number of view grids that were not usable (other shape, other step, no numbers).
    """

    tile: str
    epsg: int
    ulx: float
    uly: float
    step: float
    level: str
    baseline: str | None
    sensing_time: np.datetime64
    sun_zenith: FloatArray
    sun_azimuth: FloatArray
    bands: tuple[str, ...]
    detectors: npt.NDArray[np.int64]
    view_zenith: FloatArray
    view_azimuth: FloatArray
    mean_sun: tuple[float, float] = (float("nan"), float("nan"))
    mean_view: dict[str, tuple[float, float]] = field(default_factory=dict)
    skipped: int = 0

    @property
    def x(self) -> FloatArray:
        """x of the nodes, (23,), metres."""
        return self.ulx + self.step * np.arange(NODES)

    @property
    def y(self) -> FloatArray:
        """y of the nodes, (23,), metres, descending."""
        return self.uly - self.step * np.arange(NODES)

    @property
    def has_sun(self) -> bool:
        """Whether the sun's grid is complete."""
        return bool(np.isfinite(self.sun_zenith).all() and np.isfinite(self.sun_azimuth).all())

    def grids(self, band: str) -> npt.NDArray[np.intp]:
        """Indices of the view grids of a band, in order of detector."""
        index = np.array([i for i, name in enumerate(self.bands) if name == band], dtype=np.intp)
        return index[np.argsort(self.detectors[index], kind="stable")]

    def check_tile(self, tile: str) -> None:
        """Raise `InputError` if these are the angles of another tile (``"32TNM"`` or ``"T32TNM"``)."""
        if tile.removeprefix("T") != self.tile:
            raise InputError(
                f"granule metadata is of tile {self.tile!r}, not {tile.removeprefix('T')!r}",
                remedy="Pair each item with the metadata of its own granule.",
                tile=self.tile,
            )

    def __repr__(self) -> str:
        found = {band: self.detectors[self.grids(band)].tolist() for band in dict.fromkeys(self.bands)}
        common = found.get("B02", next(iter(found.values()), []))
        return (
            f"GranuleAngles({self.tile}, EPSG:{self.epsg}, {self.level}, baseline {self.baseline}, {self.sensing_time}, "
            f"{len(found)} bands, detectors {common})"
        )


def parse_granule_angles(data: bytes, *, bands: Collection[str] | None = None, source: str = "") -> GranuleAngles:
    """Read the angles out of a granule metadata file (``MTD_TL.xml``, L1C or L2A, any baseline, any namespace prefix).

    Parameters
    ----------
    data
        The file's bytes.
    bands
        Bands whose view grids are wanted (``"B02"``); the others are passed over. All by default.
    source
        Where it came from; named in errors.

    Raises
    ------
    InputError
        ``data`` is not bytes.
    ReadError
        Larger than 32 MB, truncated, malformed, no Sentinel-2 tile metadata, or without CRS and corner. Declarations (``<!DOCTYPE``,
        ``<!ENTITY``, CDATA) are refused. Missing or unusable grids are no error: they are NaN, absent from ``bands``, or counted in
        ``skipped``.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InputError(f"granule metadata must be bytes, not {type(data).__name__}", remedy="Read the file first.")
    if len(data) > MAX_METADATA_BYTES:
        _refuse(f"it has {len(data)} bytes, more than {MAX_METADATA_BYTES}", source)
    data = bytes(data)
    if b"\0" in data:
        _refuse(_scan.ERRORS[_scan.ERR_CHARACTER], source)
    meta = np.zeros((MAX_GRIDS + 1, 8), dtype=np.int64)
    steps = np.empty((MAX_GRIDS + 1, 2, 2))
    values = _scratch()
    means = np.full((14, 2), np.nan)
    spans = np.full((len(_scan.TEXTS), 2), -1, dtype=np.int64)
    raw = np.frombuffer(data, dtype=np.uint8)
    wanted = np.array([bands is None or band in bands for band in BAND_ORDER])
    error, position, found, root_start, root_end = _scan.scan(
        raw, _scan.words_of(data), _scan.WORD_HASHES, wanted, meta, steps, values.reshape(-1), means, spans
    )
    root = _ROOT.fullmatch(data[root_start:root_end]) if root_end > 0 else None
    if error and (root or error != _scan.ERR_MISMATCH):
        _refuse(f"{_scan.ERRORS[error]}, at byte {position} of {len(data)}", source)
    if root is None:
        _refuse(f"its root element is {data[max(root_start, 0) : max(root_end, 0)][:60].decode(errors='replace')!r}", source)
    texts = {name: data[a:b].decode(errors="replace").strip() if a >= 0 else "" for name, (a, b) in zip(_scan.TEXTS, spans, strict=True)}
    return _assemble(f"L{root[1].decode()}", texts, meta[:found], steps[:found], values[:found], means, source)


def _scratch() -> FloatArray:
    """Room for the grids of one file, kept per thread: fresh pages cost more than the numbers that go there. Users copy what they keep."""
    if not hasattr(_LOCAL, "values"):
        _LOCAL.values = np.empty((MAX_GRIDS + 1, 2, NODES, NODES))
    values: FloatArray = _LOCAL.values
    return values


def _refuse(reason: str, source: str) -> NoReturn:
    where = f" {source}" if source else ""
    raise ReadError(
        f"granule metadata{where} cannot be used: {reason}",
        remedy="Fetch the granule's MTD_TL.xml again; its root is Level-1C_Tile_ID or Level-2A_Tile_ID.",
        href=source,
    )


def _assemble(
    level: str,
    texts: dict[str, str],
    meta: npt.NDArray[np.int64],
    steps: FloatArray,
    values: FloatArray,
    means: FloatArray,
    source: str,
) -> GranuleAngles:
    ulx, uly, epsg, tile = _place(texts, source)
    well_formed = (meta[:, 2:4] == NODES).all(axis=1) & (meta[:, 4:6] == 1).all(axis=1)
    step, usable = _steps(steps, well_formed)
    sun = np.full((2, NODES, NODES), np.nan)
    is_sun = np.flatnonzero((meta[:, 7] == 0) & usable)
    if is_sun.size:
        sun = _valid(values[is_sun[0]].copy(), 180.0)
    is_view = (meta[:, 7] == 1) & usable & (meta[:, 0] >= 0) & (meta[:, 0] < len(BAND_ORDER)) & (meta[:, 1] >= 1) & (meta[:, 1] <= 12)
    view = _valid(values[is_view], 90.0)
    baseline = _BASELINE.search(texts["TILE_ID"])
    return GranuleAngles(
        tile=tile,
        epsg=epsg,
        ulx=ulx,
        uly=uly,
        step=step,
        level=level,
        baseline=baseline[1] if baseline else None,
        sensing_time=np.datetime64(texts["SENSING_TIME"].rstrip("Z") if _TIME.match(texts["SENSING_TIME"]) else "NaT", "ms"),
        sun_zenith=sun[0],
        sun_azimuth=sun[1],
        bands=tuple(BAND_ORDER[i] for i in meta[is_view, 0]),
        detectors=meta[is_view, 1],
        view_zenith=view[:, 0],
        view_azimuth=view[:, 1],
        mean_sun=(float(means[13, 0]), float(means[13, 1])),
        mean_view={band: (float(means[i, 0]), float(means[i, 1])) for i, band in enumerate(BAND_ORDER)},
        skipped=int((meta[:, 7] == 1).sum() - is_view.sum()),
    )


def _place(texts: dict[str, str], source: str) -> tuple[float, float, int, str]:
    """(ulx, uly, epsg, tile); the CRS falls back on the tile's zone and latitude band."""
    tile = _TILE.search(texts["TILE_ID"])
    name = tile[1] if tile else ""
    code = _EPSG.fullmatch(texts["HORIZONTAL_CS_CODE"])
    epsg = int(code[1]) if code else 0
    if not code and name:
        epsg = (32600 if name[2] >= "N" else 32700) + int(name[:2])
    if not 1 <= epsg % 100 <= 60:
        _refuse(f"its CRS is {texts['HORIZONTAL_CS_CODE']!r}, no UTM zone", source)
    try:
        corner = float(texts["ULX"]), float(texts["ULY"])
    except ValueError:
        corner = float("nan"), float("nan")
    if not all(abs(value) < 1e8 for value in corner):
        _refuse(f"its corner is ({texts['ULX']!r}, {texts['ULY']!r})", source)
    return *corner, epsg, name


def _steps(steps: FloatArray, well_formed: npt.NDArray[np.bool_]) -> tuple[float, npt.NDArray[np.bool_]]:
    """(node distance, grids that have it): the first positive one counts, 5000 m where there is none."""
    flat = steps.reshape(-1, 4)
    even = well_formed & (flat > 0).all(axis=1) & (flat == flat[:, :1]).all(axis=1)
    step = float(flat[even][0, 0]) if even.any() else 5000.0
    return step, even & (flat[:, 0] == step)


def _valid(angles: FloatArray, zenith_limit: float) -> FloatArray:
    """Angles (..., 2, 23, 23) with what is no zenith within the limit or no azimuth as NaN in both; in place."""
    _drop_impossible(angles.reshape(-1, 2, NODES * NODES), zenith_limit)
    return angles


@njit(cache=True, nogil=True)
def _drop_impossible(angles, zenith_limit):  # type: ignore[no-untyped-def]
    for g in range(angles.shape[0]):
        for i in range(angles.shape[2]):
            zenith, azimuth = angles[g, 0, i], angles[g, 1, i]
            if not (zenith >= 0.0 and zenith < zenith_limit and azimuth >= -360.0 and azimuth <= 360.0):
                angles[g, 0, i] = np.nan
                angles[g, 1, i] = np.nan
