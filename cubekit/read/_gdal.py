"""GDAL as a reader: for what is no tiled GeoTIFF, and as engines of its own. Runs in threads.

GDAL never sees an address: it reads through a file object on this room's transport, so that signing, retries, deadlines, refusals and
counts are the same for every engine; and it may open GeoTIFF and JPEG 2000 only, so that no content can make it open anything else.
"""

from __future__ import annotations

import asyncio
import io
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from cubekit.read._fault import Fault
from cubekit.read._layout import Use, decide_nodata
from cubekit.read._place import CrsLike, check_extent, checked_transform, level_for, place, source_per_target
from cubekit.read._resample import allocate, finish, is_fill, warped
from cubekit.read._tiff import sniff
from cubekit.read._transport import Source, Transport
from cubekit.read._types import AssetRead, ReadStatus

if TYPE_CHECKING:
    from cubekit.read._engine import Asset

__all__ = ["DRIVERS", "RemoteFile", "crs_of", "opened", "read_with_gdal", "read_with_warp"]

DRIVERS = {"tiff": "GTiff", "jp2": "JP2OpenJPEG"}
_BLOCK = 64 << 10
_KEEP = 256
_LARGEST = 512 << 20


class RemoteFile(io.RawIOBase):
    """A seekable file over ranges of a source, in blocks of 64 KiB, some of them known; remembers the fault that ended it."""

    def __init__(self, source: Source, transport: Transport, loop: asyncio.AbstractEventLoop, blocks: dict[int, bytes]) -> None:
        super().__init__()
        self._source = source
        self._transport = transport
        self._loop = loop
        self._at = 0
        self._blocks = blocks
        self.fault: Fault | None = None

    @property
    def size(self) -> int:
        """Bytes of the object."""
        if self._source.size is None:
            self._block(0)
        return self._source.size or 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (self._at if whence == io.SEEK_CUR else self.size if whence == io.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self.size if size is None or size < 0 else min(self.size, self._at + size)
        start, self._at = self._at, max(self._at, stop)
        parts = []
        while start < stop:
            number = start // _BLOCK
            block = self._block(number, -(-stop // _BLOCK))
            piece = block[start - number * _BLOCK : stop - number * _BLOCK]
            if not piece:
                break
            parts.append(piece)
            start += len(piece)
        return b"".join(parts)

    def _block(self, number: int, end: int | None = None) -> bytes:
        """A block; with those that follow it up to `end` in the same request."""
        if number not in self._blocks:
            last = number + 1
            while end is not None and last < end and last not in self._blocks and last - number < _KEEP:
                last += 1
            try:
                work = self._transport.get(self._source, number * _BLOCK, last * _BLOCK, ends=True)
                data = bytes(asyncio.run_coroutine_threadsafe(work, self._loop).result())
            except Fault as fault:
                self.fault = fault
                raise OSError(fault.message) from None
            while len(self._blocks) > _KEEP:
                self._blocks.pop(next(iter(self._blocks)))
            for index in range(number, last):
                self._blocks[index] = data[(index - number) * _BLOCK : (index - number + 1) * _BLOCK]
        return self._blocks[number]


class _Opener:
    """What rasterio's opener protocol asks for, over the one file."""

    def __init__(self, path: str, remote: RemoteFile) -> None:
        self._path = path
        self._remote = remote

    def open(self, path: str, mode: str = "r", **_: Any) -> RemoteFile:
        if not self.isfile(path):
            raise FileNotFoundError(path)
        self._remote.seek(0)
        return self._remote

    def isfile(self, path: str) -> bool:
        return path.rstrip("/").endswith(self._path)

    def isdir(self, path: str) -> bool:
        return not self.isfile(path)

    def ls(self, path: str) -> list[str]:
        return [self._path]

    def mtime(self, path: str) -> int:
        return 0

    def rm(self, path: str) -> None:
        raise PermissionError(path)

    def size(self, path: str) -> int:
        return self._remote.size


@contextmanager
def opened(
    source: Source, transport: Transport, loop: asyncio.AbstractEventLoop, blocks: dict[int, bytes], level: int | None = None
) -> Iterator[Any]:
    """The source as a rasterio dataset; GDAL's complaints become the fault that caused them."""
    remote = RemoteFile(source, transport, loop, blocks)
    name = f"{uuid.uuid4().hex}.raster"
    settings = {} if level is None else {"overview_level": level}
    try:
        driver = DRIVERS[sniff(memoryview(remote.read(1024)), source.key)]
        with (
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED=False, GDAL_NUM_THREADS=1, OPJ_NUM_THREADS=1),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(name, driver=driver, opener=_Opener(name, remote), **settings) as dataset:
                _check_blocks(source.key, dataset)
                yield dataset
    except (RasterioError, OSError) as error:
        raise remote.fault or Fault(
            ReadStatus.CORRUPT, f"{source.key}: GDAL cannot read it ({str(error).replace(name, '')[:200]})"
        ) from None
    if remote.fault is not None:
        raise remote.fault


def _check_blocks(key: str, dataset: Any) -> None:
    """A `Fault` for blocks too large to be decoded whole, as GDAL does."""
    bands = dataset.count if dataset.interleaving is not None and dataset.interleaving.value == "PIXEL" else 1
    for (height, width), dtype in zip(dataset.block_shapes, dataset.dtypes, strict=True):
        size = height * width * bands * np.dtype(dtype).itemsize
        if size > _LARGEST:
            raise Fault(ReadStatus.REFUSED, f"{key} has blocks of {size} bytes, more than {_LARGEST}")


def read_with_gdal(asset: Asset, transport: Transport, loop: asyncio.AbstractEventLoop) -> dict[int, bool]:
    """Windows of an asset that the window engine leaves to GDAL: its pixels, this room's placement and resampling."""
    return _each_use(asset, transport, loop, _through_window)


def read_with_warp(asset: Asset, transport: Transport, loop: asyncio.AbstractEventLoop) -> dict[int, bool]:
    """Windows of an asset by GDAL alone: one WarpedVRT each (engine ``rasterio``)."""
    return _each_use(asset, transport, loop, _through_view)


def _each_use(
    asset: Asset, transport: Transport, loop: asyncio.AbstractEventLoop, work: Callable[[Use, Any, CrsLike], bool]
) -> dict[int, bool]:
    source, filled = asset.source, {}
    blocks: dict[int, bytes] = {}

    def size_of(level: int) -> tuple[int, int]:
        with opened(source, transport, loop, blocks, level) as overview:
            return overview.width, overview.height

    with opened(source, transport, loop, blocks) as dataset:
        for use in asset.uses:
            describe(source.key, dataset, use, size_of)
    for level in sorted({use.placement.level for use in asset.uses if use.placement is not None}):
        with opened(source, transport, loop, blocks, level - 1 if level else None) as dataset:
            for use in asset.uses:
                if use.placement is not None and use.placement.level == level:
                    crs = crs_of(source.key, dataset, use.read)
                    filled[use.index] = False if use.placement.empty else work(use, dataset, crs)
    return filled


def describe(key: str, dataset: Any, use: Use, size_of: Callable[[int], tuple[int, int]]) -> None:
    """Note placement and nodata of a use, by what GDAL says of the file; `size_of` tells the (width, height) of an overview, from 0."""
    read = use.read
    if read.index > dataset.count:
        raise Fault(ReadStatus.CORRUPT, f"{key} has {dataset.count} bands, and band {read.index} was asked for")
    transform = dataset.transform
    if transform.is_identity and read.transform:
        transform = Affine(*read.transform[:6])
    transform = checked_transform(key, transform)
    dtype = dataset.dtypes[read.index - 1]
    decide_nodata(key, dtype, dataset.nodatavals[read.index - 1], use)
    crs = crs_of(key, dataset, read)
    full = (dataset.width, dataset.height)
    ratio = source_per_target(transform, crs, use.grid)
    # GDAL tells rounded factors; an overview's own size, rounded up or down, is known by opening it.
    factors = [factor for factor in dataset.overviews(read.index) if factor <= ratio * 1.5]
    sizes = [full, *(size_of(number) for number in range(len(factors)))]
    level = level_for(sizes, ratio)
    use.placement = place(transform, crs, sizes[level], level, full, use.grid, read.resampling)
    check_extent(key, use.placement.rows, use.placement.columns)
    allocate(use, dtype, masked(dataset, read.index))


def masked(dataset: Any, index: int) -> bool:
    """Whether a band has a mask of its own, beside nodata."""
    return MaskFlags.per_dataset in dataset.mask_flag_enums[index - 1]


def crs_of(key: str, dataset: Any, read: AssetRead) -> CrsLike:
    """CRS of a file, checked against the catalogue's: an EPSG code, or WKT where it has none."""
    found = dataset.crs
    if found is None:
        if read.epsg is None:
            raise Fault(ReadStatus.CORRUPT, f"{key} has no CRS")
        return read.epsg
    code = found.to_epsg()
    if read.epsg is not None and code != read.epsg and found != CRS.from_epsg(read.epsg):
        raise Fault(ReadStatus.CORRUPT, f"{key} is in {f'EPSG:{code}' if code else 'another CRS'}, but its catalogue says EPSG:{read.epsg}")
    return int(code) if code else str(found.to_wkt())


def _through_window(use: Use, dataset: Any, crs: CrsLike) -> bool:
    assert use.placement is not None
    assert use.window is not None
    window = Window.from_slices(use.placement.rows, use.placement.columns)
    use.window[...] = dataset.read(use.read.index, window=window)
    if use.mask is not None:
        use.mask[...] = dataset.read_masks(use.read.index, window=window) != 0
    filled = finish(use, crs)
    use.window = use.mask = None
    return filled


def _through_view(use: Use, dataset: Any, crs: CrsLike) -> bool:
    assert use.placement is not None
    assert use.out is not None
    if use.has_nodata and (use.also_nodata is not None or masked(dataset, use.read.index)):
        return _through_window(use, dataset, crs)  # a view honours one nodata value or a mask
    resampling = "nearest" if use.placement.method in ("copy", "repeat") else use.read.resampling
    # A catalogue's nodata stands beside the file's: only then does the view need one from outside.
    settings = {"src_nodata": use.fill} if use.has_nodata else {}
    use.window = None
    with warped(dataset, crs, use.grid, resampling, use.fill, use.has_nodata, **settings) as view:
        use.out[...] = view.read(use.read.index)
        use.mask = None
        if not use.has_nodata and not masked(dataset, use.read.index):
            return True
    return not bool(is_fill(use.out, use.fill).all())
