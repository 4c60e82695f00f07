"""`cubekit nbar`: adjust the bands of a SAFE folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cubekit_cli import _options as o

app = o.new_app()


@app.command()
def nbar(
    safe: Annotated[Path, typer.Argument(help="Folder of a Sentinel-2 Level-2A product (PATH.SAFE).")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", callback=o.local, help="Folder for the GeoTIFFs. Default: NBAR inside the product.")
    ] = None,
    bands: Annotated[str | None, typer.Option("--bands", help="Bands, separated by commas. Default: all that can be adjusted.")] = None,
    detectors: Annotated[str, typer.Option("--detectors", help="seen (by the pixel) or mean.")] = "seen",
    target_sun_zenith: Annotated[str, typer.Option("--target-sun-zenith", help="observed, hls, or degrees.")] = "observed",
    compat: Annotated[str | None, typer.Option("--compat", help="sen2nbar gives that tool's numbers.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Adjust a SAFE folder to nadir view: one tiled GeoTIFF per band, int16 with nodata."""
    from cubekit.errors import InputError
    from cubekit.sen2nbar import nbar_safe

    target: Any = target_sun_zenith
    if target not in ("observed", "hls"):
        try:
            target = float(target)
        except ValueError:
            raise InputError(f"--target-sun-zenith {target!r} is no angle", remedy="Give observed, hls, or degrees") from None
    names = [name.strip() for name in bands.split(",")] if bands else None
    choices: dict[str, Any] = {"detectors": detectors, "compat": compat}
    for band, path in nbar_safe(safe, out=out, bands=names, target_sun_zenith=target, overwrite=overwrite, **choices).items():
        typer.echo(f"{band}: {path}")
