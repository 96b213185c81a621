"""The day on which an event was imaged: wind, light, season and look of the radar, drawn by the event's name."""

import dataclasses

import numpy as np

from data_prep.synthetic import noise, world


@dataclasses.dataclass(frozen=True)
class Day:
    """Conditions that all chips of an event share; units as in `world.Conditions`.

    Attributes:
        cover_vv_db, cover_vh_db: by how much each land cover differs from the table, one value a class.
        looks_east: the radar looks towards growing columns (ascending orbit) or the other way.
        shadow_step: rows and columns from a cloud towards its shadow, a unit vector.
    """

    wind_ms: float
    moisture: float
    vigour: float
    turbidity: float
    sun_elevation_degrees: float
    haze: float
    bias_vv_db: float
    bias_vh_db: float
    incidence_degrees: float
    noise_floor_db: float
    cover_vv_db: tuple[float, ...]
    cover_vh_db: tuple[float, ...]
    looks_east: bool
    shadow_step: tuple[float, float]


def draw(event: world.Event) -> Day:
    """Returns the day of an event, always the same for the same name.

    The events of a pool share out the range of every condition: of five test events one is calm, one windy, and so on
    (Latin hypercube sampling, McKay et al. 1979), so that no pool is by chance of one kind.
    """
    rng = noise.generator("day", event.name)
    conditions = world.CONDITIONS
    azimuth = np.radians(rng.uniform(110.0, 160.0))  # morning sun in the south-east; north-east south of the tropics
    southward = -1.0 if event.latitude > 0 else 1.0
    shared_bias, own_bias = rng.normal(0.0, conditions.bias_db, 2)
    cover_vv = rng.normal(0.0, conditions.cover_db, len(world.SCATTERERS))
    cover_vh = cover_vv + rng.normal(0.0, conditions.cover_vh_db, len(world.SCATTERERS))
    return Day(
        wind_ms=_rayleigh(_share(event, "wind"), conditions.wind_ms),
        moisture=_between(conditions.moisture, _share(event, "moisture")),
        vigour=_between(conditions.vigour, _share(event, "vigour")),
        turbidity=_between(conditions.turbidity, _share(event, "turbidity")),
        sun_elevation_degrees=_between(conditions.sun_elevation_degrees, _share(event, "sun")),
        haze=_between(conditions.haze, _share(event, "haze")),
        bias_vv_db=shared_bias,
        bias_vh_db=shared_bias + 0.5 * own_bias,
        incidence_degrees=_between(world.INCIDENCE_DEGREES, _share(event, "incidence")),
        noise_floor_db=_between(world.NOISE_FLOOR_DB, _share(event, "noise floor")),
        cover_vv_db=tuple(cover_vv),
        cover_vh_db=tuple(cover_vh),
        looks_east=bool(rng.random() < 0.5),
        shadow_step=(float(southward * abs(np.cos(azimuth))), float(-np.sin(azimuth))),
    )


def _share(event: world.Event, condition: str) -> float:
    """Returns the event's place in [0, 1] within a condition's range: each event of a pool has its own slice of it."""
    pool = next((pool for pool in world.POOLS if event in pool), (event,))
    slices = noise.generator("slices", condition, *(member.name for member in pool)).permutation(len(pool))
    within = noise.generator("within", condition, event.name).random()
    return float((slices[pool.index(event)] + within) / len(pool))


def _between(limits: tuple[float, float], share: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * share


def _rayleigh(share: float, scale: float) -> float:
    return float(np.clip(scale * np.sqrt(-2.0 * np.log1p(-min(share, 0.999))), *world.WIND_RANGE_MS))
