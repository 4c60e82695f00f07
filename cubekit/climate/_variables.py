"""What the variables of ERA5 and ERA5-Land are: names, units, signs, plausible ranges; and the columns of the daily table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["ALIASES", "DAILY", "HOURLY", "RATES", "Column", "Variable", "conversion"]

Kind = Literal["state", "flux"]


@dataclass(frozen=True, slots=True)
class Variable:
    """An hourly variable in the unit ERA5 gives it; `lower` and `upper` bound every plausible hourly value.

    Bounds of a flux hold per hour; a running total may reach 24 times as much.
    """

    name: str
    kind: Kind
    units: str
    lower: float
    upper: float
    aliases: tuple[str, ...] = ()


# Lowest and highest values on record, with room: -89 and 57 degC; 331 hPa (Everest) to 1085 hPa; 305 mm of rain in an hour, over land
# cells of 9 km less than 200; the solar constant at perihelion for an hour.
HOURLY: Final = {
    v.name: v
    for v in (
        Variable("t2m", "state", "K", 173.0, 340.0, ("2m_temperature", "temperature_2m", "2t", "VAR_2T")),
        Variable("d2m", "state", "K", 150.0, 315.0, ("2m_dewpoint_temperature", "dewpoint_temperature_2m", "2d", "VAR_2D")),
        Variable("sp", "state", "Pa", 28_000.0, 110_000.0, ("surface_pressure",)),
        Variable("u10", "state", "m s-1", -100.0, 100.0, ("10m_u_component_of_wind", "u_component_of_wind_10m", "10u", "VAR_10U")),
        Variable("v10", "state", "m s-1", -100.0, 100.0, ("10m_v_component_of_wind", "v_component_of_wind_10m", "10v", "VAR_10V")),
        *(
            Variable(f"swvl{n}", "state", "m3 m-3", -0.01, 1.0, (f"volumetric_soil_water_layer_{n}", f"volumetric_soil_water_level_{n}"))
            for n in (1, 2, 3, 4)
        ),
        Variable("tp", "flux", "m", -1e-3, 0.25, ("total_precipitation",)),
        Variable("ssrd", "flux", "J m-2", -1e4, 5.2e6, ("surface_solar_radiation_downwards",)),
        Variable("ssr", "flux", "J m-2", -1e4, 5.2e6, ("surface_net_solar_radiation", "surface_net_short_wave_solar_radiation")),
        Variable("e", "flux", "m", -5e-3, 5e-3, ("total_evaporation", "evaporation")),
        Variable("pev", "flux", "m", -2e-2, 2e-2, ("potential_evaporation",)),
        Variable("slhf", "flux", "J m-2", -5.2e6, 5.2e6, ("surface_latent_heat_flux",)),
        Variable("sshf", "flux", "J m-2", -5.2e6, 5.2e6, ("surface_sensible_heat_flux",)),
    )
}

ALIASES: Final = {alias: v.name for v in HOURLY.values() for alias in v.aliases}

RATES: Final = {
    "mtpr": "tp",
    "avg_tprate": "tp",
    "mean_total_precipitation_rate": "tp",
    "msdwswrf": "ssrd",
    "avg_sdswrf": "ssrd",
    "mean_surface_downward_short_wave_radiation_flux": "ssrd",
    "msnswrf": "ssr",
    "avg_snswrf": "ssr",
    "mer": "e",
    "avg_ie": "e",
    "mper": "pev",
    "avg_pevr": "pev",
}
"""ERA5's mean rates, per second, over the hour that ends at the stamp; and the hourly amount each becomes."""

_FACTORS: Final[dict[str, dict[str, tuple[float, float]]]] = {
    "K": {
        "K": (1, 0),
        "kelvin": (1, 0),
        "degC": (1, 273.15),
        "celsius": (1, 273.15),
        "deg_C": (1, 273.15),
        "degree_Celsius": (1, 273.15),
        "C": (1, 273.15),
        "degF": (5 / 9, 255.372222),
    },
    "Pa": {"Pa": (1, 0), "hPa": (100, 0), "kPa": (1000, 0), "mbar": (100, 0)},
    "m s-1": {"m s-1": (1, 0), "m/s": (1, 0), "km/h": (1 / 3.6, 0), "km h-1": (1 / 3.6, 0)},
    "m3 m-3": {"m3 m-3": (1, 0), "m3/m3": (1, 0), "1": (1, 0)},
    "m": {
        "m": (1, 0),
        "m of water equivalent": (1, 0),
        "mm": (1e-3, 0),
        "cm": (1e-2, 0),
        "kg m-2": (1e-3, 0),
        "kg m-2 s-1": (3.6, 0),
        "mm s-1": (3.6, 0),
        "mm h-1": (1e-3, 0),
    },
    "J m-2": {
        "J m-2": (1, 0),
        "J/m2": (1, 0),
        "W s m-2": (1, 0),
        "W m-2 s": (1, 0),
        "kJ m-2": (1e3, 0),
        "MJ m-2": (1e6, 0),
        "W m-2": (3600, 0),
        "W/m2": (3600, 0),
        "W h m-2": (3600, 0),
    },
}


def conversion(source: str, target: str) -> tuple[float, float] | None:
    """Scale and offset from the unit `source`, as spelled in the wild, to `target`; None where they do not measure the same."""
    spelled = source.replace("**", "").replace("^", "").replace("²", "2").replace("³", "3").replace("°", "deg").strip()
    known = _FACTORS[target]
    if spelled in known:
        return known[spelled]
    folded = {key.lower(): value for key, value in known.items()}
    return folded.get(spelled.lower())


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the daily table: how it is reduced over the day (`how`), and what describes it."""

    name: str
    how: Literal["mean", "minimum", "maximum", "sum"]
    units: str
    long_name: str
    standard_name: str = ""
    positive: str = ""


DAILY: Final = {
    c.name: c
    for c in (
        Column("t2m_mean", "mean", "K", "air temperature at 2 m, daily mean", "air_temperature"),
        Column("t2m_min", "minimum", "K", "air temperature at 2 m, daily minimum", "air_temperature"),
        Column("t2m_max", "maximum", "K", "air temperature at 2 m, daily maximum", "air_temperature"),
        Column("d2m_mean", "mean", "K", "dew point temperature at 2 m, daily mean", "dew_point_temperature"),
        Column(
            "vpd", "mean", "kPa", "vapour pressure deficit at 2 m, daily mean of hourly values", "water_vapor_saturation_deficit_in_air"
        ),
        Column("tp", "sum", "mm", "total precipitation, positive downward", "lwe_thickness_of_precipitation_amount", "down"),
        Column(
            "ssrd",
            "sum",
            "MJ m-2",
            "surface solar radiation downwards, positive downward",
            "integral_wrt_time_of_surface_downwelling_shortwave_flux_in_air",
            "down",
        ),
        Column(
            "ssr",
            "sum",
            "MJ m-2",
            "surface net solar radiation, positive downward",
            "integral_wrt_time_of_surface_net_downward_shortwave_flux",
            "down",
        ),
        # No standard name: CF's evaporation amounts are positive for evaporation, these are not.
        Column("e", "sum", "mm", "evaporation, positive downward (negative: evaporation, positive: condensation)", "", "down"),
        Column("pev", "sum", "mm", "potential evaporation of the model, open water, positive downward (negative: evaporation)", "", "down"),
        Column(
            "slhf",
            "sum",
            "MJ m-2",
            "surface latent heat flux, positive downward (negative: evaporation)",
            "integral_wrt_time_of_surface_downward_latent_heat_flux",
            "down",
        ),
        Column(
            "sshf",
            "sum",
            "MJ m-2",
            "surface sensible heat flux, positive downward (negative: the surface warms the air)",
            "integral_wrt_time_of_surface_downward_sensible_heat_flux",
            "down",
        ),
        Column("sp", "mean", "Pa", "surface pressure, daily mean", "surface_air_pressure"),
        Column("u10", "mean", "m s-1", "eastward wind at 10 m, daily mean", "eastward_wind"),
        Column("v10", "mean", "m s-1", "northward wind at 10 m, daily mean", "northward_wind"),
        Column("wind_speed", "mean", "m s-1", "wind speed at 10 m, daily mean of hourly speeds", "wind_speed"),
        *(
            Column(
                f"swvl{n}",
                "mean",
                "m3 m-3",
                f"volumetric soil water of layer {n}, {depth} cm, daily mean",
                "volume_fraction_of_condensed_water_in_soil",
            )
            for n, depth in ((1, "0-7"), (2, "7-28"), (3, "28-100"), (4, "100-289"))
        ),
        Column("et0", "sum", "mm", "reference evapotranspiration of short grass, positive upward", "", "up"),
    )
}
"""The canonical daily table, in order. A daily sum is an amount (mm, MJ m-2): with bounds of one day it is numerically the rate per day."""
