"""Reference evapotranspiration: printed worked examples, an independent library, agency values, physical identities."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit import climate
from cubekit.testing import shared_data


def printed(value, expected: str) -> None:
    """`value` rounds to `expected` at the digits printed, give or take one unit of the last (the book rounds between its steps)."""
    digits = len(expected.partition(".")[2])
    assert float(value) == pytest.approx(float(expected), abs=1.01 * 10.0**-digits), (float(value), expected)


def exactly(value, expected: str) -> None:
    digits = len(expected.partition(".")[2])
    assert f"{float(value):.{digits}f}" == expected


def test_fao56_example_17_bangkok_april():
    """FAO-56 chapter 4, example 17: monthly mean, 13°44'N, 2 m; ETo 5.72 mm/d."""
    lat, day = 13 + 44 / 60, 105
    tmin, tmax, ea, u2, n = 25.6, 34.8, 2.85, 2.0, 8.5
    printed(climate.slope_of_vapour_pressure(30.2), "0.246")
    printed(climate.atmospheric_pressure(2), "101.3")
    printed(climate.psychrometric_constant(climate.atmospheric_pressure(2)), "0.0674")
    printed(climate.mean_saturation_vapour_pressure(tmin, tmax), "4.42")
    ra = climate.extraterrestrial_daily(lat, day)
    printed(ra, "38.06")
    printed(climate.daylight_hours(lat, day), "12.31")
    rs = climate.solar_radiation_from_sunshine(n, climate.daylight_hours(lat, day), ra)
    printed(rs, "22.65")
    rso = climate.clear_sky_radiation(ra, 2)
    printed(rso, "28.54")
    printed(climate.net_shortwave(rs), "17.44")
    rnl = climate.net_longwave_daily(tmin, tmax, ea, rs / rso)
    printed(rnl, "3.11")
    printed(climate.net_shortwave(rs) - rnl, "14.33")
    soil = 0.14 * (30.2 - 29.2)
    et0 = climate.fao56_daily(
        minimum=tmin, maximum=tmax, actual_vapour_pressure=ea, wind_speed=u2, solar_radiation=rs, latitude=lat, elevation=2,
        day_of_year=day, soil_heat_flux=soil,
    )  # fmt: skip
    exactly(et0, "5.72")


def test_fao56_example_18_uccle_july():
    """FAO-56 chapter 4, example 18: 6 July at Uccle, 50°48'N, 100 m; ETo 3.88 mm/d."""
    lat, day = 50 + 48 / 60, 187
    tmin, tmax, n = 12.3, 21.5, 9.25
    u2 = climate.wind_speed_at_two_metres(10 / 3.6)
    printed(u2, "2.078")
    printed(climate.atmospheric_pressure(100), "100.1")
    printed(climate.slope_of_vapour_pressure(16.9), "0.122")
    printed(climate.psychrometric_constant(climate.atmospheric_pressure(100)), "0.0666")
    printed(climate.saturation_vapour_pressure(tmax), "2.564")
    printed(climate.saturation_vapour_pressure(tmin), "1.431")
    printed(climate.mean_saturation_vapour_pressure(tmin, tmax), "1.997")
    ea = climate.actual_vapour_pressure_from_humidity(tmin, tmax, 84, 63)
    printed(ea, "1.409")
    ra = climate.extraterrestrial_daily(lat, day)
    printed(ra, "41.09")
    printed(climate.daylight_hours(lat, day), "16.1")
    rs = climate.solar_radiation_from_sunshine(n, climate.daylight_hours(lat, day), ra)
    printed(rs, "22.07")
    rso = climate.clear_sky_radiation(ra, 100)
    printed(rso, "30.90")
    printed(climate.net_shortwave(rs), "17.00")
    rnl = climate.net_longwave_daily(tmin, tmax, ea, rs / rso)
    printed(rnl, "3.71")
    printed(climate.net_shortwave(rs) - rnl, "13.28")
    et0 = climate.fao56_daily(
        minimum=tmin,
        maximum=tmax,
        actual_vapour_pressure=ea,
        wind_speed=u2,
        solar_radiation=rs,
        latitude=lat,
        elevation=100,
        day_of_year=day,
    )
    exactly(et0, "3.88")


@pytest.mark.parametrize(
    ("hour", "temp", "humidity", "u2", "rs", "ratio", "ra", "rnl", "et0"),
    [(2.5, 28.0, 90, 1.9, 0.0, 0.8, "0.000", "0.100", "0.00"), (14.5, 38.0, 52, 3.3, 2.450, None, "3.543", "0.137", "0.63")],
)
def test_fao56_example_19_ndiaye_october(hour, temp, humidity, u2, rs, ratio, ra, rnl, et0):
    """FAO-56 chapter 4, example 19: 1 October at N'Diaye, 16°13'N, 16°15'W, 8 m, zone meridian 15°W; 02-03 h and 14-15 h."""
    lat, lon, day = 16 + 13 / 60, -(16 + 15 / 60), 274
    es = climate.saturation_vapour_pressure(temp)
    ea = es * humidity / 100
    extra = climate.extraterrestrial_hourly(lat, lon, day, hour + 1.0)
    printed(extra, ra)
    clear = climate.clear_sky_radiation(extra, 8)
    share = ratio if ratio is not None else rs / clear
    longwave = climate.net_longwave_hourly(temp, ea, share)
    printed(longwave, rnl)
    net = climate.net_shortwave(rs) - longwave
    printed(net, "-0.100" if rs == 0 else "1.749")
    result = climate.fao56_hourly(temperature=temp, actual_vapour_pressure=ea, wind_speed=u2, net_radiation=net, elevation=8)
    exactly(abs(result) if abs(result) < 0.005 else result, et0)


def test_fao56_table_values():
    """Annex 2: tables 2.1 (pressure), 2.3 (e°), 2.4 (slope), 2.6 (Ra), 2.7 (N), 2.9 (wind)."""
    printed(climate.atmospheric_pressure(1800), "81.8")
    printed(climate.psychrometric_constant(climate.atmospheric_pressure(1800)), "0.054")
    exactly(climate.saturation_vapour_pressure(24.5), "3.075")
    exactly(climate.saturation_vapour_pressure(15.0), "1.705")
    exactly(climate.extraterrestrial_daily(-20, 246), "32.2")  # example 8
    exactly(climate.daylight_hours(-20, 246), "11.7")  # example 9
    exactly(climate.wind_speed_at_two_metres(3.2), "2.4")  # example 14
    assert climate.elevation_from_pressure(climate.atmospheric_pressure(1234.0)) == pytest.approx(1234.0)


def test_asce_fallon_hourly():
    """Fallon, Nevada, 1 July 2015, 11 h: the values that RefET (Open-ET, tests/test_hourly.py) holds for the ASCE equations."""
    lat, lon, z = 39.4575, -118.77388, 1208.5
    u2 = 3.33 * 0.44704 * 4.87 / np.log(67.8 * 3 - 5.42)
    ra = climate.extraterrestrial_hourly(lat, lon, 182, 18.5)
    assert ra == pytest.approx(4.30635461533285)
    assert climate.atmospheric_pressure(z) == pytest.approx(87.80710537212929)
    temperature, ea, rs = (91.80 - 32) / 1.8, 1.1990099614301906, 61.16 * 0.041868
    assert climate.saturation_vapour_pressure(temperature) == pytest.approx(5.09318785259078)
    assert climate.net_longwave_hourly(temperature, ea, rs / 3.350936122776373) == pytest.approx(0.22897874401150786, rel=1e-6)
    values = {"temperature": temperature, "actual_vapour_pressure": ea, "wind_speed": u2, "solar_radiation": rs}
    eto = climate.asce_hourly(
        **{k: np.atleast_1d(v) for k, v in values.items()}, latitude=lat, longitude=lon, elevation=z, day_of_year=182, utc_hour=18.5
    )
    assert eto[0] == pytest.approx(0.6063515410076268, rel=1e-6)


def test_dheed_swapped_the_day_and_night_constants_ours_are_right():
    """Dheed has G and C_d of day and night exchanged, which made idealised days 35 to 57 % too low."""
    share, denominator = climate.day_night_constants(np.array([2.0, 0.0, -0.2]))
    assert share.tolist() == [0.1, 0.1, 0.5]
    assert denominator.tolist() == [0.24, 0.24, 0.96]
    hour = np.arange(24) + 0.5
    sun = np.clip(np.sin((hour - 6) / 12 * np.pi), 0, None) * 3.0
    temp = 22 + 6 * np.sin((hour - 9) / 12 * np.pi)
    net = 0.77 * sun - 0.2
    gamma = climate.psychrometric_constant(101.3)
    vpd = climate.saturation_vapour_pressure(temp) - 1.5
    right = climate.penman_monteith(
        temp, 2.0, vpd, net * (1 - climate.day_night_constants(net)[0]), gamma, 37.0, climate.day_night_constants(net)[1]
    )
    swapped_g, swapped_cd = climate.day_night_constants(-net)
    swapped = climate.penman_monteith(temp, 2.0, vpd, net * (1 - swapped_g), gamma, 37.0, swapped_cd)
    assert 0.35 <= 1 - swapped.sum() / right.sum() <= 0.57
    ours = climate.asce_hourly(
        temperature=temp, actual_vapour_pressure=np.full(24, 1.5), wind_speed=np.full(24, 2.0), solar_radiation=sun, latitude=45.0,
        longitude=0.0, elevation=0.0, day_of_year=180, utc_hour=hour, net_radiation=net, pressure=101.3,
    )  # fmt: skip
    np.testing.assert_allclose(ours, right)


def test_daily_equals_pyet_over_a_year():
    days = pd.date_range("2019-01-01", "2019-12-31")
    rng = np.random.default_rng(3)
    season = np.sin((days.dayofyear.to_numpy() - 105) / 365 * 2 * np.pi)
    tmean = 10 + 9 * season + rng.normal(0, 2, len(days))
    tmin, tmax = tmean - rng.uniform(2, 8, len(days)), tmean + rng.uniform(2, 8, len(days))
    tmean = (tmin + tmax) / 2
    ea = climate.saturation_vapour_pressure(tmin - rng.uniform(0, 3, len(days)))
    wind = rng.uniform(0.5, 6, len(days))
    rs = climate.extraterrestrial_daily(48.0, days.dayofyear.to_numpy()) * rng.uniform(0.2, 0.74, len(days))
    ours = climate.fao56_daily(
        minimum=tmin, maximum=tmax, actual_vapour_pressure=ea, wind_speed=wind, solar_radiation=rs, latitude=48.0, elevation=300.0,
        day_of_year=days.dayofyear.to_numpy(),
    )  # fmt: skip
    s = {k: pd.Series(v, days) for k, v in {"tmean": tmean, "wind": wind, "rs": rs, "tmax": tmax, "tmin": tmin, "ea": ea}.items()}
    theirs = pyet.pm_fao56(**s, elevation=300.0, lat=np.radians(48.0), clip_zero=False)
    # pyet's psychrometric constant, solar constant and Kelvin offset carry more digits.
    np.testing.assert_allclose(ours, theirs, atol=0.02)
    assert np.abs(ours - theirs).mean() < 0.005


def test_de_bilt_2018_within_what_knmi_publishes():
    """KNMI publishes Makkink, another method: the year agrees within 15 %, the days within 0.6 mm (root mean square)."""
    frame = pd.read_csv(shared_data("g_pet/deBilt_2018_meteo_PET_KNMI.csv"), index_col=0, parse_dates=True)
    tmax, tmin, rh, rs, u2, knmi = (frame.iloc[:, i].to_numpy() for i in range(1, 7))
    et0 = climate.fao56_daily(
        minimum=tmin, maximum=tmax, actual_vapour_pressure=climate.actual_vapour_pressure_from_humidity(tmin, tmax, rh), wind_speed=u2,
        solar_radiation=rs, latitude=52.1, elevation=4.0, day_of_year=frame.index.dayofyear.to_numpy(),
    )  # fmt: skip
    assert np.corrcoef(et0, knmi)[0, 1] > 0.95
    assert et0.sum() / knmi.sum() == pytest.approx(1.0, abs=0.15)
    assert np.sqrt(np.mean((et0 - knmi) ** 2)) < 0.6


def test_graz_equals_pyet_over_two_decades():
    frame = pd.read_csv(shared_data("g_pet/ZAMG_graz_daily.csv.gz"), index_col="time", parse_dates=True).dropna()
    rs = frame["strahl"].to_numpy() / 100  # J cm-2
    tmin, tmax = frame["tmin"].to_numpy(), frame["tmax"].to_numpy()
    ea = climate.actual_vapour_pressure_from_humidity(tmin, tmax, frame["rel"].to_numpy())
    ours = climate.fao56_daily(
        minimum=tmin, maximum=tmax, actual_vapour_pressure=ea, wind_speed=frame["vv"].to_numpy(), solar_radiation=rs, latitude=47.08,
        elevation=366.0, day_of_year=frame.index.dayofyear.to_numpy(),
    )  # fmt: skip
    mean = pd.Series((tmin + tmax) / 2, frame.index)
    theirs = pyet.pm_fao56(
        mean, frame["vv"], rs=pd.Series(rs, frame.index), tmax=frame["tmax"], tmin=frame["tmin"], ea=pd.Series(ea, frame.index),
        elevation=366.0, lat=np.radians(47.08), clip_zero=False,
    )  # fmt: skip
    assert len(frame) > 7000
    assert ours.sum() / theirs.sum() == pytest.approx(1.0, abs=2e-3)
    assert np.abs(ours - theirs).max() < 0.05


# Identities


@given(st.floats(-89.9, 89.9), st.floats(-180, 180), st.integers(1, 365))
@settings(max_examples=80, deadline=None)
def test_hours_of_extraterrestrial_radiation_sum_to_the_day(lat, lon, day):
    hours = climate.extraterrestrial_hourly(lat, lon, day, np.arange(24) + 0.5)
    assert (hours >= 0).all()
    assert hours.sum() == pytest.approx(float(climate.extraterrestrial_daily(lat, day)), abs=0.05)


def test_polar_night_and_day_are_finite():
    args = {"actual_vapour_pressure": 0.2, "wind_speed": 3.0, "elevation": 10.0}
    winter = climate.fao56_daily(minimum=-20, maximum=-15, solar_radiation=0.0, latitude=78.0, day_of_year=355, **args)
    summer = climate.fao56_daily(minimum=2, maximum=6, solar_radiation=25.0, latitude=78.0, day_of_year=172, **args)
    assert np.isfinite(winter)
    assert summer > winter
    assert climate.daylight_hours(78.0, 172) == 24
    assert climate.daylight_hours(78.0, 355) == 0


@pytest.mark.parametrize("lat", [0.0, 47.0, 68.0, 78.0, -78.0])
def test_night_takes_the_ratio_of_its_evening(lat):
    hour = np.arange(24 * 20)
    day = 300 + hour // 24
    ra = climate.extraterrestrial_hourly(lat, 0.0, day, hour % 24 + 0.5)
    angle = climate.sun_elevation(lat, 0.0, day, hour % 24 + 0.5)
    noon = np.pi / 2 - np.abs(np.radians(lat) - climate.solar_declination(day))
    clear = climate.clear_sky_radiation(ra, 0)
    share = 0.4 + 0.02 * (hour // 24)
    ratio = climate.hourly_clear_sky_ratio(share * clear, clear, angle, noon)
    assert np.isfinite(ratio).all()
    bright = angle > 0.35
    np.testing.assert_allclose(ratio[bright], share[bright])
    night = (clear == 0) & (hour % 24 == 23) & (noon > 0.1)
    np.testing.assert_allclose(ratio[night], share[night])


def test_ratio_without_any_sun_is_the_overcast_value():
    assert climate.hourly_clear_sky_ratio(np.zeros(24), np.zeros(24), np.full(24, -0.1), np.full(24, -0.05)).tolist() == [0.667] * 24


@given(st.floats(-30, 45), st.floats(0, 8), st.floats(0, 4), st.floats(0, 25))
@settings(max_examples=60, deadline=None)
def test_reference_grows_with_energy_and_deficit(temp, wind, vpd, energy):
    gamma = climate.psychrometric_constant(101.3)
    base = climate.penman_monteith(temp, wind, vpd, energy, gamma, 900.0, 0.34)
    assert climate.penman_monteith(temp, wind, vpd, energy + 1, gamma, 900.0, 0.34) > base
    assert climate.penman_monteith(temp, wind, vpd + 0.5, energy, gamma, 900.0, 0.34) >= base
