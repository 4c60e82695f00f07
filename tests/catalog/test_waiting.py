"""One answer of 429 holds back every process on the machine that shares a folder, and nobody else."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from cubekit.catalog._waiting import Throttle
from cubekit.errors import CatalogError
from cubekit.waiting import share_waiting

OTHER = """
import sys, time
from cubekit.waiting import share_waiting
from cubekit.catalog._waiting import Throttle
share_waiting(sys.argv[1])
began = time.monotonic()
Throttle().wait(began + 30, sys.argv[2])
print(time.monotonic() - began)
"""


@pytest.fixture(autouse=True)
def ended():
    yield
    share_waiting(None)


def waited(folder, url):
    done = subprocess.run([sys.executable, "-c", OTHER, str(folder), url], capture_output=True, text=True, check=True, env=None)
    return float(done.stdout)


def test_another_process_waits_for_the_same_host_only(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    share_waiting(tmp_path / "shared")
    Throttle().hold(20.0, "https://stac.example.org/search?token=secret")
    began = time.monotonic()
    with pytest.raises(CatalogError, match="did not answer in the time allowed"):
        Throttle().wait(time.monotonic() + 1, "https://stac.example.org/other")
    Throttle().wait(time.monotonic() + 1, "https://elsewhere.example.org")
    assert time.monotonic() - began < 1
    assert waited(tmp_path / "shared", "https://elsewhere.example.org") < 5
    Throttle().hold(25.0, "https://stac.example.org/")
    Throttle().hold(1.0, "https://stac.example.org/")
    left = Throttle._elsewhere("https://stac.example.org/")
    assert left > 20
    assert all("secret" not in path.name and b"secret" not in path.read_bytes() for path in (tmp_path / "shared").iterdir())


def test_the_wait_is_that_long(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    share_waiting(tmp_path)
    until = time.time() + 6
    Throttle().hold(6.0, "https://stac.example.org/")
    taken = waited(tmp_path, "https://stac.example.org/search")
    assert time.time() >= until - 0.1
    assert taken <= 6.1


def test_damaged_and_absurd_moments_hold_nobody_for_long(tmp_path):
    share_waiting(tmp_path)
    Throttle().hold(5.0, "https://h/")
    (file,) = tmp_path.iterdir()
    for text, most in (("", 0.0), ("soon", 0.0), ("nan", 0.0), (repr(time.time() + 1e9), 3600.0), ("0", 0.0)):
        file.write_text(text)
        assert Throttle._elsewhere("https://h/") <= most
    share_waiting(None)
    assert Throttle._elsewhere("https://h/") == 0.0
