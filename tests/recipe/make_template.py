"""Write the metadata template of the Sentinel-2 recipe anew: ``python tests/recipe/make_template.py``.

The template is what every cube of the recipe has in common: groups, variables, dimensions, types, attributes and encodings. It is taken
from a cube of the simulated world, made with the recipe's own options; values that follow from place, time, scenes or software versions
are replaced by their type.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "sentinel2" / "recipe.yaml"
TEMPLATE = RECIPE.with_name("template.json")

# Attributes that follow from place, time, scenes or versions; the name with a star stands for all that begin so.
VARIABLE = (
    "content_digest", "date_*", "geospatial_*", "history", "id", "item_hrefs", "proj:*", "recipe", "recipe_digest", "requested_*",
    "sentinel2_catalog", "sentinel2_clipped_values", "sentinel2_holes", "sentinel2_negative_share", "sentinel2_offset_policy",
    "sentinel2_scenes_*", "site_*", "software_versions", "spatial:*", "summary", "time_coverage_*",
    "GeoTransform", "crs_wkt", "spatial_ref", "false_northing", "longitude_of_central_meridian", "projected_crs_name",
)  # fmt: skip


def varies(name: str) -> bool:
    """Whether an attribute's value may differ between cubes of the recipe."""
    return any(name.startswith(rule[:-1]) if rule.endswith("*") else name == rule for rule in VARIABLE)


def plain(value: Any) -> Any:
    """As JSON would have it; places within text are replaced."""
    if isinstance(value, str):
        return re.sub(r"-?[0-9.]+ [EW], -?[0-9.]+ [NS]", "<place>", value)
    return value.tolist() if hasattr(value, "tolist") else list(value) if isinstance(value, tuple) else value


def attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by name; of those that vary only the type."""
    return {name: f"<{type(plain(value)).__name__}>" if varies(name) else plain(value) for name, value in sorted(attrs.items())}


def describe(variable: Any) -> dict[str, Any]:
    """Dimensions, stored type, attributes and encoding of a variable."""
    encoding = {
        key: plain(variable.encoding[key])
        for key in ("scale_factor", "add_offset", "_FillValue", "units", "calendar")
        if key in variable.encoding
    }
    codecs = [type(codec).__name__ for codec in variable.encoding.get("compressors") or ()]
    stored = str(variable.encoding.get("dtype", variable.dtype))
    kind = "text" if stored[0] in "<|UOST" or stored.startswith(("str", "object")) else stored
    return {"dims": list(variable.dims), "dtype": kind, "attrs": attributes(variable.attrs), "encoding": encoding, "compressors": codecs}


def template_of(cube: Any) -> dict[str, Any]:
    """The template of an opened cube."""
    groups = {}
    for node in cube.subtree:
        ds = node.to_dataset(inherit=False)
        groups[node.path] = {
            "dims": sorted(map(str, ds.dims)),
            "attrs": attributes(ds.attrs),
            "coords": {str(name): describe(ds.variables[name]) for name in sorted(map(str, ds.coords))},
            "variables": {str(name): describe(ds.variables[name]) for name in sorted(map(str, ds.data_vars))},
        }
    return groups


def build_template(folder: Path) -> dict[str, Any]:
    """Make a cube of the simulated world with the recipe's options, and take its template."""
    import cubekit
    from cubekit.api import make_recipe
    from cubekit.demo import ensure_world

    world = ensure_world()
    lon, lat = world.sites["centre"]
    recipe = make_recipe(RECIPE, start="2021-05-01", end="2021-06-30", edge_size=32, catalog="demo")
    return template_of(cubekit.build(lat, lon, recipe=recipe, out=folder / "cube.zarr"))


def main() -> None:
    """Write the file."""
    sys.path[:0] = [str(ROOT)]
    with tempfile.TemporaryDirectory() as folder:
        content = build_template(Path(folder))
    TEMPLATE.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(TEMPLATE)


if __name__ == "__main__":
    main()
