"""A canary in every signature, token and key: builds that pass and builds that fail write it nowhere."""

from __future__ import annotations

import gzip
import json
import logging
import pickle
import sqlite3
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import cubekit
from cubekit.api import run_locked
from cubekit.batch import RunOptions, merge, plan, run
from cubekit.errors import CubekitError
from cubekit.locking import lock_cube
from cubekit.redact import redact
from cubekit.sampling import SiteTable
from cubekit.testing.stacserver import Fault, StacServer, TokenServer
from cubekit_cli._errors import run as run_cli
from cubekit_cli.main import app
from tests.safety.conftest import Bench, QuickSession, rewritten

CANARY = "CANARY7f3a9"
KEYS = ("AWS_SECRET_ACCESS_KEY", "PC_SDK_SUBSCRIPTION_KEY", "CDSAPI_KEY", "AZURE_STORAGE_SAS_TOKEN", "EARTHDATA_PASSWORD")

pytestmark = pytest.mark.filterwarnings("ignore::cubekit.errors.CubekitWarning")


@pytest.fixture
def tainted(bench: Bench) -> Iterator[Bench]:
    """A catalogue whose items carry signatures wherever a text can stand."""
    query = f"?st=2020-01-01&se=2039-01-01&sp=rl&sig={CANARY}"
    items = rewritten(bench.world, bench.files.url)
    for item in items:
        item["properties"]["preview"] = f"https://a.example/x.png{query}"
        item["properties"]["nested"] = [{"deep": f"see https://a.example/x{query}&token={CANARY}"}]
        item["links"] = [{"rel": "self", "href": f"{bench.files.url}/items/{item['id']}{query}"}]
        for asset in item["assets"].values():
            asset["href"] += query
            asset["alternate"] = {"other": {"href": f"https://b.example/x{query}"}}
            asset["xarray:open_kwargs"] = {"url": f"https://a.example/x{query}"}
    clean = bench.stac
    with StacServer(items) as stac:
        bench.stac = stac
        yield bench
    bench.stac = clean


class Watch:
    """Everything a test wrote, looked through for the canary: files (unpacked where packed), logs, outputs, warnings, tracebacks."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self.caplog, self.capfd = folder, caplog, capfd
        self.texts: list[str] = []

    def note(self, error: BaseException) -> None:
        self.texts += ["".join(traceback.format_exception(error)), repr(error), str(getattr(error, "context", ""))]
        self.texts.append(repr(pickle.dumps(error)))

    def bytes_written(self) -> Iterator[tuple[str, bytes]]:
        for path in self.folder.rglob("*"):
            yield str(path), str(path).encode()
            if path.is_file():
                data = path.read_bytes()
                yield str(path), data
                if data[:2] == b"\x1f\x8b":
                    yield f"{path} (unpacked)", gzip.decompress(data)
                if data[:6] == b"SQLite":
                    with closing(sqlite3.connect(path)) as database:
                        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                        rows = [row for table in tables for row in database.execute(f"SELECT * FROM {table}")]
                    for row in rows:  # in the file itself a long text may lie in pieces
                        yield f"{path} {row[0]}", b"".join(part if isinstance(part, bytes) else str(part).encode() for part in row)

    def check(self) -> None:
        hits = [name for name, data in self.bytes_written() if CANARY.encode() in data]
        out, err = self.capfd.readouterr()
        hits += [text[:2000] for text in [*self.texts, out, err, self.caplog.text] if CANARY in text]
        assert not hits, hits[:3]


@pytest.fixture
def watch(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Watch:
    for key in KEYS:
        monkeypatch.setenv(key, f"{CANARY}-{key}")
    monkeypatch.setenv("CUBEKIT_DEBUG", "1")
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, logger="stac_geoparquet")  # whose own messages do not format
    for name in ("urllib3", "asyncio", "rasterio", "pystac_client"):
        caplog.set_level(logging.DEBUG, logger=name)
    return Watch(tmp_path, caplog, capfd)


def sessions(tmp_path: Path, **settings: Any) -> QuickSession:
    return QuickSession(cache_dir=tmp_path / "cache", **settings)


PASSING: dict[str, list[dict[str, Any]]] = {
    "clean": [],
    "transient": [{"status": 503, "every": 5}],
    "short": [{"length": 60, "times": 3, "start": "later"}],
    "echo": [{"status": 429, "body": f"you sent sig={CANARY}", "headers": {"Retry-After": "0"}, "times": 3}],
}


@pytest.mark.parametrize("name", PASSING)
def test_passing_builds(tainted: Bench, watch: Watch, tmp_path: Path, name: str) -> None:
    tainted.script(*PASSING[name])
    result = tainted.build(session=sessions(tmp_path))
    assert result.scenes == 4
    watch.texts.append(repr(result))
    assert list((tmp_path / "cache").rglob("search-*.gz"))
    assert list((tmp_path / "cache").rglob("headers-*.sqlite"))
    watch.check()


def test_the_watch_sees(tainted: Bench, watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(CANARY.encode()))
    with pytest.raises(AssertionError, match=r"x\.gz"):
        watch.check()


def test_a_signed_build(bench: Bench, signed: Bench, endpoint: Callable[[TokenServer], QuickSession], watch: Watch, tmp_path: Path) -> None:
    with TokenServer(signature=CANARY) as tokens:
        session = endpoint(tokens)
        session.cache_dir = tmp_path / "cache"
        signed.script({"unless_future": "se", "status": 403})
        assert signed.build(session=session).digest == signed.clean
        assert tokens.issued
        assert any("Ocp-Apim-Subscription-Key" in record.headers for record in tokens.records)
    watch.check()


def test_a_lock_and_its_build(tainted: Bench, watch: Watch, tmp_path: Path) -> None:
    lock = tmp_path / "a.lock.json"
    lock_cube(tainted.recipe(), tainted.site, lock, session=sessions(tmp_path))
    assert run_locked(lock, out=tmp_path / "b.zarr", session=sessions(tmp_path)).scenes == 4
    watch.check()


def test_the_graph_of_a_lazy_cube(tainted: Bench, watch: Watch) -> None:
    lon, lat = tainted.world.sites["centre"]
    when = (tainted.world.parameters.start, tainted.world.parameters.end)
    cube = cubekit.create(lat, lon, "sentinel-2-l2a", *when, bands=["B04"], edge_size=16, stac=tainted.stac.url)
    pickled = cloudpickle.dumps(cube)
    assert CANARY.encode() not in pickled
    assert CANARY not in repr(dict(cube.data.__dask_graph__()))
    assert CANARY not in repr(cube.attrs) + repr(cube.coords)
    assert float(cube.mean()) > 0
    watch.check()


FAILING: dict[str, dict[str, Any]] = {
    "504": {"status": 504, "body": f"https://h/x?sig={CANARY}"},
    "403": {"status": 403, "body": f"AuthenticationFailed sig={CANARY}"},
    "html": {"status": 200, "body": f"<html>sig={CANARY}", "content_type": "text/html"},
    "redirect": {"status": 302, "headers": {"Location": f"http://169.254.169.254/x?sig={CANARY}"}},
    "no-address": {"status": 302, "headers": {"Location": f"http://[?sig={CANARY}"}},
    "reset": {"reset_after": 10},
}


@pytest.mark.parametrize("name", FAILING)
def test_failing_builds(tainted: Bench, watch: Watch, tmp_path: Path, name: str) -> None:
    tainted.script(FAILING[name])
    with warnings.catch_warnings(record=True) as caught, pytest.raises(CubekitError) as error:
        warnings.simplefilter("always")
        tainted.build(session=sessions(tmp_path))
    watch.note(error.value)
    watch.texts += [str(entry.message) for entry in caught]
    watch.check()


@pytest.mark.parametrize(
    "fault", [Fault("status", 403), Fault("html"), Fault("redirect", location=f"http://h/?token={CANARY}")], ids=lambda f: f.kind
)
def test_failing_searches(tainted: Bench, watch: Watch, tmp_path: Path, fault: Fault) -> None:
    tainted.stac.script(always=fault)
    with pytest.raises(CubekitError) as error:
        tainted.build(session=sessions(tmp_path))
    watch.note(error.value)
    watch.check()


def test_the_command_line(tainted: Bench, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passing, failing, and failing by a bug, with the traceback asked for."""
    lon, lat = tainted.world.sites["centre"]
    words = ["build", f"--lat={lat}", f"--lon={lon}", "--start=2021-01-01", "--end=2022-12-31", "--bands=B04", "--edge-size=16"]
    words += [f"--catalog={tainted.stac.url}", f"--cache-dir={tmp_path / 'cache'}"]
    assert run_cli(app, [*words, f"--out={tmp_path / 'a.zarr'}", "--json"]) == 0
    tainted.script({"status": 404})
    assert run_cli(app, [*words, f"--out={tmp_path / 'b.zarr'}"]) == 3

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"GET https://a.example/x?sv=1&sig={CANARY} AWS_SECRET_ACCESS_KEY={CANARY} {{'CDSAPI_KEY': '{CANARY}'}}")

    monkeypatch.setattr("cubekit.api.build_cube", broken)
    assert run_cli(app, [*words, f"--out={tmp_path / 'c.zarr'}"]) == 1
    watch.check()


def test_a_batch(tainted: Bench, watch: Watch, tmp_path: Path) -> None:
    """Worker processes, outcomes, items and registry; one site passes, one fails."""
    lon, lat = tainted.world.sites["centre"]
    sites = SiteTable.from_records([{"id": "good", "lon": lon, "lat": lat}, {"id": "bad", "lon": lon, "lat": lat + 0.5}])
    jobs = plan(tainted.recipe(), sites, str(tmp_path / "batch"))
    watch.texts.append(repr(pickle.dumps(tuple(jobs))))
    report = run(jobs, RunOptions(workers=1, retries=0))
    merge(jobs.root)
    assert sorted(outcome.status for outcome in report.outcomes) == ["built", "nothing"]
    watch.texts += [json.dumps(outcome.to_json().decode()) for outcome in report.outcomes]
    watch.check()


@pytest.mark.parametrize(
    "text",
    [
        "sig={}", "(sig={})", "https%3A%2F%2Fh%2Fx%3Fsig%3D{}%26se%3D2", "{{'sig': '{}'}}", '{{"token": "{}"}}', "?X-Amz-Signature={}&x=1",
        "{{'Ocp-Apim-Subscription-Key': '{}'}}", "x-api-key: {}", "AWS_SECRET_ACCESS_KEY={}", "environ({{'CDSAPI_KEY': '{}'}})",
        "Authorization: Bearer {}", "https://u:{}@h/x", "password={}", "PC_SDK_SUBSCRIPTION_KEY={}",
    ],
)  # fmt: skip
def test_the_redactor(text: str) -> None:
    assert CANARY not in redact(text.format(CANARY))
    json_text = json.dumps({"a": text.format(CANARY + '"x')})
    assert redact(json_text)
    assert redact(redact(json_text)) == redact(json_text)
