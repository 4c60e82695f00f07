"""The granule tile of a site: its 100 km square in the military grid, which names the tiles of Sentinel-2."""

from __future__ import annotations

import numpy as np

from cubekit.grid import transformer
from cubekit.typing import Float1D, IntArray

__all__ = ["granule_tiles"]

_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_POLAR_COLUMNS = "JKLPQRSTUXYZABCFGHJKLPQR"
_POLAR_ROWS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_SQUARE = 100_000.0


def granule_tiles(lon: Float1D, lat: Float1D) -> list[str]:
    """Names of the tiles, such as ``32UPC``, in which points lie.

    Tiles of Sentinel-2 overlap by 10 km, so a cube may need several; the one that holds its centre is its name here.

    Parameters
    ----------
    lon, lat
        Degrees, shape (n,).

    Returns
    -------
    list of str
        Zone, latitude band, column and row (NGA.SIG.0012, with its exceptions around Norway and Svalbard); beyond 84 N and 80 S the UPS
        squares, without a zone number.
    """
    lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
    names = np.empty(len(lon), dtype=object)
    zones = np.where(lat > 84, 61, np.where(lat < -80, 0, _zones(lon, lat)))
    for zone in np.unique(zones):
        for north in (True, False):
            chosen = (zones == zone) & ((lat >= 0) == north)
            if chosen.any():
                namer = _polar_names if zone in (0, 61) else _zone_names
                names[chosen] = namer(int(zone), north, lon[chosen], lat[chosen])
    return names.tolist()


def _zones(lon: Float1D, lat: Float1D) -> IntArray:
    zone = (np.floor((lon + 180) / 6).astype(np.int64)) % 60 + 1
    zone = np.where((lat >= 56) & (lat < 64) & (lon >= 3) & (lon < 12), 32, zone)
    svalbard = (lat >= 72) & (lon >= 0) & (lon < 42)
    return np.where(svalbard, np.select([lon < 9, lon < 21, lon < 33], [31, 33, 35], 37), zone)


def _zone_names(zone: int, north: bool, lon: Float1D, lat: Float1D) -> list[str]:
    x, y = transformer(4326, (32600 if north else 32700) + zone).transform(lon, lat)
    bands = np.minimum((lat + 80) // 8, 19).astype(np.int64)
    columns = np.clip(np.asarray(x) // _SQUARE - 1, 0, 7).astype(np.int64)
    rows = (np.asarray(y) // _SQUARE + (0 if zone % 2 else 5)).astype(np.int64) % 20
    letters = _COLUMNS[(zone - 1) % 3]
    return [f"{zone:02d}{_BANDS[b]}{letters[c]}{_ROWS[r]}" for b, c, r in zip(bands, columns, rows, strict=True)]


def _polar_names(zone: int, north: bool, lon: Float1D, lat: Float1D) -> list[str]:
    x, y = transformer(4326, 32661 if north else 32761).transform(lon, lat)
    start = 1_300_000 if north else 800_000
    columns = np.clip((np.asarray(x) - 800_000) // _SQUARE, 0, 23).astype(np.int64)
    rows = np.clip((np.asarray(y) - start) // _SQUARE, 0, 23).astype(np.int64)
    west, east = ("Y", "Z") if north else ("A", "B")
    return [f"{east if c >= 12 else west}{_POLAR_COLUMNS[c]}{_POLAR_ROWS[r]}" for c, r in zip(columns, rows, strict=True)]
