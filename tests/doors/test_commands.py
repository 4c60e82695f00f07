"""The command line when all is well, and when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import cubekit
from cubekit.demo import World
from cubekit.read import forget_headers
from cubekit.testing.rangeserver import RangeServer
from cubekit_cli._errors import run
from cubekit_cli.main import app

pytestmark = pytest.mark.filterwarnings("ignore:.*sun zenith reaches:cubekit.errors.ScienceWarning")

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--bands", "B04,B8A", "--edge-size", "24", "--start", "2021-05-01", "--end", "2021-06-15"]


@pytest.fixture(scope="module")
def here(world: World) -> list[str]:
    lon, lat = world.sites["centre"]
    return ["--lat", str(lat), "--lon", str(lon), "--catalog", str(world.catalog)]


@pytest.fixture(scope="module")
def cube(here: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "cube.zarr"
    assert run(app, ["build", *here, *SMALL, "--out", str(path), "--quiet"]) == 0
    return path


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(app, [str(argument) for argument in arguments])
    done = capsys.readouterr()
    return code, done.out, done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "CUBE", "-o", "x.jpeg"], 2, "x.jpeg is no name of a picture. Let it end in .png, .pdf, .svg"),
        (["show", "CUBE", "-o", "CUBE/zarr.json/x.png"], 3, "Cannot write"),
        (["lock", "HERE", "-o", "no/such/folder/x.json"], 2, "no/such/folder/x.json is no file in a folder that exists"),
    ],
)
def test_outputs_that_cannot_be_written(
    arguments: list[str], code: int, message: str, here: list[str], cube: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("CUBE", str(cube)) for argument in arguments for word in (here if argument == "HERE" else [argument])]
    found, out, err = call(capsys, *words)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_every_help_is_plain_text_and_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for command in _commands(typer.main.get_command(app)):
        code, out, _ = call(capsys, *command, "--help")
        assert code == 0
        assert out.startswith("Usage: ")
        assert "\u2500" not in out


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        assert command.help, (*path, name)
        if hasattr(command, "list_commands"):
            yield from _commands(command, (*path, name))
            continue
        yield (*path, name)
        for parameter in command.params:
            assert getattr(parameter, "help", None), (*path, name, parameter.name)


def test_build_reports_on_stdout_and_progress_on_stderr(here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "build", *here, *SMALL, "--out", tmp_path / "a.zarr")
    assert code == 0
    assert out.startswith("a.zarr: ")
    assert len(out.splitlines()) == 1
    assert {line.split(":")[0] for line in err.splitlines()} == {"search", "read", "correct"}
    code, out, err = call(capsys, "build", *here, *SMALL, "--out", tmp_path / "b.zarr", "--json", "--quiet")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert set(result) == {"path", "digest", "scenes", "holes", "requests", "bytes", "retries", "seconds", "misses"}
    assert result["holes"] == 0
    assert cubekit.open(tmp_path / "b.zarr").sizes["time"] == result["scenes"] > 0


def test_build_has_defaults_for_all_but_the_place(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lon, lat = world.sites["centre"]
    code, out, _ = call(capsys, "build", "--lat", lat, "--lon", lon, "--catalog", world.catalog, "--edge-size", 4, "--json", "--quiet")
    (made,) = tmp_path.iterdir()
    assert code == 0
    assert made.name == "E012.006000_N51.331000.zarr"
    days = cubekit.open(made).time.values.astype("datetime64[D]")
    assert (days[0].astype(str)[:4], days[-1].astype(str)[:4]) == ("2021", "2022"), "all days of a catalogue in a file"
    assert len(days) == json.loads(out)["scenes"]


def test_an_existing_cube_is_replaced_only_on_request(here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = ["build", *here, *SMALL, "--out", str(tmp_path / "a.zarr"), "--quiet"]
    assert call(capsys, *build)[0] == 0
    code, _, err = call(capsys, *build, "--edge-size", "8")
    assert (code, "exists" in err) == (2, True)
    assert cubekit.open(tmp_path / "a.zarr").sizes["x"] == 24
    assert call(capsys, *build, "--edge-size", "8", "--overwrite")[0] == 0
    assert cubekit.open(tmp_path / "a.zarr").sizes["x"] == 8
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_info_validate_and_show(cube: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "info", cube)
    assert (code, err) == (0, "")
    assert "B8A" in out
    code, out, err = call(capsys, "info", cube, "--json")
    assert (code, err) == (0, "")
    assert isinstance(json.loads(out), dict)
    assert call(capsys, "validate", cube) == (0, f"{cube}: valid\n", "")
    assert call(capsys, "validate", cube, "--json") == (0, "[]\n", "")
    code, out, _ = call(capsys, "show", cube, "--out", tmp_path / "sheet.png")
    assert (code, out) == (0, f"{tmp_path / 'sheet.png'}\n")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_validate_names_what_is_wrong_and_exits_with_3(cube: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    bad = tmp_path / "bad.zarr"
    shutil.copytree(cube, bad)
    metadata = json.loads((bad / "B04" / "zarr.json").read_text())
    root = json.loads((bad / "zarr.json").read_text())
    for place in (metadata, root.get("consolidated_metadata", {}).get("metadata", {}).get("B04", {})):
        place.get("attributes", {}).pop("standard_name", None)
        place.get("attributes", {}).pop("long_name", None)
        place.get("attributes", {}).pop("units", None)
    (bad / "B04" / "zarr.json").write_text(json.dumps(metadata))
    (bad / "zarr.json").write_text(json.dumps(root))
    code, out, _ = call(capsys, "validate", bad, "--json")
    assert code == 3
    assert any("B04" in json.dumps(problem) for problem in json.loads(out))


@pytest.mark.parametrize("command", ["info", "validate", "show"])
def test_what_is_no_cube_is_told(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, command, tmp_path / "none.zarr")
    assert code in (2, 3)
    assert out == ""
    assert "none.zarr" in err
    assert "Traceback" not in err


def test_diff_exits_with_3_where_cubes_differ(cube: Path, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "diff", cube, cube) == (0, "no difference\n", "")
    assert call(capsys, "build", *here, *SMALL, "--nbar", "none", "--out", tmp_path / "b.zarr", "--quiet")[0] == 0
    code, out, err = call(capsys, "diff", cube, tmp_path / "b.zarr", "--json")
    assert (code, err) == (3, "")
    assert json.loads(out)


def test_recipe_commands_print_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "recipe", "schema")
    assert (code, err) == (0, "")
    assert json.loads(out)["$schema"].endswith("2020-12/schema")
    code, out, err = call(capsys, "recipe", "check", ROOT / "recipes/sentinel2/recipe.yaml")
    assert (code, err) == (0, "")
    assert json.loads(out)["recipe"]["name"] == "sentinel2"


def test_recipes_give_way_to_options(here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ROOT / "recipes/sentinel2/recipe.yaml"
    code, _, _ = call(capsys, "build", *here, *SMALL, "--recipe", recipe, "--out", tmp_path / "a.zarr", "--quiet")
    made = cubekit.open(tmp_path / "a.zarr")
    assert code == 0
    assert (made.sizes["x"], "B02" in made, made.attrs["title"]) == (24, False, "Sentinel-2 nadir BRDF-adjusted surface reflectance")


def test_a_lock_makes_the_same_cube(cube: Path, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "cube.lock.json"
    code, out, _ = call(capsys, "lock", *here, *SMALL, "--out", lock)
    assert code == 0
    assert out.startswith(f"{lock}: ")
    assert call(capsys, "build", "--locked", lock, "--out", tmp_path / "again.zarr", "--quiet")[0] == 0
    assert call(capsys, "diff", cube, tmp_path / "again.zarr")[0] == 0
    code, _, err = call(capsys, "build", "--locked", lock, "--lat", "1", "--out", tmp_path / "x.zarr", "--quiet")
    assert (code, "A lock brings its own site and recipe; --lat was given too" in err) == (2, True)


@pytest.fixture
def misses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tiles whose leading part was asked for by estimate and proved too short: what a plan cannot know."""
    import cubekit.layers.sentinel2._pixels as pixels

    seen: list[int] = []
    original = pixels.read_assets

    def watched(*given: Any, **options: Any) -> Any:
        outcomes = original(*given, **options)
        seen.extend(outcome.misses for outcome in outcomes)
        return outcomes

    monkeypatch.setattr(pixels, "read_assets", watched)
    return seen


def agree(planned: dict[str, Any], counted: dict[str, Any], misses: list[int]) -> None:
    assert planned["scenes"] == counted["scenes"]
    assert planned["requests"] + sum(misses) == counted["requests"]
    assert planned["bytes"] == counted["bytes"] if not sum(misses) else 0 < counted["bytes"] - planned["bytes"] < 0.01 * planned["bytes"]


def close(planned: dict[str, Any], counted: dict[str, Any]) -> bool:
    """Equal, but for tiles whose leading part proves too short (a miss): each costs one more request that no plan can know."""
    misses = counted["requests"] - planned["requests"]
    more = counted["bytes"] - planned["bytes"]
    return planned["scenes"] == counted["scenes"] and 0 <= misses <= 0.05 * planned["requests"] and 0 <= more <= 0.02 * planned["bytes"]


def planned_and_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `plan` and then `build` say, each knowing no headers."""
    forget_headers()
    code, out, _ = call(capsys, "plan", *arguments, "--json")
    assert code == 0
    planned = json.loads(out)
    forget_headers()
    code, out, _ = call(capsys, "build", *arguments, "--out", tmp_path / "a.zarr", "--json", "--quiet", "--overwrite")
    assert code == 0
    total = {key: sum(layer[key] for layer in planned) for key in ("requests", "bytes", "scenes")}
    return total, {key: json.loads(out)[key] for key in ("requests", "bytes", "scenes")}


@pytest.mark.parametrize("edge", [24, 620])
def test_plan_says_what_a_build_counts(
    edge: int, here: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], misses: list[int]
) -> None:
    size = ["--edge-size", str(edge)]
    planned, counted = planned_and_counted(capsys, tmp_path, [*here, *SMALL, *size])
    agree(planned, counted, misses)
    assert edge < 516 or sum(misses) == 0, "whole tiles are planned exactly"
    code, out, _ = call(capsys, "plan", *here, *SMALL, *size)
    assert code == 0
    assert out.startswith(f"sentinel2: {counted['scenes']} scenes, ")


def test_plan_covers_every_layer(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], misses: list[int]) -> None:
    lon, lat = world.sites["centre"]
    days = {"start": "2021-05-01", "end": "2021-06-01"}
    catalog = str(world.catalog)
    layers = [
        {"kind": "sentinel2", "catalog": catalog, "bands": ["B04"]},
        {"kind": "dem", "catalog": catalog},
        {"kind": "landcover", "catalog": catalog},
        {"kind": "era5land", "source": "demo"},
    ]
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps({"name": "all", "grid": {"edge_size": 16}, "time": days, "layers": layers}))
    planned, counted = planned_and_counted(capsys, tmp_path, ["--lat", str(lat), "--lon", str(lon), "--recipe", str(path)])
    agree(planned, counted, misses)


def test_plan_is_what_goes_over_the_network(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], misses: list[int]) -> None:
    lon, lat = world.sites["centre"]
    content = json.loads(world.catalog.read_text())
    with RangeServer(world.root) as server:
        for item in content["features"]:
            for asset in item["assets"].values():
                asset["href"] = f"{server.url}/{asset['href'].removeprefix('./')}"
        (tmp_path / "catalog.json").write_text(json.dumps(content))
        arguments = ["--lat", str(lat), "--lon", str(lon), "--catalog", str(tmp_path / "catalog.json"), *SMALL]
        planned, counted = planned_and_counted(capsys, tmp_path, arguments)
        agree(planned, counted, misses)
        forget_headers()
        server.stats(reset=True)
        assert call(capsys, "build", *arguments, "--out", tmp_path / "b.zarr", "--quiet")[0] == 0
        seen = server.stats()
    assert {key: seen[key] for key in ("requests", "bytes")} == {key: counted[key] for key in ("requests", "bytes")}


def test_plan_tells_where_nothing_is(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "plan", "--lat", 10, "--lon", 10, "--catalog", world.catalog)
    assert code == 4
    assert "No scene of sentinel-2-l2a" in err


def start(arguments: list[str], *, stop_at: str) -> subprocess.Popen[str]:
    """A build in a process of its own, returned once it has said that it reached a stage."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    # What a shell starts in the background ignores SIGINT, and so do its children unless they are told.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    command, environment = [sys.executable, "-m", "cubekit_cli", *arguments], {**os.environ, "PYTHONPATH": paths}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **heard)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(stop_at):
            return process
    raise AssertionError(f"the build ended with {process.wait()} before {stop_at!r}")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
@pytest.mark.parametrize("stage", [pytest.param("search: 1/1", marks=pytest.mark.slow), "correct"])
def test_what_is_stopped_leaves_nothing_under_the_name(
    world: World, here: list[str], tmp_path: Path, sent: signal.Signals, code: int, stage: str
) -> None:
    out = tmp_path / "cube.zarr"
    process = start(["build", *here, *SMALL, "--edge-size", "128", "--out", str(out)], stop_at=stage)
    process.send_signal(sent)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == code
    assert not out.exists()
    if sent is signal.SIGINT:
        # Where the interrupt came while asyncio made its loop, Python's own last words about that half-made loop follow.
        assert "Interrupted: nothing half-written was kept\n" in rest
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_demo_leaves_a_valid_cube_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "demo", "--out", tmp_path / "demo")
    assert code == 0
    assert "scenes" in out
    assert (tmp_path / "demo" / "cube.png").read_bytes().startswith(b"\x89PNG")
    assert call(capsys, "validate", tmp_path / "demo" / "cube.zarr") == (0, f"{tmp_path / 'demo' / 'cube.zarr'}: valid\n", "")


def test_the_demo_knows_its_sites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "demo", "--site", "atlantis", "--out", tmp_path / "demo", "--quiet")
    assert (code, "The simulated world has no site 'atlantis'. Use one of centre" in err) == (2, True)
    assert list(tmp_path.iterdir()) == []
