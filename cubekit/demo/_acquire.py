"""Which scenes exist: passes of two orbits, the tiles they were delivered in, and the processing each product went through."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from cubekit.demo._geometry import Track, sun_angles, tan_vector
from cubekit.demo._noise import hash01
from cubekit.demo._place import CENTER, TILES, Tile
from cubekit.demo._sky import Sky
from cubekit.demo._weather import CELLS, Weather, at

__all__ = ["Acquisition", "Granule", "acquisitions", "granules"]


@dataclass(frozen=True, slots=True)
class _Orbit:
    number: int
    platform: str
    first: np.datetime64
    """A day on which the platform flies it; again every ten days."""
    absolute: int
    """Absolute orbit number on that day; 143 more every ten days."""
    every: int
    """Days between the passes that are simulated: a multiple of ten."""
    time: timedelta
    """Time of day, UTC, of the sensing start."""
    offset: float
    """Of the world's centre from the ground track, metres east."""


_ORBITS = (
    _Orbit(22, "S2A", np.datetime64("2021-01-03"), 28905, 10, timedelta(hours=10, minutes=10, seconds=21), -27_000.0),
    _Orbit(65, "S2B", np.datetime64("2021-01-01"), 19968, 20, timedelta(hours=10, minutes=20, seconds=29), 142_600.0),
)
_DRIFT = (-900.0, 0.0, 900.0)
_BASELINES = (
    ("2015-06-23", "02.04"),
    ("2018-11-06", "02.11"),
    ("2020-02-04", "02.14"),
    ("2021-03-30", "03.00"),
    ("2021-06-30", "03.01"),
    ("2022-01-25", "04.00"),
    ("2022-12-06", "05.09"),
    ("2023-12-13", "05.10"),
)
"""First sensing day of the baselines of the operational chain (ESA, Sentinel-2 processing baselines)."""
REPROCESSED = "05.00"
"""Baseline of ESA's Collection 1: the offset applies to it whatever the sensing date."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One pass over the world.

    Attributes
    ----------
    platform
        ``S2A`` or ``S2B``.
    orbit, absolute_orbit
        Relative (1 to 143) and absolute orbit number.
    start
        Start of the datatake, UTC.
    track
        Where the ground track lies.
    sky
        Its clouds.
    """

    platform: str
    orbit: int
    absolute_orbit: int
    start: datetime
    track: Track
    sky: Sky

    @property
    def day(self) -> np.datetime64:
        """UTC day."""
        return np.datetime64(self.start.strftime("%Y-%m-%d"), "D")


@dataclass(frozen=True, slots=True)
class Granule:
    """One product: an acquisition cut to a tile by one processing baseline."""

    acquisition: Acquisition
    tile: Tile
    baseline: str

    @property
    def offset(self) -> int:
        """What was added to the digital numbers: 1000 from baseline 04.00 on."""
        return 1000 if float(self.baseline) >= 4.0 else 0

    @property
    def sensing(self) -> datetime:
        """Sensing time of the tile: some seconds into the datatake, later further south."""
        return self.acquisition.start + timedelta(seconds=14 + (5_800_020 - self.tile.uly) / 6_700, milliseconds=24)

    @property
    def generated(self) -> datetime:
        """When the product was made: hours after sensing, or years for the reprocessed."""
        days = 640 if self.baseline == REPROCESSED else 0
        return self.acquisition.start.replace(microsecond=0) + timedelta(days=days, hours=4, minutes=37, seconds=11)

    @property
    def id(self) -> str:
        """Item id in the form of the Planetary Computer."""
        a = self.acquisition
        return f"{a.platform}_MSIL2A_{a.start:%Y%m%dT%H%M%S}_R{a.orbit:03d}_T{self.tile.name}_{self.generated:%Y%m%dT%H%M%S}"


def _sky(seed: int, start: datetime, track: Track, weather: Weather, order: int) -> Sky:
    day = np.datetime64(start.strftime("%Y-%m-%d"), "D")
    cloud = float(at(weather.days, weather.cloud, day)[list(CELLS).index((1, 1))])
    zenith, azimuth = sun_angles(*CENTER, start)
    detector = max(int(track.detector(0.0, 0.0)), 1)
    view = track.view("B04", detector, 0.0, 0.0)
    to_view, to_sun = tan_vector(*view), tan_vector(zenith, azimuth)
    height = 1100.0 + 1500.0 * float(hash01(seed + 201, order))
    cover = 1.2 * cloud - 0.20
    return Sky(seed + 1000 + 7 * order, cover, height, (float(to_view[0]), float(to_view[1])), (float(to_sun[0]), float(to_sun[1])))


def acquisitions(seed: int, start: np.datetime64, end: np.datetime64, max_cloud: float, weather: Weather) -> tuple[Acquisition, ...]:
    """All passes between two days (inclusive) whose sky is at most `max_cloud` covered, in order of time."""
    found = []
    for orbit in _ORBITS:
        cycle = int(np.ceil((start - orbit.first) / np.timedelta64(orbit.every, "D")))
        while (day := orbit.first + np.timedelta64(orbit.every * cycle, "D")) <= end:
            when = datetime.fromisoformat(str(day)).replace(tzinfo=UTC) + orbit.time
            track = Track(orbit.offset + _DRIFT[int(3 * hash01(seed + 202, orbit.number, cycle))])
            sky = _sky(seed, when, track, weather, 2 * cycle + orbit.number)
            if sky.cover <= max_cloud:
                found.append(Acquisition(orbit.platform, orbit.number, orbit.absolute + 143 * orbit.every // 10 * cycle, when, track, sky))
            cycle += 1
    return tuple(sorted(found, key=lambda acquisition: acquisition.start))


def _baseline(day: np.datetime64) -> str:
    return [name for first, name in _BASELINES if np.datetime64(first) <= day][-1]


def granules(passes: tuple[Acquisition, ...]) -> tuple[Granule, ...]:
    """The products of all passes.

    Every pass is delivered in 33UTS, every tenth also in the next zone (32UQB), every thirteenth also in the overlapping northern tile
    (33UTT), every twentieth in the next zone only. Of the passes before the offset came, every seventh was reprocessed by a
    baseline that has it; the first of them is there in both versions.
    """
    products = []
    duplicated = False
    for order, one in enumerate(passes):
        operational = _baseline(one.day)
        reprocessed = order % 7 == 3 and float(operational) < 4.0
        baselines = [REPROCESSED if reprocessed else operational]
        names = ["33UTS"]
        if order % 20 == 13:
            names = ["32UQB"]
        else:
            names += ["32UQB"] if order % 10 == 2 else []
            names += ["33UTT"] if order % 13 == 4 else []
        if reprocessed and not duplicated:
            baselines, duplicated = [operational, REPROCESSED], True
        products += [Granule(one, TILES[name], baseline) for name in names for baseline in baselines]
    return tuple(products)
