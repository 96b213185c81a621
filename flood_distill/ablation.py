r"""Tries the knobs of the method one by one: trains every variant of teacher and student and writes a table.

python -m flood_distill.ablation --gin_file=ablation.gin --data_dir=R --work_dir=W

What is tried is in the gin file: ablation.teachers and ablation.students, names with their bindings. Each run is scored
on the validation and the test split. Each stage is one command, run once; its log is in W/logs. An ablation that was
stopped goes on with the same command, and variants may be added. The result is W/ablation.md.
"""

import os
from pathlib import Path

from absl import flags

from flood_distill import cli, object_store
from flood_distill.errors import UserError

cli.define_gin_flags()
flags.adopt_module_key_flags(cli)
flags.DEFINE_string("data_dir", None, "Folder of the converted datasets.", required=True)
flags.DEFINE_string("work_dir", None, "Folder for everything that is made.", required=True)
FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Parses the configuration and runs the variants."""
    # Here, not above: TensorFlow takes seconds to import, and configurables come before their bindings.
    from flood_distill import ablation_study

    cli.parse_gin(FLAGS.gin_file or ["ablation.gin"], FLAGS.gin_param)
    object_store.local_only("--work_dir", FLAGS.work_dir)
    if not object_store.is_remote(FLAGS.data_dir) and not os.path.isdir(FLAGS.data_dir):
        raise UserError(f"--data_dir={FLAGS.data_dir}: no such folder; convert datasets into it first")
    print(f"table: {ablation_study.run(Path(FLAGS.work_dir), FLAGS.data_dir)}")


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
