from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from cubekit.recipe import parse_recipe
from cubekit.sampling import SiteTable


@pytest.fixture(scope="session")
def recipe():
    return parse_recipe(
        {"name": "test", "grid": {"edge_size": 8}, "time": {"start": "2020-01-01", "end": "2020-12-31"}, "layers": ["sentinel2"]}
    )


@pytest.fixture(scope="session")
def make_sites():
    """Makes a site table of ids, spread over two granule tiles."""

    def make(*ids, **columns):
        records = [
            {"id": name, "lon": 12.0 + 1.3 * (number % 2) + number * 1e-3, "lat": 51.0 + number * 1e-3} for number, name in enumerate(ids)
        ]
        for key, values in columns.items():
            for record, value in zip(records, values, strict=True):
                record[key.replace("__", ".")] = value
        return SiteTable.from_records(records)

    return make


@pytest.fixture
def sites(make_sites):
    return make_sites


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setenv("CUBEKIT_TEST_STATE", str(folder))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "CANARY0f3a9-environment")
    return folder


@pytest.fixture(scope="session")
def endpoint():
    pytest.importorskip("moto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=-3, stderr=-3)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    settings = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "CANARY0f3a9", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
    for key, value in {**settings, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(key, value)
    import boto3

    name = f"batch-{os.urandom(4).hex()}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
    return f"s3://{name}"
