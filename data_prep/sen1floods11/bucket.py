"""The public bucket of Sen1Floods11 v1.1: which layers it has and which of its objects are wanted."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from data_prep import tiles
from data_prep.bucket import objects
from data_prep.bucket.client import Client
from data_prep.bucket.objects import RemoteObject
from data_prep.sen1floods11 import layout
from flood_distill.errors import UserError

# https://github.com/cloudtostreet/Sen1Floods11; the bucket answers without an account.
BASE_URL = "https://storage.googleapis.com"
BUCKET = "sen1floods11"
VERSION = "v1.1"
_PERMANENT_FOLDER = "data/perm_water"

HAND = tuple(spec.layer.name for spec in layout.HAND_LAYERS)
WEAK = tuple(spec.layer.name for spec in layout.WEAK_LAYERS)
# Folder of each layer below `VERSION`. Files are EVENT_ID_LAYER.tif.
LAYERS = {
    **{name: f"{layout.HAND_FOLDER}/{name}" for name in (*HAND, "S1OtsuLabelHand")},
    **{name: f"{layout.WEAK_FOLDER}/{name}" for name in (*WEAK, "S1OtsuLabelWeak")},
    **{name: f"{_PERMANENT_FOLDER}/{name}" for name in ("S1Perm", "JRCPerm")},
}
GROUPS = {"hand": HAND, "weak": WEAK}  # what the configs of the same names are converted from
_ALWAYS = ("splits/", "Sen1Floods11_Metadata.geojson")  # small, and every use needs them
_STRAY = ".DS_Store"


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which part of the bucket is wanted.

    Attributes:
        layers: names; empty for everything, also what belongs to no layer.
        events: such as ``Sri-Lanka``; empty for all. With events, what belongs to no layer is left out.
    """

    layers: tuple[str, ...] = ()
    events: tuple[str, ...] = ()

    @classmethod
    def parse(cls, layers: Sequence[str], events: Sequence[str]) -> "Selection":
        """Returns the selection of layers, where ``hand`` and ``weak`` stand for several, and events.

        Raises:
            UserError: for a layer that does not exist.
        """
        names = [name for given in layers for name in GROUPS.get(given, (given,))]
        if unknown := [name for name in names if name not in LAYERS]:
            raise UserError(f"--layers={unknown[0]}: not one of {', '.join((*LAYERS, *GROUPS))}")
        return cls(tuple(dict.fromkeys(names)), tuple(events))

    @property
    def chosen_layers(self) -> tuple[str, ...]:
        """The layers of which files are wanted."""
        return self.layers or tuple(LAYERS)

    def takes(self, event: str) -> bool:
        """Returns whether an event is wanted."""
        return not self.events or event in self.events


def list_wanted(client: Client, selection: Selection) -> Iterator[RemoteObject]:
    """Gives the selected layers' objects of all events and everything else that is wanted.

    Raises:
        patience.Refused: if the server does not list them.
    """
    whole = not (selection.layers or selection.events)
    for prefix in [""] if whole else [*_ALWAYS, *(f"{LAYERS[name]}/" for name in selection.chosen_layers)]:
        for found in objects.list_objects(client, BUCKET, f"{VERSION}/{prefix}"):
            if PurePosixPath(found.name).name != _STRAY:
                yield found


def select(found: Sequence[RemoteObject], selection: Selection) -> list[RemoteObject]:
    """Returns the objects of the selected events, and those of no event.

    Raises:
        UserError: if the server has nothing of a selected layer or event.
    """
    events = {one.name: event_of(one.name) for one in found}
    there = {layer_of(name) for name in events}
    if absent := [layer for layer in selection.layers if layer not in there]:
        raise UserError(f"--layers={absent[0]}: the server has no file in {VERSION}/{LAYERS[absent[0]]}")
    known = set(filter(None, events.values()))
    if unknown := [event for event in selection.events if event not in known]:
        raise UserError(f"--events={unknown[0]}: not one of {', '.join(sorted(known))}")
    return [one for one in found if not events[one.name] or selection.takes(events[one.name])]


def layer_of(name: str) -> str:
    """Returns the layer that an object is a file of; empty for another object."""
    path = PurePosixPath(name)
    layer = path.parent.name
    inside = layer in LAYERS and str(path.parent) == f"{VERSION}/{LAYERS[layer]}"
    return layer if inside and path.name.endswith(f"_{layer}.tif") else ""


def event_of(name: str) -> str:
    """Returns the event that a layer's file is of; empty for another object."""
    layer = layer_of(name)
    return tiles.event_of(PurePosixPath(name).name.removesuffix(f"_{layer}.tif")) if layer else ""


def unlisted(output_dir: Path, found: Sequence[RemoteObject], selection: Selection) -> list[str]:
    """Returns what should be there and the server does not list: split files, hand-labelled chips that they name.

    Raises:
        UserError: if a split file is of another form.
    """
    names = {one.name for one in found}
    lists = [f"{VERSION}/{name}" for name in layout.SPLIT_FILES.values()]
    if not all((output_dir / name).is_file() for name in lists):
        return [name for name in lists if name not in names]
    chip_ids = [chip_id for split in layout.read_splits(output_dir / VERSION).values() for chip_id in split]
    layers = [layer for layer in selection.chosen_layers if LAYERS[layer].startswith(layout.HAND_FOLDER)]
    expected = [f"{VERSION}/{LAYERS[layer]}/{chip_id}_{layer}.tif" for layer in layers for chip_id in chip_ids]
    return [name for name in expected if name not in names and selection.takes(event_of(name))]
