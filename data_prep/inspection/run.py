"""Statistics and health of one converted dataset: reads it once, writes a report."""

import json
import os
from pathlib import Path

from data_prep.inspection import plots, report, survey
from flood_distill import contract, files, records

REPORT_MD = "report.md"
INSPECT_JSON = "inspect.json"
HISTOGRAMS_PNG = "histograms.png"
EVENTS_PNG = "events.png"
SHARES_PNG = "shares.png"
_PICTURES = (SHARES_PNG, HISTOGRAMS_PNG, EVENTS_PNG)


def inspect(data_dir: str | os.PathLike, dataset: str, output_dir: str | os.PathLike) -> dict:
    """Writes the PNGs, report.md and, last, inspect.json; each whole or not at all.

    Args:
        data_dir: root of converted datasets.
        dataset: ``NAME/CONFIG``.
        output_dir: folder, made if it is not there.

    Returns:
        What inspect.json holds; its ``damaged_splits`` were not read to the end.

    Raises:
        UserError: if the dataset is not there or none of its splits can be read.
    """
    dataset_records = records.load(data_dir, dataset)
    found = survey.survey(dataset_records)
    result = report.as_dict(dataset_records, found, survey.overlaps(found, dataset_records, Path(data_dir)))
    _draw(dataset_records, found, output_dir)
    files.write_text(f"{output_dir}/{REPORT_MD}", report.as_markdown(result, _PICTURES))
    files.write_text(f"{output_dir}/{INSPECT_JSON}", json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def _draw(dataset_records: records.Records, found: survey.Survey, output_dir: str | os.PathLike) -> None:
    splits = found.by_split()
    events = {f"{split} / {event}": tally for (split, event), tally in sorted(found.tallies.items())}
    synthetic = " (synthetic data)" if dataset_records.source == contract.SOURCE_SYNTHETIC else ""
    title = f"{dataset_records.name}{synthetic}"
    with files.whole_file(f"{output_dir}/{SHARES_PNG}") as path:
        groups = splits | (events if len(events) > len(splits) else {})
        plots.shares(groups, dataset_records.imagery.target, title, path)
    with files.whole_file(f"{output_dir}/{HISTOGRAMS_PNG}") as path:
        plots.histograms(splits, f"{title}: valid pixels, and the limits of normalisation (dashed)", path)
    with files.whole_file(f"{output_dir}/{EVENTS_PNG}") as path:
        plots.events(events, f"{title}: valid pixels by event, and the limits of normalisation (dashed)", path)
