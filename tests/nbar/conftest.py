from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from cubekit.nbar import CField, GranuleAngles, parse_granule_angles
from cubekit.testing import shared_data

sys.path.insert(0, str(Path(__file__).parent))
settings.register_profile("nbar", deadline=None, max_examples=60)
settings.load_profile("nbar")


def golden_pairs() -> list[tuple[Path, Path]]:
    """(oracle, metadata) of every granule in the shared data; empty where the data is absent."""
    try:
        root = shared_data("nbar")
    except pytest.skip.Exception:
        return []
    pairs = []
    for folder, xml in (("golden", "metadata"), ("golden_edge", "edge")):
        pairs += [(npz, root / xml / f"{npz.stem}.xml") for npz in sorted((root / folder).glob("*.npz"))]
    return pairs


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden" in metafunc.fixturenames:
        pairs = golden_pairs()
        reason = pytest.mark.skip(reason="shared reference data not found (set CUBEKIT_SHARED)")
        params = [pytest.param(pair, id=pair[0].stem) for pair in pairs] or [pytest.param(None, marks=reason)]
        metafunc.parametrize("golden", params, indirect=True)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> tuple[dict[str, np.ndarray], bytes]:
    npz, xml = request.param
    with np.load(npz) as oracle:
        return dict(oracle), xml.read_bytes()


@pytest.fixture(scope="session")
def real_xml() -> bytes:
    """Four detectors, L2A, baseline 04.00."""
    return (shared_data("nbar/metadata") / "S2A_L2A_T29UNU_20221005T115649_N0400.xml").read_bytes()


@pytest.fixture(scope="session")
def full_xml() -> bytes:
    """Seven detectors over the whole tile."""
    return (shared_data("nbar/metadata") / "S2A_L2A_T01WCP_20230625T234755_N0509.xml").read_bytes()


@pytest.fixture
def field(synthetic: GranuleAngles) -> CField:
    return CField.from_angles(synthetic)


@pytest.fixture(scope="session")
def synthetic() -> GranuleAngles:
    return parse_granule_angles(make_xml())


# --- a small world of its own: two detectors, a track 15 degrees off the grid, angles that are exact polynomials ---

HEIGHT_CELLS = 786_000 / 5000
TRACK = np.radians(15.0)


def make_view(detector: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Tan-plane view vectors (..., 2) of a detector at node coordinates; detectors look fore or aft by parity."""
    across = (u * np.cos(TRACK) + v * np.sin(TRACK) - 13.0) / HEIGHT_CELLS
    along = 0.02 if detector % 2 else -0.02
    return np.stack([-across * np.cos(TRACK) + along * np.sin(TRACK), across * np.sin(TRACK) + along * np.cos(TRACK)], axis=-1)


def make_angles(detector: int, lo: float, hi: float) -> tuple[np.ndarray, np.ndarray]:
    """(zenith, azimuth) on the nodes, NaN outside the across-track strip [lo, hi) in cells."""
    rows, columns = np.mgrid[0:23, 0:23].astype(float)
    vectors = make_view(detector, columns, rows)
    strip = columns * np.cos(TRACK) + rows * np.sin(TRACK)
    zenith = np.degrees(np.arctan(np.hypot(vectors[..., 0], vectors[..., 1])))
    azimuth = np.degrees(np.arctan2(vectors[..., 0], vectors[..., 1])) % 360
    outside = (strip < lo) | (strip >= hi)
    return np.where(outside, np.nan, zenith), np.where(outside, np.nan, azimuth)


STRIPS = {5: (-1.0, 12.3), 6: (12.0, 40.0)}


def rows_xml(grid: np.ndarray) -> str:
    return "".join("<VALUES>" + " ".join("NaN" if np.isnan(x) else f"{x:.6f}" for x in row) + "</VALUES>" for row in grid)


def grid_xml(tag: str, zenith: np.ndarray, azimuth: np.ndarray, step: int = 5000, attributes: str = "") -> str:
    parts = []
    for name, grid in (("Zenith", zenith), ("Azimuth", azimuth)):
        steps = f'<COL_STEP unit="m">{step}</COL_STEP><ROW_STEP unit="m">{step}</ROW_STEP>'
        parts.append(f"<{name}>{steps}<Values_List>{rows_xml(grid)}</Values_List></{name}>")
    return f"<{tag}{attributes}>{''.join(parts)}</{tag}>"


def make_xml(
    *,
    prefix: str = "n1",
    level: str = "2A",
    sun_zenith: float = 40.0,
    sun_azimuth: float = 150.0,
    bands: range | list[int] = range(13),
    strips: dict[int, tuple[float, float]] | None = None,
    step: int = 5000,
    epsg: str = "EPSG:32632",
    tile: str = "32UPC",
    baseline: str = "N04.00",
    sun: bool = True,
) -> bytes:
    rows, columns = np.mgrid[0:23, 0:23].astype(float)
    sza = sun_zenith + 0.02 * rows - 0.01 * columns
    saa = sun_azimuth + 0.03 * columns
    grids = grid_xml("Sun_Angles_Grid", sza, saa) if sun else ""
    for band in bands:
        for detector, (lo, hi) in (STRIPS if strips is None else strips).items():
            grids += grid_xml(
                "Viewing_Incidence_Angles_Grids", *make_angles(detector, lo, hi), step, f' bandId="{band}" detectorId="{detector}"'
            )
    p = f"{prefix}:" if prefix else ""
    space = f' xmlns{":" + prefix if prefix else ""}="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-{level}_Tile_Metadata.xsd"'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><{p}Level-{level}_Tile_ID{space}><{p}General_Info>'
        f'<TILE_ID metadataLevel="Brief">S2A_OPER_MSI_L{level}_TL_TEST_20220401T110010_A035382_T{tile}_{baseline}</TILE_ID>'
        f"<SENSING_TIME>2022-04-01T10:03:19.283082Z</SENSING_TIME></{p}General_Info><{p}Geometric_Info><Tile_Geocoding>"
        f"<HORIZONTAL_CS_CODE>{epsg}</HORIZONTAL_CS_CODE><Geoposition><ULX>600000</ULX><ULY>5600040</ULY></Geoposition>"
        f"</Tile_Geocoding><Tile_Angles>{grids}</Tile_Angles></{p}Geometric_Info></{p}Level-{level}_Tile_ID>"
    ).encode()
