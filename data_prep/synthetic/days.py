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
    """Returns the day of an event, always the same for the same name."""
    rng = noise.generator("day", event.name)
    conditions = world.CONDITIONS
    azimuth = np.radians(rng.uniform(110.0, 160.0))  # morning sun in the south-east; north-east south of the tropics
    southward = -1.0 if event.latitude > 0 else 1.0
    shared_bias, own_bias = rng.normal(0.0, conditions.bias_db, 2)
    cover_vv = rng.normal(0.0, conditions.cover_db, len(world.SCATTERERS))
    cover_vh = cover_vv + rng.normal(0.0, conditions.cover_vh_db, len(world.SCATTERERS))
    return Day(
        wind_ms=float(np.clip(rng.rayleigh(conditions.wind_ms), *world.WIND_RANGE_MS)),
        moisture=rng.uniform(*conditions.moisture),
        vigour=rng.uniform(*conditions.vigour),
        turbidity=rng.uniform(*conditions.turbidity),
        sun_elevation_degrees=rng.uniform(*conditions.sun_elevation_degrees),
        haze=rng.uniform(*conditions.haze),
        bias_vv_db=shared_bias,
        bias_vh_db=shared_bias + 0.5 * own_bias,
        incidence_degrees=rng.uniform(*world.INCIDENCE_DEGREES),
        noise_floor_db=rng.uniform(*world.NOISE_FLOOR_DB),
        cover_vv_db=tuple(cover_vv),
        cover_vh_db=tuple(cover_vh),
        looks_east=bool(rng.random() < 0.5),
        shadow_step=(float(southward * abs(np.cos(azimuth))), float(-np.sin(azimuth))),
    )
