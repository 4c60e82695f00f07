"""Granule metadata (MTD_TL.xml) in the schema of ESA's Level-2A tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cubekit.demo._acquire import Granule
from cubekit.demo._geometry import DETECTORS, Track, node_grid, sun_angles, tan_vector
from cubekit.demo._place import Tile

__all__ = ["BAND_IDS", "MeanAngles", "ViewGrids", "granule_xml", "view_grids"]

Grid = npt.NDArray[np.float64]

BAND_IDS = {"B02": 1, "B03": 2, "B04": 3, "B05": 4, "B06": 5, "B07": 6, "B08": 7, "B8A": 8, "B11": 11, "B12": 12}
"""ESA's bandId of each simulated band."""

_PSD = "https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd"
MeanAngles = tuple[float, float]
ViewGrids = tuple[str, dict[str, MeanAngles]]
"""The XML text of all view grids, and mean (zenith, azimuth) per band."""


def _values(grid: Grid) -> str:
    """Rows of a grid; six significant digits, as ESA writes them, without its indentation (a tenth of the file)."""
    lines = []
    for row in grid.tolist():
        text = " ".join("NaN" if value != value else f"{value:.6g}" for value in row)
        lines.append(f"<VALUES>{text}</VALUES>\n")
    return "".join(lines)


def _angle_grid(name: str, grid: Grid, indent: str) -> str:
    return (
        f'{indent}<{name}>\n{indent}  <COL_STEP unit="m">5000</COL_STEP>\n{indent}  <ROW_STEP unit="m">5000</ROW_STEP>\n'
        f"{indent}  <Values_List>\n{_values(grid)}{indent}  </Values_List>\n{indent}</{name}>\n"
    )


def _mean_direction(zenith: Grid, azimuth: Grid) -> MeanAngles:
    """Zenith and azimuth of the mean direction vector."""
    east, north = tan_vector(zenith, azimuth)
    e, n = float(np.nanmean(east)), float(np.nanmean(north))
    return float(np.rad2deg(np.arctan(np.hypot(e, n)))), float(np.rad2deg(np.arctan2(e, n)) % 360.0)


def view_grids(tile: Tile, track: Track) -> ViewGrids:
    """Grids of view angles of every band and every detector that sees a node of the tile."""
    x, y, _, _ = node_grid(tile)
    seen_by = track.detector(x, y)
    text, means = [], {}
    for band, band_id in BAND_IDS.items():
        zeniths, azimuths = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
        for detector in range(1, DETECTORS + 1):
            seen = seen_by == detector
            if not seen.any():
                continue
            zenith, azimuth = (np.where(seen, angle, np.nan) for angle in track.view(band, detector, x, y))
            zeniths, azimuths = np.where(seen, zenith, zeniths), np.where(seen, azimuth, azimuths)
            text.append(f'      <Viewing_Incidence_Angles_Grids bandId="{band_id}" detectorId="{detector}">\n')
            text.append(_angle_grid("Zenith", zenith, " " * 8) + _angle_grid("Azimuth", azimuth, " " * 8))
            text.append("      </Viewing_Incidence_Angles_Grids>\n")
        means[band] = _mean_direction(zeniths, azimuths)
    return "".join(text), means


def _mean(element: str, angles: MeanAngles, indent: str, attribute: str = "") -> str:
    zenith, azimuth = angles
    return (
        f'{indent}<{element}{attribute}>\n{indent}  <ZENITH_ANGLE unit="deg">{zenith:.12f}</ZENITH_ANGLE>\n'
        f'{indent}  <AZIMUTH_ANGLE unit="deg">{azimuth:.12f}</AZIMUTH_ANGLE>\n{indent}</{element}>\n'
    )


def _general(granule: Granule) -> str:
    a, baseline = granule.acquisition, granule.baseline
    made, sensed = f"{granule.generated:%Y%m%dT%H%M%S}", f"{a.start:%Y%m%dT%H%M%S}"
    tail = f"A{a.absolute_orbit:06d}_T{granule.tile.name}_N{baseline}"
    return f"""  <n1:General_Info>
    <L1C_TILE_ID metadataLevel="Brief">{a.platform}_OPER_MSI_L1C_TL_SIMU_{made}_{tail}</L1C_TILE_ID>
    <TILE_ID metadataLevel="Brief">{a.platform}_OPER_MSI_L2A_TL_SIMU_{made}_{tail}</TILE_ID>
    <DATASTRIP_ID metadataLevel="Standard">{a.platform}_OPER_MSI_L2A_DS_SIMU_{made}_S{sensed}_N{baseline}</DATASTRIP_ID>
    <DOWNLINK_PRIORITY metadataLevel="Standard">NOMINAL</DOWNLINK_PRIORITY>
    <SENSING_TIME metadataLevel="Standard">{granule.sensing:%Y-%m-%dT%H:%M:%S.%f}Z</SENSING_TIME>
    <Archiving_Info metadataLevel="Expertise">
      <ARCHIVING_CENTRE>SIMU</ARCHIVING_CENTRE>
      <ARCHIVING_TIME>{granule.generated:%Y-%m-%dT%H:%M:%S.%f}Z</ARCHIVING_TIME>
    </Archiving_Info>
  </n1:General_Info>
"""


def _geocoding(tile: Tile) -> str:
    zone = f"{tile.epsg % 100}{'N' if tile.epsg < 32700 else 'S'}"
    sizes, positions = "", ""
    for resolution in (10, 20, 60):
        count = 109_800 // resolution
        sizes += f'      <Size resolution="{resolution}">\n        <NROWS>{count}</NROWS>\n        <NCOLS>{count}</NCOLS>\n      </Size>\n'
        positions += (
            f'      <Geoposition resolution="{resolution}">\n        <ULX>{tile.ulx}</ULX>\n        <ULY>{tile.uly}</ULY>\n'
            f"        <XDIM>{resolution}</XDIM>\n        <YDIM>-{resolution}</YDIM>\n      </Geoposition>\n"
        )
    return (
        f'    <Tile_Geocoding metadataLevel="Brief">\n      <HORIZONTAL_CS_NAME>WGS84 / UTM zone {zone}</HORIZONTAL_CS_NAME>\n'
        f"      <HORIZONTAL_CS_CODE>EPSG:{tile.epsg}</HORIZONTAL_CS_CODE>\n{sizes}{positions}    </Tile_Geocoding>\n"
    )


def _quality(content: dict[str, float]) -> str:
    lines = "".join(f"      <{key}>{value:.6f}</{key}>\n" for key, value in content.items())
    return f"""  <n1:Quality_Indicators_Info metadataLevel="Standard">
    <Image_Content_QI>
{lines}    </Image_Content_QI>
  </n1:Quality_Indicators_Info>
"""


def granule_xml(granule: Granule, views: ViewGrids, content: dict[str, float]) -> tuple[bytes, MeanAngles]:
    """The document, and the mean sun angles (zenith, azimuth) that stand in it.

    Parameters
    ----------
    granule
        What it is about.
    views
        Of `view_grids` for its tile and track.
    content
        Percentages of Image_Content_QI by element name.
    """
    _, _, lon, lat = node_grid(granule.tile)
    zenith, azimuth = sun_angles(lon, lat, granule.sensing)
    sun = _mean_direction(zenith, azimuth)
    grids, means = views
    listed = "".join(
        _mean("Mean_Viewing_Incidence_Angle", means[band], " " * 8, f' bandId="{band_id}"') for band, band_id in BAND_IDS.items()
    )
    parts: list[Any] = [
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n',
        f'<n1:Level-2A_Tile_ID xmlns:n1="{_PSD}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="{_PSD}">\n',
        _general(granule),
        "  <n1:Geometric_Info>\n",
        _geocoding(granule.tile),
        '    <Tile_Angles metadataLevel="Standard">\n      <Sun_Angles_Grid>\n',
        _angle_grid("Zenith", zenith, " " * 8) + _angle_grid("Azimuth", azimuth, " " * 8),
        "      </Sun_Angles_Grid>\n",
        _mean("Mean_Sun_Angle", sun, " " * 6),
        grids,
        f"      <Mean_Viewing_Incidence_Angle_List>\n{listed}      </Mean_Viewing_Incidence_Angle_List>\n",
        "    </Tile_Angles>\n  </n1:Geometric_Info>\n",
        _quality(content),
        "</n1:Level-2A_Tile_ID>\n",
    ]
    return "".join(parts).encode(), sun
