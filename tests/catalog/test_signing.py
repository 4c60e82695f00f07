"""Late signing against a token endpoint that expires, refuses, stalls and counts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cubekit.catalog import open_catalog
from cubekit.catalog._signing import PlanetaryComputerSigner
from cubekit.errors import AccessDeniedError, CatalogError, CubekitWarning
from cubekit.testing.stacserver import Fault, TokenServer

HREF = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/32/U/PC/B04.tif"


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch):
    from planetary_computer import sas
    from planetary_computer.settings import Settings

    monkeypatch.setattr(sas, "TOKEN_CACHE", {})
    yield
    Settings.get.cache_clear()


@pytest.fixture
def endpoint(monkeypatch):
    from planetary_computer.settings import Settings

    def use(server):
        Settings.get.cache_clear()
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{server.url}/token")
        monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", "CANARY")
        return open_catalog("planetary-computer")

    return use


class Tokens(TokenServer):
    """Serves below /token."""

    def answer(self, request, record):
        from dataclasses import replace

        super().answer(request, replace(record, path=record.path.removeprefix("/token")))


def test_one_token_for_a_container(endpoint):
    with Tokens() as server:
        catalog = endpoint(server)
        first = catalog.sign(HREF)
        assert first.startswith(f"{HREF}?")
        assert "sig=SIGNATURE0" in first
        assert catalog.sign(HREF.replace("B04", "B08")).endswith("sig=SIGNATURE0")
        assert catalog.sign("https://landsateuwest.blob.core.windows.net/landsat-c2/x.TIF").endswith("sig=SIGNATURE1")
        assert [record.path for record in server.records] == ["/token/sentinel2l2a01/sentinel2-l2", "/token/landsateuwest/landsat-c2"]
        assert server.records[0].headers["Ocp-Apim-Subscription-Key"] == "CANARY"


def test_fresh_forces_a_new_token_once(endpoint):
    with Tokens() as server:
        catalog = endpoint(server)
        old = catalog.sign(HREF)
        new = catalog.sign(HREF, fresh=True)
        assert new.endswith("sig=SIGNATURE1")
        assert catalog.sign(HREF) == new
        # Somebody who was refused with the first token gets the second without asking for a third.
        assert catalog.sign(old, fresh=True) == new
        assert catalog.sign(new, fresh=True).endswith("sig=SIGNATURE2")
        assert len(server.issued) == 3


def test_signed_href_is_signed_anew_not_twice(endpoint):
    with Tokens() as server:
        catalog = endpoint(server)
        assert catalog.sign(catalog.sign(HREF)) == catalog.sign(HREF)
        assert catalog.sign(f"{HREF}?versionid=3").startswith(f"{HREF}?versionid=3&")
        assert len(server.issued) == 1


@pytest.mark.parametrize(("lifetime", "issued"), [(50, 1), (0.3, 2), (3600, 1)])
def test_tokens_that_expire_are_renewed_before(lifetime, issued, endpoint):
    with Tokens(lifetime=lifetime) as server:
        catalog = endpoint(server)
        for _ in range(20):
            catalog.sign(HREF)
        if lifetime < 1:
            threading.Event().wait(0.3)
        catalog.sign(HREF)
        assert len(server.issued) == issued


def test_tokens_issued_expired_warn_and_do_not_storm(endpoint):
    with Tokens(lifetime=-600) as server:
        catalog = endpoint(server)
        with pytest.warns(CubekitWarning, match="expired 600 s ago: is the clock of this machine right"):
            catalog.sign(HREF)
        for _ in range(20):
            catalog.sign(HREF)
        assert len(server.issued) == 1


def test_threads_share_one_request(endpoint):
    with Tokens(delay=0.1) as server:
        catalog = endpoint(server)
        with ThreadPoolExecutor(16) as pool:
            signed = set(pool.map(lambda _: catalog.sign(HREF), range(64)))
            assert len(signed) == len(server.issued) == 1
            (refused,) = signed
            renewed = set(pool.map(lambda _: catalog.sign(refused, fresh=True), range(64)))
        assert len(server.issued) == 2
        assert renewed == {catalog.sign(HREF)}


@pytest.mark.parametrize(
    "href",
    [
        "https://sentinel2l2a01.blob.core.windows.net.evil.example/c/x.tif",
        "https://evil.example/sentinel2l2a01.blob.core.windows.net/c/x.tif",
        "https://sentinel2l2a01.blob.core.windows.net@evil.example/c/x.tif",
        "https://evil.example#.blob.core.windows.net/c/x.tif",
        "https://evil.example?.blob.core.windows.net/c/x.tif",
        "https://a.b.blob.core.windows.net/c/x.tif",
        "http://sentinel2l2a01.blob.core.windows.net/c/x.tif",
        "https://sentinel2l2a01.blob.core.windows.net:8443/c/x.tif",
        "https://sentinel2l2a01.dfs.core.windows.net/c/x.tif",
        "https://ai4edatasetspublicassets.blob.core.windows.net/c/x.tif",
        "s3://bucket/x.tif",
    ],
)
def test_foreign_hosts_are_never_signed(href, endpoint):
    with Tokens() as server:
        catalog = endpoint(server)
        assert "SIGNATURE" not in catalog.sign(href)
        assert catalog.signs(href) == (catalog.sign(href) != href)
        assert server.records == []


def test_accounts_without_tokens_are_asked_for_once(endpoint):
    with Tokens(accounts=["sentinel2l2a01"]) as server:
        catalog = endpoint(server)
        for _ in range(3):
            assert catalog.sign("https://private.blob.core.windows.net/c/x.tif") == "https://private.blob.core.windows.net/c/x.tif"
        assert len(server.records) == 1
        assert "SIGNATURE" in catalog.sign(HREF)


@pytest.mark.parametrize(
    "href", [HREF, f"{HREF}?se=2026&sig=abc", "https://elsewhere.org/x.tif?se=2026&sig=abc", "https://u:p@elsewhere.org/x.tif"]
)
def test_what_signing_changes_is_known_beforehand(href, endpoint):
    with Tokens() as server:
        catalog = endpoint(server)
        assert catalog.signs(href)
        assert server.records == []
        assert catalog.sign(href) != href


def test_only_planetary_computers_accounts_are_signed_for_files(endpoint, collection_file):
    with Tokens() as server:
        endpoint(server)
        catalog = open_catalog(collection_file([]))
        assert "SIGNATURE" in catalog.sign(HREF)
        assert "SIGNATURE" not in catalog.sign("https://mine.blob.core.windows.net/c/x.tif")
        assert len(server.records) == 1


def test_transient_faults_of_the_endpoint(endpoint):
    with Tokens(faults=[Fault("status", 429), Fault("status", 503), Fault("reset")]) as server:
        assert endpoint(server).sign(HREF).endswith("sig=SIGNATURE0")
        assert len(server.records) == 4


def test_lasting_faults_of_the_endpoint(endpoint):
    with Tokens(faults=[Fault("status", 403)]) as server:
        catalog = endpoint(server)
        with pytest.raises(AccessDeniedError, match="answers 403") as caught:
            catalog.sign(HREF)
        assert "CANARY" not in f"{caught.value}{caught.value.context}"
        assert "SIGNATURE" in catalog.sign(HREF)
    with Tokens(faults=[Fault("status", 200)]) as server, pytest.raises(CatalogError, match="answers 200 without a token"):
        endpoint(server).sign(HREF)
    with Tokens() as server:
        catalog = endpoint(server)
    with pytest.raises(CatalogError, match=r"token endpoint .* cannot be reached"):
        catalog.sign(HREF)


def test_stalled_endpoint_is_given_up_once_for_all_threads(endpoint):
    signer = PlanetaryComputerSigner(timeout=0.3, retries=0)
    with Tokens(faults=[Fault("stall", seconds=5)] * 20) as server:
        endpoint(server)
        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(signer.sign, HREF) for _ in range(8)]
            errors = [answer.exception(timeout=4) for answer in answers]
        assert all(isinstance(error, CatalogError) for error in errors)
        assert len(server.records) <= 2


def test_chain_signs_for_each_of_its_hosts(endpoint, tmp_path, collection_file):
    with Tokens() as server:
        endpoint(server)
        (tmp_path / "x.tif").write_bytes(b"")
        chain = open_catalog(["earth-search", "planetary-computer", collection_file([])])
        assert "SIGNATURE" in chain.sign(HREF)
        assert (
            chain.sign("https://sentinel-cogs.s3.us-west-2.amazonaws.com/x.tif") == "https://sentinel-cogs.s3.us-west-2.amazonaws.com/x.tif"
        )
        assert chain.sign(str(tmp_path / "x.tif")) == str((tmp_path / "x.tif").resolve())
        assert [chain.signs(href) for href in (HREF, "https://sentinel-cogs.s3.us-west-2.amazonaws.com/x.tif", "x.tif")] == [
            True,
            False,
            True,
        ]
        assert chain.local_root == tmp_path.resolve()
