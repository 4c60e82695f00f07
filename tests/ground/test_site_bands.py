"""Sites, time ranges, band names, errors and the redactor."""

from __future__ import annotations

import pickle
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubekit.bands import SENTINEL2, sentinel2_bands
from cubekit.errors import CubekitError, InputError, ReadError
from cubekit.redact import redact, unsigned
from cubekit.site import Site, TimeRange, check_site_id


@pytest.mark.parametrize("value", ["a", "DE-Tha", "0123", "NO", "E012.370000_N51.340000", "x" * 128, "a.b+c_d-e"])
def test_good_ids_are_kept(value: str) -> None:
    assert Site(1, 2, value).id == value


@pytest.mark.parametrize(
    "value", ["../../x", "/etc/x", "a/b", "a\\b", "a\0b", "x" * 300, "..", ".hidden", "a..b", "a b", "CON", "é", "12:30:45", "a\n"]
)
def test_hostile_ids_are_refused(value: str) -> None:
    with pytest.raises(InputError, match="not usable as a name"):
        check_site_id(value)


@pytest.mark.parametrize("value", [False, 123, None, 1.5])
def test_ids_that_yaml_made_into_something_else_are_refused(value: object) -> None:
    with pytest.raises(InputError, match="not text"):
        check_site_id(value)


@given(lat=st.floats(-90, 90), lon=st.floats(-180, 180))
def test_made_ids_are_valid_and_keep_the_place(lat: float, lon: float) -> None:
    name = Site(lat, lon).id
    assert check_site_id(name) == name
    east, north = name.split("_")
    assert float(east[1:]) == pytest.approx(abs(lon), abs=1e-6)
    assert float(north[1:]) == pytest.approx(abs(lat), abs=1e-6)


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ("2020-01-01", "2020-01-01", 1),
        ("2020", "2020", 366),
        ("2019-02", "2019-02", 28),
        (date(2020, 1, 1), datetime(2020, 1, 2, 23), 2),
        (np.datetime64("2020-01-01T12:00"), "2020-01-31", 31),
    ],
)
def test_time_range(start: object, end: object, days: int) -> None:
    time = TimeRange(start, end)  # type: ignore[arg-type]
    assert time.days == days
    assert time.start.dtype == time.end.dtype == "datetime64[D]"


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2020-02-01", "2020-01-01", "end 2020-01-01 is before start 2020-02-01"),
        ("2020-13-01", "2020-12-01", "start '2020-13-01' is not a date"),
        ("2020-01-01", "yesterday", "end 'yesterday' is not a date"),
        ("01.02.2020", "2020", "not a date"),
        (np.datetime64("NaT"), "2020", "not a date"),
        (None, "2020", "not a date"),
    ],
)
def test_bad_times_are_told(start: object, end: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TimeRange(start, end)  # type: ignore[arg-type]


def test_bands_by_any_name() -> None:
    assert [band.name for band in sentinel2_bands(["B2", "red", "B8A", "nir", "swir22", "rededge2"])] == [
        "B02",
        "B04",
        "B8A",
        "B08",
        "B12",
        "B06",
    ]
    assert list(SENTINEL2) == sorted(SENTINEL2, key=lambda name: SENTINEL2[name].wavelength)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["B13"], "Unknown Sentinel-2 band 'B13'.*B8A"), (["B02", "blue"], "'blue' is asked for twice"), ([], "No bands")],
)
def test_bad_bands_are_told(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sentinel2_bands(names)


@pytest.mark.parametrize(
    "text",
    [
        "https://a.blob.core.windows.net/c/x.tif?st=1&se=2&sp=rl&sig=CANARY%3D",
        "https://bucket.s3.amazonaws.com/x?X-Amz-Credential=CANARY&X-Amz-Signature=CANARY&x-amz-security-token=CANARY",
        "Authorization: Bearer CANARY",
        "{'authorization': 'Basic CANARY'}",
        "AWS_SECRET_ACCESS_KEY=CANARY other",
        "PC_SDK_SUBSCRIPTION_KEY: CANARY",
        "s3://user:CANARY@host/x",
        "https://x.org/?token=CANARY#frag",
        "https://x.org/?subscription-key=1&access_token=CANARY",
    ],
)
def test_secrets_are_redacted(text: str) -> None:
    assert "CANARY" not in redact(text)
    assert "CANARY" not in str(ReadError(text, remedy=text, href=text).context) + str(CubekitError(text, remedy=text))


@pytest.mark.parametrize(
    "text", ["B02 of S2A_MSIL2A_20210101 failed", "https://x.org/a/b.tif?page=2&limit=10", "2021-01-01/2021-02-01", "expires soon"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_unsigned() -> None:
    assert unsigned("https://u:p@h.org/a%20b.tif?sig=1#x") == "https://h.org/a%20b.tif"
    assert unsigned("../b/x.tif") == "../b/x.tif"
    assert unsigned("s3://bucket/key?versionId=3") == "s3://bucket/key"


def test_errors_survive_pickling_with_context() -> None:
    error = pickle.loads(pickle.dumps(ReadError("no B02", remedy="try again", band="B02")))
    assert (type(error), str(error), error.context) == (ReadError, "no B02. try again", {"band": "B02"})
