"""Many objects: what is there already, what has to come, whether it fits on the disk, what is missing at the end."""

import contextlib
import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

import tqdm

from data_prep.bucket import objects, transfer
from data_prep.bucket.client import Client
from data_prep.bucket.manifest import Entry, Manifest
from data_prep.bucket.objects import RemoteObject
from data_prep.bucket.transfer import Transfer
from data_prep.patience import Refused, Stopped
from flood_distill.errors import UserError

_GIVE_UP_AFTER = 20  # objects in a row that used up all their attempts: the server is gone
_BLOCK_BYTES = 4096  # a file takes whole blocks of the disk
_NOT_TRIED = "not tried: the server has failed too often"

Report = Callable[[int], None]  # told how many bytes were dealt with


@dataclasses.dataclass
class Outcome:
    """What `Mirror.run` found and did.

    Attributes:
        there: objects whose files were good already.
        fetched: objects that came, as they were on the server then.
        missing: why an object is not there, by name.
    """

    there: list[RemoteObject] = dataclasses.field(default_factory=list)
    fetched: list[Entry] = dataclasses.field(default_factory=list)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)


def readable(num_bytes: float) -> str:
    """Returns bytes in decimal units, such as ``36.9GB``."""
    return tqdm.tqdm.format_sizeof(num_bytes, "B", 1000)


@dataclasses.dataclass(frozen=True)
class Mirror:
    """Brings objects to a folder. A run that is broken off at any moment goes on where it was when run again.

    Attributes:
        client: the server.
        bucket: name of the bucket.
        output_dir: the folder; the objects' names become paths below it.
        manifest: the good files below the folder; kept up to date.
        num_workers: transfers at a time.
        verify: compute the checksums of all files that are there, although the manifest knows them.
    """

    client: Client
    bucket: str
    output_dir: Path
    manifest: Manifest
    num_workers: int = 16
    verify: bool = False

    def run(self, wanted: Sequence[RemoteObject]) -> Outcome:
        """Checks what is there and fetches the rest.

        Raises:
            UserError: if the disk is too small or fails.
        """
        outcome = Outcome()
        try:
            absent = self._check(wanted, outcome)
            self.manifest.save()  # without the files that turned out bad
            part_bytes = self._tidy_parts(absent)
            self._check_space(absent, part_bytes)
            self._fetch(absent, part_bytes, outcome)
            self.manifest.save()
        except OSError as error:
            raise UserError(f"{error.filename or self.output_dir}: {error.strerror or error}") from error
        finally:
            self.client.stop.set()  # whoever still works after an error or Ctrl-C
        return outcome

    def _check(self, wanted: Sequence[RemoteObject], outcome: Outcome) -> list[RemoteObject]:
        """Notes the objects whose files are good and returns the others, sorted by name."""
        absent = []
        with _progress("Checking", sum(one.size for one in wanted)) as report:
            for one, entry in self._each(lambda one: self._good_file(one, report), wanted):
                if isinstance(entry, Exception):
                    raise entry
                if entry is None:
                    self.manifest.entries.pop(one.name, None)
                    absent.append(one)
                    continue
                outcome.there.append(one)
                if self.manifest.entries.get(one.name) != entry:
                    self.manifest.add(entry)
        return sorted(absent, key=lambda one: one.name)

    def _good_file(self, one: RemoteObject, report: Report) -> Entry | None:
        """Returns the entry of the object's file if its content is the object's."""
        path = one.path(self.output_dir)
        known = self.manifest.entries.get(one.name)
        if known is not None and not self.verify and known.vouches_for(path, one):
            report(one.size)
            return known
        if not path.is_file() or path.stat().st_size != one.size:
            report(one.size)
            return None
        digest = objects.hash_file(path, one.new_hash(), self.client, report)
        return Entry.of_file(path, one, digest) if digest == one.identity or not one.identity else None

    def _tidy_parts(self, absent: Sequence[RemoteObject]) -> int:
        """Removes what earlier runs left of other versions; returns the bytes of these versions that they left."""
        targets = {one.path(self.output_dir): one.part_path(self.output_dir) for one in absent}
        for part in self.output_dir.rglob("*.part"):
            target = objects.target_of_part(part)
            if target in targets and targets[target] != part:
                part.unlink()
        return sum(transfer.usable_bytes(one, self.output_dir) for one in absent)

    def _check_space(self, absent: Sequence[RemoteObject], part_bytes: int) -> None:
        needed = sum(one.size + _BLOCK_BYTES for one in absent) - part_bytes
        free = shutil.disk_usage(self.output_dir).free
        if needed > free:
            raise UserError(
                f"--output_dir={self.output_dir}: {readable(needed)} are still to come and {readable(free)} are free; "
                f"make room for {readable(needed - free)} more or choose fewer --layers or --events"
            )

    def _fetch(self, absent: Sequence[RemoteObject], part_bytes: int, outcome: Outcome) -> None:
        failures_in_a_row = 0
        with _progress("Downloading", sum(one.size for one in absent), part_bytes) as report:
            for one, result in self._each(lambda one: self._transfer(one, report), absent):
                if isinstance(result, Entry):
                    self.manifest.add(result)
                    outcome.fetched.append(result)
                    failures_in_a_row = 0
                elif isinstance(result, Stopped):
                    outcome.missing[one.name] = _NOT_TRIED
                elif isinstance(result, Refused):
                    outcome.missing[one.name] = str(result)
                    failures_in_a_row += result.exhausted
                    if failures_in_a_row == _GIVE_UP_AFTER:
                        self.client.stop.set()
                else:
                    raise result

    def _transfer(self, one: RemoteObject, report: Report) -> Entry:
        return Transfer(self.client, self.bucket, one, self.output_dir, report).run()

    def _each(
        self, function: Callable[[RemoteObject], Entry | None], wanted: Iterable[RemoteObject]
    ) -> Iterator[tuple[RemoteObject, Entry | Exception | None]]:
        """Gives each object with what the function returned or raised, as they get done.

        The threads do not outlive the program, whatever they wait for.
        """

        def call(one: RemoteObject) -> tuple[RemoteObject, Entry | Exception | None]:
            try:
                if self.client.stop.is_set():
                    raise Stopped
                return one, function(one)
            except Exception as error:
                return one, error

        with ThreadPool(self.num_workers) as pool:
            yield from pool.imap_unordered(call, wanted)


@contextlib.contextmanager
def _progress(description: str, total: int, initial: int = 0) -> Iterator[Report]:
    """Shows a bar of bytes that all threads may advance."""
    lock = threading.Lock()
    with tqdm.tqdm(desc=description, total=total, initial=initial, unit="B", unit_scale=True, mininterval=0.5) as bar:

        def report(num_bytes: int) -> None:
            with lock:
                bar.update(num_bytes)

        yield report
