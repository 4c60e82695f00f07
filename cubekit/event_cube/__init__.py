"""Event cubes on disk: stream a daily store of any size into events, read them back, export their table."""

from __future__ import annotations

from cubekit.event_cube._job import DetectReport, Progress, detect_events
from cubekit.event_cube._read import open_events, read_event_table, read_thresholds, write_event_table
from cubekit.event_cube._summary import show_events

__all__ = [
    "DetectReport",
    "Progress",
    "detect_events",
    "open_events",
    "read_event_table",
    "read_thresholds",
    "show_events",
    "write_event_table",
]
