"""Many granules at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, TypeVar

from cubekit.errors import ReadError
from cubekit.nbar._coefficients import NBAR_BANDS
from cubekit.nbar._factors import read_granule
from cubekit.nbar._field import CField
from cubekit.nbar._granule import GranuleAngles

__all__ = ["Source", "map_granules"]

Source: TypeAlias = bytes | str | Path | GranuleAngles | CField | None

T = TypeVar("T")


def map_granules(
    function: Callable[[CField], T], sources: Sequence[Source], bands: Sequence[str] = NBAR_BANDS, *, threads: int | None = None
) -> list[T | ReadError | None]:
    """Read granules and give each one's field of c to ``function``, several at a time.

    Parameters
    ----------
    function
        What to make of a `CField`, such as its `patch` over a site. Called in other threads unless ``threads`` is 1.
    sources
        Per granule its ``MTD_TL.xml`` (bytes or path), angles or field that were read before, or None. One object that stands here
        several times is used once.
    bands
        Bands to read; those without BRDF parameters are passed over.
    threads
        How many granules at a time; by default as many as there are processors. Parsing and kernels do not hold the interpreter's lock.

    Returns
    -------
    list
        Per source the function's answer; None for None; the `ReadError` (not raised) of metadata that cannot be read.
    """
    distinct = {id(source): source for source in sources if source is not None}

    def one(source: bytes | str | Path | GranuleAngles | CField) -> T | ReadError:
        try:
            field = source if isinstance(source, CField) else CField.from_angles(read_granule(source, bands), bands)
        except ReadError as error:
            return error
        return function(field)

    workers = min(threads or os.cpu_count() or 1, len(distinct))
    if workers <= 1:
        answers = [one(source) for source in distinct.values()]
    else:
        with ThreadPoolExecutor(workers) as pool:
            answers = list(pool.map(one, distinct.values()))
    found = dict(zip(distinct, answers, strict=True))
    return [found.get(id(source)) for source in sources]
