"""Open-Meteo's archive: ERA5-Land without a key, over JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import numpy as np
import xarray as xr

from cubekit.climate import great_circle_km
from cubekit.errors import CubekitError, InputError, NothingFoundError, ReadError
from cubekit.read.climate._base import CELL_ATTRS, Hourly, hours_around
from cubekit.read.climate._cache import DiskCache
from cubekit.site import Site, TimeRange

__all__ = ["OPEN_METEO_URL", "OpenMeteoSource"]

OPEN_METEO_URL: Final = "https://archive-api.open-meteo.com/v1/archive"

_SOIL: Final = ("0_to_7cm", "7_to_28cm", "28_to_100cm", "100_to_255cm")

_DIRECT: Final = {
    "temperature_2m": ("t2m", "K", 1.0, 273.15, "°C"),
    "dew_point_2m": ("d2m", "K", 1.0, 273.15, "°C"),
    "surface_pressure": ("sp", "Pa", 100.0, 0.0, "hPa"),
    "precipitation": ("tp", "m", 1e-3, 0.0, "mm"),
    "shortwave_radiation": ("ssrd", "J m-2", 3600.0, 0.0, "W/m²"),
    **{f"soil_moisture_{depth}": (f"swvl{i}", "m3 m-3", 1.0, 0.0, "m³/m³") for i, depth in enumerate(_SOIL, 1)},
}
"""Name there: (name here, unit here, scale, offset, unit there)."""

_WIND: Final = ("wind_speed_10m", "wind_direction_10m")
_ATTEMPTS: Final = 5
_LIMIT: Final = 200 * 2**20


@dataclass(frozen=True)
class OpenMeteoSource:
    """Hourly ERA5-Land of Open-Meteo's archive.

    Values are adjusted: rounded (temperature to 0.1 K, rain to 0.1 mm) and the cell chosen by the service (land, similar elevation).
    Its statistical downscaling to the site's elevation is switched off (``elevation=nan``). No ``e``, ``pev`` and ``ssr``.
    Free for non-commercial use, CC-BY 4.0, with a daily limit of calls.

    Parameters
    ----------
    url
        Endpoint.
    cache
        Disk cache of answers that will not change any more, or None.
    workers
        Concurrent requests.
    max_distance
        Farthest that a cell may be, km.
    """

    url: str = OPEN_METEO_URL
    cache: DiskCache | None = None
    workers: int = 2
    max_distance: float = 25.0
    name: str = "open-meteo"
    convention: str = "arco"

    def read_many(self, sites: Sequence[Site], period: TimeRange) -> list[Hourly]:
        """See `ClimateSource.read_many`; one request per site."""

        def one(site: Site) -> Hourly:
            try:
                return self._hours(site, period)
            except CubekitError as error:
                return error

        with ThreadPoolExecutor(max(1, min(self.workers, len(sites)))) as pool:
            return list(pool.map(one, sites))

    def _hours(self, site: Site, period: TimeRange) -> xr.Dataset:
        answer = self._ask(site, period)
        hourly, units = answer.get("hourly"), answer.get("hourly_units", {})
        if not isinstance(hourly, Mapping) or not isinstance(hourly.get("time"), list):
            raise ReadError("Open-Meteo's answer holds no hourly data", remedy="Try again; the service may have changed", href=self.url)
        times = np.asarray(hourly["time"], dtype="int64").astype("datetime64[s]").astype("datetime64[ns]")
        columns = {
            name: np.asarray([np.nan if v is None else v for v in values], dtype=np.float64)
            for name, values in hourly.items()
            if name != "time"
        }
        if not any(np.isfinite(values).any() for values in columns.values()):
            raise NothingFoundError(
                f"Open-Meteo has no ERA5-Land at latitude {site.lat:g}, longitude {site.lon:g} in {period}: "
                "an ocean cell (the service does not say how far land is), or a time without data",
                remedy="Move the site onto land, or choose other days",
                site=site.id,
            )
        data = self._dataset(times, columns, units)
        return self._located(data, answer, site)

    def _dataset(self, times: np.ndarray, columns: Mapping[str, np.ndarray], units: Mapping[str, str]) -> xr.Dataset:
        data = xr.Dataset(coords={"time": times})
        for there, (name, unit, scale, offset, expected) in _DIRECT.items():
            if there in columns and np.isfinite(columns[there]).any():
                _require_unit(there, units.get(there), expected)
                attrs = {"units": unit, "cell_amount": "hour"} if name in ("tp", "ssrd") else {"units": unit}
                data[name] = ("time", columns[there] * scale + offset, attrs)
        if all(name in columns for name in _WIND):
            _require_unit(_WIND[0], units.get(_WIND[0]), "m/s")
            speed, direction = columns[_WIND[0]], np.radians(columns[_WIND[1]])
            # The direction is where the wind comes from.
            data["u10"] = ("time", -speed * np.sin(direction), {"units": "m s-1"})
            data["v10"] = ("time", -speed * np.cos(direction), {"units": "m s-1"})
        return data

    def _located(self, data: xr.Dataset, answer: Mapping[str, Any], site: Site) -> xr.Dataset:
        lat, lon = float(answer["latitude"]), float(answer["longitude"])
        distance = float(great_circle_km(site.lat, site.lon, lat, lon))
        if distance > self.max_distance:
            raise NothingFoundError(
                f"No land cell within {self.max_distance:g} km of latitude {site.lat:g}, longitude {site.lon:g}: "
                f"the nearest land cell is {distance:.1f} km away",
                remedy="Move the site onto land, or raise max_distance",
                site=site.id,
            )
        values = {"cell_latitude": lat, "cell_longitude": lon, "cell_distance": distance}
        data.attrs = {
            "source": self.name,
            "source_description": "ERA5-Land by Open-Meteo.com, rounded and with a cell of the service's choice (adjusted), CC-BY 4.0",
        }
        return data.assign_coords({name: ((), value, CELL_ATTRS[name]) for name, value in values.items()})

    def _ask(self, site: Site, period: TimeRange) -> dict[str, Any]:
        first, last = (moment.astype("datetime64[D]") for moment in hours_around(period))
        today = np.datetime64("now", "D")
        query = {
            "latitude": f"{site.lat:.6f}",
            "longitude": f"{site.lon:.6f}",
            "start_date": str(max(first, np.datetime64("1950-01-01"))),
            "end_date": str(min(last, today)),
            "hourly": ",".join((*_DIRECT, *_WIND)),
            "models": "era5_land",
            "timezone": "GMT",
            "timeformat": "unixtime",
            "wind_speed_unit": "ms",
            "cell_selection": "land",
            "elevation": "nan",
        }
        if query["start_date"] > query["end_date"]:
            raise NothingFoundError(f"{period} lies outside the archive (1950 to today)", remedy="Choose other days")
        url = f"{self.url}?{urlencode(query, safe=',')}"
        settled = last < today - np.timedelta64(120, "D")
        path = self.cache.path(url, "answer.json") if self.cache else None
        text = self.cache.text(path) if self.cache and path else None
        answer = _parse(text) if text is not None else None
        if answer is None:
            text = _fetch(url)
            answer = _parse(text)
            if answer is None:
                raise ReadError("Open-Meteo's answer is no JSON object", remedy="Try again later", href=self.url)
            if self.cache and path and settled:
                self.cache.put(path, text)
        return answer


def _parse(text: str) -> dict[str, Any] | None:
    try:
        # elevation=nan comes back as a bare nan.
        answer = json.loads(text.replace('"elevation":nan', '"elevation":null'))
    except json.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _require_unit(name: str, stated: str | None, expected: str) -> None:
    if stated is not None and stated != expected:
        raise ReadError(f"Open-Meteo gives {name} in {stated!r}, not {expected!r}", remedy="The service has changed: report it")


def _fetch(url: str) -> str:
    """GET with backoff on 429 and 5xx; a 4xx tells its reason."""
    for attempt in range(_ATTEMPTS):
        try:
            with urlopen(Request(url, headers={"User-Agent": "cubekit"}), timeout=300) as reply:
                body: bytes = reply.read(_LIMIT + 1)
            if len(body) > _LIMIT:
                raise ReadError("Open-Meteo's answer is too long", remedy="Ask for a shorter period", href=url.partition("?")[0])
            return body.decode("utf-8")
        except HTTPError as error:
            reason = _reason(error)
            if error.code not in (429, 500, 502, 503, 504):
                raise InputError(f"Open-Meteo refused the request ({error.code}): {reason}", remedy="Check place and days") from None
            wait, last = error.headers.get("Retry-After"), f"{error.code}: {reason}"
        except (URLError, TimeoutError, ConnectionError) as error:
            wait, last = None, str(getattr(error, "reason", error))
        if attempt < _ATTEMPTS - 1:
            time.sleep(min(float(wait), 90.0) if wait and wait.isdigit() else min(2.0**attempt, 30.0))
    raise ReadError(
        f"Open-Meteo did not answer ({last})", remedy="Try again later; the free service limits calls per day", href=url.partition("?")[0]
    )


def _reason(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read(10_000).decode("utf-8")).get("reason", ""))[:200]
    except (ValueError, AttributeError, OSError):
        return error.reason
