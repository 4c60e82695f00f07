"""`cubekit batch`: many sites, one recipe; again and again until nothing is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cubekit_cli import _options as o

if TYPE_CHECKING:
    from cubekit.batch import BatchReport, Plan

__all__ = ["app", "batch_app"]


class _RunByDefault(TyperGroup):
    """`cubekit batch RECIPE ...` is `cubekit batch run RECIPE ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = batch_app = o.new_app(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Build the cubes of many sites; `cubekit batch RECIPE ...` is `batch run`.",
)

Recipe = Annotated[Path, typer.Argument(help="Recipe file (YAML).")]
Sites = Annotated[Path, typer.Argument(help="Site table: CSV, GeoJSON, GeoParquet, YAML.")]
Out = Annotated[str, typer.Option("--out", "-o", help="Folder or s3://, gs://, az:// URL of the batch.")]
Column = Annotated[list[str] | None, typer.Option("--column", help="Role of a column with an unusual name, such as lon=x; repeatable.")]


def columns_of(given: list[str] | None) -> dict[str, str]:
    """Read ``role=column`` options."""
    from cubekit.errors import InputError

    if wrong := [text for text in given or [] if "=" not in text]:
        raise InputError(f"--column {wrong[0]!r} is not of the form role=column", remedy="Write, for example, --column id=name")
    return dict(text.split("=", 1) for text in given or [])


def _planned(recipe: Path, sites: Path, out: str, column: list[str] | None, shard: str | None) -> Plan:
    from cubekit.batch import parse_shard, plan
    from cubekit.errors import InputError
    from cubekit.recipe import load_recipe
    from cubekit.sampling import read_sites

    jobs = plan(load_recipe(recipe), read_sites(sites, columns=columns_of(column)), out)
    for bad in jobs.rejected:
        typer.echo(f"Warning: {sites}: {bad}", err=True)
    if not jobs and not jobs.rejected:
        raise InputError(f"Site table {sites} has no sites", remedy="Give one with rows")
    return jobs.shard(*parse_shard(shard)) if shard else jobs


@app.command()
def run(
    recipe: Recipe,
    sites: Sites,
    out: Out,
    column: Column = None,
    scheduler: Annotated[str, typer.Option("--scheduler", help="Address of a dask scheduler, such as tcp://10.0.0.1:8786.")] = "",
    executor: Annotated[str, typer.Option("--executor", help="local, dask or serial.")] = "",
    workers: Annotated[int | None, typer.Option("--workers", help="Worker processes. Default: one per core.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Decoding threads per worker. Default: cores / workers.")] = None,
    shard: Annotated[str | None, typer.Option("--shard", help="Do part 3/16 of the plan only; for array jobs.")] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds that one site may take.")] = None,
    memory: Annotated[
        float | None, typer.Option("--memory", help="GB that one worker may use; 0: no limit. Default: 90 % / workers.")
    ] = None,
    retries: Annotated[int, typer.Option("--retries", help="Further attempts of a site whose worker died.")] = 1,
    engine: o.Engine = "window",
    cache_dir: Annotated[
        str, typer.Option("--cache-dir", callback=o.local, help="Folder for searches, headers, metadata. Default: OUT/cache if local.")
    ] = "",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Do only what failed before.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", help="Do at most so many sites.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    merge: Annotated[bool, typer.Option("--merge/--no-merge", help="Make the registry at the end.")] = True,
    as_json: o.Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Build what is missing, failed or changed. Ctrl-C once: finish running sites and stop; twice: stop now."""
    from cubekit import batch
    from cubekit_cli._batch_table import batch_progress

    options = batch.RunOptions(
        executor=executor or ("dask" if scheduler else "local"),  # type: ignore[arg-type]
        workers=workers,
        scheduler=scheduler,
        threads=threads,
        timeout=timeout,
        memory=None if memory is None else int(memory * 1e9),
        retries=retries,
        engine=engine,
        cache_dir=cache_dir,
        only_failed=retry_failed,
        limit=limit,
    )
    if merge and not dry_run:
        _check_registry()
    jobs = _planned(recipe, sites, out, column, shard)
    if dry_run:
        return _dry(jobs, options.only_failed, limit, as_json)
    with batch_progress(quiet) as report:
        done = batch.run(jobs, options, progress=report)
    merged = batch.merge(jobs.root, plan=None if shard else jobs, title=jobs.recipe.title) if merge and not done.storage_failed else None
    _tell(done, merged.registry if merged else "", as_json)
    raise typer.Exit(done.exit_code or (3 if jobs.rejected else 0))


def _check_registry() -> None:
    """Whether the packages of the registry are there, before a night is spent on its cubes."""
    from importlib.util import find_spec

    from cubekit.errors import InputError

    if missing := [name for name in ("pyarrow", "stac_geoparquet") if find_spec(name) is None]:
        raise InputError(
            f"The registry needs {' and '.join(missing)}",
            remedy="pip install 'cubekit[publish]', or give --no-merge and run `cubekit batch merge` elsewhere",
        )


def _dry(jobs: Plan, only_failed: bool, limit: int | None, as_json: bool) -> None:
    from collections import Counter

    from cubekit.batch import open_folder, reasons
    from cubekit_cli._words import print_json

    why = reasons(jobs, open_folder(jobs.root), only_failed=only_failed)
    todo = [job for job in jobs if job.id in why][:limit]
    counts = dict(Counter(why[job.id] for job in todo))
    if as_json:
        found = [{"id": job.id, "tile": job.tile, "reason": why[job.id], "out": job.out} for job in todo]
        print_json({"planned": len(jobs), "todo": len(todo), "reasons": counts, "rejected": len(jobs.rejected), "jobs": found})
        return
    tiles = len({job.tile for job in todo})
    rest = f" ({', '.join(f'{count} {name}' for name, count in counts.items())})" if counts else ""
    typer.echo(f"{len(todo)} of {len(jobs)} sites to do{rest} in {tiles} granule tiles; refused rows: {len(jobs.rejected)}")


def _tell(done: BatchReport, registry: str, as_json: bool) -> None:
    from cubekit_cli._batch_table import span
    from cubekit_cli._words import bytes_, print_json

    if as_json:
        failures = [{"id": entry.id, "status": entry.status, "error": entry.error, "message": entry.message} for entry in done.failed]
        print_json(
            {
                "planned": done.planned,
                "skipped": done.skipped,
                "counts": done.counts,
                "seconds": round(done.seconds, 1),
                "bytes": sum(entry.bytes for entry in done.outcomes),
                "interrupted": done.interrupted,
                "gave_up": done.gave_up,
                "storage_failed": done.storage_failed,
                "registry": registry,
                "failures": failures,
            }
        )
        return
    counts = ", ".join(f"{count} {name}" for name, count in done.counts.items()) or "nothing to do"
    read = bytes_(sum(entry.bytes for entry in done.outcomes))
    stop = "; interrupted, run again to go on" if done.interrupted else ""
    if done.gave_up:
        later = "Then run again: what is left is done, " if done.storage_failed else "Try again later; "
        typer.echo(f"Error: {done.gave_up.rstrip('.')}. {later}what is built stays.", err=True)
    typer.echo(f"{counts}; {done.skipped} were done before; {read} read in {span(done.seconds)}{stop}")
    if registry:
        typer.echo(f"Registry: {registry}")


@app.command()
def status(
    out: Annotated[str, typer.Argument(help="Folder or URL of the batch.")],
    recipe: Annotated[Path | None, typer.Option("--recipe", help="With --sites: also say what a run would do.")] = None,
    sites: Annotated[Path | None, typer.Option("--sites", help="Site table.")] = None,
    column: Column = None,
    failures: Annotated[int, typer.Option("--failures", help="List so many failed sites.")] = 10,
    as_json: o.Json = False,
) -> None:
    """Say how a batch stands: outcomes, the commonest errors, what is left."""
    from cubekit import batch
    from cubekit.errors import InputError
    from cubekit_cli._batch_table import span
    from cubekit_cli._words import bytes_, print_json

    if (recipe is None) != (sites is None):
        raise InputError("--recipe and --sites go together", remedy="Give both or none")
    jobs = _planned(recipe, sites, out, column, None) if recipe is not None and sites is not None else None
    found = batch.status(out, plan=jobs)
    if as_json:
        listed = [{"id": entry.id, "status": entry.status, "message": entry.message} for entry in found.failed]
        print_json({"counts": found.counts, "errors": found.errors, "todo": found.todo, "failed": listed})
        return
    typer.echo(f"{found.root}: " + (", ".join(f"{count} {name}" for name, count in found.counts.items()) or "no outcomes"))
    if found.seconds:
        typer.echo(f"A cube takes {span(found.seconds)} (median) and {bytes_(found.bytes)} read (mean)")
    if jobs is not None:
        typer.echo("A run would do: " + (", ".join(f"{count} {name}" for name, count in found.todo.items()) or "nothing"))
    for message, count in found.errors:
        typer.echo(f"  {count} x {message}")
    for entry in found.failed[:failures]:
        typer.echo(f"  {entry.id}: {entry.status}: {entry.message}. {entry.remedy}".rstrip(". ") + ".")


@app.command()
def merge(
    out: Annotated[str, typer.Argument(help="Folder or URL of the batch.")],
    recipe: Annotated[Path | None, typer.Option("--recipe", help="With --sites: take the newest columns of the site table.")] = None,
    sites: Annotated[Path | None, typer.Option("--sites", help="Site table.")] = None,
    column: Column = None,
) -> None:
    """Make the registry anew from all outcomes, as after the last shard of an array job."""
    from cubekit import batch
    from cubekit.errors import InputError

    if (recipe is None) != (sites is None):
        raise InputError("--recipe and --sites go together", remedy="Give both or none")
    jobs = _planned(recipe, sites, out, column, None) if recipe is not None and sites is not None else None
    found = batch.merge(out, plan=jobs)
    typer.echo(f"{found.cubes} cubes, {found.failures} failures; {found.registry or 'no registry'}")
