"""Which Sentinel-1 images go with which Sentinel-2 images (section 2.2 of the paper). Pure functions.

The images of one Sentinel-1 orbit are one pass, those of one Sentinel-2 datatake likewise: a tile on a frame's edge is
filled from both frames. A pass is paired with every datatake that has images within the time limit, under the cloud
limit, over the same part of the event; each tile then takes the nearest in time that reaches it.
"""

import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from data_prep.earth_engine_curation import shapes
from data_prep.earth_engine_curation.events import Event
from data_prep.earth_engine_curation.tiling import Place


@dataclasses.dataclass(frozen=True)
class Scene:
    """One image of a catalogue.

    Attributes:
        scene_id: the asset, such as ``COPERNICUS/S1_GRD/S1A_...``.
        time: of acquisition, UTC.
        group: what the images of one pass have in common: orbit or datatake.
        area: footprint in degrees, see `shapes`.
        cloud_percent: cloud cover of the image; NaN for Sentinel-1, or if the catalogue does not say.
    """

    scene_id: str
    time: datetime.datetime
    group: str
    area: BaseGeometry
    cloud_percent: float = float("nan")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A Sentinel-1 pass and the images of one Sentinel-2 datatake that may be used with it.

    Attributes:
        s1: images of the pass, by time.
        s2: images of the datatake, the least cloudy last, as mosaics put the last on top.
        area: the part of the event that both see.
    """

    s1: tuple[Scene, ...]
    s2: tuple[Scene, ...]
    area: BaseGeometry

    @property
    def gap_hours(self) -> float:
        """Largest time from any Sentinel-1 image to any Sentinel-2 image, in hours; negative if Sentinel-2 is first."""
        return largest_gap_hours(self.s1, self.s2)


@dataclasses.dataclass(frozen=True)
class Pairing:
    """The pairs of an event, and why its other passes have none.

    Attributes:
        pairs: sorted by Sentinel-1 time, then by time between the sensors.
        unpaired: one reason for each pass without a pair, by the pass's group.
        num_passes: passes that see the event in its time.
    """

    pairs: tuple[Pair, ...]
    unpaired: dict[str, str]
    num_passes: int


@dataclasses.dataclass(frozen=True)
class TileSource:
    """A tile to be made.

    Attributes:
        tile_id: unique in its event: ``CELL-PASS``, such as ``45N-C091-R0523-S1A033456D``.
        event_id: the event.
        place: where.
        s1: images that reach the tile.
        s2: images that reach the tile.
    """

    tile_id: str
    event_id: str
    place: Place
    s1: tuple[Scene, ...]
    s2: tuple[Scene, ...]

    @property
    def chip_id(self) -> str:
        """``EVENT_TILEID``, how file names begin."""
        return f"{self.event_id}_{self.tile_id}"


def largest_gap_hours(s1: Sequence[Scene], s2: Sequence[Scene]) -> float:
    """Returns the largest time from a Sentinel-1 to a Sentinel-2 image in hours, negative if Sentinel-2 is first."""
    return max((_hours(first, second) for first in s1 for second in s2), key=abs)


def windows(scenes: Sequence[Scene], hours: float) -> list[tuple[datetime.datetime, datetime.datetime]]:
    """Returns the times within `hours` of any scene, overlapping ones joined, in order; both ends belong to them."""
    reach = datetime.timedelta(hours=hours)
    joined: list[tuple[datetime.datetime, datetime.datetime]] = []
    for time in sorted(scene.time for scene in scenes):
        if joined and time - reach <= joined[-1][1]:
            joined[-1] = (joined[-1][0], time + reach)
        else:
            joined.append((time - reach, time + reach))
    return joined


def passes(scenes: Sequence[Scene], event: Event) -> list[tuple[Scene, ...]]:
    """Returns the Sentinel-1 images that see an event in its time, by pass, in order of time."""
    seen = [s for s in scenes if event.start <= s.time < event.end and s.area.intersection(event.area).area > 0]
    return sorted(_groups(seen), key=lambda group: (group[0].time, group[0].scene_id))


def pair(
    event: Event, s1: Sequence[Scene], s2: Sequence[Scene], max_gap_hours: float, max_cloud_percent: float | None
) -> Pairing:
    """Pairs the passes over an event.

    Args:
        event: where and when.
        s1: Sentinel-1 images; those elsewhere or of other times are passed over.
        s2: Sentinel-2 images; likewise.
        max_gap_hours: no Sentinel-2 image is further than this from any Sentinel-1 image of its pass; this far is near.
        max_cloud_percent: only images with less cloud; None takes all.
    """
    found, unpaired = [], {}
    all_passes = passes(s1, event)
    for one in all_passes:
        pairs = _pairs_of(one, s2, event, max_gap_hours, max_cloud_percent)
        found += pairs
        if not pairs:
            unpaired[one[0].group] = _why_unpaired(one, s2, event, max_gap_hours, max_cloud_percent)
    return Pairing(tuple(found), unpaired, len(all_passes))


def tile_sources(event: Event, pairs: Sequence[Pair], places: Sequence[Place]) -> list[TileSource]:
    """Returns the tiles of an event: every place once for every Sentinel-1 pass that has a pair there.

    Args:
        event: the event.
        pairs: as `pair` sorts them.
        places: the tiles that cover the event.
    """
    areas = np.array([place.area for place in places], dtype=object)
    found: dict[str, TileSource] = {}
    for one in pairs:
        for place in (places[index] for index in _meeting(areas, one.area)):
            tile_id = f"{place.cell}-{one.s1[0].group}"
            if tile_id not in found:  # pairs of a pass come nearest in time first
                s1, s2 = (tuple(s for s in scenes if _shares(s.area, place.area)) for scenes in (one.s1, one.s2))
                if s1 and s2:
                    found[tile_id] = TileSource(tile_id, event.event_id, place, s1, s2)
    return [found[tile_id] for tile_id in sorted(found)]


def _hours(first: Scene, second: Scene) -> float:
    return (second.time - first.time).total_seconds() / 3600


def _groups(scenes: Sequence[Scene]) -> list[tuple[Scene, ...]]:
    groups: dict[str, list[Scene]] = {}
    for scene in sorted(scenes, key=lambda scene: (scene.time, scene.scene_id)):
        groups.setdefault(scene.group, []).append(scene)
    return [tuple(group) for group in groups.values()]


def _near(one: Sequence[Scene], s2: Sequence[Scene], area: BaseGeometry, max_gap_hours: float) -> list[Scene]:
    """Sentinel-2 images near a pass in time that see some of `area`."""
    near = [scene for scene in s2 if abs(largest_gap_hours(one, [scene])) <= max_gap_hours]
    return [scene for scene in near if _shares(scene.area, area)]


def _pairs_of(one, s2, event, max_gap_hours, max_cloud_percent) -> list[Pair]:
    seen = shapes.union([scene.area for scene in one]).intersection(event.area)
    clear = [s for s in _near(one, s2, seen, max_gap_hours) if _is_clear(s, max_cloud_percent)]
    pairs = []
    for group in _groups(clear):
        area = shapes.union([seen.intersection(shapes.union([scene.area for scene in group]))])
        cloudiest_first = sorted(group, key=lambda scene: (-_cloud(scene), scene.scene_id))
        pairs.append(Pair(tuple(one), tuple(cloudiest_first), area))
    return sorted(pairs, key=lambda found: (abs(found.gap_hours), found.s2[0].group))


def _why_unpaired(one, s2, event, max_gap_hours, max_cloud_percent) -> str:
    seen = shapes.union([scene.area for scene in one]).intersection(event.area)
    near = _near(one, s2, seen, max_gap_hours)
    if not near:
        return f"no Sentinel-2 image of the same ground within {max_gap_hours:g} hours"
    least = min(_cloud(scene) for scene in near)
    return f"all {len(near)} Sentinel-2 image(s) have {max_cloud_percent:g} % cloud or more (the least {least:.1f} %)"


def _is_clear(scene: Scene, max_cloud_percent: float | None) -> bool:
    return max_cloud_percent is None or _cloud(scene) < max_cloud_percent


def _cloud(scene: Scene) -> float:
    """Cloud cover; an image that does not say counts as covered."""
    return 100.0 if np.isnan(scene.cloud_percent) else scene.cloud_percent


def _meeting(areas: np.ndarray, area: BaseGeometry) -> np.ndarray:
    shapely.prepare(area)
    candidates = np.flatnonzero(shapely.intersects(areas, area))
    return candidates[shapely.area(shapely.intersection(areas[candidates], area)) > 0]


def _shares(first: BaseGeometry, second: BaseGeometry) -> bool:
    return first.intersects(second) and first.intersection(second).area > 0
