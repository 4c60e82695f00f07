"""What assembled cubes say of themselves."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.cube import CONVENTIONS, assemble, describe, zarr_conventions
from cubekit.cube._attributes import flat, flat_attrs, is_flat, secret_in
from cubekit.cube._encode import encode_time, pack_reflectance
from cubekit.errors import InputError
from cubekit.grid import Grid
from cubekit.layout import chunk_shape, group_dataset
from cubekit.site import Site
from cubekit.testing.cubes import tiny_cube, tiny_groups


def test_axes_and_reference_follow_the_grid() -> None:
    groups, grid, site = tiny_groups(3, 8)
    tree = assemble(groups, grid, site)
    np.testing.assert_array_equal(tree["x"], grid.x)
    np.testing.assert_array_equal(tree["y"], grid.y)
    west, south, east, north = grid.bounds
    assert tree["spatial_ref"].attrs["GeoTransform"] == f"{west:g} 10 0.0 {north:.10g} 0.0 -10"
    assert tree.attrs["proj:code"] == "EPSG:32633"
    assert tree.attrs["spatial:transform"] == [10.0, 0.0, west, 0.0, -10.0, north]
    assert tree.attrs["spatial:bbox"] == [west, south, east, north]
    assert tree.attrs["spatial:shape"] == [8, 8]
    assert zarr_conventions(tree.attrs) == list(CONVENTIONS)


def test_conventions_fit_their_published_schemas() -> None:
    """Names and URLs as the schemas of the two conventions fix them (version 1)."""
    by_name = {item["name"]: item for item in CONVENTIONS}
    assert set(by_name) == {"proj:", "spatial"}
    assert by_name["proj:"]["uuid"] == "f17cb550-5864-4468-aeb7-f3180cfb622f"
    assert by_name["spatial"]["uuid"] == "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"
    for item in CONVENTIONS:
        assert set(item) == {"schema_url", "spec_url", "uuid", "name", "description"}


@pytest.mark.parametrize(
    ("own", "altitude", "expected"),
    [(np.nan, "surface_altitude", 260.0), (-40.0, "surface_altitude", -40.0), (np.nan, "tree_height", np.nan)],
)
def test_the_cell_is_compared_with_the_elevation_of_the_cube(own: float, altitude: str, expected: float) -> None:
    """Only where the climate does not say itself how far its cell lies above the site, and the cube knows its elevation."""
    groups, grid, site = tiny_groups(3, 8)
    heights = np.linspace(100, 180, 64, dtype=np.float32).reshape(8, 8)
    groups["/"]["cop_dem"] = (("y", "x"), heights, {"standard_name": altitude, "units": "m"})
    coords = {"cell_elevation": ((), 400.0), "cell_elevation_difference": ((), own, {"units": "m", "comment": "estimated"})}
    groups["climate"] = groups["climate"].assign_coords(coords)
    climate = group_dataset(assemble(groups, grid, site), "climate")
    np.testing.assert_allclose(float(climate["cell_elevation_difference"]), expected)
    said = "estimated; elevation of the site: mean of cop_dem over the cube"
    assert (climate["cell_elevation_difference"].attrs["comment"] == said) == (expected == 260.0)


def test_layers_go_first_then_defaults() -> None:
    groups, grid, site = tiny_groups(3, 8)
    groups["/"]["B04"].attrs = {"long_name": "my red", "wavelength": np.float64(0.66), "nothing": None}
    tree = assemble(groups, grid, site, {"title": "mine", "license": "CC0"}, created=datetime(2024, 5, 1, 12, tzinfo=UTC))
    red = tree["B04"].attrs
    assert red["long_name"] == "my red"
    assert red["units"] == "1"
    assert red["wavelength"] == 0.66
    assert "nothing" not in red
    assert tree.attrs["title"] == "mine"
    assert tree.attrs["license"] == "CC0"
    assert tree.attrs["date_created"] == "2024-05-01T12:00:00Z"
    assert tree.attrs["time_coverage_start"] == "2018-01-03T10:26:29Z"
    assert "B04" in groups["/"]
    assert groups["/"]["B04"].dtype == np.float32


def test_other_groups_have_axes_of_their_own() -> None:
    groups, grid, site = tiny_groups(3, 8)
    tree = assemble(groups, grid, site)
    assert tree["climate"].to_dataset(inherit=False).sizes == {"climate_time": groups["climate"].sizes["time"]}
    back = group_dataset(tree, "climate")
    xr.testing.assert_equal(back, groups["climate"])
    assert group_dataset(tree, "/").sizes == tree.sizes


def test_rasters_of_other_groups_share_the_grid_or_get_axes_of_their_own() -> None:
    groups, grid, site = tiny_groups(3, 8)
    same = xr.Dataset(
        {"vv": (("time", "y", "x"), np.zeros((5, 8, 8), np.float32))},
        coords={"time": np.arange(5).astype("datetime64[D]").astype("datetime64[ns]")},
    )
    coarse = xr.Dataset({"lst": (("y", "x"), np.zeros((2, 2), np.float32))}, coords={"y": [1.0, 0.0], "x": [0.0, 1.0]})
    tree = assemble({**groups, "sentinel1": same, "/modis_lst/": coarse}, grid, site)
    assert tree["sentinel1/vv"].dims == ("sentinel1_time", "y", "x")
    assert tree["modis_lst/lst"].dims == ("modis_lst_y", "modis_lst_x")


def test_provenance_is_kept_without_secrets() -> None:
    groups, grid, site = tiny_groups(3, 8)
    signed = "https://user:pw@a.blob.core.windows.net/c/i.json?se=2026&sig=CANARY#x"
    groups["/"].attrs["item_hrefs"] = [signed, signed]
    groups["/"].attrs["note"] = f"read from {signed}"
    attrs = {"layers": {"b": [1, {"href": "https://x/y?sig=CANARY"}], "a": None}}
    tree = assemble(groups, grid, site, attrs, recipe='{"a":1}', digest="0" * 64, missing=["dem"])
    assert tree.attrs["item_hrefs"] == ["https://a.blob.core.windows.net/c/i.json"]
    assert tree.attrs["recipe"] == '{"a":1}'
    assert tree.attrs["missing_layers"] == "dem"
    assert json.loads(tree.attrs["software_versions"])["cubekit"]
    assert "CANARY" not in str(tree.attrs)
    assert isinstance(tree.attrs["layers"], str)


def test_bounds_share_the_unit_of_their_time() -> None:
    groups, grid, site = tiny_groups(3, 8)
    ds = groups["/"]
    start = ds["time"].values.astype("datetime64[D]").astype("datetime64[ns]")
    ds["time_bnds"] = (("time", "nv"), np.stack([start, start + np.timedelta64(1, "D")], axis=1))
    ds["time"].attrs["bounds"] = "time_bnds"
    tree = assemble(groups, grid, site)
    units = {tree[name].encoding["units"] for name in ("time", "time_bnds")}
    assert units == {"milliseconds since 1970-01-01"}


def test_cube_without_imagery() -> None:
    groups, grid, site = tiny_groups(3, 8)
    tree = assemble({"climate": groups["climate"]}, grid, site)
    assert tree.sizes == {"y": 8, "x": 8}
    assert describe(tree)["time_steps"] == 0


def test_antimeridian_runs_from_west_to_east() -> None:
    grid = Grid.around(65.0, 180.0, 64, 100)
    groups, _, _ = tiny_groups(2, 64)
    tree = assemble(groups, grid, Site(65.0, 180.0, "edge"))
    assert tree.attrs["geospatial_lon_min"] > 179
    assert tree.attrs["geospatial_lon_max"] < -179
    assert tree.attrs["geospatial_bounds"].startswith("MULTIPOLYGON")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda ds: ds.isel(x=slice(0, 5)), "5 pixels along x, the grid 8"),
        (lambda ds: ds.assign_coords(y=np.arange(8.0)), "y coordinates of the imagery are not those of the grid"),
        (lambda ds: ds.drop_vars("time"), "no time coordinate"),
        (lambda ds: ds.rename(B02="B 02"), "'B 02' is not usable"),
        (lambda ds: ds.assign_coords(time=[ds.time.values[0], np.datetime64("NaT"), ds.time.values[2]]), "time has 1 undefined times"),
        (lambda ds: ds.assign(B04=ds["B04"].fillna(0).astype("int32")), "must be int16, got int32"),
        (lambda ds: ds.assign(note=("time", np.array(["a", 1, "b"], dtype=object))), "note mixes text with int 1"),
    ],
)
def test_what_does_not_fit_is_named(change: object, match: str) -> None:
    groups, grid, site = tiny_groups(3, 8)
    with pytest.raises(InputError, match=match):
        assemble({"/": change(groups["/"])}, grid, site)  # type: ignore[operator]


def test_group_names() -> None:
    groups, grid, site = tiny_groups(3, 8)
    with pytest.raises(InputError, match=r"'\.\./x' is not usable"):
        assemble({**groups, "../x": groups["climate"]}, grid, site)
    with pytest.raises(InputError, match="nothing to assemble"):
        assemble({}, grid, site)


@given(st.lists(st.one_of(st.floats(-5, 5, width=32), st.just(float("nan"))), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_packing_keeps_reflectance_within_half_a_step(values: list[float]) -> None:
    array = np.array(values, np.float32)
    packed = pack_reflectance(xr.Variable("x", array))
    back = np.where(packed.values == -32768, np.nan, packed.values * 1e-4)
    inside = np.abs(array) < 3.27665
    np.testing.assert_array_equal(np.isnan(back), np.isnan(array))
    np.testing.assert_allclose(back[inside], array[inside], atol=5.1e-5)
    outside = np.isfinite(array) & (np.abs(array) > 3.2768)
    np.testing.assert_allclose(back[outside], np.sign(array[outside]) * 3.2767, atol=1e-9)
    assert packed.attrs.get("clipped_values", 0) >= outside.sum()


@given(st.lists(st.integers(0, 4_000_000_000_000), min_size=1, max_size=8), st.sampled_from(["D", "s", "ms", "us", "ns"]))
@settings(max_examples=60, deadline=None)
def test_times_are_kept_exactly(steps: list[int], unit: str) -> None:
    scale = {"D": 10**8, "s": 10**3, "ms": 1, "us": 1, "ns": 1}[unit]
    times = np.array([step // scale for step in steps], f"datetime64[{unit}]").astype("datetime64[ns]")
    variable = encode_time(xr.Variable("t", times), "t")
    encoded = xr.conventions.encode_cf_variable(variable, name="t")
    assert encoded.dtype == np.int64
    np.testing.assert_array_equal(xr.conventions.decode_cf_variable("t", encoded).values, times)


JSONISH = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**50), 2**50), st.floats(allow_nan=True), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


@given(JSONISH)
@settings(max_examples=150, deadline=None)
def test_flattened_attributes_are_flat(value: object) -> None:
    result = flat_attrs({"a": value})
    assert "a" in result or value is None
    for item in result.values():
        assert is_flat(item)
        json.dumps(item, allow_nan=False)
        assert flat(item) == item


@pytest.mark.parametrize(
    "text",
    [
        "https://x/y?se=1&sig=abc",
        "AWS_SECRET_ACCESS_KEY=abc",
        "Authorization: Bearer abc",
        "key AKIAIOSFODNN7EXAMPLE here",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc",
        "-----BEGIN RSA PRIVATE KEY-----",
    ],
)
def test_secrets_are_recognised(text: str) -> None:
    assert secret_in(text)
    assert secret_in(["plain", text])
    assert not secret_in(["plain", "https://example.com/item.json", "sha256:" + "0" * 64])


@given(st.integers(1, 2000), st.integers(1, 1200))
def test_chunks_hold_many_steps_and_whole_tiles(steps: int, edge: int) -> None:
    time, y, x = chunk_shape(("time", "y", "x"), (steps, edge, edge))
    assert y == x <= 256
    assert edge > 256 or y == edge
    assert time == steps if steps < 248 else 110 <= time <= 248
    assert chunk_shape(("climate_time",), (steps * 20,)) == (steps * 20,)


def test_described_in_a_few_words() -> None:
    content = describe(tiny_cube(6, 8))
    assert content["site"] == "leipzig"
    assert content["pixels"] == "8 x 8 at 10 m"
    assert content["bands"] == ["B02", "B03", "B04", "B8A"]
    assert content["first"] == "2018-01-03"
    assert json.loads(json.dumps(content)) == content
