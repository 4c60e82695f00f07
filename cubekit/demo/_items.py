"""STAC items of everything that is written: Sentinel-2 products in the Planetary Computer's shape, elevation, land cover."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping

from cubekit.demo._geometry import HALF_SWATH
from cubekit.demo._place import Window, to_lonlat, to_plane
from cubekit.demo._render import RESOLUTIONS, Rendered
from cubekit.typing import JSON

__all__ = ["sentinel2_item", "static_item"]

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_EXTENSIONS = {
    "1.0.0": ("eo/v1.0.0", "sat/v1.0.0", "projection/v1.1.0"),
    "1.1.0": ("eo/v2.0.0", "sat/v1.0.0", "projection/v2.0.0"),
}
_BANDS = {
    "B02": ("blue", 0.490, 0.098),
    "B03": ("green", 0.560, 0.045),
    "B04": ("red", 0.665, 0.038),
    "B05": ("rededge", 0.704, 0.019),
    "B06": ("rededge", 0.740, 0.018),
    "B07": ("rededge", 0.783, 0.028),
    "B08": ("nir", 0.842, 0.145),
    "B8A": ("rededge", 0.865, 0.033),
    "B11": ("swir16", 1.610, 0.143),
    "B12": ("swir22", 2.190, 0.242),
}
_FINER_NAMES = {"B05": "rededge071", "B06": "rededge075", "B07": "rededge078", "B8A": "nir08"}
"""Common names that version 2 of the eo extension tells apart."""
_CONTENT = {
    "s2:nodata_pixel_percentage": "NODATA_PIXEL_PERCENTAGE",
    "s2:cloud_shadow_percentage": "CLOUD_SHADOW_PERCENTAGE",
    "s2:vegetation_percentage": "VEGETATION_PERCENTAGE",
    "s2:not_vegetated_percentage": "NOT_VEGETATED_PERCENTAGE",
    "s2:water_percentage": "WATER_PERCENTAGE",
    "s2:unclassified_percentage": "UNCLASSIFIED_PERCENTAGE",
    "s2:medium_proba_clouds_percentage": "MEDIUM_PROBA_CLOUDS_PERCENTAGE",
    "s2:high_proba_clouds_percentage": "HIGH_PROBA_CLOUDS_PERCENTAGE",
    "s2:thin_cirrus_percentage": "THIN_CIRRUS_PERCENTAGE",
    "s2:snow_ice_percentage": "SNOW_ICE_PERCENTAGE",
}


def _frame(window: Window) -> np.ndarray:
    """The window's outline with ten points per side, (n, 2) map coordinates."""
    west, south, east, north = window.bounds()
    t = np.linspace(0.0, 1.0, 11)[:-1]
    sides = [(west + t * 0, north - t * (north - south)), (west + t * (east - west), south + t * 0)]
    sides += [(east + t * 0, south + t * (north - south)), (east - t * (east - west), north + t * 0)]
    return np.concatenate([np.stack(side, axis=1) for side in sides])


def _footprint(rendered: Rendered) -> shapely.Polygon:
    """Lon/lat polygon of the pixels inside the swath."""
    granule, frame = rendered.granule, _frame(rendered.window)
    x, y = to_plane(frame[:, 0], frame[:, 1], granule.tile.epsg)
    track = granule.acquisition.track
    along = np.stack([track.across(x, y), -x + y], axis=1)
    area = shapely.Polygon(np.stack([x, y], axis=1))
    if np.abs(along[:, 0]).max() > HALF_SWATH:
        origin, east, north = (float(track.across(*p)) for p in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
        ex, ey = east - origin, north - origin
        corners = [(u, v) for u, v in ((-HALF_SWATH, -2e4), (HALF_SWATH, -2e4), (HALF_SWATH, 2e4), (-HALF_SWATH, 2e4))]
        swath = shapely.Polygon([((u - origin) * ex - v * ey, (u - origin) * ey + v * ex) for u, v in corners])
        area = area.intersection(swath)
    lon, lat = to_lonlat(*np.asarray(area.exterior.coords).T)
    return shapely.Polygon(np.round(np.stack([lon, lat], axis=1), 7))


def _raster_asset(href: str, window: Window, resolution: int, size: int, title: str) -> JSON:
    return {
        "href": f"./{href}",
        "type": _COG,
        "title": title,
        "roles": ["data"],
        "gsd": float(resolution),
        "proj:bbox": list(window.bounds()),
        "proj:shape": list(window.shape(resolution)),
        "proj:transform": window.transform(resolution),
        "file:size": size,
    }


def _band_fields(band: str, version: str) -> JSON:
    common, centre, width = _BANDS[band]
    if version == "1.0.0":
        return {"eo:bands": [{"name": band, "common_name": common, "center_wavelength": centre, "full_width_half_max": width}]}
    common = _FINER_NAMES.get(band, common)
    return {"bands": [{"name": band, "eo:common_name": common, "eo:center_wavelength": centre, "eo:full_width_half_max": width}]}


def _assets(rendered: Rendered, version: str) -> JSON:
    window, files, sizes = rendered.window, rendered.files, rendered.sizes
    assets: JSON = {}
    for band in _BANDS:
        size = RESOLUTIONS[band]
        asset = _raster_asset(files[band], window, size, sizes[band], f"Band {band[1:].lstrip('0')} - {size}m")
        assets[band] = asset | _band_fields(band, version)
    assets["SCL"] = _raster_asset(files["SCL"], window, 20, sizes["SCL"], "Scene classification map (SCL)")
    for band, resolution in RESOLUTIONS.items():
        key = f"MSK_DETFOO_{resolution}m"
        mask = _raster_asset(files[key], window, resolution, sizes[key], f"Detector footprint of {band}")
        assets[f"MSK_DETFOO_{band}"] = mask | {"roles": ["metadata"]}
    assets["granule-metadata"] = {
        "href": f"./{files['granule-metadata']}",
        "type": "application/xml",
        "title": "Granule metadata",
        "roles": ["metadata"],
        "file:size": sizes["granule-metadata"],
    }
    return assets


def _properties(rendered: Rendered) -> JSON:
    granule = rendered.granule
    one, content, baseline = granule.acquisition, rendered.content, granule.baseline
    zenith, azimuth = rendered.view["B04"]
    made, sensed = f"{granule.generated:%Y%m%dT%H%M%S}", f"{one.start:%Y%m%dT%H%M%S}"
    number = f"N{baseline.replace('.', '')}"
    tail = f"A{one.absolute_orbit:06d}_T{granule.tile.name}_N{baseline}"
    return {
        "datetime": f"{one.start:%Y-%m-%dT%H:%M:%S}.024000Z",
        "platform": f"Sentinel-{one.platform[1:]}",
        "constellation": "Sentinel 2",
        "instruments": ["msi"],
        "eo:cloud_cover": round(content["CLOUDY_PIXEL_PERCENTAGE"], 6),
        "sat:orbit_state": "descending",
        "sat:relative_orbit": one.orbit,
        "s2:mgrs_tile": granule.tile.name,
        "s2:processing_baseline": baseline,
        "s2:datatake_id": f"G{one.platform}_{sensed}_{one.absolute_orbit:06d}_N{baseline}",
        "s2:datatake_type": "INS-NOBS",
        "s2:product_type": "S2MSI2A",
        "s2:product_uri": f"{one.platform}_MSIL2A_{sensed}_{number}_R{one.orbit:03d}_T{granule.tile.name}_{made}.SAFE",
        "s2:granule_id": f"{one.platform}_OPER_MSI_L2A_TL_SIMU_{made}_{tail}",
        "s2:datastrip_id": f"{one.platform}_OPER_MSI_L2A_DS_SIMU_{made}_S{sensed}_N{baseline}",
        "s2:generation_time": f"{granule.generated:%Y-%m-%dT%H:%M:%S}.000000Z",
        "s2:mean_solar_zenith": rendered.sun[0],
        "s2:mean_solar_azimuth": rendered.sun[1],
        "view:incidence_angle": round(zenith, 6),
        "view:azimuth": round(azimuth, 6),
        **{key: round(content[name], 6) for key, name in _CONTENT.items()},
    }


def sentinel2_item(rendered: Rendered, version: str) -> JSON:
    """The item of one product.

    Parameters
    ----------
    rendered
        Its files.
    version
        STAC version: ``1.0.0`` writes ``proj:epsg`` and ``eo:bands``, ``1.1.0`` writes ``proj:code`` and ``bands``.
    """
    shape, granule = _footprint(rendered), rendered.granule
    properties = _properties(rendered)
    properties |= {"proj:epsg": granule.tile.epsg} if version == "1.0.0" else {"proj:code": f"EPSG:{granule.tile.epsg}"}
    extensions = [*_EXTENSIONS[version], "view/v1.0.0", "file/v2.1.0"]
    return {
        "type": "Feature",
        "stac_version": version,
        "stac_extensions": [f"https://stac-extensions.github.io/{name}/schema.json" for name in extensions],
        "id": granule.id,
        "collection": "sentinel-2-l2a",
        "bbox": [round(v, 7) for v in shape.bounds],
        "geometry": mapping(shape),
        "properties": dict(sorted(properties.items())),
        "links": [],
        "assets": _assets(rendered, version),
    }


def static_item(
    name: str, collection: str, asset: str, href: str, transform: list[float], shape: tuple[int, int], properties: JSON, fields: JSON
) -> JSON:
    """Item of one lon/lat raster (EPSG:4326) with a single asset; `fields` are added to the asset."""
    a, _, west, _, e, north = transform
    south, east = north + e * shape[0], west + a * shape[1]
    box = [round(v, 9) for v in (west, south, east, north)]
    outline: list[Any] = [[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]], [box[0], box[1]]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
        "id": name,
        "collection": collection,
        "bbox": box,
        "geometry": {"type": "Polygon", "coordinates": [outline]},
        "properties": {"proj:epsg": 4326, "proj:shape": list(shape), "proj:transform": transform, **properties},
        "links": [],
        "assets": {asset: {"href": f"./{href}", "type": _COG, "roles": ["data"], **fields}},
    }
