"""What catalogues, recipes and site tables say is hostile: nothing outside is read, nobody else is asked, and good items go on."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cubekit.api import make_recipe
from cubekit.catalog._signing import PlanetaryComputerSigner
from cubekit.errors import CubekitError, CubekitWarning, HolesError, InputError, NothingFoundError, RecipeError
from cubekit.pipeline import build_cube
from cubekit.recipe import load_recipe, parse_recipe
from cubekit.sampling import read_sites
from cubekit.site import Site
from cubekit.store import open_cube
from cubekit.testing.rangeserver import RangeServer
from tests.safety.conftest import ASSETS, SCENES, Bench, QuickSession, rewritten

pytestmark = pytest.mark.filterwarnings("ignore::cubekit.errors.CubekitWarning")

# -- traps -------------------------------------------------------------------------------------------------------------------------

_CONNECTS: list[Any] = []
_watching = threading.Event()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _watching.is_set():
        _CONNECTS.append(arguments[1])


sys.addaudithook(_audit)


@contextmanager
def connections() -> Iterator[list[Any]]:
    """Addresses that Python code of this process connects to."""
    _CONNECTS.clear()
    _watching.set()
    try:
        yield _CONNECTS
    finally:
        _watching.clear()


class TrapFile:
    """A file outside of every root; the kernel tells whenever anything opens it, be it Python, GDAL or libxml."""

    def __init__(self, path: Path) -> None:
        path.write_text("<VRTDataset/>")
        self.path = path
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        if self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), 0x20 | 0x1) < 0:
            pytest.skip("no inotify here")

    def opened(self) -> int:
        """How often it was opened or read since the last question."""
        try:
            return len(os.read(self._descriptor, 1 << 16)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0


@pytest.fixture
def trap_file(tmp_path: Path) -> TrapFile:
    trap = TrapFile(tmp_path / "trap.tif")
    assert trap.opened() == 0
    trap.path.read_bytes()
    assert trap.opened() > 0
    return trap


@pytest.fixture(scope="module")
def trap_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RangeServer]:
    root = tmp_path_factory.mktemp("trap")
    with RangeServer(root) as server:
        yield server


@pytest.fixture(autouse=True)
def _armed(trap_server: RangeServer) -> None:
    trap_server.stats(reset=True)


def build_file(bench: Bench, catalog: Path, session: QuickSession | None = None, **options: Any) -> Any:
    recipe = bench.recipe(catalog=str(catalog), **options)
    return build_cube(recipe, bench.site, str(bench.folder / "a.zarr"), overwrite=True, session=session or QuickSession())


# -- hrefs -------------------------------------------------------------------------------------------------------------------------

HREFS = [
    "file://{trap}", "{trap}", "../../../../../../../../..{trap}", "/vsizip/{trap}", "/vsicurl/{url}/x.tif", "/vsicurl?url={url}/x.tif",
    "/vsigzip//vsicurl/{url}/x.tif", "vrt://{trap}", "GTIFF_DIR:1:{trap}", "zip+file://{trap}!x.tif",
    "<VRTDataset rasterXSize='9' rasterYSize='9'><VRTRasterBand dataType='UInt16' band='1'><SimpleSource><SourceFilename>/vsicurl/{url}/x.tif"
    "</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
    '{{"type": "FeatureCollection"}}', "http://169.254.169.254/latest/meta-data/iam", "http://[::ffff:a9fe:a9fe]/", "http://0xA9FEA9FE/",
    "http://2852039166/x", "http://169.254.43518/x", "http://metadata.google.internal/computeMetadata/v1/", "http://[", "http://h:99999999/x",
    "http://h:port/x", "http://" + "a" * 70 + ".example/x", "http://\u0440\u0444/x.tif", "http://a\r\nHost: b/x", "http:///x", "s3://", "ftp://h/x",
    "javascript:alert(1)", "\\\\host\\share\\x.tif", "//host/x.tif", "\0", "", " ", "x" * 100_000, 7, None, ["a"], {"a": 1},
]  # fmt: skip


@pytest.mark.parametrize("href", HREFS, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("source", ["stac", "file"])
def test_hostile_hrefs(
    bench: Bench,
    trap_file: TrapFile,
    trap_server: RangeServer,
    local_catalog: Callable[[list[dict[str, Any]]], Path],
    href: Any,
    source: str,
) -> None:
    """One asset of every item is hostile: that band is a hole everywhere, named; with leave to have holes, the rest is a cube."""
    evil = href.format(trap=trap_file.path, url=trap_server.url) if isinstance(href, str) else href
    items = rewritten(bench.world, bench.files.url)
    for item in items:
        item["assets"]["B04"]["href"] = evil
        item["assets"]["granule-metadata"]["href"] = evil
    with connections() as connected:
        if source == "file":
            catalog = local_catalog(items)
            with pytest.raises(HolesError, match=f"{SCENES} of {ASSETS} asset reads failed"):
                build_file(bench, catalog)
        else:
            kept, bench.stac.items = bench.stac.items, items
            try:
                with pytest.raises(HolesError, match=f"{SCENES} of {ASSETS} asset reads failed"):
                    bench.build()
            finally:
                bench.stac.items = kept
    allowed = {bench.files.port, bench.stac.port}
    assert {address[1] for address in connected if address[0] == "127.0.0.1"} <= allowed
    assert not [address for address in connected if address[0] not in ("127.0.0.1", "::1")]
    assert trap_file.opened() == 0
    assert trap_server.stats()["requests"] == 0
    bench.assert_nothing()


def test_a_tif_that_is_a_vrt(bench: Bench, trap_file: TrapFile, trap_server: RangeServer, local_catalog: Any) -> None:
    """By its content, from the disk and over HTTP, in every engine."""
    inner = "".join(
        f"<SimpleSource><SourceFilename relativeToVRT='0'>{name}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        for name in (trap_file.path, f"/vsicurl/{trap_server.url}/x.tif")
    )
    vrt = f"<VRTDataset rasterXSize='516' rasterYSize='516'><VRTRasterBand dataType='UInt16' band='1'>{inner}</VRTRasterBand></VRTDataset>"
    items = rewritten(bench.world, bench.files.url)
    for item in items:
        item["assets"]["B04"]["href"] = "b04.tif"
    catalog = local_catalog(items)
    (catalog.parent / "b04.tif").write_text(vrt)
    for engine in ("window", "rasterio", "odc", "stackstac"):
        with pytest.raises(HolesError, match="virtual dataset"):
            build_file(bench, catalog, QuickSession(engine=engine))
    bench.script({"path": "B04", "status": 200, "body": vrt, "content_type": "image/tiff"})
    with pytest.raises(HolesError, match="virtual dataset"):
        bench.build()
    assert trap_file.opened() == 0
    assert trap_server.stats()["requests"] == 0


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "//169.254.169.254/x",
        "http://[",
        "http://h:99999999/",
        "gopher://x/",
        "",
    ],
)
def test_redirects_that_lead_astray(bench: Bench, location: str) -> None:
    bench.script({"path": "B04", "status": 302, "headers": {"Location": location}})
    with connections() as connected, pytest.raises(HolesError, match="4 of 12 asset reads failed"):
        bench.build()
    assert {address[0] for address in connected} <= {"127.0.0.1"}


def test_a_foreign_host_that_asks_to_be_signed() -> None:
    """No token is asked for, let alone sent, for anything but a container on the real host over https."""
    signer = PlanetaryComputerSigner(any_account=True, timeout=0.1, retries=0)
    with connections() as connected:
        for href in (
            "https://evil.example/c/x.tif", "https://a.blob.core.windows.net.evil.example/c/x.tif", "http://a.blob.core.windows.net/c/x.tif",
            "https://a.blob.core.windows.net@evil.example/c/x.tif", "https://evil.example/a.blob.core.windows.net/c/x.tif",
            "https://evil.example#.blob.core.windows.net/c/x.tif", "https://a.b.blob.core.windows.net/c/x.tif",
            "https://a.blob.core.windows.net:8443/c/x.tif", "s3://a.blob.core.windows.net/c/x.tif",
        ):  # fmt: skip
            assert "sig=" not in signer.sign(href), href
    assert not connected


# -- items -------------------------------------------------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    nested: Any = 1
    for _ in range(levels):
        nested = [nested]
    return nested


FIELDS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "crs-url": lambda item, url: item["properties"].update({"proj:epsg": None, "proj:code": f"{url}/crs"}),
    "crs-wkt-url": lambda item, url: item["properties"].update({"proj:epsg": None, "proj:wkt2": f"{url}/crs"}),
    "crs-projjson-ref": lambda item, url: item["properties"].update({"proj:epsg": None, "proj:projjson": {"$ref": f"{url}/crs"}}),
    "crs-init-file": lambda item, url: item["properties"].update({"proj:epsg": None, "proj:code": "+init=/etc/passwd:1"}),
    "crs-asset-url": lambda item, url: item["assets"]["B04"].update({"proj:code": f"{url}/crs"}),
    "platform-10mb": lambda item, url: item["properties"].update({"platform": "p" * 10_000_000}),
    "tile-10mb": lambda item, url: item["properties"].update({"s2:mgrs_tile": "3" * 10_000_000}),
    "baseline-10mb": lambda item, url: item["properties"].update({"s2:processing_baseline": "0" * 10_000_000}),
    "uri-10mb": lambda item, url: item["properties"].update({"s2:product_uri": "0" * 10_000_000}),
    "datatake-10mb": lambda item, url: item["properties"].update({"s2:datatake_id": "0" * 10_000_000}),
    "extra-10mb": lambda item, url: item["properties"].update({"extra": "x" * 10_000_000}),
    "deep-400": lambda item, url: item["properties"].update({"extra": deep(400)}),
    "deep-900": lambda item, url: item["properties"].update({"extra": deep(900)}),
    "deep-geometry": lambda item, url: item["geometry"].update({"coordinates": deep(300)}),
    "id-slash": lambda item, url: item.update(id="../../../etc/passwd"),
    "id-nul": lambda item, url: item.update(id="a\0b"),
    "id-newline": lambda item, url: item.update(id="a\n\x1b[31mb"),
    "id-long": lambda item, url: item.update(id="i" * 100_000),
    "id-number": lambda item, url: item.update(id=7),
    "shape-huge": lambda item, url: item["assets"]["B04"].update({"proj:shape": [10**9, 10**9]}),
    "shape-text": lambda item, url: item["assets"]["B04"].update({"proj:shape": "big"}),
    "transform-nan": lambda item, url: item["assets"]["B04"].update({"proj:transform": [float("nan")] * 6}),
    "transform-tiny": lambda item, url: item["assets"]["B04"].update({"proj:transform": [1e-300, 0, 0, 0, -1e-300, 0]}),
    "transform-huge": lambda item, url: item["assets"]["B04"].update({"proj:transform": [1e300, 0, 1e308, 0, -1e300, -1e308]}),
    "geometry-inf": lambda item, url: item["geometry"].update({"coordinates": [[[1e308, 1e308], [-1e308, 0], [0, 9], [1e308, 1e308]]]}),
    "geometry-text": lambda item, url: item.update(geometry="POLYGON"),
    "geometry-bow": lambda item, url: item["geometry"].update({"coordinates": [[[12, 51], [13, 52], [13, 51], [12, 52], [12, 51]]]}),
    "bbox-text": lambda item, url: item.update(bbox=["a", "b", "c", "d"]),
    "datetime-year-0": lambda item, url: item["properties"].update({"datetime": "0000-01-01T00:00:00Z"}),
    "datetime-list": lambda item, url: item["properties"].update({"datetime": ["2021"]}),
    "datetime-offset": lambda item, url: item["properties"].update({"datetime": "0001-01-01T00:00:00+14:00"}),
    "cloud-text": lambda item, url: item["properties"].update({"eo:cloud_cover": "cloudy"}),
    "zenith-list": lambda item, url: item["properties"].update({"s2:mean_solar_zenith": [1, 2], "view:incidence_angle": {}}),
    "orbit-huge": lambda item, url: item["properties"].update({"sat:relative_orbit": 10**30}),
    "epsg-odd": lambda item, url: item["properties"].update({"proj:epsg": 999_999}),
    "epsg-geographic": lambda item, url: item["properties"].update({"proj:epsg": 4978}),
    "assets-list": lambda item, url: item.update(assets=[]),
    "asset-null": lambda item, url: item["assets"].update(B04=None),
    "links-text": lambda item, url: item.update(links="links"),
    "self-link": lambda item, url: item.update(links=[{"rel": "self", "href": "http://["}]),
    "collection-list": lambda item, url: item.update(collection=["sentinel-2-l2a"]),
    "nodata-text": lambda item, url: item["assets"]["B04"].update({"raster:bands": [{"nodata": "x" * 1000, "scale": [], "offset": {}}]}),
    "bands-deep": lambda item, url: item["assets"]["B04"].update({"raster:bands": deep(200), "bands": {"a": 1}}),
    "alternate-deep": lambda item, url: item["assets"]["B04"].update({"alternate": deep(500)}),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("cached", [False, True], ids=["", "cached"])
def test_one_hostile_item_among_good_ones(
    bench: Bench, trap_server: RangeServer, local_catalog: Any, tmp_path: Path, name: str, cached: bool
) -> None:
    """The build gives a cube with at most that scene missing or without a band, or an error of ours: never anything else."""
    items = rewritten(bench.world, bench.files.url)
    FIELDS[name](items[1], trap_server.url)
    if cached:
        kept, bench.stac.items = bench.stac.items, items
        bench.stac.exact = False
        catalog: Any = bench.stac.url
    else:
        catalog = local_catalog(items)
    session = QuickSession(cache_dir=tmp_path / "cache" if cached else None)
    recipe = bench.recipe(catalog=str(catalog)).model_copy()
    recipe = parse_recipe({**json.loads(recipe.canonical()), "layers": [{**json.loads(recipe.canonical())["layers"][0], "max_holes": 0.5}]})
    try:
        with connections() as connected:
            build_cube(recipe, bench.site, str(bench.folder / "a.zarr"), overwrite=True, session=session)
    except CubekitError as error:
        assert len(str(error)) < 5000
        assert name not in ("extra-10mb", "deep-400", "id-number", "id-long", "shape-text", "bbox-text", "cloud-text"), error
        bench.assert_nothing()
    else:
        cube = open_cube(bench.folder / "a.zarr")
        assert SCENES - 1 <= cube.sizes["time"] <= SCENES
        size = sum(file.stat().st_size for file in (bench.folder / "a.zarr").rglob("*") if file.is_file())
        assert size < 2_000_000
        assert not [child for child in (tmp_path / "cache").rglob("*") if ".." in child.name]
    finally:
        if cached:
            bench.stac.items, bench.stac.exact = kept, True
    assert {address[0] for address in connected} <= {"127.0.0.1"}
    assert trap_server.stats()["requests"] == 0


# -- granule metadata --------------------------------------------------------------------------------------------------------------

LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10 if n else b"lol" * 100) for n in range(12))


@pytest.mark.parametrize("kind", ["laughs", "external", "parameter", "deep", "attributes", "quadratic", "huge", "utf16", "empty"])
def test_hostile_granule_metadata(bench: Bench, trap_file: TrapFile, trap_server: RangeServer, local_catalog: Any, kind: str) -> None:
    url = trap_server.url.encode()
    items = rewritten(bench.world, bench.files.url)
    original = next((bench.world.root / "sentinel-2-l2a" / items[0]["id"]).glob("*.xml")).read_bytes()
    head, _, rest = original.partition(b"?>")
    content = {
        "laughs": lambda: head + b"?><!DOCTYPE x [" + LAUGHS + b"]>" + rest.replace(b"</", b"&l11;</", 1),
        "external": lambda: (
            head + b'?><!DOCTYPE x [<!ENTITY e SYSTEM "file://%s">]>' % os.fsencode(trap_file.path) + rest.replace(b"</", b"&e;</", 1)
        ),
        "parameter": lambda: head + b'?><!DOCTYPE x [<!ENTITY %% e SYSTEM "%s/x.dtd"> %%e;]>' % url + rest,
        "deep": lambda: b"<a>" * 1_000_000,
        "attributes": lambda: b"<a " + b"".join(b'a%d="" ' % n for n in range(300_000)) + b"/>",
        "quadratic": lambda: b"<!" * 3_000_000,
        "huge": lambda: original + b" " * (33 << 20),
        "utf16": lambda: original.decode().encode("utf-16"),
        "empty": lambda: b"",
    }[kind]()
    for item in items:
        item["assets"]["granule-metadata"]["href"] = "m.xml"
    catalog = local_catalog(items)
    (catalog.parent / "m.xml").write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = build_file(bench, catalog)
    assert result.scenes == SCENES
    assert sum("No NBAR for" in str(entry.message) for entry in caught if issubclass(entry.category, CubekitWarning)) >= SCENES - 1
    assert trap_file.opened() == 0
    assert trap_server.stats()["requests"] == 0


# -- recipes and sites -------------------------------------------------------------------------------------------------------------

RECIPES = {
    "python-tag": "name: !!python/object/apply:os.system ['touch {trap}.ran']\nlayers: [sentinel2]",
    "python-name": "name: !!python/name:os.system\nlayers: [sentinel2]",
    "custom-tag": "name: !include {trap}\nlayers: [sentinel2]",
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nname: [*c,*c,*c]\nlayers: [sentinel2]",
    "merge": "x: &x {{name: a}}\n<<: *x\nlayers: [sentinel2]",
    "deep": "name: " + "[" * 5000 + "\nlayers: [sentinel2]",
    "twice": "name: a\nname: b\nlayers: [sentinel2]",
    "documents": "name: a\n---\nname: b\n",
    "binary-name": "name: !!binary aGVsbG8=\nlayers: [sentinel2]",
    "date-name": "name: 12:30:45\nlayers: [sentinel2]",
    "no-name": "name: NO\nlayers: [sentinel2]",
    "octal-name": "name: 0123\nlayers: [sentinel2]",
    "catalog-with-key": "name: a\nlayers: [{{kind: sentinel2, catalog: 'https://u:CANARY@h/stac'}}]",
    "catalog-with-token": "name: a\nlayers: [{{kind: sentinel2, catalog: 'https://h/stac?token=CANARY'}}]",
}


@pytest.mark.parametrize("name", RECIPES)
def test_hostile_recipes(tmp_path: Path, trap_file: TrapFile, name: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPES[name].format(trap=trap_file.path))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert "CANARY" not in str(caught.value)
    assert not name.startswith("catalog-with") or "credentials" in str(caught.value)
    assert trap_file.opened() == 0
    assert not Path(f"{trap_file.path}.ran").exists()


IDS = [
    "../../x",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a\0b",
    "i" * 300,
    "",
    "..",
    ".",
    ".hidden",
    "a..b",
    "con",
    "NUL.txt",
    "a b",
    "\u202egnp",
    "~root",
    "-rf",
    "*",
]


@pytest.mark.parametrize("name", [name for name in IDS if name], ids=lambda name: repr(name)[:20])
def test_hostile_ids_of_sites(bench: Bench, name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not usable as a name"):
        Site(51, 12, name)
    table = tmp_path / "sites.json"
    features = [
        {"type": "Feature", "id": given, "properties": {}, "geometry": {"type": "Point", "coordinates": [12.0, 51.0 + n]}}
        for n, given in enumerate([name, "good"])
    ]
    table.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    sites = read_sites(table)
    assert [entry.site.id for entry in sites.entries] == ["good"]
    assert [bad.line for bad in sites.rejected] == [1]


@pytest.mark.parametrize("suffix", ["csv", "yaml"])
def test_ids_stay_what_is_written(tmp_path: Path, suffix: str) -> None:
    names = ["NO", "0123", "1e5", "null", "true", "0x1F"]
    path = tmp_path / f"sites.{suffix}"
    if suffix == "csv":
        path.write_text("id,lon,lat\n" + "".join(f"{name},12.{n},51\n" for n, name in enumerate([*names, "12:30:45"])))
    else:
        path.write_text("".join(f"- {{id: {name}, lon: 12.{n}, lat: 51}}\n" for n, name in enumerate([*names, "12:30:45"])))
    sites = read_sites(path)
    assert sorted(entry.site.id for entry in sites.entries) == sorted(names)
    assert "12:30:45" in sites.rejected[0].reason


def test_a_site_table_of_aliases_or_tags_is_refused(tmp_path: Path, trap_file: TrapFile) -> None:
    for text in ("- &a {id: x, lon: 1, lat: 2}\n- *a\n", f"- !!python/object/apply:os.system ['touch {trap_file.path}.ran']\n"):
        path = tmp_path / "sites.yaml"
        path.write_text(text)
        try:
            assert not read_sites(path).entries
        except InputError as error:
            assert "alias" in str(error) or "no column" in str(error)
    assert not Path(f"{trap_file.path}.ran").exists()


def test_nothing_found_is_no_crash(bench: Bench, local_catalog: Any) -> None:
    with pytest.raises(NothingFoundError):
        build_file(bench, local_catalog([]))


def test_options_of_make_recipe_are_checked_like_recipes() -> None:
    with pytest.raises(RecipeError, match="credentials"):
        make_recipe(catalog="https://u:CANARY@h/stac")
