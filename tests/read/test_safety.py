"""What comes from outside is hostile: addresses, contents, redirects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cubekit.read import AssetRead, ReadOptions, ReadStatus, read_assets, read_bytes
from cubekit.testing.cogs import unique_pixels, write_cog
from tests.read.conftest import GRID, World

ENGINES: list[Any] = ["window", "rasterio", "odc", "stackstac"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    inside.mkdir()
    write_cog(inside / "a.tif", unique_pixels(256, 300))
    write_cog(tmp_path / "outside.tif", unique_pixels(256, 300))
    (inside / "link.tif").symlink_to(tmp_path / "outside.tif")
    (inside / "evil.tif").write_text(
        f'<VRTDataset rasterXSize="256" rasterYSize="256"><SourceFilename>{tmp_path}/outside.tif</SourceFilename></VRTDataset>'
    )
    return inside


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "href",
    [
        "/vsicurl/http://example.com/a.tif", "/vsimem/a.tif", "/vsizip/a.zip/a.tif", "/etc/passwd", "../outside.tif", "link.tif",
        "evil.tif",
        "file:///etc/passwd", "ftp://example.com/a.tif", "gopher://x/", "GTIFF_DIR:1:/etc/passwd", "vrt:///etc/passwd", "data://x",
        "http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/a.tif", "http://[::ffff:169.254.169.254]/a.tif",
        "http://metadata.google.internal/a.tif", "http:///a.tif", "http://100.100.100.200/", "http://0.0.0.0/a.tif",
    ],
)  # fmt: skip
def test_such_hrefs_are_refused_by_every_engine(folder: Path, engine: Any, href: str) -> None:
    out = np.full((1, *GRID.shape), 7, "uint16")
    outcome = read_assets([AssetRead(href, nodata=0)], GRID, out, options=ReadOptions(engine=engine, local_root=folder, retries=0))[0]
    assert outcome.status in (ReadStatus.REFUSED, ReadStatus.MISSING), outcome
    if not href.startswith("GTIFF_DIR"):  # which is just a file that does not exist
        assert outcome.status is ReadStatus.REFUSED
    assert (out == 0).all()


def test_local_paths_need_a_root(folder: Path) -> None:
    out = np.zeros((1, *GRID.shape), "uint16")
    outcome = read_assets([AssetRead(str(folder / "a.tif"))], GRID, out)[0]
    assert outcome.status is ReadStatus.REFUSED
    assert "local_root" in outcome.message


def test_a_root_that_comes_to_lead_elsewhere_gives_nothing_from_there(folder: Path) -> None:
    root, elsewhere = folder.parent / "root", folder.parent / "elsewhere"
    elsewhere.mkdir()
    write_cog(elsewhere / "a.tif", unique_pixels(256, 300, seed=3))
    root.symlink_to(folder)
    options = ReadOptions(local_root=root)
    out = np.zeros((2, *GRID.shape), "uint16")
    assert read_assets([AssetRead("a.tif")], GRID, out[:1], options=options)[0].status is ReadStatus.OK
    root.unlink()
    root.symlink_to(elsewhere)
    again, other = read_assets([AssetRead("a.tif"), AssetRead(str(elsewhere / "a.tif"), nodata=0)], GRID, out[::-1].copy(), options=options)
    assert (again.status, other.status) == (ReadStatus.OK, ReadStatus.REFUSED)


@pytest.mark.parametrize("form", ["a.tif", "{}/a.tif", "file://{}/a.tif"])
def test_local_paths_below_the_root_are_read(folder: Path, form: str) -> None:
    out = np.zeros((1, *GRID.shape), "uint16")
    outcome = read_assets([AssetRead(form.format(folder))], GRID, out, options=ReadOptions(local_root=folder))[0]
    assert outcome.status is ReadStatus.OK
    np.testing.assert_array_equal(out[0], unique_pixels(256, 300)[0, 70:118, 50:114])


def test_missing_local_file(folder: Path) -> None:
    out = np.zeros((1, *GRID.shape), "uint16")
    outcome = read_assets([AssetRead("none.tif")], GRID, out, options=ReadOptions(local_root=folder))[0]
    assert outcome.status is ReadStatus.MISSING


def test_a_host_name_that_resolves_to_link_local_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    real = socket.getaddrinfo

    def fake(host: Any, *rest: Any, **named: Any) -> Any:
        if host in ("innocent.example", b"innocent.example"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]
        return real(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", fake)
    out = np.zeros((1, *GRID.shape), "uint16")
    outcome = read_assets([AssetRead("http://innocent.example/a.tif")], GRID, out)[0]
    assert outcome.status is ReadStatus.REFUSED
    assert "link-local" in outcome.message


def test_a_signer_cannot_lead_astray(world: World) -> None:
    out = np.zeros((1, *GRID.shape), "uint16")
    outcome = read_assets([world.read("a.tif")], GRID, out, sign=lambda href: "http://169.254.169.254/x")[0]
    assert outcome.status is ReadStatus.REFUSED


def test_messages_hold_no_secret(world: World) -> None:
    world.rules({"status": 500})
    out = np.zeros((1, *GRID.shape), "uint16")
    options = ReadOptions(retries=0)
    for href in (f"{world.server.url}/a.tif?sig=hush&se=2030", world.server.url.replace("://", "://user:hush@") + "/a.tif"):
        outcome = read_assets([AssetRead(href)], GRID, out, options=options)[0]
        assert outcome.status is ReadStatus.FAILED
        assert "hush" not in outcome.message


def test_small_files_obey_the_same_rules(folder: Path, world: World) -> None:
    (world.root / "meta.xml").write_text("<metadata/>")
    answers = read_bytes(
        [
            f"{world.server.url}/meta.xml",
            f"{world.server.url}/none.xml",
            "/etc/passwd",
            "http://169.254.169.254/",
            f"{world.server.url}/meta.xml",
        ],
        options=ReadOptions(local_root=folder),
    )
    assert answers[0] == answers[4] == b"<metadata/>"
    assert [answer.status for answer in answers[1:4] if not isinstance(answer, bytes)] == [
        ReadStatus.MISSING, ReadStatus.REFUSED, ReadStatus.REFUSED,
    ]  # fmt: skip
    assert world.asked() == 2
