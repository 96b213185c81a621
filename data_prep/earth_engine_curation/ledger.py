"""What has been done: a manifest that a killed run leaves readable, and the tables made from it."""

import contextlib
import csv
import dataclasses
import fcntl
import io
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.external import layout
from flood_distill import files
from flood_distill.errors import UserError

MANIFEST = "manifest.jsonl"
METADATA = "metadata.csv"
LEFT_OUT = "left_out.csv"
PAIRS = "pairs.csv"
_SETTINGS = "settings"


@dataclasses.dataclass(frozen=True)
class Entry:
    """What became of a tile.

    Attributes:
        chip_id: ``EVENT_TILEID``.
        left_out: why its files were not written; empty if they were.
        metadata: its row of `METADATA`, without the id.
        files: size in bytes and SHA-256 of each file, by layer.
    """

    chip_id: str
    left_out: str
    metadata: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]]


class Ledger:
    """The manifest of an output folder. Made by `opened`."""

    def __init__(self, output_dir: Path, settings: Mapping[str, Any]):
        """Reads the manifest, if there is one.

        Args:
            output_dir: the folder of tiles.
            settings: what decides what is in the tiles.

        Raises:
            UserError: if the folder's tiles were made with other settings, or the manifest is none.
        """
        self._output_dir = output_dir
        self._path = output_dir / MANIFEST
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._settings = json.loads(json.dumps(dict(settings)))
        lines = self._path.read_text().splitlines() if self._path.is_file() else []
        self._read(lines)
        # Written again whole: the last line of a killed run may be half a line.
        files.write_text(self._path, "\n".join([json.dumps({_SETTINGS: self._settings}), *self._lines()]) + "\n")
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115  (closed by `close`)

    def done(self, chip_id: str) -> bool:
        """Whether a tile needs no more work: it was left out, or all its files are there in the size they had."""
        entry = self._entries.get(chip_id)
        if entry is None:
            return False
        paths = layer_paths(self._output_dir, chip_id)
        sizes = {name: path.stat().st_size if path.is_file() else -1 for name, path in paths.items()}
        return bool(entry.left_out) or sizes == {name: size for name, (size, _) in entry.files.items()}

    def add(self, entry: Entry) -> None:
        """Appends an entry; safe from many threads."""
        with self._lock:
            self._entries[entry.chip_id] = entry
            self._file.write(_line(entry) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the manifest."""
        self._file.close()

    def entries(self) -> list[Entry]:
        """Returns all entries, sorted by id."""
        return [self._entries[chip_id] for chip_id in sorted(self._entries)]

    def write_tables(self, not_made: Mapping[str, str]) -> None:
        """Writes `METADATA`, a row for each tile with files, and `LEFT_OUT`.

        Args:
            not_made: reasons by chip id of tiles that are not in the manifest.
        """
        made = [entry for entry in self.entries() if not entry.left_out]
        rows = [{"tile": entry.chip_id, **entry.metadata} for entry in made]
        write_csv(self._output_dir / METADATA, rows, ["tile"])
        reasons = {entry.chip_id: entry.left_out for entry in self.entries() if entry.left_out} | dict(not_made)
        rows = [{"tile": chip_id, "reason": reasons[chip_id]} for chip_id in sorted(reasons)]
        write_csv(self._output_dir / LEFT_OUT, rows, ["tile", "reason"])

    def _lines(self) -> Iterator[str]:
        return (_line(entry) for entry in self._entries.values())

    def _read(self, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines, start=1):
            try:
                content = json.loads(line)
                if number == 1:
                    self._check(content[_SETTINGS])
                else:
                    entry = Entry(**content)
                    self._entries[entry.chip_id] = entry
            except (ValueError, TypeError, KeyError) as error:
                if number < len(lines) or number == 1:
                    raise UserError(f"{self._path}: line {number} is damaged; remove the file to begin anew") from error

    def _check(self, before: Mapping[str, Any]) -> None:
        differing = [
            f"{name} {before.get(name)!r}, now {value!r}"
            for name, value in self._settings.items()
            if before.get(name) != value
        ]
        if differing:
            raise UserError(
                f"{self._output_dir}: its tiles were made with other settings ({'; '.join(differing)}); "
                "give another --output_dir"
            )


@contextlib.contextmanager
def opened(output_dir: Path, settings: Mapping[str, Any]) -> Iterator[Ledger]:
    """Gives the ledger of a folder, for one run at a time; makes the folder.

    Raises:
        UserError: see `Ledger`; also if another run is under way or the folder cannot be made.
    """
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(output_dir, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"--output_dir={output_dir}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.closing(Ledger(output_dir, settings)) as ledger:
            yield ledger
    except BlockingIOError:
        raise UserError(f"--output_dir={output_dir}: another run is writing there") from None
    finally:
        os.close(descriptor)


def layer_paths(output_dir: Path, chip_id: str) -> dict[str, Path]:
    """Returns the files of a tile, by layer name."""
    names = [spec.layer.name for spec in layout.LAYERS]
    return {name: output_dir / name / f"{chip_id}_{name}.tif" for name in names}


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Writes a table whole; `columns` come first, further ones in the order of the first row."""
    names = list(dict.fromkeys([*columns, *(rows[0] if rows else ())]))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def _line(entry: Entry) -> str:
    return json.dumps(dataclasses.asdict(entry))
