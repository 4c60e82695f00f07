"""Published minicubes: every known defect is named where it is, and only there; no value changes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cubekit.cube import validate
from cubekit.errors import InputError, ReadError
from cubekit.exchange import export_cube, import_cube
from cubekit.exchange._names import BANDS, FLUXES
from cubekit.grid import transformer
from cubekit.layout import group_dataset
from cubekit.store import open_cube
from cubekit.testing import shared_data
from tests.exchange.test_export import cube

DEFECTS = ("zone_off_by_one", "padded_start", "running_totals", "positive_only", "overflow", "nested_attributes")
STEPS, EDGE, LON, LAT = 80, 12, 12.006, 51.331


def reflectance(defects: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Truth, some of it dark and below 0, one glint above 3.2767, gaps in all bands at once; then what the defects make of it."""
    rng = np.random.default_rng(8)
    values = {band: rng.integers(-20, 4_000, (STEPS, EDGE, EDGE)) / 10_000 for band in BANDS}
    gaps = rng.random((STEPS, EDGE, EDGE)) < 0.2
    for band, array in values.items():
        if band == "B02" and "overflow" in defects:
            array[70, 2, 3] = 3.4 - 6.5536
        if "positive_only" in defects:
            array[(array <= 0) & (array > -1)] = np.nan
        array[gaps] = np.nan
        if "padded_start" in defects:
            array[:60] = np.nan
    return values


def weather(defects: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Mean, least and greatest over five days: of running totals since 00 UTC, or of daily sums."""
    rng = np.random.default_rng(9)
    result = {}
    for name in FLUXES:
        hourly = rng.gamma(1.5, 1.0, (STEPS, 5, 24)) * 1e5
        totals = hourly.cumsum(axis=2) if "running_totals" in defects else hourly.sum(axis=2, keepdims=True)
        flat = totals.reshape(STEPS, -1)
        result |= {f"{name}_mean": flat.mean(1), f"{name}_min": flat.min(1), f"{name}_max": flat.max(1)}
    result |= {"t2m_mean": np.full(STEPS, 285.0), "t2m_min": np.full(STEPS, 280.0), "t2m_max": np.full(STEPS, 290.0)}
    return result


def minicube(*defects: str) -> xr.Dataset:
    """A store as the published ones are, with the given defects and no other."""
    epsg = 32632 if "zone_off_by_one" in defects else 32633
    x, y = transformer(4326, epsg).transform(LON, LAT)
    steps = (np.arange(EDGE) - EDGE / 2 + 0.5) * 20
    attrs: dict[str, Any] = {"units": "n.a.", "wavelength": 492.25}
    metadata: dict[str, Any] = {"geospatial_center_lon": LON, "Conventions": "CF-1.9", "project": "DeepExtremes"}
    if "nested_attributes" in defects:
        attrs |= {"sources": [{"processing_steps": ["Read S2L2A"]}], "metadata": {"color_value_max": 1.0}}
    cells = {} if "running_totals" in defects else {"cell_methods": "time: sum within days time: mean over days"}
    data: dict[str, Any] = {name: (("time", "y", "x"), values, attrs) for name, values in reflectance(defects).items()}
    scl = np.where(np.isnan(data["B8A"][1]), 0, 4).astype(np.uint8)
    data |= {"SCL": (("time", "y", "x"), scl), "cloudmask_en": (("time", "y", "x"), np.zeros_like(scl), {"units": "n.a."})}
    data |= {name: ("time", values.astype(np.float32), {"units": "m**0", **cells}) for name, values in weather(defects).items()}
    days = np.arange("2016-01-01", "2017-02-04", dtype="datetime64[D]").astype("datetime64[ns]")
    data["events"] = ("event_time", (np.arange(days.size) % 17).astype(np.uint8))
    data["event_labels"] = ("event_time", np.zeros(days.size, np.uint16))
    data["cop_dem"] = (("y", "x"), np.full((EDGE, EDGE), 120.0, np.float32), {"units": "meter"})
    data["lccs_class"] = (("y_300", "x_300"), np.array([[130]], np.uint8))
    data["crs"] = ((), 0, {"grid_mapping_name": "transverse_mercator"})
    time = np.datetime64("2016-01-03T12", "ns") + np.arange(STEPS) * np.timedelta64(5, "D")
    coords = {"time": time, "y": y - steps, "x": x + steps, "event_time": days, "y_300": [y], "x_300": [x]}
    root = {
        "data_id": "mc_12.01_51.33_1.3_20230921_0",
        "spatial_ref": f"EPSG:{epsg}",
        "spatial_res": 20,
        "title": "Minicube at 12.01 51.33",
    }
    root |= {"metadata": metadata} if "nested_attributes" in defects else metadata
    return xr.Dataset(data, coords, root)


def write(ds: xr.Dataset, path: Path, zarr_format: int = 2) -> Path:
    packing = {"dtype": "int16", "scale_factor": 1e-4, "_FillValue": -9999}
    ds.to_zarr(path, zarr_format=zarr_format, consolidated=zarr_format == 2, encoding=dict.fromkeys(BANDS, packing))
    return path


def names(defects: list[str]) -> set[str]:
    return {text.partition(":")[0] for text in defects}


@pytest.mark.parametrize(
    "chosen", [(), *((name,) for name in DEFECTS), ("padded_start", "positive_only"), ("overflow", "positive_only"), DEFECTS]
)
def test_exactly_the_defects_that_are_there_are_named(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    _, found = import_cube(write(minicube(*chosen), tmp_path / "mc.zarr"))
    assert names(found) == set(chosen)
    assert len(found) == len(chosen)


def test_zone_off_by_one(tmp_path: Path) -> None:
    """At 51.3 N, 3.006 degrees from the wrong meridian: 0.9996 (1 + (0.05247 cos 51.3)^2 / 2) = 1.00014."""
    _, found = import_cube(write(minicube("zone_off_by_one"), tmp_path / "mc.zarr"))
    assert "EPSG:32632, 1 UTM zone west of the site's EPSG:32633; lengths are 0.01 % off" in found[0]


@pytest.mark.parametrize(
    ("lon", "lat", "epsg", "named"), [(-179.9, 20.0, 32660, True), (179.9, 20.0, 32659, True), (-179.9, -20.0, 32701, False)]
)
def test_zone_off_by_one_at_the_antimeridian_and_in_the_south(tmp_path: Path, lon: float, lat: float, epsg: int, named: bool) -> None:
    x, y = transformer(4326, epsg).transform(lon, lat)
    steps = (np.arange(EDGE) - EDGE / 2 + 0.5) * 20
    ds = minicube().assign_coords(x=x + steps, y=y - steps).assign_attrs(spatial_ref=f"EPSG:{epsg}")
    _, found = import_cube(write(ds, tmp_path / "mc.zarr"))
    assert names(found) == ({"zone_off_by_one"} if named else set())
    assert not named or "1 UTM zone west" in found[0]


def test_padded_start(tmp_path: Path) -> None:
    _, found = import_cube(write(minicube("padded_start"), tmp_path / "mc.zarr"))
    assert found == [
        "padded_start: the first 60 of 80 time steps (2016-01-03 to 2016-10-24) hold no image; cloudmask_en calls them free_sky there"
    ]


def test_running_totals(tmp_path: Path) -> None:
    _, found = import_cube(write(minicube("running_totals"), tmp_path / "mc.zarr"))
    assert found[0].startswith("running_totals: tp, e, pev, ssr, slhf, sshf are mean, least and greatest of the running total since 00 UTC")
    unsaid = minicube()
    for name in FLUXES:
        for how in ("mean", "min", "max"):
            del unsaid[f"{name}_{how}"].attrs["cell_methods"]
    _, found = import_cube(write(unsaid, tmp_path / "unsaid.zarr"))
    assert "is not said" in found[0]


def test_positive_only_and_overflow_count_the_values(tmp_path: Path) -> None:
    ds = minicube("positive_only", "overflow")
    lost = sum(int((ds[band].isnull() & ~xr.concat([ds[b].isnull() for b in BANDS], "b").all("b")).sum()) for band in BANDS)
    _, found = import_cube(write(ds, tmp_path / "mc.zarr"))
    assert f"the least value is 0.0001; {lost} values are missing where another band" in found[0]
    assert found[1].startswith("overflow: 1 values are below -1")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_no_value_is_mended(tmp_path: Path, zarr_format: int) -> None:
    raw = minicube(*DEFECTS)
    write(raw, tmp_path / "mc.zarr", zarr_format)
    tree, defects = import_cube(tmp_path / "mc.zarr", tmp_path / "cube.zarr")
    stored = open_cube(tmp_path / "cube.zarr")
    for one in (tree, stored):
        imagery = group_dataset(one, "/")
        for band in BANDS:
            values = imagery[band].values
            if values.dtype == np.int16:
                values = np.where(values == -32768, np.nan, values * 1e-4)
            np.testing.assert_allclose(values, raw[band], atol=4e-7, equal_nan=True)
        np.testing.assert_array_equal(imagery["SCL"], raw["SCL"])
        np.testing.assert_array_equal(imagery["x"], raw["x"])
        np.testing.assert_array_equal(imagery["time"], raw["time"])
        np.testing.assert_array_equal(group_dataset(one, "climate")["ssr_mean"], raw["ssr_mean"])
        np.testing.assert_array_equal(group_dataset(one, "events")["events"], raw["events"])
        np.testing.assert_array_equal(group_dataset(one, "land_cover_300m")["lccs_class"], raw["lccs_class"])
    assert list(stored.attrs["import_defects"]) == defects


def test_an_imported_minicube_is_a_cube_that_cf_understands(tmp_path: Path) -> None:
    write(minicube(*DEFECTS), tmp_path / "mc.zarr")
    import_cube(tmp_path / "mc.zarr", tmp_path / "cube.zarr")
    errors = {problem.where for problem in validate(tmp_path / "cube.zarr") if problem.severity == "error"}
    assert errors == {"/@recipe", "/@recipe_digest", "/pixel_status"}  # what a store of others cannot tell
    stored = open_cube(tmp_path / "cube.zarr")
    assert stored.attrs["proj:code"] == "EPSG:32632"
    assert stored.attrs["site_id"] == "mc_12.01_51.33_1.3_20230921_0"
    assert stored.attrs["metadata_project"] == "DeepExtremes"
    assert stored["SCL"].attrs["flag_meanings"].split()[4] == "vegetation"
    assert stored["B02"].attrs["units"] == "1"
    assert stored["cop_dem"].attrs["units"] == "m"
    assert json.loads(stored["B02"].attrs["sources"]) == [{"processing_steps": ["Read S2L2A"]}]


def test_what_cubekit_exports_has_none_of_the_defects(tmp_path: Path) -> None:
    export_cube(cube(), tmp_path / "mc.zarr")
    tree, defects = import_cube(tmp_path / "mc.zarr")
    assert defects == []
    assert group_dataset(tree, "climate")["tp_mean"].attrs["cell_methods"] == "time: sum within days time: mean over days"


def test_rows_from_south_to_north_are_turned(tmp_path: Path) -> None:
    raw = minicube().isel(y=slice(None, None, -1))
    tree, _ = import_cube(write(raw, tmp_path / "mc.zarr"))
    assert (np.diff(tree["y"].values) < 0).all()
    np.testing.assert_array_equal(tree["SCL"], raw["SCL"].isel(y=slice(None, None, -1)))


def test_a_minicube_of_earthnet_minicuber() -> None:
    """Real data of another tool: reflectance was cut at 0; names and classes become those of a cube, values stay."""
    path = shared_data("e_cubes/minicube_34TET.nc")
    tree, defects = import_cube(path)
    assert names(defects) == {"positive_only"}
    with xr.open_dataset(path) as raw:
        for band in ("B02", "B03", "B04", "B8A"):
            np.testing.assert_array_equal(tree[band], raw[f"s2_{band}"])
        np.testing.assert_array_equal(tree["SCL"], raw["s2_SCL"].fillna(0))
        np.testing.assert_array_equal(tree["climate"]["eobs_rr"], raw["eobs_rr"])
    assert tree["lat"].attrs["standard_name"] == "latitude"
    assert tree["cloudmask_en"].attrs["flag_meanings"].split()[0] == "free_sky"
    assert tree["climate"]["eobs_tg"].attrs["units"] == "degC"


def test_a_minicube_in_degrees_can_be_kept_too(tmp_path: Path) -> None:
    tree, _ = import_cube(shared_data("e_cubes/minicube_34TET.nc"), tmp_path / "cube.zarr")
    stored = open_cube(tmp_path / "cube.zarr")
    np.testing.assert_array_equal(stored["B04"], tree["B04"])
    assert stored["B04"].dims == ("time", "lat", "lon")


def test_what_is_no_minicube_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither Zarr nor NetCDF"):
        import_cube(tmp_path / "nowhere.zarr")
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(InputError, match="neither Zarr nor NetCDF"):
        import_cube(tmp_path / "a.txt")
    xr.Dataset({"t2m": ("time", [1.0])}).to_zarr(tmp_path / "b.zarr", zarr_format=2)
    with pytest.raises(InputError, match=r"no band of Sentinel-2 over time, y and x \(there are t2m\)"):
        import_cube(tmp_path / "b.zarr")
    (tmp_path / "c.nc").write_bytes(b"\x89HDF broken")
    with pytest.raises(ReadError, match=r"c\.nc cannot be opened"):
        import_cube(tmp_path / "c.nc")
    placeless = minicube().drop_vars("crs")
    placeless.attrs.pop("spatial_ref")
    with pytest.raises(InputError, match="does not say its CRS"):
        import_cube(write(placeless, tmp_path / "d.zarr"))
    uneven = minicube().assign_coords(x=np.cumsum(np.arange(EDGE) + 1.0))
    with pytest.raises(InputError, match="unevenly spaced"):
        import_cube(write(uneven, tmp_path / "e.zarr"))


def test_defects_do_not_hide_each_other(tmp_path: Path) -> None:
    for number, pair in enumerate(itertools.combinations(DEFECTS[:5], 4)):
        _, found = import_cube(write(minicube(*pair), tmp_path / f"{number}.zarr"))
        assert names(found) == set(pair)
