r"""The main job: data -> every row of Table 1 -> SavedModel, flood map and report; resumable stage by stage.

python -m flood_distill.reproduce --work_dir=W                         the demo, on the synthetic world
python -m flood_distill.reproduce --gin_file=table1.gin --data_dir=R --work_dir=W     the paper, on converted real data
python -m flood_distill.reproduce --gin_file=table1.gin --data_dir=R --work_dir=W --plan              what it would take
python -m flood_distill.reproduce --gin_file=table1.gin --data_dir=R --work_dir=W --print_commands    for a scheduler

Each stage is one command, run once; its log is in W/logs. A run that was stopped goes on with the same command. Started
on several machines that see W under the same name, the same command shares the stages among them. The result is
W/report.md, and one small file for every finished run in --results_dir.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from flood_distill import cli, job, object_store, work_dir
from flood_distill.errors import UserError

cli.define_gin_flags()
flags.adopt_module_key_flags(cli)
flags.DEFINE_string("data_dir", "", "Folder of converted datasets; without it the synthetic world is made and used.")
flags.DEFINE_string("work_dir", None, "Folder for everything that is made.", required=True)
flags.DEFINE_string(
    "results_dir",
    "",
    "Folder that keeps one small file for every finished run; a run that it has is not repeated. "
    "Default: WORK_DIR/results.",
)
flags.DEFINE_boolean("plan", False, "List the jobs with operations, images, disk and hours, and start nothing.")
flags.DEFINE_float(
    "teraflops",
    0.13,
    "For --plan: throughput of one lane in 1e12 operations a second. The default is what 2 CPU cores "
    "were measured to do in training at full width.",
    lower_bound=1e-6,
)
flags.DEFINE_boolean(
    "print_commands",
    False,
    "Print what is left as one command a line, each with the stages it comes after, and start nothing.",
)
flags.DEFINE_string("stage", "", "Run this stage alone, as the lines of --print_commands do.")
FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Parses the configuration and runs the stages."""
    gin_files = FLAGS.gin_file or ["demo.gin"]
    if FLAGS.plan:  # before gin is locked; it needs TensorFlow, to build the networks that it counts
        from flood_distill import plan
    cli.parse_gin(gin_files, FLAGS.gin_param, skip_unknown=True)
    for flag in ("work_dir", "results_dir"):
        object_store.local_only(f"--{flag}", FLAGS[flag].value)
    if FLAGS.data_dir and not object_store.is_remote(FLAGS.data_dir) and not os.path.isdir(FLAGS.data_dir):
        raise UserError(f"--data_dir={FLAGS.data_dir}: no such folder; convert datasets into it first")
    work = Path(FLAGS.work_dir)
    results_dir = Path(FLAGS.results_dir or work / work_dir.RESULTS)
    made = job.make_job(work, FLAGS.data_dir, results_dir, gin_files, FLAGS.gin_param)
    if FLAGS.plan:
        print(plan.as_text(made.stages, made.trainings, work, FLAGS.teraflops))
    elif FLAGS.print_commands:
        for line in job.commands(made, work, _own_flags(gin_files)):
            print(line)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what runs is told to stop
        job.run(made, work, results_dir, FLAGS.stage)
        print(f"done: {FLAGS.stage}" if FLAGS.stage else f"report: {work / work_dir.REPORT_MD}")


def _own_flags(gin_files: Sequence[str]) -> list[str]:
    """The flags that make the same job again."""
    given = [*(f"--gin_file={job.installed_name(name)}" for name in gin_files)]
    given += [f"--gin_param={binding}" for binding in FLAGS.gin_param]
    given += [f"--{name}={FLAGS[name].value}" for name in ("data_dir", "work_dir", "results_dir") if FLAGS[name].value]
    return given


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
