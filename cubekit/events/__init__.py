"""Dry-hot extreme events: water balance, ranks, codes, labels and event statistics. Pure: arrays in, arrays out, no I/O.

``detect`` runs the whole chain in memory; its stages are public one by one. After Dheed (Weynants et al. 2025, ESSD 17, 6621), with its
known defects mended (see ``docs/events.md``).
"""

from __future__ import annotations

from cubekit.events._detect import Detection, code_days, detect, quantile_table
from cubekit.events._dheed import DHEED_DEFECTS, dheed_defects, read_dheed
from cubekit.events._flags import FLAGS, INDICATORS, WINDOWS, Levels, compound
from cubekit.events._label import event_ids, label_events
from cubekit.events._pei import HALO_DAYS, pei, pei_all, water_balance
from cubekit.events._ranks import ranks
from cubekit.events._runs import filter_runs
from cubekit.events._site import cell_events, events_touching, site_events
from cubekit.events._table import TABLE_UNITS, EventTables, event_table

__all__ = [
    "DHEED_DEFECTS",
    "FLAGS",
    "HALO_DAYS",
    "INDICATORS",
    "TABLE_UNITS",
    "WINDOWS",
    "Detection",
    "EventTables",
    "Levels",
    "cell_events",
    "code_days",
    "compound",
    "detect",
    "dheed_defects",
    "event_ids",
    "event_table",
    "events_touching",
    "filter_runs",
    "label_events",
    "pei",
    "pei_all",
    "quantile_table",
    "ranks",
    "read_dheed",
    "site_events",
    "water_balance",
]
