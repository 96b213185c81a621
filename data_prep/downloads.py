"""Drives a download: one call brings a public dataset, or the chosen part of it, to a folder, checked and complete."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tqdm

from data_prep import tiles
from data_prep.bucket.client import Client
from data_prep.bucket.manifest import Manifest
from data_prep.bucket.mirror import Mirror, Outcome
from data_prep.bucket.objects import RemoteObject
from data_prep.patience import PATIENT, Refused, Retries
from data_prep.sen1floods11 import bucket
from data_prep.sen1floods11.bucket import Selection
from flood_distill import files
from flood_distill.errors import UserError

MANIFEST = "download_manifest.csv"
MISSING = "download_missing.txt"
_NOT_LISTED = "in the official splits but not on the server"


@dataclasses.dataclass(frozen=True)
class Download:
    """What `download` found and did.

    Attributes:
        folder: where the dataset's version lies.
        wanted: the selected objects as the server lists them.
        outcome: see `mirror.Outcome`; None if nothing was to be done.
    """

    folder: Path
    wanted: list[RemoteObject]
    outcome: Outcome | None


def download(
    output_dir: str | Path,
    layers: Sequence[str] = (),
    events: Sequence[str] = (),
    base_url: str = bucket.BASE_URL,
    num_workers: int = 16,
    verify: bool = False,
    dry_run: bool = False,
    retries: Retries = PATIENT,
) -> Download:
    """Mirrors Sen1Floods11 v1.1 to ``output_dir/v1.1``, the folder that conversion reads.

    What is there and good is left alone, what was begun is gone on with. `MANIFEST` in that folder lists the good
    files, `MISSING` what is not there at the end.

    Args:
        output_dir: on a local disk; holds no synthetic tiles.
        layers: names from `bucket.LAYERS` or `bucket.GROUPS`; none means everything, the catalogue and the
            checkpoints of the publisher too.
        events: such as ``Sri-Lanka``; none means all.
        base_url: of a server of the same API.
        num_workers: transfers at a time.
        verify: compute the checksums of all files that are there.
        dry_run: only list.
        retries: how patient to be.

    Returns:
        A `Download`; what is missing is in it, not raised.

    Raises:
        UserError: for an unknown layer or event, a server that is out of reach, a disk that is too small or fails,
            another download to the same folder.
    """
    folder = _check_output_dir(output_dir)
    if not base_url.startswith(("http://", "https://")):
        raise UserError(f"--base_url={base_url}: give the address of a server, such as {bucket.BASE_URL}")
    selection = Selection.parse(layers, events)
    client = Client(base_url, retries)
    found = _list(client, selection)
    wanted = bucket.select(found, selection)
    if dry_run:
        return Download(folder, wanted, None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.only_one(folder, f"{folder}: another download to this folder is under way"):
            manifest = Manifest(folder / MANIFEST, folder.parent)
            outcome = Mirror(client, bucket.BUCKET, folder.parent, manifest, num_workers, verify).run(wanted)
            unlisted = bucket.unlisted(folder.parent, found, selection)
            outcome.missing |= {name: _NOT_LISTED for name in unlisted if name not in outcome.missing}
            _note_missing(folder / MISSING, outcome.missing)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror or error}") from error
    return Download(folder, wanted, outcome)


def _check_output_dir(output_dir: str | Path) -> Path:
    """Returns the folder of the dataset's version in it."""
    if "://" in str(output_dir):
        raise UserError(f"--output_dir={output_dir}: is not a local folder; download into one and copy it when whole")
    folder = Path(output_dir) / bucket.VERSION
    if (marker := tiles.find_marker(folder)) is not None:
        raise UserError(f"--output_dir={output_dir}: {marker} marks its tiles as synthetic; give another folder")
    return folder


def _list(client: Client, selection: Selection) -> list[RemoteObject]:
    try:
        with tqdm.tqdm(bucket.list_wanted(client, selection), desc="Listing", unit="file", mininterval=0.5) as found:
            return list(found)
    except Refused as error:
        raise UserError(
            f"{client.base_url}: no listing of the bucket {bucket.BUCKET} ({error}); check the network, a proxy "
            "(HTTPS_PROXY) or name a mirror with --base_url"
        ) from error


def _note_missing(path: Path, missing: dict[str, str]) -> None:
    if missing:
        files.write_text(path, "".join(f"{name}: {reason}\n" for name, reason in sorted(missing.items())))
    else:
        path.unlink(missing_ok=True)
