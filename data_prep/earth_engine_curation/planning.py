"""From events to the list of tiles that are to be made, and the account of what is not."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import tqdm

from data_prep import exclusion
from data_prep.earth_engine_curation import pairing, tiling
from data_prep.earth_engine_curation.evaluation_ground import Ground
from data_prep.earth_engine_curation.events import Event
from data_prep.earth_engine_curation.pairing import Pair, Pairing, Scene, TileSource
from data_prep.earth_engine_curation.settings import OVER_IMAGE, Settings
from data_prep.patience import Refused
from flood_distill.errors import UserError


class Catalogue(Protocol):
    """What lists images; `client.EarthEngine` does."""

    def list_s1(self, event: Event) -> list[Scene]: ...

    def list_s2(self, event: Event, start, end) -> list[Scene]: ...


@dataclasses.dataclass(frozen=True)
class EventPlan:
    """What an event yields.

    Attributes:
        event: the event.
        pairing: its pairs and the passes without one.
        tiles: to be made.
        excluded: reasons by chip id of tiles that meet evaluation ground or are of a held-out event.
        problem: one line that says why it yields no tile; empty if it yields some.
        failed: whether `problem` is that Earth Engine did not answer.
    """

    event: Event
    pairing: Pairing
    tiles: tuple[TileSource, ...] = ()
    excluded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    problem: str = ""
    failed: bool = False


def plan(events: Sequence[Event], catalogue: Catalogue, settings: Settings, ground: Ground) -> list[EventPlan]:
    """Plans all events, in their order.

    Raises:
        UserError: if Earth Engine cannot be reached or may not be used; not for an event that it refuses to list.
    """
    progress = tqdm.tqdm(events, desc="Searching pairs", unit="event", mininterval=1.0)
    return [_plan_event(event, catalogue, settings, ground) for event in progress]


def _plan_event(event: Event, catalogue: Catalogue, settings: Settings, ground: Ground) -> EventPlan:
    try:
        s1 = catalogue.list_s1(event)
        seen = [scene for one in pairing.passes(s1, event) for scene in one]
        s2 = [s for window in pairing.windows(seen, settings.max_gap_hours) for s in catalogue.list_s2(event, *window)]
    except Refused as error:
        if error.exhausted:
            raise UserError(f"Earth Engine does not answer: {error}; run the same command again later") from error
        return EventPlan(
            event, Pairing((), {}, 0), problem=f"Earth Engine refuses to list images: {error}", failed=True
        )
    max_cloud = settings.max_cloud_percent if settings.cloud_over == OVER_IMAGE else None
    found = pairing.pair(event, s1, s2, settings.max_gap_hours, max_cloud)
    if not found.pairs:
        return EventPlan(event, found, problem=_why_none(found))
    return _with_tiles(event, found, ground)


def _with_tiles(event: Event, found: Pairing, ground: Ground) -> EventPlan:
    places = tiling.places(event.area)
    sources = pairing.tile_sources(event, found.pairs, places)
    if event.event_id in ground.events:
        excluded = {source.chip_id: exclusion.HELD_OUT_EVENT for source in sources}
    else:
        met = {place.cell for place, meets in zip(places, ground.meets(places), strict=True) if meets}
        excluded = {s.chip_id: exclusion.MEETS_EVALUATION for s in sources if s.place.cell in met}
    tiles = tuple(source for source in sources if source.chip_id not in excluded)
    problem = "" if tiles else f"all of its {len(sources)} tiles are on evaluation ground or of a held-out event"
    return EventPlan(event, found, tiles, excluded, problem)


def _why_none(found: Pairing) -> str:
    if not found.num_passes:
        return "no pair: no Sentinel-1 IW image with VV and VH in its time and place"
    reasons = "; ".join(f"{group}: {reason}" for group, reason in found.unpaired.items())
    return f"no pair for any of {found.num_passes} Sentinel-1 pass(es): {reasons}"


def summary(plans: Sequence[EventPlan], with_pairs: bool) -> list[str]:
    """Returns what was found, a line an event; `with_pairs` adds a line for each pair and each pass without one."""
    lines = []
    for one in plans:
        lines.append(f"{one.event.event_id}: {one.problem or _counts(one)}")
        if with_pairs:
            lines += [f"  {_pair_line(found)}" for found in one.pairing.pairs]
            if one.pairing.pairs:
                lines += [f"  {group}: no pair: {why}" for group, why in one.pairing.unpaired.items()]
    num_tiles = sum(len(one.tiles) for one in plans)
    num_with = sum(bool(one.tiles) for one in plans)
    return [*lines, f"{num_tiles} tiles of {num_with} of {len(plans)} events"]


def pair_rows(plans: Sequence[EventPlan]) -> list[dict]:
    """Returns the table of all pairs, with a row for each pass and event without one."""
    rows = []
    for one in plans:
        name = {"event": one.event.event_id}
        rows += [name | _pair_row(found) for found in one.pairing.pairs]
        rows += [name | {"s1_pass": group, "note": f"no pair: {why}"} for group, why in one.pairing.unpaired.items()]
        if one.problem:
            rows.append(name | {"note": one.problem})
    return rows


PAIR_COLUMNS = (
    *("event", "s1_pass", "s1_time", "s2_datatake", "s2_time", "gap_hours", "s2_cloud_percent"),
    *("s1_scenes", "s2_scenes", "note"),
)


def _counts(one: EventPlan) -> str:
    num_paired = one.pairing.num_passes - len(one.pairing.unpaired)
    excluded = f", {len(one.excluded)} more on evaluation ground" if one.excluded else ""
    return f"{len(one.tiles)} tiles{excluded}; {num_paired} of {one.pairing.num_passes} Sentinel-1 pass(es) have a pair"


def _pair_line(found: Pair) -> str:
    row = _pair_row(found)
    return (
        f"{row['s1_pass']} {row['s1_time']} + {row['s2_datatake']} {row['s2_time']}: {row['gap_hours']:+.1f} h, "
        f"cloud {row['s2_cloud_percent']} %, {len(found.s1)} + {len(found.s2)} image(s)"
    )


def _pair_row(found: Pair) -> dict:
    clouds = [scene.cloud_percent for scene in found.s2]
    return {
        "s1_pass": found.s1[0].group,
        "s1_time": time_text(found.s1),
        "s2_datatake": found.s2[0].group,
        "s2_time": time_text(found.s2),
        "gap_hours": round(found.gap_hours, 3),
        "s2_cloud_percent": f"{min(clouds):.1f} to {max(clouds):.1f}",
        "s1_scenes": " ".join(scene.scene_id for scene in found.s1),
        "s2_scenes": " ".join(scene.scene_id for scene in found.s2),
    }


def time_text(scenes: Sequence[Scene]) -> str:
    """Returns the time of the first of some images, such as ``2020-07-14T11:55:05Z``."""
    return min(scene.time for scene in scenes).strftime("%Y-%m-%dT%H:%M:%SZ")
