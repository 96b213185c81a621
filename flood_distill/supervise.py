r"""Starts a training job and starts it again, all of it, whenever one of its processes dies.

python -m flood_distill.supervise -- python -m flood_distill.train --gin_file=teacher.gin --data_dir=R --model_dir=M
python -m flood_distill.supervise --num_workers=2 -- \
    python -m flood_distill.train --strategy=multi_worker --gin_file=teacher.gin --data_dir=R --model_dir=M

Ends with the job's own exit code; docs/training.md has a table of them.
"""

import tempfile
from pathlib import Path

from absl import flags

from flood_distill import cli, supervision
from flood_distill.errors import UserError

flags.DEFINE_integer("num_workers", 1, "Worker processes on this machine; from 2 on, each gets its TF_CONFIG.", 1)
flags.DEFINE_integer("max_restarts", 10, "Give up after that many restarts.", 0)
flags.DEFINE_float("startup_deadline_s", 600.0, "Start again if the first step has not come after that many seconds.")
flags.DEFINE_float("grace_s", 300.0, "Seconds that workers get to save after SIGTERM or Ctrl-C.", 0.0)
flags.DEFINE_float(
    "restart_delay_s",
    1.0,
    "Pause before a restart; 20 where workers are on several machines, so that all have noticed the death.",
    0.0,
)
flags.DEFINE_string(
    "worker_log_dir", "", "Local folder for the output of workers 1, 2, ...; a temporary one if not given."
)
FLAGS = flags.FLAGS


def main(argv: list[str]) -> int:
    """Runs the command that follows the flags."""
    command = argv[1:]
    if not command:
        raise UserError("no command; give it after --, see --help")
    limits = supervision.Limits(FLAGS.max_restarts, FLAGS.startup_deadline_s, FLAGS.grace_s, FLAGS.restart_delay_s)
    log_dir = Path(FLAGS.worker_log_dir or tempfile.mkdtemp(prefix="flood_distill_supervise_"))
    log_dir.mkdir(parents=True, exist_ok=True)
    return supervision.supervise(command, FLAGS.num_workers, limits, log_dir)


def entry_point() -> None:
    """Console script."""
    cli.run(main, takes_arguments=True)


if __name__ == "__main__":
    entry_point()
