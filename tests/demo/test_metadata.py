"""Items and granule metadata look like the real ones and say what the model says."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import pystac
import pytest
from defusedxml.ElementTree import fromstring, parse
from pyproj import Transformer

from cubekit.demo import World
from cubekit.demo._brdf import anisotropy
from cubekit.demo._geometry import DETECTORS, HALF_SWATH, Track, sun_angles, tan_vector
from cubekit.testing import shared_data

Scenes = dict[str, dict[str, Any]]


def local(element: Element) -> str:
    return element.tag.split("}")[-1]


def paths(element: Element, above: str = "") -> set[str]:
    here = f"{above}/{local(element)}"
    return {here}.union(*(paths(child, here) for child in element))


def grid(element: Element) -> np.ndarray:
    return np.array([[float(v) for v in row.text.split()] for row in element.iter("VALUES")])


def test_every_element_of_the_metadata_stands_in_a_real_granule(small: World, scenes: Scenes) -> None:
    real = parse(shared_data("nbar/metadata/S2A_L2A_T29UNU_20221005T115649_N0400.xml")).getroot()
    for scene in list(scenes.values())[:5]:
        ours = parse(small.root / scene["assets"]["granule-metadata"]["href"]).getroot()
        assert paths(ours) <= paths(real)
        needed = {path for path in paths(real) if "Geometric_Info" in path or "General_Info" in path}
        assert needed <= paths(ours)
        assert ours.tag == real.tag


def test_angles_at_the_nodes_are_the_model(small: World, scenes: Scenes) -> None:
    bands = {"1": "B02", "8": "B8A", "12": "B12"}
    for name in list(scenes)[::7]:
        tile = small.granule(name).tile
        root = fromstring((small.root / scenes[name]["assets"]["granule-metadata"]["href"]).read_bytes())
        assert [int(root.find(".//Geoposition[@resolution='10']/" + key).text) for key in ("ULX", "ULY")] == [tile.ulx, tile.uly]
        x, y = np.meshgrid(tile.ulx + 5000.0 * np.arange(23), tile.uly - 5000.0 * np.arange(23))
        for band_id, band in bands.items():
            sza, saa, vza, vaa = small.angles(name, band, x, y, tile.epsg)
            detector = small.detector(name, x, y, tile.epsg)
            seen = np.zeros(x.shape, bool)
            for node in root.iterfind(f".//Viewing_Incidence_Angles_Grids[@bandId='{band_id}']"):
                zenith, azimuth = grid(node.find("Zenith")), grid(node.find("Azimuth"))
                inside = detector == int(node.get("detectorId"))
                assert np.array_equal(np.isfinite(zenith), inside)
                assert np.allclose(zenith[inside], vza[inside], rtol=1e-5)
                assert np.allclose(azimuth[inside], vaa[inside], rtol=1e-5)
                seen |= inside
            assert np.array_equal(seen, detector > 0)
        sun = root.find(".//Sun_Angles_Grid")
        covered = detector > 0
        assert np.allclose(grid(sun.find("Zenith"))[covered], sza[covered], rtol=1e-5)
        assert np.allclose(grid(sun.find("Azimuth"))[covered], saa[covered], rtol=1e-5)


def test_items_are_stac_and_mix_versions(small: World, features: list[dict[str, Any]]) -> None:
    versions = set()
    for feature in features:
        item = pystac.Item.from_dict(feature, preserve_dict=True)
        assert feature["bbox"] == pytest.approx(np.array(_bounds(feature["geometry"])), abs=1e-6)
        assert {key in feature["properties"] for key in ("proj:epsg", "proj:code")} == {True, False}
        for asset in item.assets.values():
            assert asset.href.startswith("./")
            assert (small.root / asset.href).is_file()
            if "file:size" in asset.extra_fields:
                assert (small.root / asset.href).stat().st_size == asset.extra_fields["file:size"]
        versions.add(feature["stac_version"])
    assert versions == {"1.0.0", "1.1.0"}
    assert len({feature["id"] for feature in features}) == len(features)
    assert {feature["collection"] for feature in features} == {"sentinel-2-l2a", "cop-dem-glo-30", "esa-worldcover"}


def _bounds(geometry: dict[str, Any]) -> tuple[float, ...]:
    from shapely.geometry import shape

    outline = shape(geometry)
    assert outline.is_valid
    return tuple(outline.bounds)


def test_items_carry_what_planetary_computer_items_carry(scenes: Scenes) -> None:
    import json

    real = json.loads(shared_data("a_stac/planetary_computer/sentinel-2-l2a-items.json").read_text())
    theirs = (real["features"] if isinstance(real, dict) else real)[0]
    for scene in scenes.values():
        assert set(scene["assets"]) - {key for key in scene["assets"] if key.startswith("MSK_")} <= set(theirs["assets"])
        missing = set(theirs["properties"]) - set(scene["properties"]) - {"proj:epsg"}
        assert missing <= {
            "s2:dark_features_percentage",
            "s2:degraded_msi_data_percentage",
            "s2:reflectance_conversion_factor",
            "s2:saturated_defective_pixel_percentage",
        }


@pytest.mark.parametrize(
    "name",
    [
        "S2A_L2A_T29UNU_20221005T115649_N0400",
        "S2A_L2A_T60CWS_20240109T184754_N0510",
        "S2B_L2A_T22HBD_20210122T134249_N0214",
        "S2B_L2A_T33XWJ_20220413T150807_N0400",
    ],
)
def test_sun_stands_where_a_real_granule_says(name: str) -> None:
    root = parse(shared_data(f"nbar/metadata/{name}.xml")).getroot()
    when = datetime.fromisoformat(root.find(".//SENSING_TIME").text.rstrip("Z")[:19])
    with np.load(shared_data(f"nbar/golden/{name}.npz")) as golden:
        corners = np.array([0.0, 110_000.0])
        transformer = Transformer.from_crs(int(golden["epsg"]), 4326, always_xy=True)
        zenith, azimuth = sun_angles(*transformer.transform(golden["ulx"] + corners, golden["uly"] - corners), when)
        assert np.abs(zenith - golden["raw_sza"][[0, -1], [0, -1]]).max() < 0.06
        assert np.abs(azimuth - golden["raw_saa"][[0, -1], [0, -1]]).max() < 0.1


def test_anisotropy_is_the_inverse_of_the_reference_c_factor() -> None:
    with np.load(shared_data("nbar/golden/S2A_L2A_T29UNU_20221005T115649_N0400.npz")) as golden:
        thirteen = [str(b) for b in golden["bands13"]]
        for row, band in enumerate(str(b) for b in golden["bands9"]):
            index = thirteen.index(band)
            ratio = anisotropy(band, golden["s2n_sza"], golden["s2n_vza"][index], golden["s2n_saa"] - golden["s2n_vaa"][index])
            valid = np.isfinite(golden["c"][row])
            assert np.allclose(1 / ratio[valid], golden["c"][row][valid], rtol=1e-9)


def test_nadir_view_changes_nothing() -> None:
    assert anisotropy("B04", [0.0, 30.0, 65.0], 0.0, [0.0, 40.0, 180.0]) == pytest.approx(1.0)


def test_detectors_part_the_swath_evenly_and_look_apart() -> None:
    track = Track(0.0)
    across = np.linspace(-HALF_SWATH + 1, HALF_SWATH - 1, 4000)
    direction = np.array([track.across(1.0, 0.0), track.across(0.0, 1.0)])
    x, y = across * direction[0], across * direction[1]
    detectors = track.detector(x, y)
    assert np.array_equal(np.unique(detectors), np.arange(1, DETECTORS + 1))
    assert np.ptp(np.bincount(detectors)[1:]) <= 1
    assert (track.detector(x[[0, -1]] * 1.01, y[[0, -1]] * 1.01) == 0).all()
    for band, apart in (("B02", 1.14), ("B12", 3.46)):
        odd, even = (np.stack(tan_vector(*track.view(band, detector, x[2000], y[2000]))) for detector in (1, 2))
        assert np.rad2deg(np.linalg.norm(odd - even)) == pytest.approx(apart, abs=0.02)
    assert track.view("B04", 12, x[-1], y[-1])[0] == pytest.approx(11.9, abs=0.5)
