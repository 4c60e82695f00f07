"""A good cube has no problems; one that was broken is told where, and by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from cubekit.cube import Problem, diff, validate
from cubekit.errors import InputError
from cubekit.layout import ROOT_KEY
from cubekit.store import open_cube, write_cube
from cubekit.testing.cubes import tiny_cube


def has(problems: list[Problem], where: str, what: str) -> bool:
    return any(problem.where.startswith(where) and what in problem.what for problem in problems)


def test_good_cubes(tmp_path: Path) -> None:
    tree = tiny_cube(12, 16)
    assert validate(tree) == []
    path = write_cube(tree, tmp_path / "cube.zarr")
    assert validate(path) == []
    assert validate(open_cube(path)) == []


def swap(tree: xr.DataTree, name: str, values: np.ndarray) -> None:
    tree.dataset = tree.to_dataset(inherit=False).assign({name: tree[name].copy(data=values)})


def with_time(tree: xr.DataTree, times: np.ndarray) -> None:
    tree.dataset = tree.to_dataset(inherit=False).assign_coords(time=("time", times, tree["time"].attrs))


def without(tree: xr.DataTree, name: str) -> None:
    tree.dataset = tree.to_dataset(inherit=False).drop_vars(name)


def one_pixel(tree: xr.DataTree, name: str, value: int) -> None:
    values = tree[name].values.copy()
    values[0, 0, 0] = value
    swap(tree, name, values)


BREAKS: list[tuple[str, Callable[[xr.DataTree], object], str, str]] = [
    ("nested attribute", lambda t: t.attrs.update(extra={"a": 1}), "/@extra", "does not survive NetCDF"),
    ("nested in a group", lambda t: t["climate"].attrs.update(cell=[{"a": 1}]), "/climate@cell", "does not survive NetCDF"),
    ("nested in a variable", lambda t: t["B03"].attrs.update(a=[[1, 2]]), "/B03@a", "does not survive NetCDF"),
    ("signed href", lambda t: t.attrs.update(item_hrefs=["https://x/y?sig=abc"]), "/@item_hrefs", "with a query"),
    ("token", lambda t: t["SCL"].attrs.update(source="https://x/y?token=abc"), "/SCL@source", "signature, token"),
    ("no title", lambda t: t.attrs.pop("title"), "/@title", "is missing"),
    ("no conventions", lambda t: t.attrs.update(Conventions="COARDS"), "/@Conventions", "without CF"),
    ("no convention declared", lambda t: t.attrs.pop("zarr_conventions"), "/@zarr_conventions", "not declared"),
    ("no recipe", lambda t: t.attrs.pop("recipe"), "/@recipe", "no JSON object"),
    ("broken recipe", lambda t: t.attrs.update(recipe="{"), "/@recipe", "no JSON object"),
    ("no digest", lambda t: t.attrs.update(recipe_digest="abc"), "/@recipe_digest", "not a SHA-256"),
    ("no versions", lambda t: t.attrs.update(software_versions='{"numpy":"2"}'), "/@software_versions", "version of cubekit"),
    ("no items", lambda t: t.attrs.pop("item_hrefs"), "/@item_hrefs", "which items"),
    ("wrong coverage", lambda t: t.attrs.update(time_coverage_end="2030-01-01T00:00:00Z"), "/@time_coverage_end", "the time axis says"),
    ("wrong bbox", lambda t: t.attrs.update({"spatial:bbox": [0.0, 0.0, 1.0, 1.0]}), "/@spatial:bbox", "the coordinates say"),
    ("wrong shape", lambda t: t.attrs.update({"spatial:shape": [1, 1]}), "/@spatial:shape", "the coordinates say"),
    ("wrong transform", lambda t: t["spatial_ref"].attrs.update(GeoTransform="0 10 0 0 0 -10"), "/x", "do not follow from GeoTransform"),
    ("no transform", lambda t: t["spatial_ref"].attrs.pop("GeoTransform"), "/spatial_ref@GeoTransform", "missing"),
    ("wrong CRS", lambda t: t["spatial_ref"].attrs.update(crs_wkt="nonsense"), "/spatial_ref@crs_wkt", "not readable"),
    ("other CRS", lambda t: t.attrs.update({"proj:code": "EPSG:32632"}), "/@proj:code", "crs_wkt says EPSG:32633"),
    ("no CRS", lambda t: without(t, "spatial_ref"), "/spatial_ref", "is missing"),
    ("no grid mapping", lambda t: t["B03"].attrs.pop("grid_mapping"), "/B03@grid_mapping", "is missing"),
    ("no unit", lambda t: t["B03"].attrs.pop("units"), "/B03@units", "is missing"),
    ("no unit in a group", lambda t: t["climate/tp"].attrs.pop("units"), "/climate/tp@units", "is missing"),
    ("no name", lambda t: t["cop_dem"].attrs.update(long_name="", standard_name=""), "/cop_dem", "neither long_name"),
    ("dangling name", lambda t: t["B03"].attrs.update(ancillary_variables="nothing"), "/B03@ancillary_variables", "does not exist"),
    ("wrong scale", lambda t: t["B03"].attrs.update(scale_factor=1e-3), "/B03", "with scale 0.001"),
    ("flags short of meanings", lambda t: t["SCL"].attrs.update(flag_meanings="a b"), "/SCL@flag_values", "12 flags, 2 meanings"),
    ("unknown class", lambda t: one_pixel(t, "SCL", 77), "/SCL", "holds [77]"),
    ("unknown status", lambda t: one_pixel(t, "pixel_status", 9), "/pixel_status", "holds [9]"),
    ("empty but valid", lambda t: one_pixel(t, "B02", -32768), "/pixel_status", "1 empty pixels are called valid"),
    ("full but not valid", lambda t: one_pixel(t, "pixel_status", 2), "/pixel_status", "1 pixels have data"),
    ("no status", lambda t: without(t, "pixel_status"), "/pixel_status", "is missing"),
    ("wrong clear fraction", lambda t: swap(t, "clear_fraction", t["clear_fraction"].values / 2 + 0.3), "/clear_fraction", "the masks say"),
    ("times twice", lambda t: with_time(t, np.repeat(t["time"].values[::2], 2)), "/time", "not unique"),
    ("times backwards", lambda t: with_time(t, t["time"].values[::-1]), "/time", "not sorted"),
    ("no standard name", lambda t: t["time"].attrs.pop("standard_name"), "/time@standard_name", "is not 'time'"),
    ("event bits without meaning", lambda t: t["events/events"].attrs.pop("flag_masks"), "/events/events", "mean nothing"),
]


@pytest.mark.parametrize(("spoil", "where", "what"), [entry[1:] for entry in BREAKS], ids=[entry[0] for entry in BREAKS])
def test_broken_trees(spoil: Callable[[xr.DataTree], object], where: str, what: str) -> None:
    tree = tiny_cube(12, 16, bands=("B02", "B03"))
    spoil(tree)
    problems = validate(tree)
    assert has(problems, where, what), [str(problem) for problem in problems]
    assert all(problem.remedy for problem in problems)


def test_axes_that_are_not_regular() -> None:
    tree = tiny_cube(6, 8)
    x = tree["x"].values.copy()
    x[3] += 4
    tree.dataset = tree.to_dataset(inherit=False).assign_coords(x=("x", x, tree["x"].attrs))
    assert has(validate(tree), "/x", "not regular")


def test_gap_in_a_daily_group() -> None:
    tree = tiny_cube(6, 8)
    climate = tree["climate"].to_dataset(inherit=False)
    tree["climate"] = xr.DataTree(climate.isel(climate_time=np.r_[0:20, 25:60]))
    assert has(validate(tree), "/climate/climate_time", "has gaps")


def edit(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


STORED: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("no root", lambda p: (p / ROOT_KEY).unlink(), "/", "no root metadata"),
    ("root cut off", lambda p: (p / ROOT_KEY).write_text('{"zarr_format": 3'), "/", "cannot be opened"),
    ("no mark", lambda p: edit(p / ROOT_KEY, lambda d: d["attributes"].pop("content_digest")), "/@content_digest", "mark of a committed"),
    (
        "other layout",
        lambda p: edit(p / ROOT_KEY, lambda d: d["attributes"].update(cubekit_format="9")),
        "/@cubekit_format",
        "the layout is '9'",
    ),
    ("chunk lost", lambda p: (p / "B04/c.0.0.0").unlink(), "/B04", "chunks are missing"),
    (
        "chunk changed",
        lambda p: (p / "SCL/c.0.0.0").write_bytes((p / "cloud_mask/c.0.0.0").read_bytes()),
        "/@content_digest",
        "was changed",
    ),
    ("attribute changed", lambda p: edit(p / ROOT_KEY, lambda d: d["attributes"].update(title="x")), "/@content_digest", "was changed"),
    ("foreign object", lambda p: (p / "notes.txt").write_text("x"), "/notes.txt", "do not belong"),
    ("metadata lost", lambda p: (p / "B04" / ROOT_KEY).unlink(), "/B04", "metadata document is missing"),
    (
        "metadata differs",
        lambda p: edit(p / "B04" / ROOT_KEY, lambda d: d["attributes"].update(units="m")),
        "/B04",
        "differs from what the root says",
    ),
]


@pytest.mark.parametrize(("spoil", "where", "what"), [entry[1:] for entry in STORED], ids=[entry[0] for entry in STORED])
def test_broken_stores(tmp_path: Path, spoil: Callable[[Path], object], where: str, what: str) -> None:
    path = tmp_path / "cube.zarr"
    write_cube(tiny_cube(6, 8), path)
    spoil(path)
    problems = validate(path)
    assert has(problems, where, what), [str(problem) for problem in problems]
    assert any(problem.severity == "error" for problem in problems)


def test_a_root_with_null_instead_of_consolidated_metadata_opens(tmp_path: Path) -> None:
    write_cube(tiny_cube(6, 8), tmp_path / "cube.zarr")
    edit(tmp_path / "cube.zarr" / ROOT_KEY, lambda d: d.update(consolidated_metadata=None))
    problems = validate(tmp_path / "cube.zarr")
    assert has(problems, "/", "does not repeat the metadata")
    assert not has(problems, "/", "cannot be opened")


def test_one_step_per_chunk_is_named(tmp_path: Path) -> None:
    tree = tiny_cube(6, 8)
    encoding = {"B04": {"chunks": (1, 8, 8)}}
    tree.to_dataset(inherit=False).to_zarr(tmp_path / "plain.zarr", encoding=encoding, zarr_format=3, consolidated=False)
    problems = validate(tmp_path / "plain.zarr")
    assert has(problems, "/@content_digest", "mark of a committed")
    edit(
        tmp_path / "plain.zarr" / ROOT_KEY,
        lambda d: d.update(
            consolidated_metadata={
                "kind": "inline",
                "must_understand": False,
                "metadata": {"B04": json.loads((tmp_path / "plain.zarr/B04" / ROOT_KEY).read_text())},
            }
        ),
    )
    problems = validate(tmp_path / "plain.zarr")
    assert has(problems, "/B04", "one step each")
    assert has(problems, "/B04", "compressed by")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No cube at"):
        validate(tmp_path / "nothing.zarr")


def test_no_difference_between_equal_cubes(tmp_path: Path) -> None:
    path = write_cube(tiny_cube(6, 8), tmp_path / "a.zarr")
    again = tiny_cube(6, 8)
    again.attrs["history"] = "at another time"
    assert diff(path, write_cube(again, tmp_path / "b.zarr")) == []
    assert diff(path, again) == []


def test_undefined_times_do_not_differ_from_themselves() -> None:
    tree = tiny_cube()
    root = tree.to_dataset()
    times = root["time"].values.copy()
    times[0] = np.datetime64("NaT")
    tree.dataset = root.assign(acquisition_time=("time", times))
    assert diff(tree, tree.copy()) == []


def test_differences_by_layer_time_and_cause() -> None:
    a, b = tiny_cube(12, 8), tiny_cube(12, 8)
    one_pixel(b, "B04", 1234)
    values = b["processing_baseline"].values.copy()
    values[2] = "05.10"
    swap(b, "processing_baseline", values)
    red = b["B02"].values.copy()
    red[2] += 10
    red[6] += 20
    status = b["pixel_status"].values.copy()
    status[6, 0, 0] = 3
    swap(b, "B02", red)
    swap(b, "pixel_status", status)
    b["B03"].attrs["units"] = "percent"
    b["events"].dataset = b["events"].to_dataset(inherit=False).drop_vars("event_labels")
    found = {(d.kind, d.layer, d.variable, d.cause): d for d in diff(a, b)}
    assert ("values", "/", "B04", "pixels") in found
    assert found["values", "/", "B04", "pixels"].times == ("2018-01-03T10:26:29",)
    baseline = "processing baseline 05.00 -> 05.10"
    assert found["values", "/", "B02", baseline].what == "64 of 64 values differ, by up to 10"
    assert ("values", "/", "B02", "pixel status valid -> read_failed") in found
    assert ("attribute", "/", "B03", "") in found
    assert ("missing", "/events", "event_labels", "") in found
    assert "by up to 10 at 2018-03-04T10:26:29 (processing baseline" in str(found["values", "/", "B02", baseline])


def test_steps_and_layers_that_only_one_has() -> None:
    a, b = tiny_cube(12, 8), tiny_cube(12, 8).drop_nodes("events")
    b = b.isel(time=slice(2, None))
    found = [str(difference) for difference in diff(a, b) if difference.kind in ("missing", "steps")]
    assert found == ["/events: only A has this layer", "/time: 2 steps only in A at 2018-01-03T10:26:29, 2018-02-02T10:26:29"]
    assert {d.kind for d in diff(b, a)} >= {"added", "steps"}
