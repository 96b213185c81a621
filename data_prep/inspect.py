"""Statistics and health: ``python -m data_prep.inspect --data_dir=R --dataset=NAME/CONFIG --output_dir=O``.

Reads every tile once and writes report.md, PNGs and inspect.json to O: counts, class and no-data shares, histograms of
the bands with the limits of their normalisation, images that are the same, ground that splits share, faults.
"""

import sys

from absl import flags

from flood_distill import cli

_DATASET = flags.DEFINE_string("dataset", None, "NAME/CONFIG, such as sen1floods11/hand.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of converted datasets.", required=True)
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the report.", required=True)


def main(argv: list[str]) -> int:
    """Inspects and prints what was found; exit code 1 if a split could not be read."""
    del argv
    from data_prep.inspection import report, run  # here, not above: TensorFlow takes seconds to import

    found = run.inspect(_DATA_DIR.value, _DATASET.value, _OUTPUT_DIR.value)
    print(report.summary(found))
    print(f"Written to {_OUTPUT_DIR.value}/{run.REPORT_MD}")
    for reason in found["damaged_splits"].values():
        print(f"error: {reason}", file=sys.stderr)
    return 1 if found["damaged_splits"] else 0


def entry_point() -> None:
    """The console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
