"""SIGKILL at seeded moments leaves nothing under the final name, or the whole cube; every next run is as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.conftest import keys_of

SCRIPT = Path(__file__).with_name("kill_writers.py")


def run(target: str, mode: str, moments: int, repository: str) -> dict:
    environment = {**os.environ, "PYTHONPATH": repository}
    command = [sys.executable, "-W", "ignore", str(SCRIPT), target, mode, str(moments), "20240229"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def check(told: dict, allowed_before: set[str], allowed_swept: set[str], moments: int = 20) -> None:
    assert told["total"] > 20
    assert len(told["results"]) >= moments
    assert {result["killed"] for result in told["results"]} == {signal.SIGKILL}
    for result in told["results"]:
        assert result["seen"] in {told["goal"], *allowed_before}, result
        allowed = allowed_swept if result["swept"] else allowed_before
        assert result["after_sweep"] in {told["goal"], *allowed}, result
        assert result["resumed"] == told["goal"], result


def test_new_local_cube(tmp_path: Path, repository: str) -> None:
    told = run(f"{tmp_path}/cube", "new", 20, repository)
    check(told, {"InputError"}, {"InputError"})
    assert any(result["seen"] == "InputError" for result in told["results"])
    assert any(result["swept"] == "1" for result in told["results"])
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_replaced_local_cube(tmp_path: Path, repository: str) -> None:
    told = run(f"{tmp_path}/cube", "overwrite", 20, repository)
    check(told, {told["before"]}, {told["before"]})
    assert told["before"] != told["goal"]
    assert {result["seen"] for result in told["results"]} == {told["before"], told["goal"]}
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize(
    ("mode", "moments"),
    [("new", 1), pytest.param("new", 20, marks=pytest.mark.slow), pytest.param("overwrite", 20, marks=pytest.mark.slow)],
)
def test_object_store(bucket: str, mode: str, moments: int, repository: str) -> None:
    told = run(f"{bucket}/out/cube", mode, moments, repository)
    # A writer that dies while it swaps leaves no visible cube for a moment; sweeping or writing again brings the new one.
    # A new cube that was not finished is told from none at all until it is swept.
    before = {"CommitError", "InputError"} if mode == "new" else {"CommitError", told["before"]}
    check(told, before, {"InputError"} if mode == "new" else {told["before"]}, moments)
    assert not [key for key in keys_of(f"{bucket}/out") if key.startswith(".")]
