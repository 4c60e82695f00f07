"""Which detector saw a pixel: rebuilt from angles alone, against a synthetic truth and against real MSK_DETFOO files."""

from __future__ import annotations

import numpy as np
import pytest

from cubekit.errors import InputError, ReadError
from cubekit.nbar import CField, c_factor, parse_granule_angles, rasterise_detfoo
from cubekit.nbar._pixels import labels
from cubekit.testing import shared_data
from tests.nbar.conftest import STRIPS, TRACK, make_view, make_xml

PITCH = 180.0
SEAM = 200.0


def detector_map(field: CField, band: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    view = field.views[band]
    return view.detectors[labels(u, v, view.seams)]


def masks() -> list[object]:
    try:
        root = shared_data("nbar/metadata/detfoo")
    except pytest.skip.Exception:
        return [pytest.param(None, None, marks=pytest.mark.skip(reason="shared reference data not found (set CUBEKIT_SHARED)"))]
    return [
        pytest.param(root.parent / f"{folder.name}.xml", mask, id=f"{folder.name[8:14]}-{mask.stem[-3:]}")
        for folder in sorted(root.iterdir())
        for mask in sorted(folder.glob("*.gml"))
        if mask.stem[-3:] not in ("B01", "B09", "B10")
    ]


def test_the_seam_lies_where_the_lower_detector_ends(field):
    rows, columns = np.mgrid[0:21.9:0.05, 0:21.9:0.05]
    found = detector_map(field, "B02", columns, rows)
    strip = columns * np.cos(TRACK) + rows * np.sin(TRACK)
    edge = STRIPS[5][1]
    sure = np.abs(strip - edge) > SEAM / 5000
    np.testing.assert_array_equal(found[sure], np.where(strip < edge, 5, 6)[sure])


@pytest.mark.parametrize("numbers", [(5, 6, 7), (7, 6, 5)], ids=["numbered eastwards", "numbered westwards"])
def test_a_detector_in_the_corner_has_its_edge_from_the_others(numbers):
    overlap = 0.37
    edges = {numbers[0]: (-9.0, 2.1 + overlap), numbers[1]: (2.1, 14.2 + overlap), numbers[2]: (14.2, 40.0)}
    field = CField.from_angles(parse_granule_angles(make_xml(bands=[1, 2, 3], strips=edges)))
    assert field.views["B02"].detectors.tolist() == list(numbers)
    assert field.views["B02"].seen[0].sum() < 20
    rows, columns = np.mgrid[0:21.9:0.05, 0:21.9:0.05]
    strip = columns * np.cos(TRACK) + rows * np.sin(TRACK)
    truth, near = np.zeros(strip.shape), np.zeros(strip.shape, dtype=bool)
    for number in sorted(numbers, reverse=True):
        low, high = edges[number]
        truth[(strip >= low) & (strip < high)] = number
    for edge in {edges[number][side] for number in numbers for side in (0, 1)}:
        near |= np.abs(strip - edge) < SEAM / 5000
    np.testing.assert_array_equal(detector_map(field, "B03", columns, rows)[~near], truth[~near])


def test_view_vectors_continue_beyond_what_was_seen(field):
    rows, columns = np.mgrid[0:23, 0:23].astype(float)
    for k, detector in enumerate(field.views["B04"].detectors):
        error = np.degrees(field.views["B04"].vectors[k] - make_view(int(detector), columns, rows))
        assert np.abs(error).max() < 0.01


def test_c_at_pixels_equals_exact_kernels_per_pixel(field):
    x = field.angles.ulx + 5000 * np.linspace(4, 20, 40)
    y = field.angles.uly - 5000 * np.linspace(3, 19, 40)
    c, _ = field.c(["B02", "B08"], x, y)
    u, v = field.node_coordinates(x, y)
    found = detector_map(field, "B02", u, v)
    vectors = np.where((found == 5)[..., None], make_view(5, u, v), make_view(6, u, v))
    zenith = np.degrees(np.arctan(np.hypot(vectors[..., 0], vectors[..., 1])))
    azimuth = np.degrees(np.arctan2(vectors[..., 0], vectors[..., 1]))
    exact = c_factor(40.0 + 0.02 * v - 0.01 * u, zenith, 150.0 + 0.03 * u - azimuth, ["B02", "B08"])
    np.testing.assert_allclose(c, exact.values, atol=3e-5)


def test_a_mask_overrules_the_rebuilt_footprint(field):
    x = field.angles.ulx + 10.0 * np.arange(8) + 20_000
    y = field.angles.uly - 10.0 * np.arange(6) - 20_000
    mask = np.full((6, 8), 6, dtype=np.uint8)
    mask[:, 4:] = 0
    free, _ = field.c(["B04"], x, y)
    bound, _ = field.c(["B04"], x, y, detfoo={"B04": mask})
    np.testing.assert_array_equal(bound[0][:, 4:], free[0][:, 4:])
    assert (np.abs(bound[0][:, :4] - free[0][:, :4]) > 1e-3).all()
    with pytest.raises(InputError, match=r"detfoo of shape \(8, 6\)"):
        field.c(["B04"], x, y, detfoo={"B04": mask.T})


def test_one_pixel_and_two_dimensional_pixels_agree_with_a_grid(field):
    x = field.angles.ulx + 37.0 * np.arange(50) + 50_000
    y = field.angles.uly - 41.0 * np.arange(40) - 30_000
    grid, _ = field.c(["B02"], x, y)
    pixels, _ = field.c(["B02"], *np.meshgrid(x, y))
    np.testing.assert_array_equal(grid, pixels)
    np.testing.assert_array_equal(field.c(["B02"], x[7:8], y[3:4])[0][0], grid[0, 3:4, 7:8])


def test_pixels_beyond_the_granule_have_no_c(field):
    x = field.angles.ulx + np.array([-10_000.0, -200.0, 5000.0, 109_000.0, 110_200.0, 111_000.0])
    c, status = field.c(["B02"], x, np.full(1, field.angles.uly - 5000.0))
    np.testing.assert_array_equal(np.isnan(c[0, 0]), [True, False, False, False, False, True])
    assert status[0] == 0
    c, status = field.c(["B02"], x + 400_000.0, np.full(1, field.angles.uly))
    assert np.isnan(c).all()
    assert status[0] == 2


def test_a_detector_seen_at_one_node_is_no_obstacle():
    angles = parse_granule_angles(make_xml(strips={5: (-1.0, 12.3), 6: (12.0, 26.9), 7: (26.9, 40.0)}))
    field = CField.from_angles(angles)
    assert np.isfinite(field.nodes("B02")).all()


@pytest.mark.parametrize(("xml", "mask"), masks())
def test_real_footprints_are_rebuilt(xml, mask):
    angles = parse_granule_angles(xml.read_bytes())
    band = mask.stem[-3:]
    field = CField.from_angles(angles, [band])
    x = angles.ulx + PITCH * (np.arange(610) + 0.5)
    y = angles.uly - PITCH * (np.arange(610) + 0.5)
    truth = rasterise_detfoo(mask.read_bytes(), x, y)
    found = detector_map(field, band, *field.node_coordinates(x, y))
    wrong = (truth != found) & (truth > 0)
    assert wrong.sum() < 0.01 * (truth > 0).sum()


@pytest.mark.parametrize("name", ["S2A_L1C_T32TNM_20170226T102458_N0204", "S2A_L1C_T53JQJ_20201031T005510_N0209"])
def test_real_seams_are_rebuilt_to_two_hundred_metres(name):
    root = shared_data("nbar/metadata")
    field = CField.from_angles(parse_granule_angles((root / f"{name}.xml").read_bytes()))
    x = field.angles.ulx + 20.0 * (np.arange(5490) + 0.5)
    y = field.angles.uly - 20.0 * (np.arange(0, 5490, 90) + 0.5)
    for band, view in field.views.items():
        truth = rasterise_detfoo((root / "detfoo" / name / f"MSK_DETFOO_{band}.gml").read_bytes(), x, y)
        found = detector_map(field, band, *field.node_coordinates(x, y))
        assert (found == truth)[truth > 0].mean() > 0.997
        for row in range(len(y)):
            for east in view.detectors[1:]:
                both = (truth[row] == east).any() and (truth[row] == east - 1).any()
                if both:
                    assert 20 * abs(int(np.argmax(truth[row] == east)) - int(np.argmax(found[row] == east))) <= SEAM, (band, east, row)


@pytest.mark.parametrize(("xml", "mask"), masks())
def test_with_a_mask_the_seen_detector_is_the_masks(xml, mask):
    angles = parse_granule_angles(xml.read_bytes())
    band = mask.stem[-3:]
    field = CField.from_angles(angles, [band])
    x = angles.ulx + 600.0 * (np.arange(183) + 0.5)
    y = angles.uly - 600.0 * (np.arange(183) + 0.5)
    truth = rasterise_detfoo(mask.read_bytes(), x, y)
    c, _ = field.c([band], x, y, detfoo={band: truth})
    for k, detector in enumerate(field.views[band].detectors):
        only = CField(angles, field.sun, {band: _one(field.views[band], k)})
        np.testing.assert_array_equal(c[0][truth == detector], only.c([band], x, y)[0][0][truth == detector])


def _one(view, k):
    from cubekit.nbar import BandView

    return BandView(view.detectors[k : k + 1], view.vectors[k : k + 1], view.seen[k : k + 1], np.empty((0, 6)))


def test_a_raster_of_polygons_equals_gdal():
    rasterio_features = pytest.importorskip("rasterio.features")
    from affine import Affine

    rng = np.random.default_rng(3)
    ring = np.cumsum(rng.normal(0, 40, (40, 2)), axis=0) + 500
    points = " ".join(f"{a} {b} 0" for a, b in np.vstack([ring, ring[:1]]))
    gml = (
        '<eop:Mask xmlns:eop="e" xmlns:gml="g"><eop:MaskFeature gml:id="detector_footprint-B02-07-0"><gml:posList srsDimension="3">'
        f"{points}</gml:posList></eop:MaskFeature></eop:Mask>"
    ).encode()
    x, y = 10.0 * np.arange(100) + 5, 1000 - 10.0 * np.arange(100) - 5
    shape = {"type": "Polygon", "coordinates": [np.vstack([ring, ring[:1]]).tolist()]}
    expected = rasterio_features.rasterize([(shape, 7)], out_shape=(100, 100), transform=Affine(10, 0, 0, 0, -10, 1000))
    np.testing.assert_array_equal(rasterise_detfoo(gml, x, y), expected)


@pytest.mark.parametrize("data", [b"", b"<html></html>", b"<a>", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'])
def test_what_is_no_footprint_is_refused(data):
    with pytest.raises(ReadError, match="detector footprint here"):
        rasterise_detfoo(data, np.arange(3.0), np.arange(3.0), source="here")
