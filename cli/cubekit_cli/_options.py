"""Options that several commands share, defined once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "Bands",
    "CacheDir",
    "Catalog",
    "Collection",
    "EdgeSize",
    "End",
    "Engine",
    "Json",
    "Lat",
    "Lon",
    "NbarChoice",
    "RecipePath",
    "Resolution",
    "Start",
    "Units",
    "given",
    "local",
    "new_app",
]


def local(value: Any) -> Any:
    """Callback of options that name local files: a URL would become a folder called ``s3:``."""
    from cubekit.errors import InputError

    if found := re.match(r"(s3|gs|az|https?):/", str(value)):
        raise InputError(f"A file or folder on this machine is needed, not one behind {found[1]}://", remedy="Give a local path")
    return value


Lat = Annotated[float, typer.Option("--lat", help="Latitude of the centre, degrees north.")]
Lon = Annotated[float, typer.Option("--lon", help="Longitude of the centre, degrees east.")]
Start = Annotated[
    str | None, typer.Option("--start", help="First day, YYYY-MM-DD. Default: all days of a catalogue in a file, else twelve months.")
]
End = Annotated[str | None, typer.Option("--end", help="Last day, YYYY-MM-DD. Default: that of a catalogue in a file, else yesterday.")]
EdgeSize = Annotated[float | None, typer.Option("--edge-size", help="Edge length in --units. Default: 128.")]
Units = Annotated[str | None, typer.Option("--units", help="px, m, km, mile, ... Default: px.")]
Resolution = Annotated[float | None, typer.Option("--resolution", help="Pixel size, m. Default: 10.")]
Bands = Annotated[str | None, typer.Option("--bands", help="Bands, separated by commas. Default: all of 10 and 20 m.")]
Catalog = Annotated[
    list[str] | None,
    typer.Option("--catalog", help="planetary-computer (default), earth-search, demo, a URL or a file; repeat for fallbacks."),
]
Collection = Annotated[str | None, typer.Option("--collection", help="Collection in the catalogue. Default: sentinel-2-l2a.")]
NbarChoice = Annotated[str | None, typer.Option("--nbar", help="c-factor or none. Default: c-factor.")]
RecipePath = Annotated[Path | None, typer.Option("--recipe", help="Recipe file (YAML); other options change its values.")]
Engine = Annotated[str, typer.Option("--engine", help="window, odc, stackstac or rasterio; all give the same pixels.")]
CacheDir = Annotated[
    Path | None, typer.Option("--cache-dir", callback=local, help="Keep searches, headers and metadata here between runs.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def new_app(**settings: Any) -> typer.Typer:
    """An application or group of commands, whose help is plain text."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **settings)


def given(**values: Any) -> dict[str, Any]:
    """The options that were given; bands become a list."""
    if (bands := values.get("bands")) is not None:
        values["bands"] = [name.strip() for name in bands.split(",") if name.strip()]
    # typer gives an empty list for a repeatable option that was not used.
    return {key: value for key, value in values.items() if value is not None and (value != [] or key == "bands")}
