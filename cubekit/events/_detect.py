"""From daily values to events, in memory."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import xarray as xr

from cubekit.errors import ScienceWarning
from cubekit.events._flags import WINDOWS, Levels, event_attrs
from cubekit.events._inputs import DIMS, INPUTS, check_extent, is_kelvin, land_of, standard
from cubekit.events._label import Connectivity, Labeller, label_attrs
from cubekit.events._pei import HALO_DAYS
from cubekit.events._quantiles import pack_thresholds, threshold_attrs, threshold_reference, unpack_thresholds
from cubekit.events._runs import paint
from cubekit.events._scan import ScanPlan, scan
from cubekit.events._space import LatLonGrid
from cubekit.events._table import EventTables, TableBuilder
from cubekit.events._time import Mode, Period, Reference, checked_days, period_slice, resolve_reference

__all__ = ["Detection", "code_days", "detect", "make_plan", "quantile_table"]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """What :func:`detect` finds.

    Parameters
    ----------
    cube
        ``events`` (uint8 bit flags), ``event_labels`` (uint32), ``pei_30``, ``pei_90``, ``pei_180`` (float32, mm/d);
        dims (time, latitude, longitude).
    thresholds
        The quantile table; give it to later calls to code later days without ranking again.
    tables
        Statistics per event and per event and day.
    """

    cube: xr.Dataset
    thresholds: xr.Dataset
    tables: EventTables


def detect(
    daily: xr.Dataset,
    *,
    mode: Mode = "period",
    reference: Period | None = None,
    window: int = 31,
    period: Period | None = None,
    thresholds: xr.Dataset | None = None,
    levels: Levels | None = None,
    min_duration: int = 3,
    connectivity: Connectivity = 6,
    land: xr.DataArray | None = None,
    threads: int = 1,
) -> Detection:
    """Find dry-hot events in daily data that fit in memory; :func:`cubekit.event_cube.detect_events` streams what does not.

    Parameters
    ----------
    daily
        ``t2m_max`` (K or degC by ``units``), ``tp`` and ``et0`` (mm/d, >= 0); dims (time) or (time, latitude, longitude).
    mode, reference, window
        The sample for ranks, see :func:`ranks`.
    period
        Days to put out; default all. The days before it are used as halo (179 days for PEI_180; 2 more so that runs that began earlier
        keep their length).
    thresholds
        Quantile table of an earlier detection; replaces ``mode``, ``reference``, ``window`` and ``levels``.
    levels
        Rank levels of the code; default 0.99, 0.01, (0.1, 0.9).
    min_duration
        Shortest compound run that counts, days.
    connectivity
        6, 18 or 26 neighbours in (time, latitude, longitude).
    land
        Where events may be (bool, or land fraction > 0.5); default ``land_mask`` or ``lsm`` of the data, else everywhere.
    threads
        Threads that share the cells.

    Returns
    -------
    Detection

    Raises
    ------
    InputError
        If data, units, days or grid cannot be meant as given.
    """
    ds = standard(daily)
    plan = make_plan(ds, mode, reference, window, period, thresholds, levels, min_duration)
    grid, units = LatLonGrid.of(ds), str(ds["t2m_max"].attrs["units"])
    given = None if thresholds is None else unpack_thresholds(thresholds, grid, units)
    arrays = [ds[name].transpose(*DIMS).values.reshape(plan.days.size, -1) for name in INPUTS]
    found = scan(plan, arrays, land_of(ds, land).ravel(), given, threads=threads)
    check_extent(found.extent, units, plan.days.size)
    labeller = Labeller(grid, connectivity)
    parts = labeller.add(found.runs, grid.lat.size)
    index, label_of = labeller.finish()
    labels = label_of[parts]
    builder = TableBuilder(grid, index, plan.days[plan.out], kelvin=is_kelvin(units))
    builder.add(found.runs, labels)
    painted = paint(found.runs, labels, (plan.days_out, grid.lat.size * grid.lon.size))
    cube = _cube(ds, plan, found.codes, painted, found.peis, connectivity)
    table = pack_thresholds(found.tables, ds.coords, threshold_attrs(plan.reference, plan.levels, units))
    return Detection(cube, table, builder.finish())


def quantile_table(
    daily: xr.Dataset, *, mode: Mode = "period", reference: Period | None = None, window: int = 31, threads: int = 1
) -> xr.Dataset:
    """Quantile table of daily data: the thresholds of all four indicators per cell (and calendar slot).

    Parameters and errors as :func:`detect`.

    Returns
    -------
    Dataset
        ``t2m_max``, ``pei_30``, ``pei_90``, ``pei_180``, float32, dims (slot, bound, latitude, longitude). Coding by strict
        comparison with it equals coding by ranks exactly, for every float32 value inside and outside the reference period.
    """
    return detect(daily, mode=mode, reference=reference, window=window, threads=threads).thresholds


def code_days(daily: xr.Dataset, thresholds: xr.Dataset, *, period: Period | None = None, threads: int = 1) -> xr.Dataset:
    """Codes and PEI of later days from a stored quantile table, without ranking.

    Parameters
    ----------
    daily
        As :func:`detect`, with at least 179 days before the first day wanted.
    thresholds
        Quantile table.
    period
        Days to put out; default all.

    Returns
    -------
    Dataset
        ``events``, ``event_labels``, ``pei_30``, ``pei_90``, ``pei_180``.
    """
    return detect(daily, thresholds=thresholds, period=period, threads=threads).cube


def make_plan(
    ds: xr.Dataset,
    mode: Mode,
    reference: Period | None,
    window: int,
    period: Period | None,
    thresholds: xr.Dataset | None,
    levels: Levels | None,
    min_duration: int,
    keep_pei: bool = True,
) -> ScanPlan:
    """Check the days and settle the sample, the levels and the days out."""
    days = checked_days(ds["time"].values)
    out = period_slice(days, period)
    if thresholds is not None:
        sample, rank_levels = threshold_reference(thresholds.attrs)
    else:
        sample, rank_levels = resolve_reference(days, mode, reference, window), levels or Levels()
        _warn_small_sample(sample, rank_levels, int(sample.mask(days).sum()))
    if 0 < out.start < HALO_DAYS:
        warnings.warn(ScienceWarning(f"only {out.start} days before the period: PEI_{max(WINDOWS)} needs {HALO_DAYS}"), stacklevel=3)
    return ScanPlan(days, sample, out, rank_levels, min_duration, given=thresholds is not None, keep_pei=keep_pei)


def _warn_small_sample(sample: Reference, levels: Levels, days: int) -> None:
    size = days if sample.mode == "period" else days * sample.window / 365
    if size < 1 / levels.drought:
        message = f"about {size:.0f} reference days per sample: a rank below {levels.drought:g} rests on less than one day"
        warnings.warn(ScienceWarning(message), stacklevel=4)


def _cube(
    ds: xr.Dataset, plan: ScanPlan, codes: npt.NDArray[Any], labels: npt.NDArray[Any], peis: npt.NDArray[Any], connectivity: int
) -> xr.Dataset:
    shape = (plan.days_out, ds.sizes["latitude"], ds.sizes["longitude"])
    data: dict[str, Any] = {
        "events": (DIMS, codes.reshape(shape), event_attrs()),
        "event_labels": (DIMS, labels.reshape(shape), label_attrs(connectivity)),
    }
    for i, n in enumerate(WINDOWS):
        data[f"pei_{n}"] = (DIMS, peis[i].reshape(shape), pei_attrs(n))
    coords = {"time": plan.days[plan.out].astype("datetime64[ns]"), "latitude": ds["latitude"], "longitude": ds["longitude"]}
    return xr.Dataset(data, coords=coords)


def pei_attrs(n: int) -> dict[str, Any]:
    """CF attributes of PEI_n."""
    return {
        "long_name": f"mean of precipitation minus reference evapotranspiration over {n} days",
        "units": "mm d-1",
        "cell_methods": f"time: mean (trailing {n} days)",
    }
