"""Keeps what a finished run of `flood_distill.reproduce` measured as one small file.

python -m flood_distill.keep_result --work_dir=W --run=teacher_seed0 --results_dir=results
"""

from pathlib import Path

from absl import flags

from flood_distill import cli, results

flags.DEFINE_string("work_dir", None, "Folder of a flood_distill.reproduce run.", required=True)
flags.DEFINE_string("run", None, "Name of the run, such as teacher_seed0.", required=True)
flags.DEFINE_string("results_dir", None, "Folder of the kept results.", required=True)
FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Writes the file."""
    print(results.keep(Path(FLAGS.work_dir), FLAGS.run, Path(FLAGS.results_dir)))


if __name__ == "__main__":
    cli.run(main)
