"""Rasters made to exhaust, to hang or to lead astray: a status in bounded time and memory, and nothing opened but the file."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from cubekit.testing import shared_data
from tests.safety.conftest import REPOSITORY

ENTRY = struct.Struct("<HHII")
BIG = 2**31 - 1


def tiff(tags: dict[int, tuple[int, int, int]], tail: bytes = b"", *, following: int = 0, at: int = 8) -> bytes:
    """A little-endian TIFF: header, one directory of (kind, number, value) tags in their order, and `tail` at byte 1024."""
    entries = b"".join(ENTRY.pack(tag, *value) for tag, value in sorted(tags.items()))
    body = b"II*\0" + struct.pack("<I", at) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return body.ljust(1024, b"\0") + tail


def plain(**changes: tuple[int, int, int] | None) -> dict[int, tuple[int, int, int]]:
    """Tags of a 256 x 256 uint16 image of one deflated tile at byte 2048, at the place of the grid."""
    tags: dict[int, Any] = {
        256: (4, 1, 256), 257: (4, 1, 256), 258: (3, 1, 16), 259: (3, 1, 8), 262: (3, 1, 1), 277: (3, 1, 1), 317: (3, 1, 1),
        322: (4, 1, 256), 323: (4, 1, 256), 324: (4, 1, 2048), 325: (4, 1, 1000), 339: (3, 1, 1),
        33550: (12, 3, 1024), 33922: (12, 6, 1048), 34735: (3, 8, 1096),
    }  # fmt: skip
    for key, value in changes.items():
        tags[int(key[1:])] = value
    return {tag: value for tag, value in tags.items() if value is not None}


def geo() -> bytes:
    """Pixel scale, tie point and keys (EPSG:32632) for byte 1024, padded to byte 2048."""
    scale = struct.pack("<3d", 10, 10, 0) + struct.pack("<6d", 0, 0, 0, 600000, 5700000, 0)
    return (scale + struct.pack("<8H", 1, 1, 0, 1, 3072, 0, 1, 32632)).ljust(1024, b"\0")


def bomb(size: int) -> bytes:
    """`size` zeros (whole MiB), deflated: one block again and again, and the checksum of so many zeros (RFC 1950)."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = engine.compress(bytes(1 << 20)) + engine.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\xda" + block * (size >> 20) + b"\x03\0" + struct.pack(">I", (size % 65521) << 16 | 1)


def deflate_bomb() -> bytes:
    data = bomb(2 << 30)
    side = 32768
    return tiff(plain(t256=(4, 1, side), t257=(4, 1, side), t322=(4, 1, side), t323=(4, 1, side), t325=(4, 1, len(data))), geo() + data)


def long_tile_bomb(codec: int, data: bytes) -> bytes:
    """An honest tile table over a stream that holds far more than a tile."""
    return tiff(plain(t259=(3, 1, codec), t325=(4, 1, len(data))), geo() + data)


def zstd_bomb() -> bytes:
    import zstandard

    engine = zstandard.ZstdCompressor(level=3).compressobj()
    return b"".join(engine.compress(bytes(1 << 20)) for _ in range(2048)) + engine.flush()


def lzw_bomb() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.lzw_encode(bytes(1 << 29)))


HOSTILE: dict[str, Any] = {
    "huge-dimensions": lambda: tiff(plain(t256=(4, 1, BIG), t257=(4, 1, BIG)), geo() + bytes(1000)),
    "huge-image-small-table": lambda: tiff(plain(t256=(4, 1, 9_000_000), t257=(4, 1, 9_000_000)), geo() + bytes(1000)),
    "huge-tiles": lambda: tiff(plain(t322=(4, 1, 2**30), t323=(4, 1, 2**30)), geo() + bytes(1000)),
    "huge-tile-table": lambda: tiff(plain(t324=(4, BIG, 2048), t325=(4, BIG, 2048)), geo() + bytes(1000)),
    "zero-tiles": lambda: tiff(plain(t322=(4, 1, 0), t323=(4, 1, 0)), geo() + bytes(1000)),
    "huge-nodata-text": lambda: tiff(plain(t42113=(2, BIG, 1200)), geo() + bytes(1000)),
    "huge-geokeys": lambda: tiff(plain(t34735=(3, BIG, 1096)), geo() + bytes(1000)),
    "samples": lambda: tiff(plain(t277=(3, 1, 65535), t284=(3, 1, 2), t258=(3, 65535, 1200)), geo() + bytes(1000)),
    "directory-of-itself": lambda: tiff(plain(), geo() + bytes(1000), following=8),
    "overview-of-itself": lambda: tiff(plain(t254=(4, 1, 1)), geo() + bytes(1000), following=8),
    "mask-of-itself": lambda: tiff(plain(t254=(4, 1, 4)), geo() + bytes(1000), following=8),
    "directory-nowhere": lambda: tiff(plain(), geo() + bytes(1000), following=2**31),
    "no-directory": lambda: b"II*\0" + struct.pack("<I", 8) + bytes(40),
    "many-tags": lambda: b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(800_000),
    "deflate-bomb": deflate_bomb,
    "deflate-tile-too-long": lambda: long_tile_bomb(8, bomb(1 << 30)),
    "zstd-tile-too-long": lambda: long_tile_bomb(50000, zstd_bomb()),
    "lzw-tile-too-long": lambda: long_tile_bomb(5, lzw_bomb()),
    "pixels-of-a-millimetre": lambda: tiff(
        plain(t256=(4, 1, 9_000_000), t257=(4, 1, 9_000_000)), geo().replace(struct.pack("<d", 10), struct.pack("<d", 1e-3)) + bytes(1000)
    ),
    "tiles-of-a-pixel": lambda: tiff(
        plain(t256=(4, 1, 30_000), t257=(4, 1, 30_000), t322=(4, 1, 1), t323=(4, 1, 1)),
        geo().replace(struct.pack("<d", 10), struct.pack("<d", 0.05)) + bytes(1000),
    ),
    "infinite-scale": lambda: tiff(plain(), geo().replace(struct.pack("<d", 10), struct.pack("<d", float("inf"))) + bytes(1000)),
    "nan-place": lambda: tiff(plain(), geo().replace(struct.pack("<d", 600000), struct.pack("<d", float("nan"))) + bytes(1000)),
    "tiny-scale": lambda: tiff(plain(), geo().replace(struct.pack("<d", 10), struct.pack("<d", 1e-300)) + bytes(1000)),
}

READER = """
import json, sys, time
import numpy as np
from cubekit.grid import Grid
from cubekit.read import AssetRead, ReadOptions, forget_headers, plan_reads, read_assets, read_native
root, engine, coarse = sys.argv[1:4]
names = sys.argv[4:]
grids = [Grid(32632, 10.0, 600100.0, 5699900.0, 32, 32), Grid(32632, 40.0, 600000.0, 5700000.0, 32, 32)]
grid = grids[coarse == "coarse"]
options = ReadOptions(engine=engine, local_root=root, first_byte_timeout=2, total_timeout=5, retries=1, threads=2)
def high_water():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
warm = high_water()
for name in names:
    begin = time.monotonic()
    out = np.full((1, *grid.shape), 7, "uint16")
    outcome = read_assets([AssetRead(name, nodata=0, epsg=32632)], grid, out, options=options)[0]
    forget_headers()
    if engine == "window":
        plan_reads([AssetRead(name, nodata=0, epsg=32632)], grid, options=options)
        read_native([AssetRead(name, nodata=0, epsg=32632)], (600100, 5699000, 600300, 5699900), options=options)
    forget_headers()
    peak = high_water()
    print(json.dumps([name, outcome.status.name, outcome.message, time.monotonic() - begin, (peak - warm) >> 10, int(out.max())]), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    for name, make in HOSTILE.items():
        (root / f"{name}.tif").write_bytes(make())
    return root


def read_apart(root: Path, names: list[str], engine: str = "window", coarse: str = "fine", seconds: float = 60.0) -> list[list[Any]]:
    """Outcomes in a process of their own: [name, status, message, seconds, MB beyond the imports, largest pixel]."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-W", "ignore", "-c", READER, str(root), engine, coarse, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-3000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("coarse", ["fine", "coarse"])
@pytest.mark.parametrize("engine", ["window", "rasterio"])
def test_hostile_rasters_end_in_a_status(folder: Path, engine: str, coarse: str) -> None:
    """`coarse` needs an overview, so that the reader walks along all directories."""
    told = read_apart(folder, [f"{name}.tif" for name in HOSTILE], engine, coarse)
    assert [name.removesuffix(".tif") for name, *_ in told] == list(HOSTILE)
    for name, status, message, seconds, megabytes, largest in told:
        assert seconds < 5, name
        assert megabytes < 400, (name, megabytes)
        assert status in ("OK", "EMPTY") or (message and largest == 0), (name, status)
        if name.startswith(("huge-dim", "huge-nod", "no-dir")):
            assert status in ("CORRUPT", "REFUSED"), (name, status, message)


def test_a_real_image_of_36000_pixels_takes_megabytes() -> None:
    """ESA WorldCover of a whole 3 degree tile over sea deflates to 2.5 MB, and inflates to 1.3 GB."""
    source = shared_data("b_raster/ESA_WorldCover_2021_N00E006_Map.tif")
    code = (
        READER.replace("grids = [Grid(32632, 10.0, 600100.0, 5699900.0, 32, 32)", "grids = [Grid.around(0.9, 7.4, 128, 10)")
        .replace("epsg=32632", "epsg=4326")
        .replace("(600100, 5699000, 600300, 5699900)", "(7.39, 0.89, 7.41, 0.91)")
        .replace('"uint16"', '"uint8"')
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-W", "ignore", "-c", code, str(source.parent), "window", "fine", source.name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    _, status, message, seconds, megabytes, _ = json.loads(done.stdout)
    assert status in ("OK", "EMPTY"), message
    assert megabytes < 150
    assert seconds < 5


def test_the_bombs_are_bombs(folder: Path) -> None:
    """A plain inflate of the stream in a file of a megabyte gives a quarter of a gigabyte, and has more."""
    data = (folder / "deflate-tile-too-long.tif").read_bytes()[2048:]
    assert len(data) < 2 << 20
    engine = zlib.decompressobj()
    assert len(engine.decompress(data, 1 << 28)) == 1 << 28
    assert engine.unconsumed_tail
