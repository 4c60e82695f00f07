"""Batch: recipe x sites become jobs, jobs become outcomes, outcomes become a registry. One bad site never stops the rest."""

from __future__ import annotations

from cubekit.batch._folder import BatchFolder, open_folder
from cubekit.batch._jobs import Job, Plan, effective_recipe, parse_shard, plan
from cubekit.batch._outcome import Outcome, Status
from cubekit.batch._process import Stop
from cubekit.batch._registry import MergeReport, merge
from cubekit.batch._run import BatchReport, Progress, RunOptions, reasons, run
from cubekit.batch._status import BatchStatus, status
from cubekit.batch._task import Build, Built
from cubekit.batch._tiles import granule_tiles

__all__ = [
    "BatchFolder",
    "BatchReport",
    "BatchStatus",
    "Build",
    "Built",
    "Job",
    "MergeReport",
    "Outcome",
    "Plan",
    "Progress",
    "RunOptions",
    "Status",
    "Stop",
    "effective_recipe",
    "granule_tiles",
    "merge",
    "open_folder",
    "parse_shard",
    "plan",
    "reasons",
    "run",
    "status",
]
