"""NBAR of a labelled cube."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from cubekit.errors import InputError, ReadError
from cubekit.nbar._apply import FILL, SCALE, apply_c, harmonise
from cubekit.nbar._coefficients import BORROWED, canonical_band
from cubekit.nbar._compat import compat_axes, compat_c, compat_pixels
from cubekit.nbar._field import CField, Detectors, Int8Array
from cubekit.nbar._many import Source, map_granules
from cubekit.nbar._patch import CPatch, patch
from cubekit.nbar._status import NbarStatus, status_attrs
from cubekit.nbar._target import TargetSun, check_target, target_zenith
from cubekit.typing import FloatArray

__all__ = ["apply_nbar", "cube_epsg"]

OFFSET_BASELINE = 4.0
USABLE = (NbarStatus.applied, NbarStatus.not_supported, NbarStatus.not_requested)


def apply_nbar(
    cube: xr.DataArray,
    metadata: Sequence[Source],
    *,
    offset: float | Sequence[float] | Literal["baseline"],
    scale: float = SCALE,
    nodata: int = 0,
    epsg: int | None = None,
    detectors: Detectors = "seen",
    target_sun_zenith: TargetSun = "observed",
    dtype: Literal["int16", "float32"] = "int16",
    missing: Literal["flag", "drop", "fail"] = "flag",
    compat: Literal["sen2nbar"] | None = None,
    parallel: bool = False,
) -> xr.DataArray:
    """Digital numbers of a Sentinel-2 cube to nadir BRDF-adjusted reflectance.

    Parameters
    ----------
    cube
        (time, band, y, x) or (band, y, x) with coordinates ``band``, ``y``, ``x`` (pixel centres, metres). Integers, or floats with NaN
        for nodata. A dask-backed cube is computed.
    metadata
        Per time step the granule's ``MTD_TL.xml`` (bytes or path), or what was read from it; None where there is none. Steps of one
        granule may share one object.
    offset
        Added to digital numbers before anything else: a number, one per time step, or ``"baseline"`` for what ESA ships (-1000 from
        processing baseline 04.00). It depends on the catalogue, so it has no default: pixels of Earth Search ``sentinel-2-l2a`` need 0.
    scale
        Reflectance per digital number.
    nodata
        Digital number without data.
    epsg
        CRS of the cube; found in its coordinates or attributes if not given.
    detectors, target_sun_zenith
        See `CField.c`.
    dtype
        ``"int16"``: reflectance / 1e-4 with fill -32768 and attributes ``scale_factor``, ``_FillValue``; ``"float32"``: reflectance, NaN.
    missing
        What to do with a time step that has a band without metadata, without angles, or with the sun too low: ``"flag"`` passes it
        unadjusted, ``"drop"`` removes it, ``"fail"`` raises.
    compat
        ``"sen2nbar"`` for that package's c (`c_factor_from_metadata`); the status is unaffected.
    parallel
        Use all processors. Leave it False inside dask workers.

    Returns
    -------
    DataArray
        Same dims and coordinates, with ``nbar_status`` (time, band) or (band,), and ``nbar`` in the attributes. ``clipped`` counts values
        that int16 cannot store.

    Raises
    ------
    InputError
        Dimensions, bands, CRS or options that do not fit; a cube that is NBAR already; ``offset="baseline"`` where it is unknown.
    ReadError
        Metadata that cannot be read (when ``missing="fail"``), or any step not adjusted then.
    """
    stack, names, code = _check(cube, metadata, epsg, missing, compat)
    check_target(target_sun_zenith)
    x, y = stack.x.values.astype(float), stack.y.values.astype(float)
    options = _Options(names, x, y, code, detectors, target_sun_zenith, compat)
    made = map_granules(lambda field: (options.c_of(field), field.angles.baseline), metadata, names, threads=None if parallel else 1)
    broken = {t: answer for t, answer in enumerate(made) if isinstance(answer, ReadError)}
    if broken and missing == "fail":
        raise next(iter(broken.values()))
    known = [NbarStatus.no_metadata if answer is None or isinstance(answer, ReadError) else answer[0] for answer in made]
    offsets = _offsets(offset, [answer[1] if isinstance(answer, tuple) else None for answer in made])
    dn = _integers(stack, nodata)
    common: dict[str, Any] = {"scale": scale, "nodata": nodata, "dtype": dtype, "parallel": parallel}
    done = harmonise(dn, [NbarStatus.not_requested if isinstance(c, tuple) else c for c in known], offsets, **common)
    status, clipped = done.status, done.clipped
    for t, c in enumerate(known):
        if isinstance(c, tuple):
            single = apply_c(dn[t : t + 1], c[0], c[1], offsets[t], out=done.values[t : t + 1], **common)
            status[t], clipped = single.status[0], clipped + single.clipped
    result = _label(cube, stack, done.values, status, names, dtype, clipped, compat)
    return _missing(result, status, missing, broken, had_time="time" in cube.dims)


class _Options:
    """What is the same for all granules of a cube."""

    def __init__(
        self,
        bands: Sequence[str],
        x: FloatArray,
        y: FloatArray,
        epsg: int,
        detectors: Detectors,
        target: TargetSun,
        compat: str | None,
    ) -> None:
        self.bands, self.x, self.y, self.epsg = bands, x, y, epsg
        self.detectors, self.target, self.compat = detectors, target, compat
        self.regular = len(x) > 1 and len(y) > 1 and np.ptp(np.diff(x)) < 1e-6 and np.ptp(np.diff(y)) < 1e-6 and x[1] > x[0]

    def c_of(self, field: CField) -> CPatch | tuple[FloatArray, Int8Array]:
        """A patch where the cube is a regular grid in the granule's CRS; else c per pixel and its status."""
        own = field.angles.epsg == self.epsg
        if self.compat:
            return self._compat(field, own)
        if own and self.regular:
            return patch(field, self.bands, self.x, self.y, detectors=self.detectors, target=self.target)
        x, y = (self.x, self.y) if own else self._transformed(field)
        return field.c(self.bands, x, y, detectors=self.detectors, target=self.target)

    def _compat(self, field: CField, own: bool) -> tuple[FloatArray, Int8Array]:
        if not own:
            raise InputError(
                f"compat='sen2nbar' needs a cube in the granule's CRS, EPSG:{field.angles.epsg}, not EPSG:{self.epsg}",
                remedy="Use cubekit.sen2nbar, which reprojects c as sen2nbar does.",
            )
        status = field.status(self.bands, *field.node_coordinates(self.x, self.y))
        supported = [band for band, state in zip(self.bands, status, strict=True) if state == NbarStatus.applied]
        c = np.full((len(self.bands), len(self.y), len(self.x)), np.nan)
        if supported:
            nodes = compat_c(field.angles, supported, target_zenith=target_zenith(field.angles, self.target))
            index = [k for k, state in enumerate(status) if state == NbarStatus.applied]
            c[index] = compat_pixels(nodes, *compat_axes(field.angles), self.x, self.y)
        return c, status

    def _transformed(self, field: CField) -> tuple[FloatArray, FloatArray]:
        from pyproj import Transformer

        transformer = Transformer.from_crs(self.epsg, field.angles.epsg, always_xy=True)
        x, y = transformer.transform(*np.meshgrid(self.x, self.y))
        return np.asarray(x), np.asarray(y)


def cube_epsg(cube: xr.DataArray) -> int | None:
    """EPSG code of a cube from its coordinates (``epsg``, ``proj:epsg``, ``proj:code``, ``spatial_ref``) or attributes; None if unknown."""
    for name in ("epsg", "proj:epsg", "proj:code", "crs"):
        for holder in (cube.coords, cube.attrs):
            if name in holder:
                value = holder[name]
                values = {str(v) for v in np.atleast_1d(np.asarray(value if not isinstance(value, xr.DataArray) else value.values))}
                codes = {v.split(":")[-1].split(".")[0] for v in values}
                if len(codes) == 1 and (code := codes.pop()).isdigit():
                    return int(code)
    if "spatial_ref" in cube.coords:
        from pyproj import CRS

        text = cube.coords["spatial_ref"].attrs.get("crs_wkt") or cube.coords["spatial_ref"].attrs.get("spatial_ref")
        return CRS.from_wkt(text).to_epsg() if text else None
    return None


def _check(
    cube: xr.DataArray, metadata: Sequence[Source], epsg: int | None, missing: str, compat: str | None
) -> tuple[xr.DataArray, list[str], int]:
    if not isinstance(cube, xr.DataArray) or set(cube.dims) not in ({"time", "band", "y", "x"}, {"band", "y", "x"}):
        found = cube.dims if isinstance(cube, xr.DataArray) else type(cube).__name__
        raise InputError(f"cube has dims {found}", remedy="Give a DataArray (time, band, y, x) or (band, y, x).")
    absent = [name for name in ("band", "y", "x") if name not in cube.coords]
    if absent:
        raise InputError(f"cube lacks the coordinates {absent}", remedy="Give band names and pixel centres.")
    if cube.attrs.get("nbar"):
        raise InputError(f"cube is nadir-adjusted already ({cube.attrs['nbar']})", remedy="NBAR is applied once.")
    if missing not in ("flag", "drop", "fail"):
        raise InputError(f"missing={missing!r}", remedy="Use 'flag', 'drop' or 'fail'.")
    if compat not in (None, "sen2nbar"):
        raise InputError(f"compat={compat!r}", remedy="Use None or 'sen2nbar'.")
    if not isinstance(metadata, (list, tuple, np.ndarray)):
        raise InputError(f"metadata is {type(metadata).__name__}, no list", remedy="Give one entry per time step, such as [data].")
    stack = cube if "time" in cube.dims else cube.expand_dims("time")
    stack = stack.transpose("time", "band", "y", "x")
    if len(metadata) != stack.sizes["time"]:
        raise InputError(
            f"{len(metadata)} metadata for {stack.sizes['time']} time steps", remedy="Give one per time step, None where absent."
        )
    names = [canonical_band(band) for band in np.atleast_1d(cube.band.values)]
    code = epsg or cube_epsg(cube)
    if not code:
        raise InputError("the cube's CRS is unknown", remedy="Give epsg=.")
    return stack, names, int(code)


def _offsets(offset: float | Sequence[float] | str, baselines: Sequence[str | None]) -> FloatArray:
    times = len(baselines)
    if isinstance(offset, str):
        if offset != "baseline":
            raise InputError(f"offset={offset!r}", remedy="Give numbers, or 'baseline'.")
        unknown = [t for t, baseline in enumerate(baselines) if baseline is None]
        if unknown:
            raise InputError(f"the processing baseline of time steps {unknown[:5]} is unknown", remedy="Give the offset as numbers.")
        return np.array([-1000.0 if float(baseline or 0) >= OFFSET_BASELINE else 0.0 for baseline in baselines])
    values = np.asarray(offset, dtype=np.float64)
    if values.ndim > 1 or values.size not in (1, times) or not np.isfinite(values).all():
        raise InputError(f"offset of shape {values.shape} for {times} time steps", remedy="Give one number, or one per time step.")
    return np.broadcast_to(values, (times,)).copy()


def _integers(stack: xr.DataArray, nodata: int) -> np.ndarray:
    """Digital numbers as uint16 or int16; floats must be whole."""
    values = stack.values
    if values.dtype in (np.uint16, np.int16):
        return np.ascontiguousarray(values)
    if values.dtype == np.uint8:
        return values.astype(np.uint16)
    numbers = np.where(np.isfinite(values), values, nodata) if values.dtype.kind == "f" else values
    whole = np.rint(numbers)
    if numbers.size and (np.abs(numbers - whole).max() > 1e-3 or whole.min() < -32768 or whole.max() > 65535):
        raise InputError("the cube does not hold digital numbers", remedy="Give the pixels before scale and offset, unresampled.")
    kind = np.int16 if numbers.size and whole.min() < 0 else np.uint16
    if numbers.size and whole.max() > np.iinfo(kind).max:
        raise InputError(f"digital numbers from {whole.min():g} to {whole.max():g} fit neither uint16 nor int16", remedy="Check the cube.")
    return np.ascontiguousarray(whole.astype(kind))


def _label(
    cube: xr.DataArray,
    stack: xr.DataArray,
    out: np.ndarray,
    status: Int8Array,
    names: Sequence[str],
    dtype: str,
    clipped: int,
    compat: str | None,
) -> xr.DataArray:
    keep = {key: value for key, value in cube.attrs.items() if key not in ("scale_factor", "add_offset", "_FillValue")}
    attrs: dict[str, Any] = {"long_name": "surface reflectance, nadir BRDF-adjusted", "units": "1"} | keep
    attrs |= {"nbar": "c-factor" if compat is None else f"c-factor, as {compat}", "clipped": clipped}
    attrs |= {"scale_factor": SCALE, "_FillValue": np.int16(FILL)} if dtype == "int16" else {}
    borrowed = ", ".join(f"{band} uses {BORROWED[band]}" for band in names if band in BORROWED)
    attrs |= {"nbar_borrowed_parameters": borrowed} if borrowed else {}
    result = stack.copy(data=out).assign_attrs(attrs)
    result.attrs = attrs
    return result.assign_coords(nbar_status=(("time", "band"), status, status_attrs()))


def _missing(result: xr.DataArray, status: Int8Array, missing: str, broken: dict[int, ReadError], *, had_time: bool) -> xr.DataArray:
    lacking = ~np.asarray(np.isin(status, [int(state) for state in USABLE]).all(axis=1))
    if missing == "fail" and lacking.any():
        t = int(np.flatnonzero(lacking)[0])
        words = sorted({NbarStatus(state).name for state in status[t]} - {state.name for state in USABLE})
        raise ReadError(
            f"{int(lacking.sum())} of {len(lacking)} time steps cannot be adjusted; step {t}: {', '.join(words)}",
            remedy="Use missing='flag' or 'drop', or find their granule metadata.",
        )
    if missing == "drop":
        result = result.isel(time=~lacking)
    if broken:
        result.attrs["nbar_unreadable"] = "; ".join(f"step {t}: {error.message}" for t, error in sorted(broken.items())[:5])
    return result if had_time else (result.isel(time=0, drop=True) if result.sizes["time"] else result)
