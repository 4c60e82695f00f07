"""Bad input on the command line: one message with the value and the remedy, the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cubekit_cli._errors import run
from cubekit_cli.main import app

HERE = ["--lat", "51.34", "--lon", "12.37"]
DAYS = ["--start", "2021-06-01", "--end", "2021-06-30"]


@pytest.fixture
def empty_catalog(tmp_path: Path) -> str:
    path = tmp_path / "empty.json"
    path.write_text('{"type": "FeatureCollection", "features": []}')
    return str(path)


def attempt(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run(app, arguments)
    return code, " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--lat", "91", "--lon", "0"], 2, "Latitude 91 is outside [-90, 90]"),
        (["--lat", "0", "--lon", "200"], 2, "did you mean -160?"),
        ([*HERE, "--start", "2021-06-30", "--end", "2021-06-01"], 2, "end 2021-06-01 is before start 2021-06-30. Give start <= end"),
        ([*HERE, "--start", "June"], 2, "'June' is not a date. Write it as YYYY-MM-DD"),
        ([*HERE, "--bands", "B02,B77"], 2, "Unknown Sentinel-2 band 'B77'. Use any of: B01, B02"),
        ([*HERE, "--resolution", "0"], 2, "grid.resolution: Input should be greater than 0, got 0"),
        ([*HERE, "--edge-size", "-3"], 2, "got -3"),
        ([*HERE, "--units", "cubits"], 2, "Unknown unit of length 'cubits'"),
        ([*HERE, "--engine", "warp9"], 2, "engine 'warp9' is unknown. Use one of window, odc, stackstac, rasterio"),
        ([*HERE, "--catalog", "no/such/file.json"], 2, "There is no catalogue 'no/such/file.json'"),
        ([*HERE, "--recipe", "no/such/recipe.yaml"], 2, "Recipe no/such/recipe.yaml cannot be read"),
        ([*HERE, "--catalog", "http://127.0.0.1:9/stac", *DAYS], 3, "http://127.0.0.1:9/stac"),
        ([*HERE, "--bands", ""], 2, "No bands are asked for. Name some of: B01"),
        (["--lon", "0"], 2, "Missing option '--lat'"),
    ],
)
def test_build_tells_what_is_wrong(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found, words = attempt(["build", *arguments, "--quiet"], capsys)
    assert message in words
    assert found == code
    assert "Traceback" not in words
    assert list(tmp_path.iterdir()) == []


def test_no_scene_is_an_error_of_its_own(empty_catalog: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / "cube.zarr"
    code, words = attempt(["build", *HERE, *DAYS, "--catalog", empty_catalog, "--out", str(out), "--quiet"], capsys)
    assert code == 4
    assert "No scene of sentinel-2-l2a" in words
    assert "lat=51.34" in words
    assert not out.exists()


def test_an_output_that_exists_is_kept(empty_catalog: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "cube.zarr"
    out.mkdir()
    (out / "mine").write_text("precious")
    code, words = attempt(["build", *HERE, *DAYS, "--catalog", empty_catalog, "--out", str(out), "--quiet"], capsys)
    assert code == 2
    assert "exists" in words
    assert (out / "mine").read_text() == "precious"


def test_a_recipe_typo_names_file_key_and_allowed_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("time: {start: 2020-01-01, end: 2020-02-01}\nlayers: [{kind: sentinel2, bandz: [B02]}]\n")
    code, words = attempt(["recipe", "check", str(path)], capsys)
    assert code == 2
    assert f"{path} does not fit: layers.0.bandz: unknown key; did you mean 'bands'? (allowed: bands, catalog" in words


def test_internal_errors_are_short_and_say_how_to_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import cubekit.recipe

    def broken(path: Path) -> None:
        raise RuntimeError("https://x.org/a?sig=CANARY")

    monkeypatch.setattr(cubekit.recipe, "load_recipe", broken)
    code, words = attempt(["recipe", "check", "x.yaml"], capsys)
    assert code == 1
    assert words.startswith("Internal error: RuntimeError: https://x.org/a?sig=***")
    assert "Traceback" not in words


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; sys.argv = ['cubekit', '--help']\n"
        "from cubekit_cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'xarray', 'dask', 'numba', 'zarr', 'rasterio', 'numpy', 'pandas', 'pydantic'} & set(sys.modules)\n"
        "sys.stderr.write('loaded: ' + ' '.join(sorted(heavy)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_paths())
    assert "validate" in done.stdout
    assert done.stderr.strip() == "loaded:"


def test_import_cubekit_is_light() -> None:
    code = "import sys, cubekit; print(cubekit.__version__, *sorted({'xarray', 'dask', 'numba', 'zarr', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_paths())
    assert done.stdout.split() == ["0.1.0"]


def _paths() -> dict[str, str]:
    import os

    root = Path(__file__).resolve().parents[2]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "cli")])}


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "cube.zarr", "-o", "s3://bucket/cube.png"],
        ["sites", "split", "sites.csv", "-o", "s3://bucket/split.csv"],
        ["sites", "show", "sites.csv", "-o", "gs://bucket/map.png"],
        ["batch", "r.yaml", "sites.csv", "-o", "out", "--cache-dir", "s3://bucket/cache"],
        ["build", "--lat", "1", "--lon", "1", "--cache-dir", "s3://bucket/cache"],
    ],
)
def test_a_url_where_only_a_file_can_be_is_refused(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(app, arguments) == 2
    assert "Error: A file or folder on this machine is needed, not one behind " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
