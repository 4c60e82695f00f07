"""The contact sheet: what it chooses, what it draws, and that it changes nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from cubekit.errors import InputError
from cubekit.layout import decoded, group_dataset
from cubekit.show import contact_sheet
from cubekit.show._panels import hot_dry_spells
from cubekit.show._scenes import choose_scenes, compose, ndvi, shares
from cubekit.store import open_cube, write_cube
from cubekit.testing.cubes import tiny_cube


def read_png(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)


def imagery(**options: object) -> xr.Dataset:
    return group_dataset(decoded(tiny_cube(30, 16, **options)), "/")


def test_whole_sheet(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    tree = open_cube(write_cube(tiny_cube(30, 16), tmp_path / "cube.zarr"))
    path = contact_sheet(tree, tmp_path / "deep" / "sheet.png", dpi=100)
    assert dict(mpl.rcParams) == before
    picture = read_png(path)
    assert picture.shape[1] == 1000
    assert 400 < picture.shape[0] < 900
    # Nothing runs out of the page: its outermost pixels are white.
    frame = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert (frame[:, :3] == 1).all()
    assert (picture[:, :, :3].std(axis=2) > 0.05).mean() > 0.05


def test_same_cube_same_picture(tmp_path: Path) -> None:
    first = contact_sheet(tiny_cube(8, 8), tmp_path / "a.png", dpi=60)
    second = contact_sheet(tiny_cube(8, 8), tmp_path / "b.png", dpi=60)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("without", [["climate"], ["events"], ["climate", "events"]])
def test_sheets_without_groups_are_lower(tmp_path: Path, without: list[str]) -> None:
    full = read_png(contact_sheet(tiny_cube(8, 8), tmp_path / "full.png", dpi=60))
    part = read_png(contact_sheet(tiny_cube(8, 8).drop_nodes(without), tmp_path / "part.png", dpi=60))
    assert (part.shape[0] < full.shape[0]) == ("climate" in without)
    assert part.shape[1] == full.shape[1]


@pytest.mark.parametrize("bands", [("B8A",), ("B04", "B8A"), ("B02", "B03", "B04"), ("B11", "B8A", "B04")])
def test_sheets_of_few_bands(tmp_path: Path, bands: tuple[str, ...]) -> None:
    assert contact_sheet(tiny_cube(5, 8, bands=bands), tmp_path / "sheet.png", dpi=60).stat().st_size > 5000


def test_one_scene_and_none(tmp_path: Path) -> None:
    assert contact_sheet(tiny_cube(5, 8).isel(time=slice(0, 1)), tmp_path / "one.png", dpi=60).stat().st_size > 5000
    with pytest.raises(InputError, match="no imagery to draw"):
        contact_sheet(tiny_cube(5, 8).isel(time=slice(0, 0)), tmp_path / "none.png")
    with pytest.raises(InputError, match="between 1 and 16, got 0"):
        contact_sheet(tiny_cube(5, 8), tmp_path / "none.png", scenes=0)
    assert not (tmp_path / "none.png").exists()


def test_nothing_but_empty_pixels(tmp_path: Path) -> None:
    tree = tiny_cube(5, 8)
    ds = tree.to_dataset(inherit=False)
    empty = {name: ds[name].copy(data=np.full(ds[name].shape, -32768, np.int16)) for name in ("B02", "B03", "B04", "B8A")}
    empty["pixel_status"] = ds["pixel_status"].copy(data=np.full(ds["pixel_status"].shape, 3, np.uint8))
    tree.dataset = ds.assign(empty)
    assert contact_sheet(tree, tmp_path / "empty.png", dpi=60).stat().st_size > 3000


def test_scenes_are_the_clearest_of_their_part_of_the_time() -> None:
    time = np.datetime64("2020-01-01") + np.arange(100)
    clear = np.zeros(100)
    clear[[3, 40, 41, 42, 90]] = [0.9, 0.8, 0.95, 0.7, 0.6]
    assert choose_scenes(time, clear, 4) == [3, 40, 41, 90]
    assert choose_scenes(time, clear, 2) == [41, 90]
    assert choose_scenes(time, clear, 12) == [3, 40, 41, 42, 90]
    assert choose_scenes(time[:1], clear[:1], 8) == [0]
    assert choose_scenes(time[:0], clear[:0], 8) == []


def test_shares_account_for_all_pixels() -> None:
    ds = imagery()
    share = shares(ds)
    total = sum(getattr(share, name) for name in ("clear", "cloudy", "outside", "nodata", "failed", "masked"))
    np.testing.assert_allclose(total, 1)
    np.testing.assert_allclose(share.clear, ((ds["pixel_status"] == 0) & (ds["cloud_mask"] == 0)).mean(("y", "x")))


def test_pictures_keep_vegetation_green_and_show_gaps() -> None:
    ds = imagery()
    composed = compose(ds, [0, 1])
    assert composed is not None
    pictures, label = composed
    assert label == "true colour"
    assert pictures.shape == (2, 16, 16, 3)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    gap = (ds["pixel_status"][1] != 0).values
    np.testing.assert_allclose(pictures[1][gap], 0.93)
    quartiles = ndvi(ds)
    assert quartiles is not None
    summer = int(np.nanargmax(quartiles[1]))
    season = compose(ds, [0, summer])
    assert season is not None
    green = season[0][1]
    clear = (ds["cloud_mask"][summer] == 0).values
    assert green[clear][:, 1].mean() > green[clear][:, 0].mean()


def test_ndvi_is_that_of_clear_pixels() -> None:
    ds = imagery()
    quartiles = ndvi(ds)
    assert quartiles is not None
    masked = ds.where(ds["cloud_mask"] == 0)
    expected = ((masked["B8A"] - masked["B04"]) / (masked["B8A"] + masked["B04"])).median(("y", "x"))
    known = np.isfinite(quartiles[1])
    assert known.sum() > 10
    np.testing.assert_allclose(quartiles[1][known], expected.values[known], atol=1e-5)
    assert (quartiles[0][known] <= quartiles[2][known]).all()


def test_spells_are_hot_and_dry_at_once() -> None:
    code = np.array([0, 1, 3, 3, 3, 2, 3, 3, 0, 9, 5, 129, 3], np.uint8)
    time = (np.datetime64("2020-01-01") + np.arange(code.size)).astype("datetime64[ns]")
    spells = hot_dry_spells(xr.Dataset({"events": ("time", code)}, coords={"time": time}))
    assert [(str(a)[:10], str(b)[:10]) for a, b in spells] == [("2020-01-03", "2020-01-06")]


def test_pyplot_is_not_loaded() -> None:
    program = (
        "import sys; from cubekit.show import contact_sheet; assert 'matplotlib' not in sys.modules;"
        "from cubekit.testing.cubes import tiny_cube; import tempfile, os;"
        "contact_sheet(tiny_cube(4, 8), os.path.join(tempfile.mkdtemp(), 'a.png'), dpi=50); assert 'matplotlib.pyplot' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
