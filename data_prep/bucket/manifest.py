"""What was downloaded and checked: a CSV file that a killed run leaves readable."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Self

from data_prep.bucket.objects import RemoteObject
from flood_distill import files
from flood_distill.errors import UserError


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One good file.

    Attributes:
        name: of the object; the path below the output folder.
        size: in bytes.
        mtime_ns: when the file was written; tells whether it was touched since it was checked.
        md5: hexadecimal, empty if neither listed nor computed.
        crc32c: hexadecimal, empty if not listed.
        generation: the server's number of this version; may be empty.
    """

    name: str
    size: int
    mtime_ns: int
    md5: str
    crc32c: str
    generation: str

    @classmethod
    def of_file(cls, path: Path, checked: RemoteObject, digest: str) -> Self:
        """Returns the entry of a file whose content is `checked`, with `digest` its computed checksum."""
        stat = path.stat()
        md5 = checked.md5 if checked.identity else digest
        return cls(checked.name, stat.st_size, stat.st_mtime_ns, md5, checked.crc32c, checked.generation)

    def vouches_for(self, path: Path, listed: RemoteObject) -> bool:
        """Returns whether the file is untouched since it was checked and is what the listing describes."""
        try:
            stat = path.stat()
        except FileNotFoundError:
            return False
        if (stat.st_size, stat.st_mtime_ns) != (self.size, self.mtime_ns) or self.size != listed.size:
            return False
        if not listed.identity:
            return True
        return self.md5 == listed.md5 if listed.md5 else self.crc32c == listed.crc32c


_COLUMNS = [field.name for field in dataclasses.fields(Entry)]


class Manifest:
    """The good files below a folder, by name. Each is appended when it is there; `save` sorts and tidies up."""

    def __init__(self, path: Path, output_dir: Path):
        """Reads the manifest if there is one; what a killed run half wrote and files that are gone are left out.

        Raises:
            UserError: if the file is something else.
        """
        self._path = path
        found = _read(path) if path.exists() else []
        self.entries = {entry.name: entry for entry in found if (output_dir / entry.name).is_file()}
        self.save()

    def add(self, entry: Entry) -> None:
        """Notes a good file, at once."""
        self.entries[entry.name] = entry
        with self._path.open("a", newline="", encoding="utf-8") as file:
            file.write(_line(dataclasses.astuple(entry)))

    def save(self) -> None:
        """Writes the whole manifest, sorted by name."""
        rows = [dataclasses.astuple(self.entries[name]) for name in sorted(self.entries)]
        files.write_text(self._path, "".join(map(_line, [_COLUMNS, *rows])))


def _line(row: tuple | list) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def _read(path: Path) -> list[Entry]:
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]  # a line without its end was not written whole
    header, *rows = csv.reader(whole.splitlines() or [""])
    try:
        if header != _COLUMNS:
            raise ValueError("its columns are not " + ",".join(_COLUMNS))
        return [Entry(name, int(size), int(mtime_ns), *rest) for name, size, mtime_ns, *rest in rows]
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: is no manifest of this program ({error}); move it away to check all files") from None
