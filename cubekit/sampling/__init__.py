"""Sites: tables of them, splits that keep neighbours together, and samples drawn by strata. No catalogue, no pixels."""

from __future__ import annotations

from cubekit.sampling._candidates import Candidates, candidates_from_grid, class_purity
from cubekit.sampling._model import BadRow, SiteEntry, SiteTable
from cubekit.sampling._read import read_sites
from cubekit.sampling._splits import SplitReport, cluster_sites, deal, split_report, split_sites, temporal_periods
from cubekit.sampling._strata import SampleReport, SampleSpec, sample_sites
from cubekit.sampling._write import write_sites

__all__ = [
    "BadRow",
    "Candidates",
    "SampleReport",
    "SampleSpec",
    "SiteEntry",
    "SiteTable",
    "SplitReport",
    "candidates_from_grid",
    "class_purity",
    "cluster_sites",
    "deal",
    "read_sites",
    "sample_sites",
    "split_report",
    "split_sites",
    "temporal_periods",
    "write_sites",
]
