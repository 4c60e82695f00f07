"""What a server does to files decides the exit code and the one message; stdout stays empty and nothing is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cubekit.demo import World
from cubekit.testing.rangeserver import RangeServer
from cubekit_cli._errors import run
from cubekit_cli.main import app

PAGE = {"status": 200, "body": "<html>sign in</html>", "headers": {"Content-Type": "text/html"}}


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [({"status": 403}, 5, "All 8 assets were denied"), ({"status": 404}, 3, "8 of 8 asset reads failed"), (PAGE, 3, "web page")],
)
def test_bad_servers(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: dict[str, Any], code: int, message: str
) -> None:
    content = json.loads(world.catalog.read_text())
    lon, lat = world.sites["centre"]
    with RangeServer(world.root, rules=[{"path": r"\.tif", **answer}]) as server:
        for item in content["features"]:
            for asset in item["assets"].values():
                asset["href"] = f"{server.url}/{asset['href'].removeprefix('./')}"
        catalog = tmp_path / "catalog.json"
        catalog.write_text(json.dumps(content))
        where = ["--lat", str(lat), "--lon", str(lon), "--start", "2021-04-01", "--end", "2021-04-30", "--catalog", str(catalog)]
        what = ["--bands", "B04", "--edge-size", "16", "--nbar", "none", "--out", str(tmp_path / "out" / "a.zarr"), "--json", "--quiet"]
        found = run(app, ["build", *where, *what])
    told = capsys.readouterr()
    assert (found, told.out) == (code, "")
    assert message in told.err
    assert len(told.err.splitlines()) == 1
    assert not list(tmp_path.glob("out/*"))
