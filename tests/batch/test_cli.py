"""`cubekit batch` and `cubekit sites` as a shell sees them: words, exit codes, JSON."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import batch_builders
import pytest
import yaml

from cubekit import batch
from cubekit.sampling import read_sites
from cubekit_cli._errors import run as run_cli
from cubekit_cli.main import app


@pytest.fixture
def cubekit(monkeypatch, capfd):
    """Runs a command; returns its exit code, output and messages."""
    monkeypatch.setattr(batch, "run", functools.partial(batch.run, build=batch_builders.build, describe=""))

    def call(*arguments):
        code = run_cli(app, [str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return call


@pytest.fixture
def files(tmp_path):
    recipe = {
        "name": "t",
        "grid": {"edge_size": 8},
        "time": {"start": "2020-01-01", "end": "2020-12-31"},
        "layers": [{"kind": "sentinel2"}],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    rows = ["id,lon,lat,biome", "a,12,51,x", "b,12.1,51,y", "nothing-1,12.2,51,x", "../../x,1,2,z", "c,12,91,z"]
    (tmp_path / "sites.csv").write_text("\n".join(rows))
    return tmp_path / "recipe.yaml", tmp_path / "sites.csv", tmp_path / "out"


def test_a_batch_from_the_first_look_to_the_registry(cubekit, files):
    recipe, sites, out = files
    code, said, err = cubekit("batch", recipe, sites, "-o", out, "--dry-run")
    assert (code, said) == (0, "3 of 3 sites to do (3 missing) in 2 granule tiles; refused rows: 2\n")
    assert "line 5: Site id '../../x' is not usable as a name" in err
    assert "line 6: Latitude 91" in err
    assert not out.exists()
    code, said, err = cubekit("batch", recipe, sites, "-o", out, "--executor", "serial")
    assert code == 3
    assert said.startswith("2 built, 1 nothing; 0 were done before")
    assert "nothing-1: nothing: No scene at nothing-1" in err
    assert "Traceback" not in err
    code, said, _ = cubekit("batch", "run", recipe, sites, "-o", out, "--executor", "serial", "--json", "-q")
    report = json.loads(said)
    assert (report["planned"], report["skipped"], report["counts"]) == (3, 2, {"nothing": 1})
    assert report["failures"][0]["id"] == "nothing-1"
    code, said, _ = cubekit("batch", "status", out, "--recipe", recipe, "--sites", sites)
    assert code == 0
    assert "2 built, 1 nothing" in said
    assert "A run would do: 1 failed" in said
    code, said, _ = cubekit("batch", "status", out, "--json")
    assert json.loads(said)["counts"] == {"built": 2, "nothing": 1}
    (out / "registry.parquet").unlink()
    code, said, _ = cubekit("batch", "merge", out)
    assert (code, said) == (0, f"2 cubes, 1 failures; {out}/registry.parquet\n")


def test_a_run_that_can_keep_nothing_says_why_and_makes_no_registry(cubekit, files):
    recipe, sites, out = files
    sites.write_text("id,lon,lat\n" + "".join(f"full-{number},12,{51 - number / 1000}\n" for number in range(5)))
    code, said, err = cubekit("batch", recipe, sites, "-o", out, "--executor", "serial")
    assert code == 3
    assert "Error: 3 sites in a row could not be kept: No space left for" in err
    assert "Free some space or write elsewhere; nothing was kept. Then run again: what is left is done, what is built stays." in err
    assert said.startswith("3 failed; 0 were done before")
    assert "Registry" not in said
    assert not (out / "registry.parquet").exists()
    sites.write_text(sites.read_text().replace("full-", "good-"))
    code, said, _ = cubekit("batch", recipe, sites, "-o", out, "--executor", "serial", "--json", "-q")
    assert (code, json.loads(said)["storage_failed"], json.loads(said)["counts"]) == (0, False, {"built": 5})


def test_a_second_run_is_refused_by_name(cubekit, files, recipe):
    from cubekit.batch._claim import Claim

    recipe_file, sites, out = files
    jobs = batch.plan(recipe, read_sites(sites), str(out))
    batch.open_folder(jobs.root).check()
    with Claim(jobs):
        code, said, err = cubekit("batch", recipe_file, sites, "-o", out, "--executor", "serial")
    assert (code, said) == (3, "")
    assert f"3 of these 3 sites are being done in {out} by another run: process {os.getpid()} on " in " ".join(err.split())


def test_shards_limits_and_retry_failed(cubekit, files):
    recipe, sites, out = files
    common = ("batch", recipe, sites, "-o", out, "--executor", "serial", "-q", "--json")
    assert json.loads(cubekit(*common, "--limit", 1)[1])["counts"] == {"built": 1}
    code, said, _ = cubekit(*common, "--shard", "2/3")
    assert json.loads(said)["planned"] == 1
    assert json.loads(cubekit(*common, "--retry-failed", "--dry-run")[1])["todo"] <= 1
    cubekit(*common)
    dry = json.loads(cubekit(*common, "--retry-failed", "--dry-run")[1])
    assert dry["reasons"] == {"failed": 1}
    assert dry["jobs"][0]["tile"] == "33UUS"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--shard", "4/3"), "not of the form 3/16"),
        (("--workers", "0"), "workers is 0"),
        (("--executor", "cloud"), "Executor 'cloud' is unknown"),
        (("--column", "lon"), "not of the form role=column"),
        (("--column", "lon=nix"), "has no column 'nix'"),
        (("--engine", "warp"), "engine 'warp' is unknown"),
        (("--scheduler", "tcp://127.0.0.1:1"), "No dask scheduler answers"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(cubekit, files, extra, message, monkeypatch):
    monkeypatch.setattr("cubekit.batch._dask.CONNECT", 1.0)
    recipe, sites, out = files
    code, _, err = cubekit("batch", recipe, sites, "-o", out, *extra)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_folder_that_cannot_be_made_is_told_before_any_site(cubekit, files, tmp_path):
    recipe, sites, _ = files
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        code, said, err = cubekit("batch", recipe, sites, "-o", out)
        assert (code, said) == (3, "")
        assert re.search(r"Error: Cannot write .*probe: (Not a directory|File exists)\. Make room, or check the permissions\n$", err)


def test_a_table_without_sites_is_a_usage_error(cubekit, files, tmp_path):
    (tmp_path / "header.csv").write_text("id,lon,lat\n")
    code, _, err = cubekit("batch", files[0], tmp_path / "header.csv", "-o", tmp_path / "out")
    assert code == 2
    assert "header.csv has no sites" in err


def test_status_of_nothing_is_nothing_found(cubekit, tmp_path):
    code, _, err = cubekit("batch", "status", tmp_path / "nowhere")
    assert code == 4
    assert "No outcomes" in err


def test_sites_are_checked_split_and_drawn(cubekit, tmp_path):
    rows = ["id,lon,lat,ev,start,end"]
    rows += [f"s{n},{n * 0.2},{n % 3},{'e' if n in (0, 20) else ''},2019-0{1 + n % 9}-01,2020-01-31" for n in range(30)]
    (tmp_path / "s.csv").write_text("\n".join([*rows, "bad,1,95,,,"]))
    code, said, err = cubekit("sites", "check", tmp_path / "s.csv")
    assert (code, said) == (3, "30 sites, refused rows: 1; columns: ev\n")
    assert "line 32" in err
    out = tmp_path / "split.parquet"
    code, said, _ = cubekit(
        "sites", "split", tmp_path / "s.csv", "-o", out, "--groups", 3, "--event", "ev", "--cut", "2019-05-01", "--json"
    )
    report = json.loads(said)
    assert (code, report["sites"], report["shared_events"]) == (3, 30, 0)
    assert report["min_cross_distance"] > 50 or len({s for s in report["sizes"] if s}) == 1
    table = read_sites(out)
    assert table["s0"]["group"] == table["s20"]["group"]
    assert set(table.column("period")) == {-1, 1}
    code, said, _ = cubekit("sites", "show", out, "-o", tmp_path / "map.png")
    assert code == 0
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = cubekit("sites", "split", tmp_path / "s.csv", "-o", out, "--event", "nix")
    assert (code, "There is no column 'nix'" in err) == (2, True)


def test_sites_are_sampled(cubekit, tmp_path):
    rows = ["lon,lat,land_cover,purity,event"]
    rows += [f"{n * 0.3},{n % 5},{'forest' if n % 2 else 'grass'},0.{90 + n % 10},{'e1' if n % 4 == 0 else ''}" for n in range(80)]
    (tmp_path / "c.csv").write_text("\n".join(rows))
    code, said, _ = cubekit("sites", "sample", tmp_path / "c.csv", "-o", tmp_path / "s.csv", "--per-stratum", 3, "--seed", 5)
    assert code == 0
    assert said.startswith("6 sites;")
    table = read_sites(tmp_path / "s.csv")
    assert len(table) == 6
    assert "seed=5" in table.entries[0]["sample"]


def test_a_sample_of_nothing_is_nothing_found(cubekit, tmp_path):
    (tmp_path / "c.csv").write_text("lon,lat,land_cover,event\n12,51,forest,False\n13,51,forest,\n")
    code, _, err = cubekit("sites", "sample", tmp_path / "c.csv", "-o", tmp_path / "s.csv")
    assert (code, "No site could be drawn: 0 sites; forest no event: 0 of 2" in err, "Ask for no partners" in err) == (4, True, True)
    assert not (tmp_path / "s.csv").exists()
    assert cubekit("sites", "sample", tmp_path / "c.csv", "-o", tmp_path / "s.csv", "--no-matched")[0] == 0


def test_help_needs_neither_xarray_nor_dask():
    code = "import sys; from cubekit_cli._errors import run; from cubekit_cli.main import app; run(app, ['batch', '--help']); run(app, ['sites', '--help']); "
    code += "sys.exit(int(bool({'xarray', 'dask', 'distributed', 'pandas', 'numba'} & set(sys.modules))))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


SCRIPT = """
import functools, sys
import batch_builders
from cubekit import batch
batch.run = functools.partial(batch.run, build=batch_builders.build, describe="")
from cubekit_cli.main import main
main()
"""


def start(files, names, *extra):
    recipe, sites, out = files
    sites.write_text("id,lon,lat\n" + "".join(f"{name},12.{n},51\n" for n, name in enumerate(names)))
    command = [sys.executable, "-c", SCRIPT, "batch", str(recipe), str(sites), "-o", str(out), "--workers", "1", *extra]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, seconds=120.0):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def test_ctrl_c_lets_the_running_site_finish_and_the_next_run_goes_on(files, cubekit):
    recipe, sites, out = files
    process = start(files, [f"slow-{n}" for n in range(6)])
    wait_for(out / "outcomes" / "slow-0.json")
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted, run again to go on" in said
    assert "Traceback" not in err
    done = sorted(path.stem for path in (out / "outcomes").iterdir())
    assert sorted(path.stem for path in (out / "cubes").iterdir()) == done
    assert 1 <= len(done) < 6
    report = json.loads(cubekit("batch", recipe, sites, "-o", out, "--executor", "serial", "--json", "-q")[1])
    assert (report["skipped"], report["counts"]) == (len(done), {"built": 6 - len(done)})


@pytest.mark.slow
def test_a_batch_that_is_killed_leaves_whole_cubes_and_no_workers(files, cubekit):
    import psutil

    recipe, sites, out = files
    process = start(files, ["slow-0", "slow-1", "hang-1", "slow-2"])
    wait_for(out / "outcomes" / "slow-1.json")
    time.sleep(0.5)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.communicate()
    assert psutil.wait_procs(children, timeout=20)[1] == []
    sites.write_text(sites.read_text().replace("hang-1", "fine-1"))
    report = json.loads(cubekit("batch", recipe, sites, "-o", out, "--executor", "serial", "--json", "-q")[1])
    assert (report["skipped"], report["counts"]) == (2, {"built": 2})
    assert sorted(path.name for path in (out / "cubes").iterdir() if path.is_dir()) == [
        "fine-1.zarr",
        "slow-0.zarr",
        "slow-1.zarr",
        "slow-2.zarr",
    ]
