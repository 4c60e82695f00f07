"""The picture and the commands: from a daily store to a table and a PNG."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from cubekit.errors import CubekitError, InputError
from cubekit.event_cube import detect_events, open_events, show_events
from cubekit.events import Levels, detect
from cubekit_cli.events import events_app
from tests.events.world import daily_world

LOOSE = Levels(0.9, 0.1, 0.2, 0.8)


@pytest.fixture(scope="module")
def daily(tmp_path_factory):
    ds = daily_world(days=1200, lat=np.linspace(60, 40, 6), lon=np.linspace(-10, 20, 8), seed=9)
    for name in ds:
        ds[name][:, 0, 0] = np.nan
    path = tmp_path_factory.mktemp("d") / "daily.zarr"
    ds.to_zarr(path, zarr_format=3, consolidated=False)
    return path


def cli(*words):
    result = CliRunner().invoke(events_app, [str(w) for w in words])
    if result.exception and isinstance(result.exception, CubekitError):
        raise result.exception
    return result


def colours(path):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    return {tuple(c) for c in np.unique(pixels, axis=0).tolist()}, pixels


def test_detect_table_show_from_the_shell(daily, tmp_path):
    found = cli("detect", daily, "-o", tmp_path / "e.zarr", "--keep-pei", "--workers", 1, "-q")
    assert found.exit_code == 0, found.output
    n = len(detect_from(daily).tables.events)
    assert f"{n} events in 1200 days of 6 x 8 cells" in found.output
    assert {"events", "event_labels", "pei_30"} <= set(open_events(tmp_path / "e.zarr"))
    table = cli("table", tmp_path / "e.zarr", "-o", tmp_path / "t.csv")
    assert f"{n} rows" in table.output
    assert len(pd.read_csv(tmp_path / "t.csv")) == n
    show = cli("show", tmp_path / "e.zarr", "-o", tmp_path / "e.png", "--largest", 3)
    assert show.output.strip() == str(tmp_path / "e.png")
    later = cli("detect", daily, "-o", tmp_path / "f.zarr", "--thresholds", tmp_path / "e.zarr", "--period", "2003-06-01/2003-09-30", "-q")
    assert "in 122 days of" in later.output


def detect_from(daily):
    import xarray as xr

    return detect(xr.open_zarr(daily, consolidated=False).load())


def test_the_picture_shows_each_of_the_largest_events_in_its_colour(daily, tmp_path):
    detect_events(daily, tmp_path / "e.zarr", levels=LOOSE, workers=1)
    path = show_events(tmp_path / "e.zarr", tmp_path / "e.png", largest=4)
    seen, pixels = colours(path)
    for colour in ("4269d0", "ff725c", "3ca951", "a463f2"):
        assert tuple(bytes.fromhex(colour)) in seen
    assert tuple(bytes.fromhex("efb118")) not in seen
    assert 0.2 < (pixels.min(axis=1) < 250).mean() < 0.9
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_quiet_store_is_drawn_too(daily, tmp_path):
    detect_events(daily, tmp_path / "e.zarr", min_duration=300, workers=1)
    seen, _ = colours(show_events(tmp_path / "e.zarr", tmp_path / "e.png"))
    assert tuple(bytes.fromhex("4269d0")) not in seen


@pytest.mark.parametrize("text", ["2003", "/2003", "2003/"])
def test_a_period_needs_two_ends(daily, tmp_path, text):
    result = cli("detect", daily, "-o", tmp_path / "e.zarr", "--period", text)
    assert result.exit_code == 2
    assert "write START/END" in result.output
    assert not any(tmp_path.iterdir())


def test_bad_pictures_are_refused(daily, tmp_path):
    with pytest.raises(InputError, match="9 events cannot be told apart"):
        show_events(daily, tmp_path / "e.png", largest=9)
    with pytest.raises(InputError, match="holds no event cube"):
        cli("show", daily, "-o", tmp_path / "e.png")
    assert not any(tmp_path.iterdir())
