"""Reads as a lazy array: one dask task per block of time steps, not per asset."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from cubekit.errors import CubekitWarning, InputError, ReadError
from cubekit.grid import Grid
from cubekit.read._api import read_assets
from cubekit.read._peers import odc_stack, stackstac_stack
from cubekit.read._types import AssetOutcome, AssetRead, ReadOptions, Sign

__all__ = ["Reads", "lazy_stack"]

Reads: TypeAlias = Sequence[Sequence[AssetRead | None]]
_BLOCK = 128 << 20
"""Bytes of a task's result, as dask's own default."""


def lazy_stack(
    reads: Reads,
    grid: Grid,
    dtype: Any = "float32",
    *,
    fill: float | None = None,
    sign: Sign | None = None,
    options: ReadOptions | None = None,
    block: int | None = None,
    holes: Literal["raise", "warn"] = "raise",
    mask: bool = False,
) -> Any:
    """Lazy stack of reads.

    Parameters
    ----------
    reads
        One sequence per time step, in it one read per band (None: no asset, the pixels get `fill`).
    grid
        Where; the array's last dimensions are its (height, width).
    dtype
        Type of the array; must hold the assets' pixels and nodata.
    fill
        Value where there is no asset; default NaN, or 0 for integers.
    sign, options
        As in `read_assets`; with a distributed scheduler `sign` must pickle. With engines ``odc`` and ``stackstac`` the array and its
        chunks are those libraries' own.
    block
        Time steps per task; default: as many as make 128 MiB.
    holes
        What to do when assets cannot be read: raise `ReadError`, or warn and leave their nodata.
    mask
        Turn each read's nodata into NaN (`dtype` must be floating).

    Returns
    -------
    dask.array.Array
        Dimensions (time, band, y, x), in blocks of time steps, whole in the other dimensions.

    Raises
    ------
    InputError
        If time steps differ in their number of bands, or NaN is asked for in integers.
    """
    import dask.array as da
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    rows = [tuple(row) for row in reads]
    bands = {len(row) for row in rows}
    if len(bands) != 1:
        raise InputError(f"the time steps have {sorted(bands)} bands", remedy="Give one read, or None, per band for every step.")
    kind = np.dtype(dtype)
    if mask and kind.kind != "f":
        raise InputError(f"{kind} holds no NaN", remedy="Ask for float32 or float64, or leave nodata as it is (mask=False)")
    options = options or ReadOptions()
    count = bands.pop()
    blank = fill if fill is not None else (np.nan if kind.kind == "f" else 0)
    step = block or max(1, _BLOCK // max(1, count * grid.width * grid.height * kind.itemsize))
    blocks = [rows[first : first + step] for first in range(0, len(rows), step)]
    if options.engine in ("odc", "stackstac"):
        stack = odc_stack if options.engine == "odc" else stackstac_stack
        return stack(rows, grid, kind, blank, _OneRead(sign, options, holes, mask), step)
    name = f"cubekit-read-{tokenize(repr((rows, grid, kind.str, blank, options, step, mask)))}"  # thousands of objects are slow one by one
    graph: dict[Any, Any] = {
        (name, i, 0, 0, 0): (_read_block, some, grid, kind, blank, sign, options, holes, mask) for i, some in enumerate(blocks)
    }
    chunks = (tuple(len(some) for some in blocks), (count,), (grid.height,), (grid.width,))
    return da.Array(HighLevelGraph.from_collections(name, graph), name, chunks, dtype=kind)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _OneRead:
    """Reads one asset for the engines that chunk by themselves."""

    sign: Sign | None
    options: ReadOptions
    holes: str
    mask: bool

    def __call__(self, read: AssetRead, grid: Grid, out: np.ndarray) -> AssetOutcome:
        outcome = read_assets([read], grid, [out], sign=self.sign, options=replace(self.options, engine="rasterio"))[0]
        report_holes([read], [outcome], self.holes)
        if self.mask:
            _mask(read, out)
        return outcome


def _read_block(
    rows: list[tuple[AssetRead | None, ...]],
    grid: Grid,
    dtype: np.dtype,
    fill: float,
    sign: Sign | None,
    options: ReadOptions | None,
    holes: str,
    mask: bool,
) -> np.ndarray:
    out = np.empty((len(rows), len(rows[0]), *grid.shape), dtype)
    reads, targets = [], []
    for i, row in enumerate(rows):
        for j, read in enumerate(row):
            if read is None:
                out[i, j] = fill
            else:
                reads.append(read)
                targets.append(out[i, j])
    outcomes = read_assets(reads, grid, targets, sign=sign, options=options)
    report_holes(reads, outcomes, holes)
    if mask:
        for read, target in zip(reads, targets, strict=True):
            _mask(read, target)
    return out


def _mask(read: AssetRead, out: np.ndarray) -> None:
    if read.nodata is not None:
        np.putmask(out, out == out.dtype.type(read.nodata), np.nan)


def report_holes(reads: Sequence[AssetRead], outcomes: Sequence[AssetOutcome], holes: str) -> None:
    """Raise or warn if any outcome is a hole; names the first."""
    bad = [(read, outcome) for read, outcome in zip(reads, outcomes, strict=True) if outcome.status.is_hole]
    if not bad:
        return
    read, outcome = bad[0]
    text = (
        f"{len(bad)} of {len(reads)} assets could not be read; first {read.item_id} {read.band}: {outcome.status.name}, {outcome.message}"
    )
    if holes == "raise":
        raise ReadError(text, remedy='Try again, or pass holes="warn" to go on without them.', item_id=read.item_id, band=read.band)
    warnings.warn(CubekitWarning(text), stacklevel=2)
