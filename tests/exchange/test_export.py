"""The layout of DeepExtremeCubes, as its loaders ask for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubekit.cube import assemble
from cubekit.errors import CommitError, InputError, TargetExistsError
from cubekit.exchange import export_cube
from cubekit.exchange._names import BANDS, CLIMATE
from cubekit.grid import Grid
from cubekit.layout import group_dataset
from cubekit.site import Site
from cubekit.store import open_cube, write_cube

STEPS, EDGE = 9, 32
START = np.datetime64("2016-01-01")


def imagery(collection: str = "esa-cci-lc", period: int = 5, dtype: str = "float32") -> xr.Dataset:
    """Nine five-day steps (the last of three days), the second without an acquisition; values on the grid of int16."""
    rng = np.random.default_rng(3)
    starts = START + period * np.arange(STEPS)
    ends = np.minimum(starts + period, START + period * STEPS - 2)
    dims, shape = ("time", "y", "x"), (STEPS, EDGE, EDGE)
    scl = rng.integers(1, 12, shape).astype(np.uint8)
    scl[1] = 0
    data: dict[str, Any] = {}
    for band in BANDS:
        values = (rng.integers(-300, 12_000, shape) / 10_000).astype(dtype)
        values[1] = np.nan
        data[band] = (dims, values)
    clear = np.isin(scl, (4, 5, 6, 7))
    data["SCL"] = (dims, scl)
    data["cloud_mask"] = (dims, np.where(scl == 0, 255, ~clear).astype(np.uint8))
    data["cop_dem"] = (("y", "x"), rng.normal(200, 30, (EDGE, EDGE)).astype(np.float32), {"units": "m"})
    cover = np.where(np.add.outer(np.arange(EDGE), np.arange(EDGE)) < 20, 10, 130).astype(np.uint8)
    data["land_cover"] = (("y", "x"), cover, {"flag_values": np.array([10, 130], np.uint8), "flag_meanings": "cropland_rainfed grassland"})
    coords = {"time": starts.astype("datetime64[ns]"), "time_bnds": (("time", "nv"), np.stack([starts, ends], 1).astype("datetime64[ns]"))}
    return xr.Dataset(data, coords, attrs={"landcover_collection": collection, "sentinel2_period": f"{period}D"})


def climate() -> xr.Dataset:
    """Daily table without sensible heat, with a gap on the twelfth day."""
    days = START + np.arange(-3, 5 * STEPS + 4)
    rng = np.random.default_rng(4)
    ds = xr.Dataset(coords={"time": days.astype("datetime64[ns]")})
    how = {"t2m_mean": "mean", "t2m_min": "minimum", "t2m_max": "maximum", "sp": "mean"} | dict.fromkeys(
        ("tp", "e", "pev", "ssr", "slhf"), "sum"
    )
    units = {"sp": "Pa", "tp": "mm", "e": "mm", "pev": "mm", "ssr": "MJ m-2", "slhf": "MJ m-2"}
    for name, method in how.items():
        values = rng.gamma(2.0, 3.0, days.size).astype(np.float32)
        values[days == START + 11] = np.nan
        ds[name] = (
            "time",
            values,
            {"cell_methods": f"time: {method} (interval: 1 hour)", "units": units.get(name, "K"), "long_name": f"daily {name}"},
        )
    return ds


def events() -> xr.Dataset:
    days = START + np.arange(5 * STEPS - 2)
    codes = (np.arange(days.size) % 32).astype(np.uint8)
    attrs = {"flag_masks": np.array([1, 2, 4, 8, 16, 128], np.uint8), "flag_meanings": "heat dry_30 dry_90 dry_180 normal missing"}
    labels = (np.arange(days.size) // 7).astype(np.uint32)
    return xr.Dataset({"events": ("time", codes, attrs), "event_labels": ("time", labels)}, {"time": days.astype("datetime64[ns]")})


def cube(**options: Any) -> xr.DataTree:
    site = Site(51.331, 12.006, "dx-1")
    grid = Grid.around(site.lat, site.lon, EDGE, 20)
    return assemble({"/": imagery(**options), "climate": climate(), "events": events()}, grid, site, recipe="{}", digest="0" * 64)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    out = tmp_path_factory.mktemp("export") / "mc.zarr"
    export_cube(cube(), out)
    return xr.open_zarr(out)


def test_plain_xarray_finds_the_published_names_and_dims(exported: xr.Dataset) -> None:
    """What the published loaders index by: bands, masks, weather by name and statistic, events on their own axis, static layers."""
    dims = {name: exported[name].dims for name in exported.data_vars}
    assert {name: dims[name] for name in (*BANDS, "SCL", "cloudmask_en")} == dict.fromkeys(
        (*BANDS, "SCL", "cloudmask_en"), ("time", "y", "x")
    )
    weather = [f"{name}_{how}" for name in ("e", "pev", "slhf", "sp", "ssr", "sshf", "t2m", "tp") for how in ("mean", "min", "max")]
    assert {name: dims[name] for name in weather} == dict.fromkeys(weather, ("time",))
    assert dims["events"] == dims["event_labels"] == ("event_time",)
    assert dims["cop_dem"] == ("y", "x")
    assert dims["lccs_class"] == ("y_300", "x_300")
    stacked = exported[list(BANDS)].to_array().values
    assert stacked.shape == (7, STEPS, EDGE, EDGE)
    index = (exported.B8A - exported.B04) / (exported.B8A + exported.B04 + 1e-6)
    assert index.dims == ("time", "y", "x")


def test_time_is_the_middle_of_the_five_days_and_events_start_there(exported: xr.Dataset) -> None:
    """A published evaluation looks up ``event_time == time - 12 h``."""
    assert exported["time"].values[0] == np.datetime64("2016-01-03T12")
    assert (np.diff(exported["time"].values) == np.timedelta64(5, "D")).all()
    assert exported["time_bnds"].values[-1].tolist() == np.array(["2016-02-10", "2016-02-13"], "datetime64[ns]").tolist()
    inside = np.isin(exported["time"].values - np.timedelta64(12, "h"), exported["event_time"].values)
    assert inside.all()


def test_decoded_values_are_those_of_the_cube(exported: xr.Dataset) -> None:
    truth = imagery()
    for name in BANDS:
        np.testing.assert_allclose(exported[name], truth[name], atol=1e-9 + 3e-8, equal_nan=True)
    np.testing.assert_array_equal(exported["SCL"], truth["SCL"])
    np.testing.assert_array_equal(exported["cop_dem"], truth["cop_dem"])
    np.testing.assert_array_equal(exported["events"], events()["events"])
    np.testing.assert_array_equal(exported["event_labels"], events()["event_labels"])
    assert (exported["SCL"].dtype, exported["events"].dtype, exported["event_labels"].dtype) == (np.uint8, np.uint8, np.uint16)


def test_reflectance_lies_in_the_store_as_published(exported: xr.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "mc.zarr"
    export_cube(cube(), out)
    array = json.loads((out / "B04" / ".zarray").read_text())
    attrs = json.loads((out / "B04" / ".zattrs").read_text())
    assert (array["zarr_format"], array["dtype"], array["fill_value"]) == (2, "<i2", -9999)
    assert (attrs["scale_factor"], attrs["units"], attrs["_ARRAY_DIMENSIONS"]) == (1e-4, "1", ["time", "y", "x"])
    assert json.loads((out / ".zmetadata").read_text())["zarr_consolidated_format"] == 1
    assert exported["B04"].encoding["_FillValue"] == -9999


def test_what_int16_cannot_hold_is_clipped_and_counted(tmp_path: Path) -> None:
    tree = cube()
    values = np.array(tree["B05"].values)
    values[0, 0, :3] = [-9999, -32767, 32767]
    tree.dataset = tree.to_dataset().assign(B05=tree["B05"].copy(data=values))
    out = tmp_path / "mc.zarr"
    export_cube(tree, out)
    found = xr.open_zarr(out)["B05"]
    np.testing.assert_allclose(found.values[0, 0, :3], [-0.9998, -3.2767, 3.2767])
    assert found.attrs["clipped_values"] == 1


def test_the_cloud_mask_follows_the_published_classes(exported: xr.Dataset) -> None:
    scl, mask = imagery()["SCL"].values, exported["cloudmask_en"].values
    expected = {0: 4, 1: 4, 2: 4, 3: 2, 4: 0, 5: 0, 6: 0, 7: 0, 8: 1, 9: 1, 10: 1, 11: 3}
    np.testing.assert_array_equal(mask, np.vectorize(expected.get)(scl))
    assert exported["cloudmask_en"].attrs["flag_meanings"] == "free_sky cloud cloud_shadows snow masked_other_reasons"
    assert "not the deep-learning mask" in exported["cloudmask_en"].attrs["comment"]


def test_fluxes_are_sums_joined_by_label(exported: xr.Dataset) -> None:
    daily = climate().to_dataframe()
    for entry in CLIMATE:
        if entry.name == "sshf":
            continue
        for step in range(STEPS):
            first = START + 5 * step
            last = first + (5 if step < STEPS - 1 else 3)
            rows = daily.loc[str(first) : str(last - 1)]
            at = {how: float(exported[f"{entry.name}_{how}"][step]) for how in ("mean", "min", "max")}
            column = dict(zip(("mean", "min", "max"), entry.columns, strict=True))
            if step == 2:  # a day is missing
                assert np.isnan(list(at.values())).all()
                continue
            truth = {"mean": rows[column["mean"]].mean(), "min": rows[column["min"]].min(), "max": rows[column["max"]].max()}
            assert at == pytest.approx({how: value * entry.factor for how, value in truth.items()}, rel=1e-5)
            if entry.flux:
                assert float(exported[f"{entry.name}_sum"][step]) == pytest.approx(rows[entry.name].sum() * entry.factor, rel=1e-5)
    assert exported["tp_mean"].attrs["cell_methods"] == "time: sum within days time: mean over days"
    assert exported["tp_sum"].attrs["cell_methods"] == "time: sum"
    assert exported["ssr_max"].attrs["units"] == "J m-2"
    assert "running total" in exported["ssr_mean"].attrs["comment"]


def test_a_variable_the_source_lacks_is_there_and_says_so(exported: xr.Dataset) -> None:
    assert np.isnan(exported["sshf_mean"]).all()
    assert exported["sshf_mean"].attrs["comment"] == "not in the cube's daily table"


def test_land_cover_is_on_pixels_of_300_m(exported: xr.Dataset) -> None:
    """A pixel of 300 m has the class of the 20 m pixel at its centre, 150 m and 450 m from the corner."""
    assert exported.sizes["y_300"] == exported.sizes["x_300"] == 2
    fine = imagery()["land_cover"].values
    np.testing.assert_array_equal(exported["lccs_class"], fine[np.ix_([7, 22], [7, 22])])
    corner = exported["x"].values[0] - 10, exported["y"].values[0] + 10
    assert exported["x_300"].values.tolist() == [corner[0] + 150, corner[0] + 450]
    assert exported["y_300"].values.tolist() == [corner[1] - 150, corner[1] - 450]


def test_classes_of_another_map_do_not_pose_as_cci(tmp_path: Path) -> None:
    out = tmp_path / "mc.zarr"
    export_cube(cube(collection="esa-worldcover"), out)
    ds = xr.open_zarr(out)
    assert "lccs_class" not in ds
    assert ds["land_cover"].dims == ("y", "x")


def test_attributes_are_flat_and_name_the_place(exported: xr.Dataset, tmp_path: Path) -> None:
    for attrs in (exported.attrs, *(variable.attrs for variable in exported.variables.values())):
        for key, value in attrs.items():
            items = value if isinstance(value, list) else [value]
            assert all(isinstance(item, (str, int, float, np.number)) for item in items), key
    assert exported.attrs["spatial_ref"] == "EPSG:32633"
    assert exported.attrs["spatial_bbox"] == list(Grid.around(51.331, 12.006, EDGE, 20).bounds)
    assert (exported.attrs["spatial_res"], exported.attrs["time_period"], exported.attrs["data_id"]) == (20, "5D", "dx-1")
    assert exported.attrs["time_range"] == ["2016-01-01", "2016-02-12"]
    exported.load().to_netcdf(tmp_path / "mc.nc")
    assert int(exported["crs"].attrs["crs_wkt"].count("UTM zone 33N")) >= 1


def test_a_committed_cube_is_exported_from_its_path(tmp_path: Path) -> None:
    write_cube(cube(), tmp_path / "cube.zarr")
    export_cube(str(tmp_path / "cube.zarr"), tmp_path / "mc.zarr")
    found, stored = xr.open_zarr(tmp_path / "mc.zarr"), group_dataset(open_cube(tmp_path / "cube.zarr"), "/")
    np.testing.assert_allclose(found["B02"], stored["B02"], atol=4e-8, equal_nan=True)
    assert found.attrs["content_digest"].startswith("sha256:")


def test_it_is_there_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "mc.zarr"
    export_cube(cube(), out)
    with pytest.raises(TargetExistsError, match=r"mc\.zarr exists"):
        export_cube(cube(), out)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(xr.Dataset, "to_zarr", full)
        with pytest.raises(CommitError, match="No space left on device"):
            export_cube(cube(), out, overwrite=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    export_cube(cube(collection="esa-worldcover"), out, overwrite=True)
    assert "lccs_class" not in xr.open_zarr(out)
    assert [path.name for path in tmp_path.iterdir()] == ["mc.zarr"]


TEMPLATE = Path(__file__).parents[2] / "recipes" / "deepextremes" / "layout.json"


def layout_of(path: Path) -> dict[str, Any]:
    """Dims, stored type, units and cell methods of every variable of a Zarr v2 group."""
    found = {}
    for folder in sorted(path.iterdir()):
        if (folder / ".zarray").is_file():
            array, attrs = (json.loads((folder / name).read_text()) for name in (".zarray", ".zattrs"))
            kept = {key: attrs[key] for key in ("units", "cell_methods", "scale_factor", "positive") if key in attrs}
            found[folder.name] = {"dims": attrs["_ARRAY_DIMENSIONS"], "dtype": array["dtype"], "fill": array["fill_value"], **kept}
    return found


def test_the_layout_is_the_one_in_the_template(tmp_path: Path) -> None:
    """A change of names, dims, types or units has to be made in the template too, where users see it."""
    export_cube(cube(), tmp_path / "mc.zarr")
    assert layout_of(tmp_path / "mc.zarr") == json.loads(TEMPLATE.read_text())


def test_bad_input_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Layout 'earthnet' is unknown\. Use one of deepextremecubes"):
        export_cube(cube(), tmp_path / "a.zarr", "earthnet")
    with pytest.raises(InputError, match="Export to a local path"):
        export_cube(cube(), "s3://bucket/a.zarr")
    with pytest.raises(InputError, match="a step every 10 days, the layout every 5"):
        export_cube(cube(period=10), tmp_path / "a.zarr")
    tree = cube()
    del tree["B8A"]
    with pytest.raises(InputError, match="The cube has no B8A"):
        export_cube(tree, tmp_path / "a.zarr")
    own = cube()
    own.dataset = own.to_dataset().drop_vars("time_bnds")
    with pytest.raises(InputError, match="acquisitions at their own times"):
        export_cube(own, tmp_path / "a.zarr")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("precious")
    with pytest.raises(CommitError, match="is no Zarr group"):
        export_cube(cube(), tmp_path / "mine", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
