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


def summary(report: dict) -> str:
    """Returns what was found, in a few lines."""
    counts = ", ".join(f"{split} {group['num_tiles']}" for split, group in report["splits"].items())
    across = sum(group["across_splits"] for group in report["duplicates"])
    return "\n".join(
        [
            f"{report['source']} dataset {report['path']}: {counts}",
            f"  ground shared by different splits: {len(report['leaks'])} pairs of tiles",
            f"  images that are the same: {len(report['duplicates'])} groups, {across} across splits",
            f"  faults and oddities: {sum(fault['num_tiles'] for fault in report['faults'])}",
        ]
    )


def main(argv: list[str]) -> int:
    """Inspects and prints what was found; exit code 1 if a split could not be read."""
    del argv
    from data_prep.inspection import run  # here, not above: TensorFlow takes seconds to import

    report = run.inspect(_DATA_DIR.value, _DATASET.value, _OUTPUT_DIR.value)
    print(summary(report))
    print(f"Written to {_OUTPUT_DIR.value}/{run.REPORT_MD}")
    for reason in report["damaged_splits"].values():
        print(f"error: {reason}", file=sys.stderr)
    return 1 if report["damaged_splits"] else 0


def entry_point() -> None:
    """The console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
