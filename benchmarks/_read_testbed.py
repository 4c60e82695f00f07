"""The testbed of the reading benchmark: full-size COGs and items in two catalogues' shapes, written once into a cache folder.

A few files stand for many: every asset of every scene is a link to one of them, under a name (and so a URL) of its own. The content
is made to compress like Sentinel-2 scenes do (deflate with predictor 2 to about 0.55-0.6 of its size): fields of different brightness with
texture and sensor noise, some water, some cloud.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil

EPSG = 32632
LEFT, TOP = 600000.0, 5700000.0
BANDS = {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "B05": 20, "B8A": 20, "B11": 20, "B12": 20}
NAMES = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B05": "rededge1", "B8A": "nir08", "B11": "swir16", "B12": "swir22"}
VARIANTS = 2


@dataclass(frozen=True)
class Testbed:
    """Where the files are and what they look like."""

    root: Path
    tile: int
    scenes: int
    size: int

    @property
    def name(self) -> str:
        return f"t{self.tile}-n{self.size}"

    def href(self, scene: int, band: str) -> str:
        """Path of an asset below the server's root."""
        return f"{self.name}/scene-{scene:03d}/{band}.tif"

    def shape(self, band: str) -> int:
        return self.size if BANDS[band] == 10 else self.size // 2


def prepare(root: Path, *, tile: int, scenes: int, size: int) -> Testbed:
    """Write what is missing; links for `scenes` scenes."""
    bed = Testbed(root, tile, scenes, size)
    base = root / bed.name
    base.mkdir(parents=True, exist_ok=True)
    for resolution in (10, 20):
        for variant in range(VARIANTS):
            path = base / f"r{resolution}-v{variant}.tif"
            if not path.exists():
                _write(path, size * 10 // resolution, resolution, tile, 100 * resolution + variant)
    for scene in range(scenes):
        folder = base / f"scene-{scene:03d}"
        folder.mkdir(exist_ok=True)
        for number, (band, resolution) in enumerate(BANDS.items()):
            link = folder / f"{band}.tif"
            if not link.is_symlink():
                link.symlink_to(Path("..") / f"r{resolution}-v{(scene + number) % VARIANTS}.tif")
    return bed


def add_metadata(bed: Testbed) -> None:
    """What a corrected cube needs beside the bands: scene classes, and the simulated world's granule metadata moved to this tile."""
    base = bed.root / bed.name
    scl, document = base / "scl.tif", base / "MTD_TL.xml"
    if not scl.exists():
        rng = np.random.default_rng(7)
        size = bed.size // 2
        coarse = rng.choice(np.array([4, 5, 6, 8], np.uint8), (-(-size // 40), -(-size // 40)), p=[0.5, 0.4, 0.05, 0.05])
        _write(scl, size, 20, bed.tile, 0, np.repeat(np.repeat(coarse, 40, 0), 40, 1)[:size, :size])
    if not document.exists():
        from cubekit.demo import write_world

        with tempfile.TemporaryDirectory() as folder:
            write_world(folder, start="2022-06-01", end="2022-07-15", climate_start="2022-01-01", size=96)
            text = next(Path(folder).rglob("MTD_TL.xml")).read_text()
        for tag, value in (("ULX", f"{LEFT:.0f}"), ("ULY", f"{TOP:.0f}"), ("HORIZONTAL_CS_CODE", f"EPSG:{EPSG}")):
            text = re.sub(f"<{tag}>[^<]*<", f"<{tag}>{value}<", text)
        # sen2nbar wants angles of all 13 bands, as real documents have them: those the simulated world leaves out get those of B02.
        grids = re.findall(r'<Viewing_Incidence_Angles_Grids bandId="1".*?</Viewing_Incidence_Angles_Grids>', text, flags=re.S)
        more = "".join(grid.replace('bandId="1"', f'bandId="{number}"', 1) for number in (0, 9, 10) for grid in grids)
        document.write_text(text.replace(grids[0], more + grids[0], 1))
    for scene in range(bed.scenes):
        for name, target in (("SCL.tif", scl), ("MTD_TL.xml", document)):
            link = base / f"scene-{scene:03d}" / name
            if not link.is_symlink():
                link.symlink_to(Path("..") / target.name)


def _content(size: int, seed: int) -> np.ndarray:
    """Digital numbers: a patchwork of fields, a few smooth gradients, noise that grows with brightness, water and cloud."""
    rng = np.random.default_rng(seed)
    cell = 64
    count = -(-size // cell)
    level = rng.gamma(6.0, 250.0, (count, count)).astype(np.float32)
    level[rng.random((count, count)) < 0.06] = 180.0
    big = np.repeat(np.repeat(rng.random((-(-count // 12), -(-count // 12))) < 0.08, 12, 0), 12, 1)[:count, :count]
    level[big] += 5000.0
    out = np.empty((size, size), np.uint16)
    x = np.arange(size, dtype=np.float32)
    for row in range(0, size, cell):
        high = min(cell, size - row)
        base = np.repeat(level[row // cell], cell)[:size]
        wave = 60 * np.sin(x / 37 + row / 90)
        noise = rng.standard_normal((high, size), dtype=np.float32) * (8 + 0.02 * base)
        out[row : row + high] = np.clip(base + wave + noise + 1000, 1, 15000).astype(np.uint16)
    return out


def _write(path: Path, size: int, resolution: int, tile: int, seed: int, classes: np.ndarray | None = None) -> None:
    part = path.with_suffix(".part.tif")
    profile = {
        "driver": "GTiff",
        "width": size,
        "height": size,
        "count": 1,
        "dtype": "uint16" if classes is None else "uint8",
        "crs": f"EPSG:{EPSG}",
        "transform": rasterio.Affine(resolution, 0, LEFT, 0, -resolution, TOP),
        "nodata": 0,
    }
    raw = path.with_suffix(".raw.tif")
    with rasterio.open(raw, "w", tiled=True, blockxsize=512, blockysize=512, **profile) as dataset:
        dataset.write(_content(size, seed) if classes is None else classes, 1)
    with rasterio.open(raw) as dataset:
        rasterio.shutil.copy(
            dataset,
            part,
            driver="COG",
            compress="DEFLATE",
            predictor=2,
            level=6,
            blocksize=tile,
            overview_resampling="average" if classes is None else "nearest",
            num_threads=2,
        )
    raw.unlink()
    part.rename(path)


def items(bed: Testbed, url: str, flavour: str, *, metadata: bool = False) -> list[dict]:
    """Item dictionaries as Planetary Computer ("pc") or Earth Search ("es") serve them, as far as readers look at them.

    With `metadata` also scene classes and granule metadata, see `add_metadata`.
    """
    out = []
    edge = bed.size * 10
    corners = _lonlat([(LEFT, TOP - edge), (LEFT + edge, TOP - edge), (LEFT + edge, TOP), (LEFT, TOP), (LEFT, TOP - edge)])
    for scene in range(bed.scenes):
        when = dt.datetime(2020, 1, 1, 10, 30, tzinfo=dt.UTC) + dt.timedelta(days=5 * scene)
        assets = {}
        for band, resolution in BANDS.items():
            size = bed.shape(band)
            fields = {"proj:shape": [size, size], "proj:transform": [resolution, 0, LEFT, 0, -resolution, TOP, 0, 0, 1]}
            if flavour == "pc":
                fields |= {"proj:bbox": [LEFT, TOP - edge, LEFT + edge, TOP], "gsd": resolution}
            assets[band if flavour == "pc" else NAMES[band]] = {
                "href": f"{url}/{bed.href(scene, band)}",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
                **fields,
            }
        if metadata:
            place = f"{url}/{bed.name}/scene-{scene:03d}"
            size = bed.size // 2
            raster = {"proj:shape": [size, size], "proj:transform": [20, 0, LEFT, 0, -20, TOP, 0, 0, 1]}
            assets["SCL"] = {"href": f"{place}/SCL.tif", "type": "image/tiff; application=geotiff; profile=cloud-optimized", **raster}
            assets["granule-metadata"] = {"href": f"{place}/MTD_TL.xml", "type": "application/xml", "roles": ["metadata"]}
        code = {"proj:epsg": EPSG} if flavour == "pc" else {"proj:epsg": EPSG, "proj:code": f"EPSG:{EPSG}"}
        lons, lats = [c[0] for c in corners], [c[1] for c in corners]
        out.append(
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
                "id": f"S2A_{scene:03d}",
                "collection": "sentinel-2-l2a",
                "geometry": {"type": "Polygon", "coordinates": [corners]},
                "bbox": [min(lons), min(lats), max(lons), max(lats)],
                "properties": {
                    "datetime": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "platform": "sentinel-2a",
                    "s2:processing_baseline": "05.09",
                    **code,
                },
                "links": [],
                "assets": assets,
            }
        )
    return out


def _lonlat(points: list[tuple[float, float]]) -> list[list[float]]:
    from pyproj import Transformer

    transform = Transformer.from_crs(EPSG, 4326, always_xy=True)
    return [list(transform.transform(x, y)) for x, y in points]


def center(bed: Testbed, site: int = 0) -> tuple[float, float]:
    """(lat, lon) of a site. Site 0 lies inside one tile of every band; the others anywhere, at least 2 km inside the granule."""
    if site == 0:
        tiles = (bed.size // bed.tile) // 2 // 2 * 2
        x, y = (tiles * bed.tile + 0.49 * bed.tile) * 10, (tiles * bed.tile + 0.71 * bed.tile) * 10
        lon, lat = _lonlat([(LEFT + round(x, -1), TOP - round(y, -1))])[0]
        return lat, lon
    rng = np.random.default_rng(1234 + site)
    margin = min(2000.0, bed.size)
    x, y = rng.uniform(margin, bed.size * 10 - margin, 2)
    lon, lat = _lonlat([(LEFT + round(x, -1), TOP - round(y, -1))])[0]
    return lat, lon


def save(path: Path, content: list[dict]) -> None:
    """Item collection as a file."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": content}))


__all__ = ["BANDS", "EPSG", "LEFT", "NAMES", "TOP", "Testbed", "add_metadata", "center", "items", "prepare", "save"]
