"""Nadir BRDF-adjusted reflectance of Sentinel-2 by the c-factor: arrays and bytes in, arrays out.

``NBAR(b) = c(b) * rho(b)`` with ``c(b) = BRDF(sun, nadir; b) / BRDF(sun, view; b)`` and a Ross-Thick/Li-Sparse-Reciprocal BRDF with global
parameters per band (Roy et al. 2008, 2016, 2017). The way through this room:

1. `parse_granule_angles` reads the bytes of a granule's ``MTD_TL.xml`` into `GranuleAngles`.
2. `CField.from_angles` continues each detector's view vectors over all nodes and finds where one detector's footprint ends and the next
   begins. Make it once per granule; it is immutable and shared by all sites and threads.
3. For pixels on a regular grid in the granule's own CRS, `patch` gives a `CPatch` (a few nodes and seams) and `harmonise` turns a stack
   (time, band, y, x) of digital numbers into reflectance in one pass: offset, c, scale, rounding. No array of c exists.
4. For any other pixels (a cube in the neighbouring zone: transform its pixel centres to the granule's CRS and give them as 2-D arrays; or
   MSK_DETFOO given, see `rasterise_detfoo`), `CField.c` returns c per pixel and `apply_c` applies it.

Both return a status per band, `NbarStatus`, ready to be stored with `status_attrs`. c is NaN, never 1, where nothing was adjusted. A layer
does, per granule::

    field = CField.from_angles(parse_granule_angles(data))
    done = harmonise(dn, patches(fields, bands, x, y), offset)                 # same zone
    c, status = field.c(bands, x2d, y2d); done = apply_c(dn, c, status, offset)  # other zone

and for time steps without metadata passes ``NbarStatus.no_metadata`` in place of the patch. For many granules `map_granules` reads several
at a time::

    patches = map_granules(lambda field: patch(field, bands, x, y), paths, bands)

`c_factor`, `c_factor_from_metadata` and `apply_nbar` are the same as labelled arrays for notebooks. Zenith and azimuth are degrees;
relative azimuth is sun minus view; coordinates are metres in the granule's CRS, (y, x) in order.
"""

from __future__ import annotations

from cubekit.nbar._angles import angles_at
from cubekit.nbar._apply import FILL, Harmonised, apply_c, harmonise
from cubekit.nbar._coefficients import BAND_ORDER, BORROWED, NBAR_BANDS, PARAMETERS, canonical_band, is_supported
from cubekit.nbar._cube import apply_nbar, cube_epsg
from cubekit.nbar._detfoo import rasterise_detfoo
from cubekit.nbar._factors import c_factor, c_factor_from_metadata
from cubekit.nbar._field import BandView, CField
from cubekit.nbar._granule import GranuleAngles, parse_granule_angles
from cubekit.nbar._kernels import c_tan, kernels_deg, kernels_tan
from cubekit.nbar._many import map_granules
from cubekit.nbar._patch import CPatch, patch, patches
from cubekit.nbar._status import NbarStatus, status_attrs
from cubekit.nbar._target import hls_sun_zenith

__all__ = [
    "BAND_ORDER",
    "BORROWED",
    "FILL",
    "NBAR_BANDS",
    "PARAMETERS",
    "BandView",
    "CField",
    "CPatch",
    "GranuleAngles",
    "Harmonised",
    "NbarStatus",
    "angles_at",
    "apply_c",
    "apply_nbar",
    "c_factor",
    "c_factor_from_metadata",
    "c_tan",
    "canonical_band",
    "cube_epsg",
    "harmonise",
    "hls_sun_zenith",
    "is_supported",
    "kernels_deg",
    "kernels_tan",
    "map_granules",
    "parse_granule_angles",
    "patch",
    "patches",
    "rasterise_detfoo",
    "status_attrs",
]
