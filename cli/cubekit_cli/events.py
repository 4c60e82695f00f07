"""`cubekit events`: find, tabulate and draw dry-hot events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cubekit_cli import _options as o

__all__ = ["app", "events_app"]

events_app = o.new_app(help="Find, tabulate and draw dry-hot events.", no_args_is_help=True)
app = events_app

Store = Annotated[str, typer.Argument(help="Events store, or Dheed event cube.")]
Labels = Annotated[Path | None, typer.Option("--labels", help="Dheed's label cube, where it is a store of its own.")]


@events_app.command()
def detect(
    daily: Annotated[str, typer.Argument(help="Zarr store with daily t2m_max (K or degC), tp and et0 (mm/d).")],
    out: Annotated[Path, typer.Option("--out", "-o", callback=o.local, help="Events store to make.")],
    mode: Annotated[str, typer.Option("--mode", help="period: rank among all days; doy: among days of the same season.")] = "period",
    reference: Annotated[str | None, typer.Option("--reference", help="START/END. Default: all days; 1991/2020 with --mode doy.")] = None,
    window: Annotated[int, typer.Option("--window", help="Days of the season window of --mode doy, odd.")] = 31,
    period: Annotated[str | None, typer.Option("--period", help="START/END to put out. Default: all days.")] = None,
    thresholds: Annotated[Path | None, typer.Option("--thresholds", help="Earlier events store: use its table, do not rank again.")] = None,
    min_duration: Annotated[int, typer.Option("--min-duration", help="Shortest run of compound days at a cell.")] = 3,
    connectivity: Annotated[int, typer.Option("--connectivity", help="6, 18 or 26 neighbours in time, latitude, longitude.")] = 6,
    keep_pei: Annotated[bool, typer.Option("--keep-pei", help="Store PEI_30, PEI_90 and PEI_180 as well.")] = False,
    memory: Annotated[float, typer.Option("--memory", help="GiB for the slabs of all workers together.")] = 1.0,
    workers: Annotated[int | None, typer.Option("--workers", help="Threads. Default: all CPUs.")] = None,
    scheduler: Annotated[str | None, typer.Option("--scheduler", help="Address of a dask scheduler to run on instead.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the store if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Find events in a daily store of any size, in slabs."""
    from cubekit.event_cube import detect_events
    from cubekit_cli._progress import progress

    options: dict[str, Any] = {"mode": mode, "window": window, "min_duration": min_duration, "connectivity": connectivity}
    options |= {"reference": _dates(reference), "period": _dates(period), "thresholds": thresholds, "keep_pei": keep_pei}
    with progress(quiet) as tell:
        report = detect_events(
            daily, out, memory=memory * 2**30, workers=workers, client=_client(scheduler), overwrite=overwrite, progress=tell, **options
        )
    typer.echo(f"{report.path}: {report.events} events in {report.days} days of {report.rows} x {report.columns} cells")


@events_app.command()
def table(
    store: Store,
    out: Annotated[Path, typer.Option("--out", "-o", callback=o.local, help="Table to write: .parquet or .csv.")],
    labels: Labels = None,
    track: Annotated[bool, typer.Option("--track", help="Write centroid and area of each event on each day instead.")] = False,
) -> None:
    """Write the statistics of all events."""
    from cubekit.event_cube import write_event_table

    frame = write_event_table(store, out, labels=labels, track=track)
    typer.echo(f"{out}: {len(frame)} rows")


@events_app.command()
def show(
    store: Store,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", callback=o.local, help="PNG to write. Default: the store's name with .png.")
    ] = None,
    labels: Labels = None,
    largest: Annotated[int, typer.Option("--largest", help="How many events to name, 1 to 8.")] = 6,
    title: Annotated[str, typer.Option("--title", help="Heading.")] = "",
) -> None:
    """Draw map, time line and largest events."""
    from cubekit.event_cube import show_events

    path = out or Path(store.rstrip("/").rsplit("/", 1)[-1]).with_suffix(".png")
    typer.echo(str(show_events(store, path, labels=labels, largest=largest, title=title)))


def _dates(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    start, slash, end = text.partition("/")
    if not slash or not start or not end:
        raise typer.BadParameter(f"{text!r} is no period: write START/END, such as 1991/2020 or 2003-06-01/2003-08-31")
    return start, end


def _client(address: str | None) -> Any:
    if address is None:
        return None
    import distributed

    connect: Any = distributed.Client
    return connect(address)
