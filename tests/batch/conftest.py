from __future__ import annotations

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
