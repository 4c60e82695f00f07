"""Recipes: strict, told where they are wrong, the same digest for the same cube."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cubekit.api import make_recipe
from cubekit.errors import InputError, RecipeError
from cubekit.recipe import Recipe, load_recipe, parse_recipe, recipe_schema

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
GOOD = """
cubekit: 1
name: test
grid: {edge_size: 64, resolution: 20}
time: {start: 2020-01-01, end: 2020-12-31}
layers:
  - kind: sentinel2
    bands: [B04, nir]
    nbar: none
"""


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_recipe_is_what_it_says() -> None:
    recipe = parse_recipe(GOOD)
    assert recipe.grid.edge_size == 64
    assert str(recipe.time.range) == "2020-01-01/2020-12-31"
    (layer,) = recipe.layers
    assert layer.bands == ("B04", "B08")  # type: ignore[attr-defined]
    assert layer.nbar.method == "none"  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("recipe.yaml")), ids=lambda path: path.parent.name)
def test_published_recipes_load(path: Path) -> None:
    assert isinstance(load_recipe(path), Recipe)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("name: test", "name: test\ntitel: x"), r"titel: unknown key; did you mean 'title'\? \(allowed: cubekit, grid"),
        (changed("edge_size: 64", "edgesize: 64"), r"grid.edgesize: unknown key; did you mean 'edge_size'"),
        (changed("bands: [B04, nir]", "band: [B04]"), r"layers.0.band: unknown key; did you mean 'bands'"),
        (changed("bands: [B04, nir]", "bands: [B13]"), r"Unknown Sentinel-2 band 'B13'"),
        (changed("kind: sentinel2", "kind: sentinel3"), r"unknown layer kind 'sentinel3'; did you mean 'sentinel2'"),
        (changed("nbar: none", "nbar: c-faktor"), r"nbar.method: Input should be 'c-factor' or 'none', got 'c-faktor'"),
        (changed("nbar: none", "nbar: {detector: seen}"), r"nbar.detector: unknown key; did you mean 'detectors'"),
        (changed("nbar: none", "period: weekly"), r"period 'weekly' is not understood"),
        (changed("nbar: none", "max_holes: 2"), r"max_holes: Input should be less than or equal to 1, got 2"),
        (changed("resolution: 20", "resolution: 0"), r"grid.resolution: Input should be greater than 0, got 0"),
        (changed("resolution: 20", "resolution: fine"), r"grid.resolution: .*got 'fine'"),
        (changed("edge_size: 64", "edge_size: 64.5"), r"64.5 is not a whole number of pixels"),
        (changed("end: 2020-12-31", "end: 2019-12-31"), r"end 2019-12-31 is before start 2020-01-01"),
        (changed("start: 2020-01-01, ", ""), r"time.start: is missing"),
        (changed("cubekit: 1", "cubekit: 2"), r"cubekit: Input should be 1"),
        (changed("name: test", "name: test\nname: twice"), r"key 'name' stands twice"),
        (changed("name: test", "name: !!python/object/apply:os.system ['true']"), "is not plain YAML"),
        ("a: &a [x, x]\nb: [*a, *a]", "aliases are not allowed"),
        ("- just\n- a list", "holds list, not keys and values"),
        ("a: [", "is not plain YAML"),
        (GOOD.split("layers:")[0], "layers: is missing"),
        (GOOD + "  - kind: sentinel2\n", "'sentinel2' stands in the recipe twice"),
    ],
)
def test_mistakes_are_told_with_their_place(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe(text, source="my.yaml")
    assert "my.yaml" in str(caught.value)
    assert caught.value.exit_code == 2


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "binary.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(RecipeError, match="1000001 bytes"):
        load_recipe(tmp_path / "large.yaml")
    (tmp_path / "deep.yaml").write_text("[" * 5000)
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "deep.yaml")


def test_the_digest_names_the_cube_not_the_writing() -> None:
    recipe = parse_recipe(GOOD)
    same = parse_recipe({"name": "test", "layers": [{"nbar": {"method": "none"}, "bands": ["red", "B8"], "kind": "sentinel2"}],
                         "grid": {"resolution": 20.0, "edge_size": 64.0, "units": "px"}, "time": {"start": "2020-01-01", "end": "2020-12-31"}})  # fmt: skip
    assert recipe.digest == same.digest
    assert parse_recipe(recipe.canonical()).digest == recipe.digest
    for other in (
        changed("nbar: none", "nbar: c-factor"),
        changed("64", "65"),
        changed("2020-12-31", "2020-12-30"),
        changed("B04, nir", "nir, B04"),
    ):
        assert parse_recipe(other).digest != recipe.digest


def test_what_is_published_tells_no_folder() -> None:
    def at(folder: str) -> Recipe:
        layers = [
            {"kind": "sentinel2", "catalog": [f"{folder}/items.json", "earth-search"]},
            {"kind": "era5land", "source": f"{folder}/daily.zarr"},
            {"kind": "events", "source": "demo", "cube": f"{folder}/events.zarr/"},
        ]
        return parse_recipe({"time": {"start": "2020-01-01", "end": "2020-12-31"}, "layers": layers})

    here, there = at("/home/me/secret-project"), at("elsewhere")
    assert "secret-project" in here.canonical()
    told = json.loads(here.published())["layers"]
    assert told[0]["catalog"] == ["items.json", "earth-search"]
    assert (told[1]["source"]["path"], told[2]["cube"]) == ("daily.zarr", "events.zarr")
    assert here.published() == there.published()
    assert here.digest == there.digest
    assert here.local_digest != there.local_digest
    remote = parse_recipe(GOOD + "    catalog: https://stac.example.org/v1\n")
    assert remote.published() == remote.canonical()
    assert remote.digest == remote.local_digest


def test_options_are_not_called_a_recipe() -> None:
    with pytest.raises(RecipeError, match=r"These options do not fit: grid.resolution: .* got -1.0. Change them"):
        make_recipe(start="2020-01-01", end="2020-02-01", resolution=-1.0)
    with pytest.raises(InputError, match="No bands are asked for"):
        make_recipe(start="2020-01-01", end="2020-02-01", bands=[])
    for option in ({"bands": 3}, {"catalog": [None]}):
        with pytest.raises(InputError, match="is no name and no list of names"):
            make_recipe(start="2020-01-01", end="2020-02-01", **option)  # type: ignore[arg-type]
    as_path = make_recipe(start="2020-01-01", end="2020-02-01", catalog=Path("items.json"))
    assert as_path == make_recipe(start="2020-01-01", end="2020-02-01", catalog=["items.json"])


def test_yaml_is_objected_to_on_one_line() -> None:
    with pytest.raises(RecipeError, match=r"line 2, column \d+\)") as caught:
        parse_recipe("name: test\n**bold**: x\n", source="my.yaml")
    assert "\n" not in str(caught.value)


def test_the_schema_accepts_what_the_loader_accepts() -> None:
    import yaml

    jsonschema = pytest.importorskip("jsonschema")
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    content = json.loads(parse_recipe(GOOD).canonical())
    assert not list(validator.iter_errors(content))
    content["layers"][0]["bandz"] = 1
    assert list(validator.iter_errors(content))
    assert not list(
        validator.iter_errors(json.loads(json.dumps(yaml.safe_load((RECIPES / "sentinel2/recipe.yaml").read_text()), default=str)))
    )


def test_keywords_make_and_change_recipes() -> None:
    made = make_recipe(start="2020", end="2020-03", bands="B04", edge_size=1, units="km", catalog="earth-search")
    assert (str(made.time.range), made.layers[0].bands, made.layers[0].catalog) == ("2020-01-01/2020-03-31", ("B04",), ("earth-search",))  # type: ignore[attr-defined]
    again = make_recipe(RECIPES / "sentinel2/recipe.yaml", end="2018-06-30", resolution=20, bands=["B08"])
    assert (str(again.time.range), again.grid.resolution, again.grid.edge_size) == ("2018-01-01/2018-06-30", 20, 128)
    assert again.layers[0].bands == ("B08",)  # type: ignore[attr-defined]
    assert make_recipe(again, end="2018-05-31").time.start == "2018-01-01"
    twelve_months = make_recipe(end="2020-06-30").time
    assert (twelve_months.start, twelve_months.end) == ("2019-07-02", "2020-06-30")
    with pytest.raises(InputError, match="Unknown Sentinel-2 band 'B99'"):
        make_recipe(bands=["B99"])
    with pytest.raises(InputError, match="before start"):
        make_recipe(start="2020-02-01", end="2020-01-01")
