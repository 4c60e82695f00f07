"""The c-factor of one granule: on its nodes, and at any pixel centres in its CRS."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from cubekit.errors import InputError, ScienceWarning
from cubekit.nbar import _pixels
from cubekit.nbar._coefficients import BAND_ORDER, NBAR_BANDS, is_supported, parameters
from cubekit.nbar._footprint import footprints
from cubekit.nbar._granule import NODES, GranuleAngles
from cubekit.nbar._kernels import c_loop
from cubekit.nbar._status import NbarStatus
from cubekit.nbar._target import SUN_LIMIT, SUN_WARNING, TargetSun, target_zenith
from cubekit.nbar._vectors import continued, has_any, tan_vectors
from cubekit.typing import FloatArray

__all__ = ["BandView", "CField", "Detectors", "warn_low_sun"]

Detectors: TypeAlias = Literal["seen", "mean"]
Int8Array: TypeAlias = npt.NDArray[np.int8]

MARGIN = 0.06
"""How far beyond the nodes c may be continued, in cells (300 m): pixels that resampling pushes over the tile's border."""


@dataclass(frozen=True, slots=True, eq=False)
class BandView:
    """What one band of a granule saw, continued over all nodes.

    Attributes
    ----------
    detectors
        (detector,), ordered west to east.
    vectors
        (detector, 23, 23, 2) tan-plane view vectors, without gaps.
    seen
        (detector, 23, 23) nodes that the metadata gives.
    seams
        (detector - 1, 6) polynomials in node coordinates, positive east of the seam between two neighbours.
    """

    detectors: npt.NDArray[np.int64]
    vectors: FloatArray
    seen: npt.NDArray[np.bool_]
    seams: FloatArray

    def mean(self) -> BandView:
        """One view instead of several: the mean of unit vectors where detectors overlap, the seen detector where no node is given."""
        unit = np.concatenate([self.vectors, np.ones_like(self.vectors[..., :1])], axis=-1)
        unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
        total = np.where(self.seen[..., None], unit, 0.0).sum(axis=0)
        known: npt.NDArray[np.bool_] = np.asarray(self.seen.any(axis=0))
        rows, columns = np.mgrid[0:NODES, 0:NODES].astype(float)
        label = _pixels.labels(columns, rows, self.seams)
        continued = np.take_along_axis(self.vectors, label[None, :, :, None].astype(np.intp), axis=0)[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(known[..., None], total[..., :2] / total[..., 2:], continued)
        return BandView(np.array([0]), mean[None], known[None], np.empty((0, 6)))


@dataclass(frozen=True, slots=True, eq=False)
class CField:
    """The c-factor of a granule, ready to be asked at pixels; made once per granule and shared by all sites in it.

    Make it with `from_angles` (or `from_bytes`). Immutable and safe to share between threads.

    Attributes
    ----------
    angles
        What was read.
    sun
        (23, 23, 2) tan-plane sun vectors, or None where the metadata has no usable sun grid.
    views
        `BandView` per band that has view angles.
    """

    angles: GranuleAngles
    sun: FloatArray | None
    views: Mapping[str, BandView]

    @classmethod
    def from_angles(cls, angles: GranuleAngles, bands: Sequence[str] = NBAR_BANDS) -> CField:
        """Continue the view vectors and find the seams of ``bands`` (those without BRDF parameters are ignored)."""
        sun = tan_vectors(angles.sun_zenith, angles.sun_azimuth) if angles.has_sun else None
        index, numbers = _distinct(angles, {band for band in bands if is_supported(band)})
        if not len(index):
            return cls(angles, sun, {})
        detectors = angles.detectors[index]
        filled, seen, coefficients = continued(angles.view_zenith, angles.view_azimuth, index)
        order, seams = footprints(coefficients, seen, detectors, numbers)
        if (order != np.arange(len(order))).any():
            detectors, filled, seen = detectors[order], filled[order], seen[order]
        views, a = {}, 0
        for number, run in groupby(numbers.tolist()):
            b = a + len(list(run))
            views[BAND_ORDER[number]] = BandView(detectors[a:b], filled[a:b], seen[a:b], seams[a : b - 1])
            a = b
        return cls(angles, sun, views)

    def nodes(self, band: str, *, detectors: Detectors = "seen", target: TargetSun = "observed") -> FloatArray:
        """c on the nodes, (detector, 23, 23) in the order of ``views[band].detectors``, or (1, 23, 23) for ``"mean"``.

        NaN throughout where there are no angles, and at nodes where the sun zenith exceeds 80 degrees. Nodes that a detector did not see
        hold the continuation of its view.
        """
        view = self.view(band, detectors)
        if view is None or self.sun is None:
            return np.full((1 if view is None else len(view.vectors), NODES, NODES), np.nan)
        return self._c(view.vectors, (0, NODES), (0, NODES), band, target)

    def c(
        self,
        bands: Sequence[str],
        x: FloatArray,
        y: FloatArray,
        *,
        detectors: Detectors = "seen",
        target: TargetSun = "observed",
        detfoo: Mapping[str, npt.NDArray[np.integer]] | None = None,
    ) -> tuple[npt.NDArray[np.float32], Int8Array]:
        """c at pixel centres given in the granule's own CRS.

        Parameters
        ----------
        bands
            Bands, in the order of the answer.
        x, y
            Metres. 1-D: columns and rows of a grid; 2-D of one shape: any pixels (a cube in another zone).
        detectors
            ``"seen"``: the detector that saw the pixel; ``"mean"``: mean of the view vectors of all detectors.
        target
            Target sun zenith: ``"observed"``, ``"hls"`` or degrees.
        detfoo
            MSK_DETFOO per band on the same pixels (detector number, 0 outside); without it the footprint is rebuilt from the angles.

        Returns
        -------
        c : float32 (band, y, x)
            NaN where nothing is to be multiplied: bands whose status is not ``applied``, and pixels outside the granule.
        status : int8 (band,)
            `NbarStatus`.
        """
        u, v = self.node_coordinates(x, y)
        status = self.status(bands, u, v)
        out = np.full((len(bands), *u.shape), np.nan, dtype=np.float32)
        rows, columns = self.window(u, v)
        for k, band in enumerate(bands):
            view = self.view(band, detectors)
            if status[k] != NbarStatus.applied or view is None:
                continue
            nodes = self._c(view.vectors, rows, columns, band, target)
            mask = detfoo.get(band) if detfoo is not None and detectors == "seen" else None
            label = _pixels.labels(u, v, view.seams) if mask is None else self._mask_labels(mask, view, u, v)
            _pixels.bilinear(u, v, label, nodes, rows[0], columns[0], MARGIN, out[k])
        return out, status

    def window(self, u: FloatArray, v: FloatArray) -> tuple[tuple[int, int], tuple[int, int]]:
        """Half-open (row, column) ranges of the nodes around these node coordinates, at least two each."""
        return _window(v), _window(u)

    def status(self, bands: Sequence[str], u: FloatArray, v: FloatArray) -> Int8Array:
        """`NbarStatus` per band for pixels at node coordinates; warns (`ScienceWarning`) when the sun is below 70 degrees zenith."""
        inside = (u >= -MARGIN) & (u <= NODES - 1 + MARGIN) & (v >= -MARGIN) & (v <= NODES - 1 + MARGIN)
        geometry = NbarStatus.applied
        if self.sun is None or not inside.any():
            geometry = NbarStatus.no_angles
        else:
            highest = self.sun_zenith_range(u[inside], v[inside])[1]
            warn_low_sun(highest, self.angles.tile)
            if highest > SUN_LIMIT:
                geometry = NbarStatus.sun_too_low
        return np.array([self._band_status(band, geometry) for band in bands], dtype=np.int8)

    def sun_zenith_range(self, u: FloatArray, v: FloatArray) -> tuple[float, float]:
        """Lowest and highest sun zenith, degrees, on the nodes around these node coordinates."""
        (r0, r1), (c0, c1) = self.window(u, v)
        part = self.angles.sun_zenith[r0:r1, c0:c1]
        return float(part.min()), float(part.max())

    def node_coordinates(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Column and row, in units of nodes, of pixel centres; both 2-D (y, x).

        Raises
        ------
        InputError
            Shapes that do not fit, or no pixels.
        """
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if x.size == 0 or y.size == 0 or x.ndim not in (1, 2) or x.ndim != y.ndim or (x.ndim == 2 and x.shape != y.shape):
            raise InputError(f"x of shape {x.shape} and y of shape {y.shape}", remedy="Give two 1-D axes or two 2-D arrays of one shape.")
        u = (x - self.angles.ulx) / self.angles.step
        v = (self.angles.uly - y) / self.angles.step
        if x.ndim == 2:
            return u, v
        return np.broadcast_to(u[None, :], (v.size, u.size)), np.broadcast_to(v[:, None], (v.size, u.size))

    def view(self, band: str, detectors: Detectors) -> BandView | None:
        """What a band saw, all detectors or (``"mean"``) their mean; None where it has no angles."""
        if detectors not in ("seen", "mean"):
            raise InputError(f"detectors={detectors!r}", remedy="Use 'seen' or 'mean'.")
        view = self.views.get(band)
        return view.mean() if view is not None and detectors == "mean" else view

    def _band_status(self, band: str, geometry: NbarStatus) -> NbarStatus:
        if not is_supported(band):
            return NbarStatus.not_supported
        if band not in self.views:
            return NbarStatus.no_angles
        return geometry

    def _c(self, vectors: FloatArray, rows: tuple[int, int], columns: tuple[int, int], band: str, target: TargetSun) -> FloatArray:
        """c on a window of nodes, (detector, row, column); NaN where the sun is too low."""
        assert self.sun is not None
        part = np.ascontiguousarray(vectors[:, rows[0] : rows[1], columns[0] : columns[1]])
        sun = np.ascontiguousarray(self.sun[rows[0] : rows[1], columns[0] : columns[1]]).reshape(-1, 2)
        zenith = self.angles.sun_zenith[rows[0] : rows[1], columns[0] : columns[1]].ravel()
        tangent = np.full(len(sun), np.tan(np.radians(target_zenith(self.angles, target))))
        out = np.empty((len(part), len(sun)))
        factors = np.repeat(parameters([band]), len(part), axis=0)
        c_loop(sun, part.reshape(len(part), -1, 2), tangent, factors, out)
        out[:, zenith > SUN_LIMIT] = np.nan
        return out.reshape(part.shape[:3])

    def _mask_labels(self, mask: npt.NDArray[np.integer], view: BandView, u: FloatArray, v: FloatArray) -> npt.NDArray[np.uint8]:
        """Index of the detector per pixel from MSK_DETFOO; pixels whose detector has no angles follow the rebuilt footprint."""
        mask = np.asarray(mask)
        if mask.shape != u.shape:
            raise InputError(f"detfoo of shape {mask.shape} for pixels of shape {u.shape}", remedy="Sample the mask at the same pixels.")
        label = _pixels.labels(u, v, view.seams)
        for k, detector in enumerate(view.detectors):
            label[mask == detector] = k
        return label


def warn_low_sun(highest: float, where: str) -> None:
    """Warn (`ScienceWarning`) when the sun zenith exceeds 70 degrees."""
    if highest > SUN_WARNING:
        warnings.warn(
            f"sun zenith reaches {highest:.1f} degrees in {where or 'the granule'}: the BRDF kernels hold to about {SUN_WARNING:g}",
            ScienceWarning,
            stacklevel=3,
        )


@njit(cache=True, nogil=True)
def _window(coordinate):  # type: ignore[no-untyped-def]
    """Half-open range of nodes around node coordinates, at least two and within the grid."""
    lowest, highest = math.inf, -math.inf
    for value in coordinate.flat:
        if math.isfinite(value):
            lowest, highest = min(lowest, value), max(highest, value)
    if lowest > highest:
        return 0, 2
    first = min(max(math.floor(lowest), 0), NODES - 2)
    return first, max(first + 1, min(math.ceil(highest), NODES - 1)) + 1


def _distinct(angles: GranuleAngles, wanted: Collection[str]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """(grids of the wanted bands that saw anything, by band and detector; their band numbers); of repeated ones the first counts."""
    known = has_any(angles.view_zenith, angles.view_azimuth).tolist()
    index, numbers = _ordered(angles.bands, tuple(angles.detectors.tolist()), tuple(known), frozenset(wanted))
    return np.array(index, dtype=np.intp), np.array(numbers, dtype=np.int64)


@lru_cache(maxsize=256)  # most granules of an orbit are laid out alike
def _ordered(
    bands: tuple[str, ...], detectors: tuple[int, ...], known: tuple[bool, ...], wanted: frozenset[str]
) -> tuple[list[int], list[int]]:
    found: dict[tuple[int, int], int] = {}
    for i, (band, detector) in enumerate(zip(bands, detectors, strict=True)):
        if known[i] and band in wanted:
            found.setdefault((BAND_ORDER.index(band), detector), i)
    keys = sorted(found)
    return [found[key] for key in keys], [band for band, _ in keys]
