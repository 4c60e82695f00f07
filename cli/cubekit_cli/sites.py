"""`cubekit sites`: check, split, sample and draw site tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cubekit_cli import _options as o

if TYPE_CHECKING:
    from cubekit.sampling import SiteTable

__all__ = ["app", "sites_app"]

app = sites_app = o.new_app(no_args_is_help=True, help="Check, split, sample and draw site tables.")

Sites = Annotated[Path, typer.Argument(help="Site table: CSV, GeoJSON, GeoParquet, YAML.")]
Out = Annotated[Path, typer.Option("--out", "-o", callback=o.local, help="Site table to write: .csv, .csv.gz, .geojson or .parquet.")]
Column = Annotated[list[str] | None, typer.Option("--column", help="Role of a column with an unusual name, such as lon=x; repeatable.")]


def _read(path: Path, column: list[str] | None) -> SiteTable:
    from cubekit.sampling import read_sites
    from cubekit_cli.batch import columns_of

    table = read_sites(path, columns=columns_of(column))
    for bad in table.rejected:
        typer.echo(f"Warning: {path}: {bad}", err=True)
    return table


@app.command()
def check(sites: Sites, column: Column = None, as_json: o.Json = False) -> None:
    """Read a site table and name every row that cannot be used; exit code 3 if there are any."""
    from cubekit_cli._words import print_json

    table = _read(sites, column)
    if as_json:
        bad = [{"line": row.line, "value": row.value, "reason": row.reason} for row in table.rejected]
        print_json({"sites": len(table), "columns": table.columns(), "rejected": bad})
    else:
        typer.echo(f"{len(table)} sites, refused rows: {len(table.rejected)}; columns: {', '.join(table.columns()) or 'none'}")
    raise typer.Exit(3 if table.rejected else 0)


@app.command()
def split(
    sites: Sites,
    out: Out,
    distance: Annotated[float, typer.Option("--distance", help="Sites closer than this stay together, km.")] = 50.0,
    groups: Annotated[int, typer.Option("--groups", help="Number of groups.")] = 10,
    event: Annotated[str | None, typer.Option("--event", help="Column of events; sites that share one stay together.")] = None,
    cut: Annotated[list[str] | None, typer.Option("--cut", help="First day of a further period, YYYY-MM-DD; repeatable.")] = None,
    embargo: Annotated[int, typer.Option("--embargo", help="Days after a cut that no cube of a period may touch.")] = 0,
    column: Column = None,
    as_json: o.Json = False,
) -> None:
    """Deal sites to groups for cross-validation; writes columns `cluster`, `group` and, with --cut, `period`."""
    from dataclasses import asdict

    from cubekit.sampling import split_sites, temporal_periods, write_sites
    from cubekit_cli._words import print_json

    table = _read(sites, column)
    events = table.column(event) if event is not None and _has(table, event) else None
    clusters, dealt, report = split_sites(table.lon, table.lat, distance=distance, groups=groups, events=events)
    added: dict[str, Any] = {"cluster": clusters.tolist(), "group": dealt.tolist()}
    if cut:
        missing = [name for name in ("start", "end") if None in table.column(name)]
        if missing:
            from cubekit.errors import InputError

            raise InputError(f"Not every site has a column {' and '.join(missing)}", remedy="Give start and end per site for periods")
        added["period"] = temporal_periods(table.column("start"), table.column("end"), sorted(cut), embargo=embargo).tolist()
    write_sites(table.with_columns(**added), out)
    if as_json:
        print_json({**asdict(report), "balance": report.balance, "out": str(out)})
    else:
        typer.echo(f"{report}")
        if cut:
            outside = added["period"].count(-1)
            typer.echo(f"{len(cut) + 1} periods; {outside} cubes touch a cut or its embargo and belong to none (-1)")
    raise typer.Exit(3 if table.rejected else 0)


def _has(table: SiteTable, column: str) -> bool:
    from cubekit.errors import InputError

    if column not in table.columns():
        raise InputError(f"There is no column {column!r}; there are {', '.join(table.columns())}", remedy="Name one of them")
    return True


@app.command()
def sample(
    candidates: Annotated[Path, typer.Argument(help="Table of candidates: lon, lat, land_cover, purity, event, climate_zone.")],
    out: Out,
    per_stratum: Annotated[int, typer.Option("--per-stratum", help="Sites per class, zone and event or not.")] = 100,
    min_purity: Annotated[float, typer.Option("--min-purity", help="Least share of the footprint with the class, every year.")] = 0.9,
    min_distance: Annotated[float, typer.Option("--min-distance", help="Least distance between centres, km.")] = 5.0,
    matched: Annotated[bool, typer.Option("--matched/--no-matched", help="Draw a partner without event for every site with one.")] = True,
    partner_distance: Annotated[float, typer.Option("--partner-distance", help="Greatest distance of a partner, km.")] = 500.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw.")] = 0,
    column: Column = None,
) -> None:
    """Draw sites by strata; the same seed and candidates give the same sites."""
    from cubekit.sampling import Candidates, SampleSpec, sample_sites, write_sites

    spec = SampleSpec(per_stratum, min_purity, min_distance, matched, partner_distance, seed)
    found = _read(candidates, column)
    table, report = sample_sites(Candidates.from_table(found), spec)
    write_sites(table, out)
    typer.echo(f"{report}")
    raise typer.Exit(3 if found.rejected else 0)


@app.command()
def show(
    sites: Sites,
    out: Annotated[Path, typer.Option("--out", "-o", callback=o.local, help="PNG to write.")] = Path("sites.png"),
    by: Annotated[str, typer.Option("--by", help="Column that gives the colour.")] = "group",
    column: Column = None,
) -> None:
    """Draw the map of a site table."""
    from cubekit.show import sites_map

    table = _read(sites, column)
    group = ["none" if value is None else value for value in table.column(by)] if by in table.columns() else None
    typer.echo(f"{sites_map(table.lon, table.lat, out, group=group, group_name=by)}: {len(table)} sites")
