"""The Beam pipeline of a conversion: one element a chip, read and warped wherever the runner likes.

TFDS writes the shards of what comes out (`tfds.core.GeneratorBasedBuilder` takes a transform in place of a generator).
What else is known of the tiles, summaries and faults, travels through a small file beside the shards.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import apache_beam as beam
from etils import epath

from data_prep.tiles import Chip, Fault, Summary, Tile
from flood_distill import contract, files

_REPORT = "report"


class ReadTiles(beam.PTransform):
    """From nothing to ``(chip_id, features)`` of all tiles that can be read; `take_report` returns the rest."""

    def __init__(
        self,
        chips: Sequence[Chip],
        read: Callable[[Chip], Tile | list[Fault]],
        source: str,
        report_path: str | os.PathLike,
    ):
        """Takes what can be pickled.

        Args:
            chips: the chips of one split.
            read: returns a chip's tile or its faults.
            source: ``real`` or ``synthetic``.
            report_path: a file that does not exist, in a folder that launcher and workers share.
        """
        super().__init__()
        self._chips = list(chips)
        self._read = read
        self._source = source
        self._report_path = os.fspath(report_path)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """Adds the transform to a pipeline; called by Beam."""
        found = (
            pipeline
            | "Chips" >> beam.Create(self._chips)
            | "Spread" >> beam.Reshuffle()  # otherwise one worker might get all chips
            | "Read" >> beam.FlatMap(_read, self._read, self._source).with_outputs(_REPORT, main="examples")
        )
        report = found[_REPORT] | "Collect" >> beam.combiners.ToList()
        _ = report | "WriteReport" >> beam.Map(_write_report, self._report_path)
        return found["examples"]


def read_elsewhere(
    read: Callable[[Chip], Tile | list[Fault]], input_dir: Path, worker_dir: str, chip: Chip
) -> Tile | list[Fault]:
    """Reads a chip of `input_dir` from `worker_dir`, where the same files lie; faults name those of `input_dir`."""
    there = {name: epath.Path(worker_dir) / path.relative_to(input_dir) for name, path in chip.files.items()}
    found = read(dataclasses.replace(chip, files=there))
    if isinstance(found, Tile):
        return found
    names = {os.fspath(path): os.fspath(chip.files[name]) for name, path in there.items()}
    return [dataclasses.replace(fault, path=names[fault.path]) for fault in found]


def take_report(report_path: str | os.PathLike, chips: Sequence[Chip]) -> tuple[list[Summary], list[Fault]]:
    """Returns the summaries and the faults of a split in the order of its chips, and removes their file."""
    path = epath.Path(report_path)
    entries = json.loads(path.read_text())
    path.unlink()
    place = {chip.chip_id: number for number, chip in enumerate(chips)}
    entries.sort(key=lambda entry: place[entry["chip_id"]])
    summaries = [Summary(**entry["summary"]) for entry in entries if "summary" in entry]
    return summaries, [Fault(**fault) for entry in entries for fault in entry.get("faults", [])]


def _read(chip: Chip, read: Callable[[Chip], Tile | list[Fault]], source: str) -> Iterator:
    found = read(chip)
    if isinstance(found, Tile):
        summary = dataclasses.asdict(found.summary)
        yield beam.pvalue.TaggedOutput(_REPORT, {"chip_id": chip.chip_id, "summary": summary})
        yield chip.chip_id, found.features | {contract.SOURCE: source}
    else:
        faults = [dataclasses.asdict(fault) for fault in found]
        yield beam.pvalue.TaggedOutput(_REPORT, {"chip_id": chip.chip_id, "faults": faults})


def _write_report(entries: list[dict], path: str) -> None:
    files.write_text(path, json.dumps(entries))
