"""Commit on the local disk: complete or not at all, one writer at a time, nothing left behind."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
import resource
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from cubekit.cube import validate
from cubekit.errors import CommitError, InputError
from cubekit.layout import DIGEST, FORMAT, ROOT_KEY
from cubekit.location import Location
from cubekit.store import _local, check_target, content_digest, open_cube, qa_row, stored_row, sweep, write_cube
from cubekit.testing.cubes import tiny_cube


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return tiny_cube(6, 8, seed=1)


@pytest.fixture(scope="module")
def other() -> xr.DataTree:
    return tiny_cube(6, 8, seed=2)


def hidden(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".")]


def test_written_and_opened_again(tmp_path: Path, tree: xr.DataTree) -> None:
    path = write_cube(tree, tmp_path / "deep" / "er" / "cube.zarr")
    assert path == str(tmp_path / "deep" / "er" / "cube.zarr")
    assert not hidden(tmp_path / "deep" / "er")
    opened = open_cube(path)
    assert list(opened.children) == ["climate", "events"]
    for name in ("B02", "B04", "B8A"):
        raw = tree[name].values
        values = opened[name].values
        assert values.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(values), raw == -32768)
        np.testing.assert_array_equal(np.rint(values[raw != -32768] * 1e4), raw[raw != -32768])
    np.testing.assert_array_equal(opened["time"].values, tree["time"].values)
    assert [str(item) for item in opened["item_id"].values] == list(tree["item_id"].values)
    xr.testing.assert_equal(opened["climate"].to_dataset(inherit=False), tree["climate"].to_dataset(inherit=False))
    assert opened["SCL"].attrs["flag_values"].dtype == np.uint8


@pytest.mark.parametrize("seed", range(40))
def test_coordinates_are_named_as_xarray_names_them(seed: int) -> None:
    from xarray.conventions import encode_dataset_coordinates

    from cubekit.store._objects import _with_coordinates

    rng = np.random.default_rng(seed)
    sizes = {"time": 2, "y": 3, "x": 4}

    def variable() -> xr.Variable:
        dims = [dim for dim in sizes if rng.random() < 0.5]
        made = xr.Variable(dims, np.zeros([sizes[dim] for dim in dims]), {"units": "1"})
        name = f"k{rng.integers(4)}"
        if rng.random() < 0.2:
            made.encoding["grid_mapping"] = name
        if (chance := rng.random()) < 0.3:
            (made.encoding if chance < 0.15 else made.attrs)["coordinates"] = name
        return made

    axes = {dim: xr.Variable(dim, np.arange(size)) for dim, size in sizes.items() if rng.random() < 0.5}
    ds = xr.Dataset({f"v{i}": variable() for i in range(4)}, {**axes, **{f"k{i}": variable() for i in range(4)}}, {"title": "t"})
    expected, attrs = encode_dataset_coordinates(ds.copy(deep=True))
    found, ours = _with_coordinates(ds)
    assert ours == attrs
    assert list(found) == list(expected)
    for name, one in found.items():
        assert (one.attrs, one.encoding) == (expected[name].attrs, expected[name].encoding)


@pytest.mark.parametrize(
    "times",
    [["2019-01-01", "1969-12-30"], ["2019-01-01T10:00:05"], ["2022-06-01T10:30:21.024", "2023-01-01"], ["2022-06-01T10:30:21.000001"], []],
)
def test_times_are_encoded_as_xarray_encodes_them(times: list[str]) -> None:
    from xarray.conventions import encode_cf_variable

    from cubekit.cube._encode import encode_time
    from cubekit.store._objects import _times

    variable = encode_time(xr.Variable("time", np.array(times, "datetime64[ns]"), {"long_name": "t"}), "time")
    expected, found = encode_cf_variable(variable.copy(), name="time"), _times(variable)
    whole = "micro" not in variable.encoding["units"]
    assert (found is not None) == whole
    if found is not None:
        assert found.identical(expected)
        assert list(found.attrs) == list(expected.attrs)
        assert found.dtype == expected.dtype == np.int64
    strange = xr.Variable("time", variable.values, {}, {**variable.encoding, "calendar": "noleap"})
    assert _times(strange) is None
    assert _times(xr.Variable("time", np.array(["NaT"], "datetime64[ns]"), {}, variable.encoding)) is None


def test_opening_reads_no_values(tmp_path: Path, tree: xr.DataTree) -> None:
    path = write_cube(tree, tmp_path / "cube.zarr")
    opened = open_cube(path)
    (tmp_path / "cube.zarr/B02/c.0.0.0").write_bytes(b"damaged")
    with pytest.raises((RuntimeError, ValueError)):
        opened["B02"].load()
    assert open_cube(path, chunks={})["B03"].chunks == ((6,), (8,), (8,))


def test_plain_xarray_and_rioxarray_open_it(tmp_path: Path, tree: xr.DataTree) -> None:
    import rioxarray  # noqa: F401

    path = write_cube(tree, tmp_path / "cube.zarr")
    for ds in (xr.open_zarr(path), xr.open_zarr(path, consolidated=False)):
        assert ds["B04"].rio.crs.to_epsg() == 32633
        assert ds["B04"].rio.bounds() == tuple(tree.attrs["spatial:bbox"])
    daily = xr.open_zarr(path, group="climate")
    assert daily.sizes["climate_time"] > 100


def test_netcdf_round_trip(tmp_path: Path, tree: xr.DataTree) -> None:
    pytest.importorskip("netCDF4")
    path = write_cube(tree, tmp_path / "cube.zarr")
    for opened, coords in ((xr.open_datatree(path, engine="zarr"), True), (open_cube(path), "all")):
        opened.to_netcdf(tmp_path / "cube.nc")
        with xr.open_datatree(tmp_path / "cube.nc", engine="netcdf4", decode_coords=coords) as again:
            for node in opened.subtree:
                same = again[node.path].to_dataset(inherit=False)
                for name, variable in node.to_dataset(inherit=False).variables.items():
                    if variable.dtype.kind == "f":
                        np.testing.assert_allclose(same[name].values, variable.values, rtol=2e-7)
                    else:
                        np.testing.assert_array_equal(same[name].values.astype(variable.dtype), variable.values)
                    assert same[name].attrs.keys() == variable.attrs.keys()
                assert same.attrs.keys() == node.attrs.keys()


def test_identical_builds_have_one_digest(tmp_path: Path, other: xr.DataTree) -> None:
    first = content_digest(write_cube(tiny_cube(6, 8, seed=1), tmp_path / "a.zarr", workers=1))
    again = tiny_cube(6, 8, seed=1)
    again.attrs |= {"date_created": "2031-01-01T00:00:00Z", "history": "later", "software_versions": "{}"}
    second = content_digest(write_cube(again, tmp_path / "b.zarr", workers=4))
    assert first == second == content_digest(tmp_path / "a.zarr", recompute=True) == content_digest(tmp_path / "b.zarr", recompute=True)
    chunk = "B04/c.0.0.0"
    assert (tmp_path / "a.zarr" / chunk).read_bytes() == (tmp_path / "b.zarr" / chunk).read_bytes()
    assert content_digest(write_cube(other, tmp_path / "c.zarr")) != first
    again.attrs["title"] = "another"
    assert content_digest(write_cube(again, tmp_path / "d.zarr")) != first


def test_changed_bytes_change_the_digest(tmp_path: Path, tree: xr.DataTree) -> None:
    path = write_cube(tree, tmp_path / "cube.zarr")
    (tmp_path / "cube.zarr/SCL/c.0.0.0").unlink()
    assert content_digest(path, recompute=True) != content_digest(path)


def test_packed_float_lazy_and_mapped_input_give_one_digest(tmp_path: Path) -> None:
    floats, packed = tiny_cube(9, 12), tiny_cube(9, 12, packed=True)
    lazy = packed.copy()
    lazy.dataset = packed.to_dataset(inherit=False).chunk({"time": 2, "x": 5})
    mapped = packed.copy()
    ds = packed.to_dataset(inherit=False)
    for name in ("B02", "SCL"):
        np.save(tmp_path / f"{name}.npy", ds[name].values)
        ds[name] = ds[name].copy(data=np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    mapped.dataset = ds
    cubes = {"floats": floats, "packed": packed, "lazy": lazy, "mapped": mapped}
    assert len({content_digest(write_cube(cube, tmp_path / f"{name}.zarr")) for name, cube in cubes.items()}) == 1


def test_lazy_values_are_never_held_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask.array as da

    from cubekit.cube import assemble
    from cubekit.store._objects import Array
    from cubekit.testing.cubes import tiny_groups

    _, grid, site = tiny_groups(8, 16, packed=True)
    many = 1320
    time = np.datetime64("2015-01-01", "ns") + np.arange(many) * np.timedelta64(1, "D")
    alive, most, lock = 0, 0, threading.Lock()

    def block(block_info: dict) -> np.ndarray:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return np.full(block_info[None]["chunk-shape"], 1000, np.int16)

    data = da.map_blocks(block, chunks=((165,) * 8, (16,), (16,)), dtype=np.int16, meta=np.empty((0, 0, 0), np.int16))
    original = Array.encode

    def counting(self: Array, values: object) -> bytes:
        nonlocal alive
        result = original(self, values)
        if self.path == "B02":
            with lock:
                alive -= 1
        return result

    monkeypatch.setattr(Array, "encode", counting)
    tree = assemble({"/": xr.Dataset({"B02": (("time", "y", "x"), data)}, coords={"time": time})}, grid, site)
    path = write_cube(tree, tmp_path / "cube.zarr", workers=2)
    assert most <= 5
    assert open_cube(path)["B02"].shape == (many, 16, 16)
    np.testing.assert_allclose(open_cube(path)["B02"][-1].values, 0.1)


def test_existing_target_is_kept(tmp_path: Path, tree: xr.DataTree, other: xr.DataTree) -> None:
    path = write_cube(tree, tmp_path / "cube.zarr")
    digest = content_digest(path)
    with pytest.raises(CommitError, match=r"cube\.zarr exists\. .*overwrite"):
        write_cube(other, path)
    with pytest.raises(CommitError, match="exists"):
        check_target(path)
    assert content_digest(path, recompute=True) == digest
    assert check_target(path, overwrite=True) == path
    write_cube(other, path, overwrite=True)
    assert content_digest(path, recompute=True) != digest
    assert not hidden(tmp_path)


def test_a_place_that_takes_no_files_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(CommitError, match=r"file is no folder, so .*cannot be written"):
        check_target(tmp_path / "file" / "deep" / "cube.zarr")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(CommitError, match="is not writable for this user"):
        check_target(tmp_path / "new" / "cube.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_cube_is_never_replaced(tmp_path: Path, tree: xr.DataTree, kind: str) -> None:
    target = tmp_path / "cube.zarr"
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data.txt").write_text("precious")
    if kind == "file":
        target.write_text("precious")
    elif kind == "folder":
        precious.rename(target)
    else:
        target.symlink_to(precious)
    with pytest.raises(CommitError, match="is no Zarr store, so it is not replaced"):
        write_cube(tree, target, overwrite=True)
    assert (target if kind == "file" else target / "data.txt").read_text() == "precious"
    assert not hidden(tmp_path)


def test_without_atomic_exchange_the_old_cube_comes_back(
    tmp_path: Path, tree: xr.DataTree, other: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cube(tree, tmp_path / "cube.zarr")
    digest = content_digest(path)
    monkeypatch.setattr(_local, "_exchange_names", lambda first, second: False)
    write_cube(other, path, overwrite=True)
    assert content_digest(path, recompute=True) != digest
    write_cube(tree, path, overwrite=True)
    # As a writer leaves it that dies between its two renames.
    os.rename(path, tmp_path / ".cube.zarr.0123456789ab.old")
    assert len(open_cube(path).children) == 2
    assert content_digest(path, recompute=True) == digest
    assert not hidden(tmp_path)


def test_one_of_two_writers_waits_or_fails(tmp_path: Path, tree: xr.DataTree) -> None:
    lock = _local.Lock(Location.parse(tmp_path / "cube.zarr"), 0.0)
    with pytest.raises(CommitError, match="being written by another process"):
        write_cube(tree, tmp_path / "cube.zarr")
    assert sweep(tmp_path / "cube.zarr") == 0
    threading.Timer(0.3, lock.release).start()
    write_cube(tree, tmp_path / "cube.zarr", lock_timeout=30)
    assert not hidden(tmp_path)


def test_many_writers_have_one_winner(tmp_path: Path, tree: xr.DataTree) -> None:
    outcomes: list[str] = []

    def writer() -> None:
        try:
            outcomes.append(write_cube(tree, tmp_path / "cube.zarr", lock_timeout=30))
        except CommitError as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=writer) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(message.endswith("exists") for message in outcomes) == [False] + [True] * 5
    assert content_digest(tmp_path / "cube.zarr", recompute=True) == content_digest(tmp_path / "cube.zarr")
    assert not hidden(tmp_path)


def _write_with_little_room(path: str, limit: int, answers: multiprocessing.Queue) -> None:
    tree = tiny_cube(20, 64)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write_cube(tree, path)
    except CommitError as error:
        answers.put((error.message, os.listdir(os.path.dirname(path))))


def test_full_disk_is_named_and_staging_removed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    answers = context.Queue()
    process = context.Process(target=_write_with_little_room, args=(str(tmp_path / "cube.zarr"), 50_000, answers))
    process.start()
    message, left = answers.get(timeout=120)
    process.join()
    assert message.startswith("No space left for")
    assert left == []


def test_all_is_on_the_disk_before_the_cube_has_its_name(tmp_path: Path, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []

    def fsync(descriptor: int) -> None:
        os_fsync(descriptor)
        flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    def rename(source: Path, target: Path) -> None:
        staged.extend([str(source), *map(str, source.rglob("*"))])
        assert set(staged) <= set(flushed)
        os_rename(source, target)

    staged: list[str] = []
    os_fsync, os_rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    write_cube(tree, tmp_path / "cube.zarr")
    assert len(staged) > 80
    assert flushed[-1] == str(tmp_path)


def test_a_slow_disk_is_asked_by_several_threads_in_the_end(tmp_path: Path, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[str] = set()

    def fsync(descriptor: int) -> None:
        names.add(threading.current_thread().name)
        time.sleep(0.01)

    monkeypatch.setattr(os, "fsync", fsync)
    write_cube(tree, tmp_path / "cube.zarr")
    assert len({name for name in names if name.startswith("cubekit-flush")}) == 4
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("cubekit-flush")]


def test_what_cannot_be_flushed_is_not_committed(tmp_path: Path, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("B04/c.0.0.0"):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CommitError, match="Input/output error"):
        write_cube(tree, tmp_path / "cube.zarr")
    assert os.listdir(tmp_path) == []


def test_failures_leave_nothing(tmp_path: Path, tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask.array as da

    broken = tree.copy()
    ds = tree.to_dataset(inherit=False)

    def fail(block: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("while computing")

    ds["B02"] = ds["B02"].copy(data=da.from_array(ds["B02"].values).map_blocks(fail, dtype=np.int16, meta=np.empty((0, 0, 0), np.int16)))
    broken.dataset = ds
    with pytest.raises(ZeroDivisionError):
        write_cube(broken, tmp_path / "cube.zarr")
    assert os.listdir(tmp_path) == []
    if os.getuid() != 0:
        os.chmod(tmp_path, 0o500)
        with pytest.raises(CommitError, match="Cannot write"):
            write_cube(tree, tmp_path / "cube.zarr")


@pytest.mark.parametrize("left", ["nothing", "no root", "no marks", "old layout", "damaged root"])
def test_uncommitted_is_refused(tmp_path: Path, tree: xr.DataTree, left: str) -> None:
    import json

    target = tmp_path / "cube.zarr"
    expected, match = (CommitError, "no root metadata")
    if left == "nothing":
        expected, match = InputError, "No cube at"
    else:
        write_cube(tree, target)
        root = json.loads((target / ROOT_KEY).read_text())
        if left == "no root":
            (target / ROOT_KEY).unlink()
        elif left == "no marks":
            del root["attributes"][DIGEST]
            match = "does not carry the marks"
        elif left == "old layout":
            root["attributes"][FORMAT] = "0"
            match = "has layout '0'"
        if left == "damaged root":
            (target / ROOT_KEY).write_text('{"zarr_format": 3, "node')
            match = "not readable"
        elif left != "no root":
            (target / ROOT_KEY).write_text(json.dumps(root))
    with pytest.raises(expected, match=match):
        open_cube(target)


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("", "not a path"),
        ("a\0b", "not a path"),
        ("/", "does not end"),
        ("out/.cube", "does not end"),
        ("ftp://host/cube.zarr", "Cannot use"),
        ("s3://bucket", "does not end"),
        ("https://host/cube.zarr?sig=abc", "credentials or a query"),
        ("s3://key:secret@bucket/cube.zarr", "credentials or a query"),
    ],
)
def test_targets_that_cannot_be_meant(tree: xr.DataTree, target: str, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        write_cube(tree, target)
    assert "abc" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_http_cannot_be_written(tree: xr.DataTree) -> None:
    with pytest.raises(CommitError, match="Cannot write to https"):
        write_cube(tree, "https://example.com/cube.zarr")


def test_nested_attributes_are_refused_before_writing(tmp_path: Path) -> None:
    tree = tiny_cube(3, 8)
    tree.attrs["bad"] = {"nested": 1}
    with pytest.raises(InputError, match=r"Attribute 'bad' of / is dict"):
        write_cube(tree, tmp_path / "cube.zarr")
    assert os.listdir(tmp_path) == []


def test_every_chunk_is_written(tmp_path: Path) -> None:
    """Zarr would leave out chunks that hold the fill value only; here a chunk that is not there was lost."""
    tree = tiny_cube(3, 8, packed=True)
    tree["B02"].values[:] = -32768
    write_cube(tree, tmp_path / "cube.zarr")
    assert (tmp_path / "cube.zarr/B02/c.0.0.0").is_file()


def test_chunks_are_cut_evenly_and_padded(tmp_path: Path) -> None:
    tree = tiny_cube(400, 6, bands=("B04",), every_days=2.0)
    path = write_cube(tree, tmp_path / "cube.zarr")
    opened = open_cube(path)
    assert opened["B04"].encoding["chunks"] == (200, 6, 6)
    odd = tiny_cube(251, 6, bands=("B04",), every_days=2.0)
    path = write_cube(odd, tmp_path / "odd.zarr")
    assert open_cube(path)["B04"].encoding["chunks"] == (126, 6, 6)
    np.testing.assert_array_equal(np.rint(open_cube(path)["B04"].fillna(-3.2768).values * 1e4), odd["B04"].values)


def test_opened_cubes_can_be_written_again(tmp_path: Path, tree: xr.DataTree) -> None:
    first = write_cube(tree, tmp_path / "a.zarr")
    second = write_cube(open_cube(first), tmp_path / "b.zarr")
    from cubekit.cube import diff

    assert [str(item) for item in diff(first, second)] == []


def test_registry_row(tmp_path: Path) -> None:
    tree = open_cube(write_cube(tiny_cube(24, 16), tmp_path / "cube.zarr"))
    row = qa_row(tree)
    status, cloud = tree["pixel_status"].values, tree["cloud_mask"].values
    year = tree["time"].dt.year.values
    assert row["id"] == "leipzig"
    assert row["years"] == [2018, 2019]
    assert row["valid_fraction_by_year"] == [round(float((status[year == y] == 0).mean()), 6) for y in (2018, 2019)]
    assert row["clear_fraction"] == pytest.approx(((status == 0) & (cloud == 0)).mean(), abs=1e-6)
    assert row["holes"] == int((status == 3).any(axis=(1, 2)).sum())
    assert row["datetime_first"] == "2018-01-03T10:26:29Z"
    assert row["climate_cell_distance_km"] == 4.9
    assert row["checksum"] == content_digest(tmp_path / "cube.zarr")
    west, south, east, north = row["bbox"]
    assert west < 12.37 < east
    assert south < 51.34 < north
    assert row["geometry"]["type"] == "Polygon"
    assert stored_row(tmp_path / "cube.zarr") == row
    (tmp_path / "cube.zarr/zarr.json").unlink()
    with pytest.raises(CommitError, match="not a committed cube"):
        stored_row(tmp_path / "cube.zarr")


def test_cubes_with_chunks_in_folders_are_read_as_well(tmp_path: Path, tree: xr.DataTree) -> None:
    folder = Path(write_cube(tree, tmp_path / "cube.zarr"))
    row, bands = stored_row(folder), open_cube(folder)["B04"].load()
    for path in list(folder.rglob("c.*")):
        moved = path.parent / path.name.replace(".", "/")
        moved.parent.mkdir(parents=True)
        path.rename(moved)
    for path in folder.rglob(ROOT_KEY):
        path.write_text(re.sub(r'("separator": ?)"\."', r'\1"/"', path.read_text()))
    assert stored_row(folder) == row
    xr.testing.assert_identical(open_cube(folder)["B04"].load(), bands)
    assert [problem.what for problem in validate(folder)] == ["the content is not what was committed: a chunk or attribute was changed"]
