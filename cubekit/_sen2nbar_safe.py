"""NBAR of a SAFE folder: JP2 in, tiled GeoTIFF out, a strip of rows at a time."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.shutil import copy as gdal_copy
from rasterio.windows import Window

from cubekit.errors import InputError, ReadError
from cubekit.nbar import (
    BAND_ORDER,
    FILL,
    NBAR_BANDS,
    CField,
    Harmonised,
    NbarStatus,
    apply_c,
    canonical_band,
    harmonise,
    parse_granule_angles,
    patch,
    rasterise_detfoo,
)
from cubekit.nbar._compat import compat_axes, compat_c, compat_pixels
from cubekit.nbar._field import Detectors
from cubekit.nbar._target import TargetSun, target_zenith

__all__ = ["safe_nbar"]

STRIP = 1024
RESOLUTION = {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "B05": 20, "B06": 20, "B07": 20, "B8A": 20, "B11": 20, "B12": 20}
_OFFSET = re.compile(rb'<BOA_ADD_OFFSET band_id="(\d+)">(-?\d+)</BOA_ADD_OFFSET>')
_BASELINE = re.compile(rb"<PROCESSING_BASELINE>(\d{2}\.\d{2})</PROCESSING_BASELINE>")
_NAMED_BASELINE = re.compile(r"_N(\d{2})(\d{2})_R\d{3}_")
_NAMED_TILE = re.compile(r"(?:^|_)T(\d{2}[C-HJ-NP-X][A-HJ-NP-Z]{2})_")


def safe_nbar(
    path: Path,
    out: Path,
    bands: Sequence[str],
    *,
    cog: bool,
    to_int: bool,
    detectors: Detectors,
    target: TargetSun,
    compat: str | None,
    overwrite: bool,
    parallel: bool,
) -> dict[str, Path]:
    """See `cubekit.sen2nbar.nbar_safe`."""
    granule = _one(path, "GRANULE/*/MTD_TL.xml").parent
    field = CField.from_angles(parse_granule_angles((granule / "MTD_TL.xml").read_bytes(), source=str(granule / "MTD_TL.xml")))
    names = [canonical_band(band) for band in bands]
    sources = {band: _image(granule, band) for band in names}
    targets = {band: out / f"{source.stem}.tif" for band, source in sources.items()}
    existing = [str(target_) for target_ in targets.values() if target_.exists()]
    if existing and not overwrite:
        raise InputError(f"{existing[0]} exists", remedy="Use overwrite=True, or another folder.", path=existing[0])
    for source in sources.values():
        tile = _NAMED_TILE.search(source.name)
        if tile is not None:
            field.angles.check_tile(tile[1])
    _check_adjustable(field, names, path)
    offsets = _offsets(path, field)
    out.mkdir(parents=True, exist_ok=True)
    for band in names:
        job = _Band(field, band, granule, offsets.get(band, 0.0), detectors, target, compat, parallel)
        job.write(sources[band], targets[band], cog=cog, kind="int16" if to_int else "float32")
    return targets


class _Band:
    """One band's way from JP2 to GeoTIFF."""

    def __init__(
        self,
        field: CField,
        band: str,
        granule: Path,
        offset: float,
        detectors: Detectors,
        target: TargetSun,
        compat: str | None,
        parallel: bool,
    ) -> None:
        self.field, self.band, self.offset, self.parallel = field, band, offset, parallel
        self.detectors, self.target, self.compat = detectors, target, compat
        mask = sorted((granule / "QI_DATA").glob(f"*MSK_DETFOO_{band}.*"))
        self.mask = next((p for p in mask if p.suffix.lower() in (".jp2", ".gml")), None) if detectors == "seen" and not compat else None

    def write(self, source: Path, target: Path, *, cog: bool, kind: str) -> None:
        """Convert to a hidden file beside the target, then rename it."""
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".nbar-") as folder:
            plain, final = Path(folder, "plain.tif"), Path(folder, "final.tif")
            with ExitStack() as stack:
                image = stack.enter_context(_open(source))
                profile = {
                    "driver": "GTiff",
                    "height": image.height,
                    "width": image.width,
                    "count": 1,
                    "dtype": kind,
                    "crs": image.crs,
                    "transform": image.transform,
                    "nodata": FILL if kind == "int16" else float("nan"),
                    "tiled": True,
                    "blockxsize": 512,
                    "blockysize": 512,
                    "compress": "deflate",
                    "predictor": 2 if kind == "int16" else 3,
                }
                product = stack.enter_context(rasterio.open(plain, "w", **profile))
                if kind == "int16":
                    product.scales = (1e-4,)
                product.update_tags(nbar="c-factor" if not self.compat else f"c-factor, as {self.compat}", boa_offset=str(self.offset))
                mask = stack.enter_context(_open(self.mask)) if self.mask and self.mask.suffix.lower() == ".jp2" else None
                for row in range(0, image.height, STRIP):
                    window = Window(0, row, image.width, min(STRIP, image.height - row))
                    product.write(self._strip(image, mask, window, kind), 1, window=window)
            if cog:
                gdal_copy(plain, final, driver="COG", compress="deflate", predictor="YES", blocksize=512, overview_resampling="average")
            os.replace(final if cog else plain, target)

    def _strip(self, image: Any, mask: Any, window: Window, kind: str) -> npt.NDArray[Any]:
        done = self._harmonised(image, mask, window, kind)
        values: npt.NDArray[Any] = done.values[0, 0]
        return values

    def _harmonised(self, image: Any, mask: Any, window: Window, kind: str) -> Harmonised:
        try:
            dn = image.read(1, window=window)[None, None]
        except rasterio.errors.RasterioIOError as error:
            raise ReadError(f"{image.name} cannot be read: {error}", remedy="Fetch the product again.", band=self.band) from error
        transform = image.transform
        x = transform.c + transform.a * (np.arange(window.width) + 0.5)
        y = transform.f + transform.e * (window.row_off + np.arange(window.height) + 0.5)
        common: dict[str, Any] = {"dtype": kind, "parallel": self.parallel}
        if kind == "int16" and dn.dtype.itemsize == 2:
            common["out"] = dn.view(np.int16)  # the numbers are not needed again
        if self.compat:
            nodes = compat_c(self.field.angles, [self.band], target_zenith=target_zenith(self.field.angles, self.target))
            c = compat_pixels(nodes, *compat_axes(self.field.angles), x, y)
            return apply_c(dn, c, [NbarStatus.applied], self.offset, **common)
        if self.mask is None:
            known = patch(self.field, [self.band], x, y, detectors=self.detectors, target=self.target)
            return harmonise(dn, [known], self.offset, **common)
        seen = _mask_on(mask, image, window) if mask is not None else rasterise_detfoo(self.mask.read_bytes(), x, y, source=str(self.mask))
        c, status = self.field.c([self.band], x, y, target=self.target, detfoo={self.band: seen})
        return apply_c(dn, c, status, self.offset, **common)


def _open(path: Path) -> Any:
    try:
        return rasterio.open(path)
    except rasterio.errors.RasterioIOError as error:
        raise ReadError(f"{path} cannot be read: {error}", remedy="Fetch the product again.", href=str(path)) from error


def _mask_on(mask: Any, image: Any, window: Window) -> npt.NDArray[Any]:
    """MSK_DETFOO on the pixels of a window of the image, nearest where its pixels have another size."""
    try:
        if mask.transform == image.transform and mask.shape == image.shape:
            seen: npt.NDArray[Any] = mask.read(1, window=window)
            return seen
        part = rasterio.windows.from_bounds(*rasterio.windows.bounds(window, image.transform), transform=mask.transform)
        seen = mask.read(1, window=part, out_shape=(window.height, window.width), boundless=True, fill_value=0)
        return seen
    except rasterio.errors.RasterioIOError as error:
        raise ReadError(f"{mask.name} cannot be read: {error}", remedy="Fetch the product again.", href=mask.name) from error


def _one(path: Path, pattern: str) -> Path:
    found = sorted(path.glob(pattern))
    if len(found) != 1:
        raise InputError(f"{path} has {len(found)} files {pattern}", remedy="Give the .SAFE of one Level-2A product.", path=str(path))
    return found[0]


def _image(granule: Path, band: str) -> Path:
    """The JP2 of a band at its native resolution."""
    if band not in RESOLUTION:
        raise InputError(f"band {band!r} has no BRDF parameters", remedy=f"Use bands out of {', '.join(NBAR_BANDS)}.", band=band)
    return _one(granule, f"IMG_DATA/R{RESOLUTION[band]}m/*_{band}_{RESOLUTION[band]}m.jp2")


def _check_adjustable(field: CField, bands: Sequence[str], path: Path) -> None:
    """Raise before anything is written when a band of the granule cannot be adjusted."""
    ends = np.array([[0.0, 21.96]])
    status = field.status(bands, *np.broadcast_arrays(ends, ends.T))
    for band, state in zip(bands, status, strict=True):
        if state != NbarStatus.applied:
            raise ReadError(
                f"band {band} of {path.name} cannot be adjusted: {NbarStatus(state).name}", remedy="See docs/nbar.md on limits.", band=band
            )


def _offsets(path: Path, field: CField) -> dict[str, float]:
    """Offset per band as the product's own metadata states it; else by the baseline it states, or that of the granule or the name."""
    product = sorted(path.glob("MTD_MSIL2A.xml"))
    data = product[0].read_bytes() if product else b""
    stated = {BAND_ORDER[int(i)]: float(value) for i, value in _OFFSET.findall(data) if int(i) < len(BAND_ORDER)}
    if stated:
        return stated
    match, named = _BASELINE.search(data), _NAMED_BASELINE.search(path.name)
    baseline = match[1].decode() if match else field.angles.baseline or (f"{named[1]}.{named[2]}" if named else None)
    if baseline is None:
        raise InputError(f"{path.name} does not state its processing baseline", remedy="Keep MTD_MSIL2A.xml beside GRANULE.")
    return dict.fromkeys(BAND_ORDER, -1000.0 if float(baseline) >= 4 else 0.0)
