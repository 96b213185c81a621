"""The events file: which floods, where and when.

A CSV file with a header row. Columns: ``id``, ``start``, ``end`` and either ``geometry`` (WKT or GeoJSON, Polygon or
MultiPolygon, longitude before latitude) or ``west``, ``south``, ``east``, ``north`` in degrees (a west greater than
the east means a box across the 180th meridian). Further columns are notes and are passed over. Times are UTC; a day
alone as ``end`` means the whole of that day.
"""

import csv
import dataclasses
import datetime
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import shapely
import shapely.geometry
from shapely.geometry.base import BaseGeometry

from data_prep.earth_engine_curation import shapes
from flood_distill.errors import UserError

_NEEDED = ("id", "start", "end")
_SIDES = ("west", "south", "east", "north")
_GEOMETRY = "geometry"
_ID = re.compile(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*")
_UTM_LATITUDES = (-80, 84)
_FIELD_LIMIT = 1 << 27  # a detailed polygon is longer than csv's default of 128 KiB


@dataclasses.dataclass(frozen=True)
class Event:
    """One flood.

    Attributes:
        event_id: begins the names of its tiles.
        start: first instant, UTC.
        end: the instant after the last, UTC.
        area: polygon or multipolygon in degrees, see `shapes`.
    """

    event_id: str
    start: datetime.datetime
    end: datetime.datetime
    area: BaseGeometry


def read_events(path: str | Path) -> list[Event]:
    """Returns the events of a file, in its order.

    Raises:
        UserError: lists every line that cannot be used, with its reason; also if there are no events.
    """
    rows = _rows(Path(path))
    events: list[Event] = []
    faults: list[str] = []
    for number, row in rows:
        try:
            event = _event(row)
            if event.event_id.lower() in {other.event_id.lower() for other in events}:
                raise ValueError(f"id {event.event_id} is there already")
            events.append(event)
        except ValueError as error:
            faults.append(f"{path}: line {number}: {' '.join(str(error).split())}")
    if faults:
        raise UserError("\n  ".join([f"{len(faults)} line(s) of the events file cannot be used; mend them", *faults]))
    if not events:
        raise UserError(f"{path}: holds no events; one line an event with {', '.join((*_NEEDED, *_SIDES))}")
    return events


def _rows(path: Path) -> list[tuple[int, Mapping[str, str]]]:
    csv.field_size_limit(_FIELD_LIMIT)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = [name.strip().lower() for name in reader.fieldnames or ()]
            missing = [name for name in _NEEDED if name not in names]
            if _GEOMETRY not in names:
                missing += [name for name in _SIDES if name not in names]
            if missing:
                raise UserError(f"{path}: no column {', '.join(missing)}; the first line must name the columns")
            reader.fieldnames = names
            rows = [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}) for row in reader]
            return [(number, row) for number, row in rows if any(row.values())]
    except OSError as error:
        raise UserError(f"--events={path}: cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError, AttributeError) as error:
        raise UserError(f"--events={path}: is not a CSV file ({error})") from error


def _event(row: Mapping[str, str]) -> Event:
    event_id = row["id"]
    if not _ID.fullmatch(event_id):
        raise ValueError(f"id {event_id!r} must be letters and digits, joined by hyphens or underscores")
    start, end = _time(row["start"], "start"), _time(row["end"], "end", end_of_day=True)
    if end <= start:
        raise ValueError(f"end {row['end']} lies before start {row['start']}")
    area = _area(row)
    if area.is_empty or not area.area > 0:
        raise ValueError("its area is empty; give a polygon or a box")
    south, north = area.bounds[1], area.bounds[3]
    if south < _UTM_LATITUDES[0] or north > _UTM_LATITUDES[1]:
        raise ValueError(f"latitudes {south:g} to {north:g} lie outside of UTM (-80 to 84); is longitude first?")
    return Event(event_id, start, end, area)


def _time(text: str, name: str, end_of_day: bool = False) -> datetime.datetime:
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{name} {text!r} is no date such as 2020-07-14 or 2020-07-14T06:00") from None
    time = time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time.astimezone(datetime.UTC)
    whole_day = end_of_day and len(text) <= len("2020-07-14")
    return time + datetime.timedelta(days=1) if whole_day else time


def _area(row: Mapping[str, str]) -> BaseGeometry:
    if text := row.get(_GEOMETRY, ""):
        return shapes.area_of(_parse(text))
    sides = {name: row.get(name, "") for name in _SIDES}
    try:
        west, south, east, north = (float(text) for text in sides.values())
    except ValueError:
        raise ValueError(f"needs a geometry, or numbers for {', '.join(_SIDES)}") from None
    if not (all(map(math.isfinite, (west, south, east, north))) and south < north and west != east):
        raise ValueError(f"box {west:g} {south:g} {east:g} {north:g}: south must be less than north, west not east")
    if not (-180 <= west <= 180 and -180 <= east <= 180):
        raise ValueError(f"box {west:g} {south:g} {east:g} {north:g}: west and east must be in -180 to 180")
    return shapes.box(west, south, east, north)


def _parse(text: str) -> BaseGeometry:
    try:
        if text.startswith("{"):
            content = json.loads(text)
            return shapely.geometry.shape(content.get("geometry", content))
        return shapely.from_wkt(text)
    except Exception as error:  # Shapely raises many kinds, AttributeError and KeyError among them
        raise ValueError(f"geometry is neither WKT nor GeoJSON ({error})") from error
