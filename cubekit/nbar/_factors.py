"""c-factors as labelled arrays: from angles, and from a granule's metadata."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from cubekit.errors import InputError, ReadError
from cubekit.nbar._coefficients import BORROWED, NBAR_BANDS, canonical_band, parameters
from cubekit.nbar._compat import compat_axes, compat_c
from cubekit.nbar._field import CField, warn_low_sun
from cubekit.nbar._granule import MAX_METADATA_BYTES, GranuleAngles, parse_granule_angles
from cubekit.nbar._kernels import c_loop
from cubekit.nbar._pixels import labels
from cubekit.nbar._target import SUN_LIMIT, TargetSun, check_target, target_zenith

__all__ = ["c_factor", "c_factor_from_metadata", "read_granule"]

Compat = Literal["sen2nbar"] | None


def c_factor(
    sun_zenith: Any,
    view_zenith: Any,
    relative_azimuth: Any,
    bands: Sequence[str] = NBAR_BANDS,
    *,
    target_sun_zenith: TargetSun = "observed",
) -> xr.DataArray:
    """c-factor of Sentinel-2 bands from angles (Roy et al. 2016, equation 7).

    Parameters
    ----------
    sun_zenith, view_zenith
        Degrees; numbers, arrays or DataArrays that broadcast.
    relative_azimuth
        Sun azimuth minus view azimuth, degrees.
    bands
        Bands with BRDF parameters; B8A uses those of B08.
    target_sun_zenith
        ``"observed"``, or degrees.

    Returns
    -------
    DataArray
        (band, ...), dimensionless; NaN where an angle is missing or the sun zenith exceeds 80 degrees.

    Raises
    ------
    InputError
        A band without parameters, or an angle that cannot be (zenith below 0, view zenith of 90 degrees or more).

    Warns
    -----
    ScienceWarning
        Sun zenith above 70 degrees.
    """
    names = [canonical_band(band) for band in bands]
    factors = parameters(names)
    check_target(target_sun_zenith)
    if target_sun_zenith == "hls":
        raise InputError("target_sun_zenith='hls' needs a granule", remedy="Use c_factor_from_metadata, or give degrees.")
    sun, view, relative = xr.broadcast(*(_labelled(a) for a in (sun_zenith, view_zenith, relative_azimuth)))
    sun_v, view_v, relative_v = (np.asarray(a.values, dtype=np.float64).ravel() for a in (sun, view, relative))
    if np.any(sun_v < 0) or np.any(sun_v > 180) or np.any(view_v < 0) or np.any(view_v >= 90) or np.isinf(relative_v).any():
        raise InputError(
            f"angles out of range: sun zenith {_span(sun_v)}, view zenith {_span(view_v)}",
            remedy="Give degrees: zenith from 0, below 90 for the view.",
        )
    finite = sun_v[np.isfinite(sun_v)]
    if finite.size:
        warn_low_sun(float(finite.max()), "the angles given")
    s = np.tan(np.radians(np.where(sun_v <= SUN_LIMIT, sun_v, np.nan)))
    angle = np.radians(relative_v)
    tangent = np.tan(np.radians(view_v))
    target = np.nan if target_sun_zenith == "observed" else float(target_sun_zenith)
    out = np.empty((len(names), sun_v.size))
    view_vectors = np.repeat(np.stack([tangent * np.cos(angle), tangent * np.sin(angle)], axis=-1)[None], len(names), axis=0)
    c_loop(np.stack([s, np.zeros_like(s)], axis=-1), view_vectors, np.full(s.size, np.tan(np.radians(target))), factors, out)
    return xr.DataArray(
        out.reshape(len(names), *sun.shape),
        dims=("band", *sun.dims),
        coords={"band": list(bands), **{name: sun.coords[name] for name in sun.coords}},
        name="c_factor",
        attrs=_attrs(names),
    )


def c_factor_from_metadata(
    source: str | Path | bytes | GranuleAngles,
    bands: Sequence[str] = NBAR_BANDS,
    *,
    detectors: Literal["seen", "mean", "each"] = "seen",
    target_sun_zenith: TargetSun = "observed",
    compat: Compat = None,
    fill: bool = True,
) -> xr.DataArray:
    """c-factor of a granule on its nodes.

    Parameters
    ----------
    source
        Path or bytes of ``MTD_TL.xml``, or angles already read.
    bands
        Bands with BRDF parameters.
    detectors
        ``"seen"``: at each node the detector that saw it; ``"mean"``: mean of the view vectors; ``"each"``: all of them, with a dimension
        ``detector``.
    target_sun_zenith
        ``"observed"``, ``"hls"`` or degrees.
    compat
        ``"sen2nbar"`` for that package's numbers (``detectors`` is then its arithmetic mean, the nodes are shifted, and there is no limit
        to the sun zenith but 90 degrees).
    fill
        Whether nodes that no detector saw (for ``"each"``: that this detector did not see) get the continued view; NaN otherwise.

    Returns
    -------
    DataArray
        (band, y, x) or (band, detector, y, x), float64, with ``x``, ``y`` in metres, ``epsg`` and ``nbar_status`` (band). Bands without
        angles, and nodes with the sun below 80 degrees zenith, are NaN.

    Raises
    ------
    ReadError
        The metadata cannot be read.
    InputError
        Unknown band or option.
    """
    if compat not in (None, "sen2nbar"):
        raise InputError(f"compat={compat!r}", remedy="Use None or 'sen2nbar'.")
    if detectors not in ("seen", "mean", "each"):
        raise InputError(f"detectors={detectors!r}", remedy="Use 'seen', 'mean' or 'each'.")
    names = [canonical_band(band) for band in bands]
    parameters(names)
    check_target(target_sun_zenith)
    angles = read_granule(source)
    field = CField.from_angles(angles, names)
    axes = compat_axes(angles) if compat else (angles.x, angles.y)
    inside = np.array([[0.0, angles.x.size - 1.0]])
    status = field.status(names, inside, inside)
    coords: dict[str, Any] = {"band": list(bands), "y": axes[1], "x": axes[0], "epsg": angles.epsg, "nbar_status": ("band", status)}
    dims: tuple[str, ...] = ("band", "y", "x")
    if compat:
        values = compat_c(angles, names, fill=fill, target_zenith=target_zenith(angles, target_sun_zenith))
    elif detectors == "each":
        numbers = sorted({int(d) for view in field.views.values() for d in view.detectors})
        values, dims = _each(field, names, numbers, target_sun_zenith, fill), ("band", "detector", "y", "x")
        coords["detector"] = numbers
    else:
        values = np.stack([_one(field, band, detectors, target_sun_zenith, fill) for band in names])
    attrs = _attrs(names) | {"tile": angles.tile, "detectors": "arithmetic mean" if compat else detectors}
    return xr.DataArray(values, dims=dims, coords=coords, name="c_factor", attrs=attrs)


def read_granule(source: str | Path | bytes | GranuleAngles, bands: Sequence[str] | None = None) -> GranuleAngles:
    """Angles (of these bands, or of all) from a path, bytes, or as they are.

    Raises
    ------
    ReadError
        No such file, too large, or not usable.
    """
    if isinstance(source, GranuleAngles):
        return source
    if isinstance(source, (str, Path)):
        path = Path(source)
        try:
            if path.stat().st_size > MAX_METADATA_BYTES:
                raise ReadError(f"{path} has {path.stat().st_size} bytes", remedy="Give a granule's MTD_TL.xml.", href=str(path))
            return parse_granule_angles(path.read_bytes(), bands=bands, source=str(path))
        except OSError as error:
            if isinstance(error, ReadError):
                raise
            raise ReadError(f"cannot read {path}: {error.strerror}", remedy="Give a granule's MTD_TL.xml.", href=str(path)) from error
    return parse_granule_angles(source, bands=bands)


def _one(field: CField, band: str, detectors: Literal["seen", "mean"], target: TargetSun, fill: bool) -> np.ndarray:
    nodes = field.nodes(band, detectors=detectors, target=target)
    view = field.views.get(band)
    if view is None:
        return np.asarray(nodes[0])
    rows, columns = np.mgrid[0 : nodes.shape[1], 0 : nodes.shape[2]].astype(float)
    chosen: np.ndarray = nodes[0]
    if detectors == "seen":
        chosen = np.take_along_axis(nodes, labels(columns, rows, view.seams)[None].astype(np.intp), axis=0)[0]
    return chosen if fill else np.where(view.seen.any(axis=0), chosen, np.nan)


def _each(field: CField, bands: Sequence[str], numbers: Sequence[int], target: TargetSun, fill: bool) -> np.ndarray:
    out = np.full((len(bands), len(numbers), field.angles.y.size, field.angles.x.size), np.nan)
    for k, band in enumerate(bands):
        view = field.views.get(band)
        if view is not None:
            nodes = field.nodes(band, target=target)
            for d, number in enumerate(view.detectors):
                out[k, numbers.index(int(number))] = nodes[d] if fill else np.where(view.seen[d], nodes[d], np.nan)
    return out


def _labelled(angle: Any) -> xr.DataArray:
    if isinstance(angle, xr.DataArray):
        return angle
    values = np.asarray(angle, dtype=np.float64)
    return xr.DataArray(values, dims=tuple(f"dim_{values.ndim - 1 - i}" for i in range(values.ndim)))


def _span(values: np.ndarray) -> str:
    return f"{np.nanmin(values):g} to {np.nanmax(values):g}" if np.isfinite(values).any() else "missing"


def _attrs(bands: Sequence[str]) -> dict[str, Any]:
    borrowed = ", ".join(f"{band} uses {BORROWED[band]}" for band in bands if band in BORROWED)
    attrs = {"long_name": "c-factor: nadir over observed BRDF", "units": "1"}
    return attrs | ({"borrowed_parameters": borrowed} if borrowed else {})
