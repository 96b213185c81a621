"""The counts of every chip as a table: per_chip.csv."""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from flood_distill import files, statistics

PER_CHIP_CSV = "per_chip.csv"
PER_CHIP_COLUMNS = ("chip_id", "event", "scored_pixels", "tp", "fp", "fn", "tn", "iou")
_COUNTS = ("tp", "fp", "fn", "tn")
_MORE_COUNTS = ("boundary", "flood")  # of a ChipResult; columns such as boundary_tp
_MORE_COLUMNS = ("without_s2", *(f"{kind}_{name}" for kind in _MORE_COUNTS for name in _COUNTS))


def write(results: Sequence[statistics.ChipResult], path: Path) -> None:
    """Writes one row for each scored chip, sorted by name."""
    scored = sorted((result for result in results if result.counts.scored_pixels), key=lambda result: result.chip_id)
    with files.whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow((*PER_CHIP_COLUMNS, *_MORE_COLUMNS))
        for result in scored:
            counts = result.counts
            row = (counts.scored_pixels, *dataclasses.astuple(counts), statistics.chip_iou(counts))
            more = [number for kind in _MORE_COUNTS for number in dataclasses.astuple(getattr(result, kind))]
            writer.writerow((result.chip_id, result.event, *row, result.num_without_s2, *more))


def read(path: Path) -> list[statistics.ChipResult]:
    """Reads what `write` wrote."""
    return parse(path.read_text().splitlines())


def parse(lines: Sequence[str]) -> list[statistics.ChipResult]:
    """Reads the lines of what `write` wrote."""
    return [_chip_result(row) for row in csv.DictReader(lines)]


def _chip_result(row: dict[str, str]) -> statistics.ChipResult:
    counts = {
        kind: statistics.Counts(*(int(row[f"{prefix}{name}"]) for name in _COUNTS))
        for kind, prefix in (("counts", ""), *((kind, f"{kind}_") for kind in _MORE_COUNTS))
    }
    return statistics.ChipResult(row["chip_id"], row["event"], num_without_s2=int(row["without_s2"]), **counts)
