r"""Writes the report of a `reproduce` run: the table with intervals, differences, pictures, curves, commands.

python -m flood_distill.report --work_dir=W                               everything, into W/report.md
python -m flood_distill.report --results_dir=results/ombria --output_dir=O    tables and plots, from kept results alone

Plain Markdown with PNGs beside it; every number is read from what the stages wrote.
"""

from pathlib import Path

from absl import flags

from flood_distill import cli, report_page, work_dir
from flood_distill.errors import UserError

flags.DEFINE_string("work_dir", "", "Folder of a flood_distill.reproduce run.")
flags.DEFINE_string("results_dir", "", "Folder of the kept results. Default: WORK_DIR/results.")
flags.DEFINE_string("output_dir", "", "Folder for the report. Default: the work_dir.")
FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Writes the report."""
    work = Path(FLAGS.work_dir) if FLAGS.work_dir else None
    output_dir = Path(FLAGS.output_dir) if FLAGS.output_dir else work
    if output_dir is None or not (work or FLAGS.results_dir):
        raise UserError("give --work_dir, or --results_dir and --output_dir")
    results_dir = Path(FLAGS.results_dir) if FLAGS.results_dir else work / work_dir.RESULTS
    print(f"report: {report_page.write_report(results_dir, output_dir, work)}")


if __name__ == "__main__":
    cli.run(main)
