"""How far the climate's cell lies above the site, which only the whole cube knows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

__all__ = ["with_elevation_difference"]


def with_elevation_difference(groups: Mapping[str, xr.Dataset], imagery: xr.Dataset) -> dict[str, xr.Dataset]:
    """Complete ``cell_elevation_difference`` of a group, where it is undefined, from the surface altitude of the imagery's grid.

    Parameters
    ----------
    groups
        Datasets by name; those with scalar ``cell_elevation`` (m) and an undefined ``cell_elevation_difference`` are completed.
    imagery
        Dataset on the grid. The elevation of the site is the mean of its variable with dims (y, x) and the standard name
        ``surface_altitude``; without one, or where it is missing throughout, nothing is completed.

    Returns
    -------
    dict
        The same datasets, or copies with the coordinate set and its ``comment`` extended.
    """
    surface = next((v for v in imagery.data_vars.values() if v.attrs.get("standard_name") == "surface_altitude" and v.ndim == 2), None)
    level = np.nan if surface is None else float(surface.mean(dtype=np.float64))
    done = dict(groups)
    for name, ds in groups.items():
        if not np.isfinite(level) or not {"cell_elevation", "cell_elevation_difference"} <= set(ds.coords):
            continue
        old, cell = ds["cell_elevation_difference"], float(ds["cell_elevation"])
        if old.ndim or np.isfinite(float(old)) or surface is None:
            continue
        parts = (old.attrs.get("comment"), f"elevation of the site: mean of {surface.name} over the cube")
        attrs = {**old.attrs, "comment": "; ".join(part for part in parts if part)}
        done[name] = ds.assign_coords(cell_elevation_difference=((), cell - level, attrs))
    return done
