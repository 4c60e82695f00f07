"""Small copies of the simulated world that may be damaged."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubekit.demo import World
from cubekit.grid import Grid, transformer
from cubekit.layers import LayerRequest, Session
from cubekit.layers.sentinel2 import Sentinel2
from cubekit.read import forget_headers
from cubekit.site import Site, TimeRange

BANDS = ("B04", "B8A")
FILL = -32768

# Clear and complete over the sites, of tile 33UTS unless named otherwise.
CLEAR = ("20210403", "20210411", "20210503", "20210513", "20220418")
"""Baselines 03.00, 03.00, 05.00, 03.00, 04.00; orbits 22, 65, 22, 22, 22; the last with a granule of 32UQB too."""


class Copy:
    """Some scenes of the world in a folder of their own, with items as dictionaries."""

    def __init__(
        self, world: World, root: Path, days: Sequence[str], tiles: Sequence[str] = ("33UTS",), bands: Sequence[str] = BANDS
    ) -> None:
        self.root = root
        content = json.loads(world.catalog.read_text())
        self.items: list[dict[str, Any]] = []
        for item in content["features"]:
            name = item["id"]
            if (
                item["collection"] == "sentinel-2-l2a"
                and any(day in name.split("_")[2] for day in days)
                and name.split("_")[4][1:] in tiles
            ):
                item = copy.deepcopy(item)
                item["assets"] = {key: asset for key, asset in item["assets"].items() if key in (*bands, "SCL", "granule-metadata")}
                self.items.append(item)
                for asset in item["assets"].values():
                    target = root / asset["href"]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(world.root / asset["href"], target)
        assert self.items

    def file(self, number: int, key: str) -> Path:
        """Path of an asset's file."""
        return self.root / str(self.items[number]["assets"][key]["href"])

    def save(self, base: str | None = None) -> str:
        """Write the catalogue; with `base` hrefs become addresses below it. Returns its path."""
        items = copy.deepcopy(self.items)
        if base is not None:
            for item in items:
                for asset in item["assets"].values():
                    asset["href"] = f"{base}/{asset['href'].removeprefix('./')}"
        path = self.root / "catalog.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        return str(path)

    def rewrite(self, number: int, key: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        """Change the pixels of an asset."""
        import rasterio

        path = self.file(number, key)
        with rasterio.open(path) as file:
            pixels, profile = file.read(1), file.profile
        with rasterio.open(path, "w", **profile) as out:
            out.write(change(pixels), 1)

    def crop(self, number: int, bounds: tuple[float, float, float, float]) -> None:
        """Cut all rasters of an item to (west, south, east, north) in its CRS, and tell so in the item."""
        import rasterio
        from rasterio.windows import from_bounds

        item = self.items[number]
        west, south, east, north = bounds
        for key, asset in item["assets"].items():
            if not asset["href"].endswith(".tif"):
                continue
            path = self.file(number, key)
            with rasterio.open(path) as file:
                window = from_bounds(*bounds, file.transform).round_offsets().round_lengths()
                pixels, profile, transform = file.read(1, window=window), file.profile, file.window_transform(window)
            shape = {"height": pixels.shape[0], "width": pixels.shape[1], "transform": transform}
            path.unlink()
            with rasterio.open(path, "w", **{**profile, **shape, "tiled": True, "blockxsize": 128, "blockysize": 128}) as out:
                out.write(pixels, 1)
            asset.update({"proj:shape": list(pixels.shape), "proj:transform": list(transform)[:6], "proj:bbox": list(bounds)})
            asset.pop("file:size", None)
        epsg = item["properties"].get("proj:epsg") or int(item["properties"]["proj:code"].removeprefix("EPSG:"))
        lon, lat = transformer(epsg, 4326).transform([west, east, east, west, west], [south, south, north, north, south])
        item["geometry"] = {"type": "Polygon", "coordinates": [list(map(list, zip(lon, lat, strict=True)))]}
        item["bbox"] = [min(lon), min(lat), max(lon), max(lat)]

    def load(self, grid: Grid | None = None, *, base: str | None = None, engine: str = "window", **options: Any) -> xr.Dataset:
        """What the layer makes of it."""
        options = {"bands": BANDS, "max_holes": 1.0, **options}
        layer = Sentinel2(catalog=self.save(base), **options)
        return layer.load(request(grid or GRID, engine=engine))


GRID = Grid(epsg=32633, resolution=10.0, left=291280.0, top=5691060.0, width=32, height=28)
"""Within all granules, aligned with their pixels of 10 and 20 m."""


def request(grid: Grid = GRID, start: str = "2021-01-01", end: str = "2022-12-31", engine: str = "window") -> LayerRequest:
    lon, lat = grid.center_lonlat
    return LayerRequest(Site(lat, lon, "test"), grid, TimeRange(start, end), Session(engine=engine))


@pytest.fixture
def scenes(world: World, tmp_path: Path) -> Callable[..., Copy]:
    def make(days: Sequence[str] = CLEAR[:1], tiles: Sequence[str] = ("33UTS",), bands: Sequence[str] = BANDS) -> Copy:
        root = tmp_path / "copy"
        if root.exists():
            shutil.rmtree(root)
        return Copy(world, root, days, tiles, bands)

    return make


@pytest.fixture(autouse=True)
def _fresh_headers() -> None:
    forget_headers()


def account(ds: xr.Dataset, bands: Sequence[str] = BANDS) -> dict[str, int]:
    """Pixels by reason, after checking that `pixel_status` tells the truth about every band."""
    status = ds.pixel_status.values
    empty = np.stack([ds[band].values == FILL if ds[band].dtype.kind == "i" else np.isnan(ds[band].values) for band in bands])
    assert ((status == 0) == ~empty.any(axis=0)).all()
    meanings = dict(zip(ds.pixel_status.attrs["flag_values"].tolist(), ds.pixel_status.attrs["flag_meanings"].split(), strict=True))
    counts = {name: int((status == value).sum()) for value, name in meanings.items()}
    assert sum(counts.values()) == status.size
    for band in empty:
        reasons = {name: int((band & (status == value)).sum()) for value, name in meanings.items() if value}
        assert int((~band).sum()) + sum(reasons.values()) == status.size
    return {name: count for name, count in counts.items() if count}
