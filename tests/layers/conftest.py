"""Small catalogues cut out of the simulated world, which a test may damage, and the layer on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr

from cubekit.catalog import open_catalog
from cubekit.demo import World
from cubekit.grid import Grid
from cubekit.layers import LayerRequest, Session, Tally
from cubekit.layers.sentinel2 import Sentinel2
from cubekit.reflectance import PixelStatus
from cubekit.site import Site, TimeRange

BANDS = ("B04", "B8A")
FILL = -32768


@dataclass
class Copy:
    """A few items of the world with their own files."""

    world: World
    root: Path
    ids: tuple[str, ...]
    bands: tuple[str, ...] = BANDS
    items: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        content = json.loads(self.world.catalog.read_text())
        self.items = [item for item in content["features"] if item["id"] in self.ids]
        assert len(self.items) == len(self.ids)
        for item in self.items:
            item["assets"] = {key: item["assets"][key] for key in (*self.bands, "SCL", "granule-metadata")}
            for asset in item["assets"].values():
                target = self.root / asset["href"]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.world.root / asset["href"], target)
        self.save()

    @property
    def catalog(self) -> Path:
        return self.root / "catalog.json"

    def save(self) -> None:
        self.catalog.write_text(json.dumps({"type": "FeatureCollection", "features": self.items}))

    def file(self, asset: str, item: int = 0) -> Path:
        return self.root / self.items[item]["assets"][asset]["href"]

    def change(self, asset: str, how: Callable[[np.ndarray], None], item: int = 0) -> None:
        """Change the pixels of a file in place."""
        with rasterio.open(self.file(asset, item), "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
            pixels = file.read(1)
            how(pixels)
            file.write(pixels, 1)

    def load(self, **options: Any) -> xr.Dataset:
        return load(self.world, self.catalog, **{"bands": self.bands, **options})


def request(
    world: World, site: Any = "centre", *, edge: int = 32, epsg: int | None = None, resolution: float = 10, session: Session | None = None
) -> LayerRequest:
    lon, lat = world.sites[site] if isinstance(site, str) else site
    grid = Grid.around(lat, lon, edge, resolution, epsg=epsg)
    return LayerRequest(
        Site(lat, lon), grid, TimeRange(world.parameters.start, world.parameters.end), session or Session(threads=1), Tally()
    )


def load(world: World, catalog: Path | str, site: Any = "centre", *, session: Session | None = None, **options: Any) -> xr.Dataset:
    """The layer's dataset; every pixel in it is accounted for."""
    where = {key: options.pop(key) for key in ("edge", "epsg", "resolution") if key in options}
    layer = Sentinel2(**{"catalog": str(catalog), "bands": BANDS, **options})
    asked = request(world, site, session=session, **where)
    ds = layer.load(asked)
    check_account(ds, layer.bands)
    return ds.assign_coords(x=asked.grid.x, y=asked.grid.y)


def check_account(ds: xr.Dataset, bands: tuple[str, ...]) -> None:
    """Every pixel of every band is valid or has one reason; what is called valid has data in all bands, and the other way round."""
    status = ds.pixel_status.values
    anywhere = np.zeros(status.shape, bool)
    for band in bands:
        values = ds[band].values
        empty = np.isnan(values) if values.dtype.kind == "f" else values == FILL
        reasons = sum(int((empty & (status == reason)).sum()) for reason in PixelStatus if reason != PixelStatus.VALID)
        assert int((~empty).sum()) + reasons == empty.size
        anywhere |= empty
    np.testing.assert_array_equal(status == PixelStatus.VALID, ~anywhere)


def counts(ds: xr.Dataset, step: int = 0) -> dict[str, int]:
    values, number = np.unique(ds.pixel_status.values[step], return_counts=True)
    return {PixelStatus(value).name: int(count) for value, count in zip(values, number, strict=True)}


def session_with(copy: Copy, **options: Any) -> Session:
    """A session whose catalogue at the copy's path was opened in another way."""
    session = Session(threads=1)
    session._catalogs[(str(copy.catalog),)] = open_catalog(copy.catalog, **options)
    return session


@pytest.fixture
def cut(world: World, tmp_path: Path) -> Callable[..., Copy]:
    """Cut a catalogue out of the world: `cut("33UTS_20210403", ...)` by the parts of ids."""

    def maker(*parts: str, bands: tuple[str, ...] = BANDS) -> Copy:
        ids = tuple(one for one in world.item_ids if any(all(piece in one for piece in part.split()) for part in parts))
        return Copy(world, tmp_path / "copy", ids, bands)

    return maker
