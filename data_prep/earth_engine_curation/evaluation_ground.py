"""Where no tile may be: the ground of Sen1Floods11's validation, test and Bolivia chips."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from data_prep import exclusion, tiles
from data_prep.earth_engine_curation.tiling import Place
from data_prep.sen1floods11 import layout
from flood_distill.errors import UserError
from flood_distill.geo import footprints

METADATA_GEOJSON = "Sen1Floods11_Metadata.geojson"
_GEOJSON_EVENTS = {"Mekong": "Cambodia"}  # chips of the Mekong event are listed under the country


@dataclasses.dataclass(frozen=True)
class Ground:
    """What is evaluated on.

    Attributes:
        boxes: west, south, east, north in degrees.
        events: ids of events that are held out altogether.
        notes: what the user should know, one line each.
    """

    boxes: tuple[footprints.Box, ...]
    events: frozenset[str]
    notes: tuple[str, ...]

    def meets(self, places: Sequence[Place]) -> list[bool]:
        """Returns whether each place shares ground with what is evaluated on."""
        boxes = [footprints.footprint(place.grid) for place in places]
        return footprints.meets(boxes, self.boxes).tolist()


def read(output_dir: Path, sen1floods11_dir: Path | None) -> Ground:
    """Returns the evaluation ground.

    A chip of which any layer is there is known to the pixel's footprint. One of which none is there counts as large as
    its whole event in `METADATA_GEOJSON`.

    Args:
        output_dir: the folder of tiles; a folder ``sen1floods11`` beside it is used if `sen1floods11_dir` is None.
        sen1floods11_dir: folder that holds Sen1Floods11's ``v1.1``.

    Raises:
        UserError: if `sen1floods11_dir` does not hold the official lists, or a chip's place cannot be found out.
    """
    root = layout.find_root_beside(output_dir, sen1floods11_dir)
    known = None if root is None else exclusion.evaluation_ground(root)
    if known is None:
        note = (
            "no --sen1floods11_dir: tiles on validation, test and Bolivia chips are not left out now; "
            "data_prep.convert compares too"
        )
        return Ground((), frozenset({layout.HELD_OUT_EVENT}), (note,))
    events = sorted({tiles.event_of(fault.chip_id) for fault in known.unknown})
    areas = _event_boxes(root, events) if events else []
    notes = []
    if events:
        notes.append(
            f"{len(known.unknown)} validation, test and Bolivia chips have no file in {root}: the whole area of their "
            f"events is left out ({', '.join(events)}); any one layer, such as LabelHand, would make that exact"
        )
    return Ground((*known.boxes.values(), *areas), frozenset(known.events), tuple(notes))


def _event_boxes(root: Path, events: Sequence[str]) -> list[footprints.Box]:
    """Returns the bounding boxes of events, whose outlines in the file are boxes."""
    path = root / METADATA_GEOJSON
    try:
        features = json.loads(path.read_text())["features"]
        found: dict[str, list[footprints.Box]] = {}
        for feature in features:
            found.setdefault(feature["properties"]["location"], []).append(_bounds(feature["geometry"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: cannot be read, and chips of {', '.join(events)} have no file that tells their place; "
            "download it, or a layer of all chips, such as LabelHand"
        ) from error
    missing = [event for event in events if _GEOJSON_EVENTS.get(event, event) not in found]
    if missing:
        raise UserError(f"{path}: does not know {', '.join(missing)}; download a layer of all chips, such as LabelHand")
    return [box for event in events for box in found[_GEOJSON_EVENTS.get(event, event)]]


def _bounds(geometry: dict) -> footprints.Box:
    import shapely.geometry

    return shapely.geometry.shape(geometry).bounds
