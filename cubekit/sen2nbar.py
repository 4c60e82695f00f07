"""sen2nbar's functions, for people who come from there: the same calls, right c-factors, nothing dropped.

``nbar_stac``, ``nbar_stackstac``, ``nbar_cubo`` and ``nbar_safe`` take what sen2nbar's functions take. They differ in that

- items can be given and are then reused; the catalogue is only asked when they are not;
- items of today's pystac (``proj:code``) and of neighbouring zones work;
- no time step is dropped: ``nbar_status`` (time, band) says what happened (``missing="drop"`` drops, ``"fail"`` raises);
- c is that of the detector that saw the pixel, on nodes at the tile's corner. ``compat="sen2nbar"`` gives sen2nbar's own numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from cubekit._sen2nbar_items import Fetch, fetch_bytes, fetch_metadata, items_in_order, offset_of, search_items
from cubekit.errors import InputError, ReadError
from cubekit.nbar import NBAR_BANDS, GranuleAngles, apply_nbar, c_factor_from_metadata, canonical_band, cube_epsg, parse_granule_angles

__all__ = ["nbar_cubo", "nbar_safe", "nbar_stac", "nbar_stackstac", "reprojected_c"]

Compat = Literal["sen2nbar"] | None


def nbar_stac(
    da: xr.DataArray,
    stac: str | None = None,
    collection: str | None = None,
    epsg: int | str | None = None,
    quiet: bool = True,
    *,
    items: Iterable[Any] | None = None,
    fetch: Fetch = fetch_bytes,
    offset: float | Sequence[float] | None = None,
    missing: Literal["flag", "drop", "fail"] = "flag",
    compat: Compat = None,
    **options: Any,
) -> xr.DataArray:
    """NBAR of a DataArray of digital numbers made from STAC items.

    Parameters
    ----------
    da
        (time, band, y, x) with the coordinate ``id`` of the items, or as many ``items`` as time steps.
    stac, collection
        Where to look the items up; not needed when ``items`` are given.
    epsg
        CRS of ``da`` (``32632`` or ``"epsg:32632"``); found in its coordinates or attributes if not given.
    quiet
        Accepted for compatibility; nothing is printed.
    items
        The items ``da`` was made of (pystac items, an item collection, or dicts).
    fetch
        Reads an href. The default knows http and https and signs for Planetary Computer.
    offset
        Added to digital numbers; by default what the catalogue needs per item (`docs/nbar.md`).
    missing, compat
        See `cubekit.nbar.apply_nbar`.
    **options
        ``detectors``, ``target_sun_zenith``, ``parallel`` of `apply_nbar`.

    Returns
    -------
    DataArray
        float32 digital numbers (reflectance * 10000) as in sen2nbar, NaN for nodata, with ``nbar_status`` (time, band).

    Raises
    ------
    InputError
        Neither items nor a catalogue; items that do not fit the time steps.
    """
    if not isinstance(da, xr.DataArray) or "time" not in da.dims:
        raise InputError("da has no dimension 'time'", remedy="Give a DataArray (time, band, y, x).")
    if items is None:
        if not stac or not collection or "id" not in da.coords:
            raise InputError("no items given, and no catalogue to ask", remedy="Give items=, or stac, collection and the coordinate 'id'.")
        items = search_items(stac, collection, [str(name) for name in np.atleast_1d(da["id"].values)])
    ordered = items_in_order(da, items)
    code = int(str(epsg).split(":")[-1].split(".")[0]) if epsg is not None else cube_epsg(da)
    if code is None:
        raise InputError("the CRS of the cube is unknown", remedy="Give epsg=.")
    angles = _angles(fetch_metadata(ordered, fetch))
    offsets: Any = offset
    if offset is None:
        pairs = zip(ordered, angles, strict=True)
        offsets = [0.0 if item is None else offset_of(item, granule.baseline if granule else None) for item, granule in pairs]
        _check_unknown(ordered)
    common: dict[str, Any] = {"offset": offsets, "scale": 1.0, "epsg": code, "dtype": "float32", "missing": missing, **options}
    if compat == "sen2nbar" and any(granule is not None and granule.epsg != code for granule in angles):
        result = _compat_across(da, angles, code, common)
    else:
        result = apply_nbar(da, angles, compat=compat, **common)
    return result.assign_attrs(long_name="digital numbers, nadir BRDF-adjusted", units="1e-4")


def nbar_stackstac(
    da: xr.DataArray, stac: str | None = None, collection: str | None = None, quiet: bool = True, **options: Any
) -> xr.DataArray:
    """NBAR of a DataArray made by ``stackstac.stack(items, rescale=False)``; see `nbar_stac` for the options."""
    return nbar_stac(da, stac, collection, options.pop("epsg", None) or da.attrs.get("crs"), quiet, **options)


def nbar_cubo(da: xr.DataArray, quiet: bool = True, **options: Any) -> xr.DataArray:
    """NBAR of a DataArray made by ``cubo.create`` or `cubekit.create`; see `nbar_stac` for the options."""
    return nbar_stac(
        da, da.attrs.get("stac"), da.attrs.get("collection"), options.pop("epsg", None) or da.attrs.get("epsg"), quiet, **options
    )


def nbar_safe(
    path: str | os.PathLike[str],
    cog: bool = True,
    to_int: bool = True,
    quiet: bool = True,
    *,
    out: str | os.PathLike[str] | None = None,
    bands: Sequence[str] | None = None,
    detectors: Literal["seen", "mean"] = "seen",
    target_sun_zenith: Literal["observed", "hls"] | float = "observed",
    compat: Compat = None,
    overwrite: bool = False,
    parallel: bool = True,
) -> dict[str, Path]:
    """NBAR of a Level-2A ``.SAFE`` folder, band by band, in memory of a few strips of rows.

    Parameters
    ----------
    path
        The ``.SAFE`` folder.
    cog
        Write cloud-optimised GeoTIFFs (with overviews), else plain tiled ones.
    to_int
        int16 with scale 1e-4 and nodata -32768; else float32 reflectance with NaN.
    quiet
        Accepted for compatibility; nothing is printed.
    out
        Folder to write to; ``path/NBAR`` if not given.
    bands
        Bands with BRDF parameters, each at its native resolution; all ten by default.
    detectors
        ``"seen"`` uses MSK_DETFOO of the product where it is there.
    target_sun_zenith, compat
        See `cubekit.nbar.c_factor_from_metadata`.
    overwrite
        Whether to replace files.
    parallel
        Use numba's threads.

    Returns
    -------
    dict
        Band to file. Files appear complete or not at all.

    Raises
    ------
    InputError
        No Level-2A folder, a band without parameters, or existing files.
    ReadError
        Images or metadata that cannot be read, or a granule that cannot be adjusted.
    """
    from cubekit._sen2nbar_safe import safe_nbar

    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", remedy="Give the .SAFE folder of a Level-2A product.", path=str(folder))
    return safe_nbar(
        folder,
        folder / "NBAR" if out is None else Path(out),
        NBAR_BANDS if bands is None else bands,
        cog=cog,
        to_int=to_int,
        detectors=detectors,
        target=target_sun_zenith,
        compat=compat,
        overwrite=overwrite,
        parallel=parallel,
    )


def reprojected_c(
    granule: GranuleAngles, bands: Sequence[str], epsg: int, x: Any, y: Any, target_sun_zenith: Any = "observed"
) -> xr.DataArray:
    """c as sen2nbar has it in another zone: its nodes warped by nearest neighbour, then bilinear; (band, y, x)."""
    import rioxarray  # noqa: F401  (registers the accessor)

    c = c_factor_from_metadata(granule, bands, compat="sen2nbar", target_sun_zenith=target_sun_zenith)
    c = c.drop_vars(["epsg", "nbar_status"])
    if granule.epsg != epsg:
        c = c.rio.write_crs(granule.epsg).rio.reproject(f"epsg:{epsg}").drop_vars("spatial_ref")
    found: xr.DataArray = c.interp(y=np.asarray(y), x=np.asarray(x), method="linear", kwargs={"fill_value": "extrapolate"})
    return found


def _angles(metadata: Sequence[bytes | None]) -> list[GranuleAngles | None]:
    """Angles per time step, parsed once per body; None where they cannot be read."""
    cache: dict[int, GranuleAngles | None] = {}
    for body in metadata:
        if body is None or id(body) in cache:
            continue
        try:
            cache[id(body)] = parse_granule_angles(body)
        except ReadError:
            cache[id(body)] = None
    return [None if body is None else cache[id(body)] for body in metadata]


def _check_unknown(ordered: Sequence[Any]) -> None:
    lost = [k for k, item in enumerate(ordered) if item is None]
    if lost:
        raise InputError(
            f"no item for time steps {lost[:5]}: their offset is unknown",
            remedy="Give all items the cube was made of, or offset= as numbers.",
        )


def _compat_across(da: xr.DataArray, angles: Sequence[GranuleAngles | None], code: int, common: dict[str, Any]) -> xr.DataArray:
    """sen2nbar's numbers where some granules lie in another zone: those are multiplied by the warped c."""
    plain = dict(common) | {"missing": "flag"}
    names = [canonical_band(band) for band in np.atleast_1d(da.band.values)]
    bands = [band for band in names if band in NBAR_BANDS]
    result = apply_nbar(da, angles, **plain)
    base = apply_nbar(da, [None] * len(angles), **plain)
    values = result.transpose("time", "band", "y", "x").values
    bare = base.transpose("time", "band", "y", "x").values
    index = [k for k, band in enumerate(names) if band in NBAR_BANDS]
    for t, granule in enumerate(angles):
        if granule is None:
            continue
        c = reprojected_c(granule, bands, code, da.x.values, da.y.values, common.get("target_sun_zenith", "observed")).values
        good = result.nbar_status.values[t, index] == 0
        for k, layer, use in zip(index, c, good, strict=True):
            if use:
                values[t, k] = bare[t, k] * layer
    out = result.transpose("time", "band", "y", "x").copy(data=values)
    out.attrs["nbar"] = "c-factor, as sen2nbar"
    return out
