r"""Tries every point of a grid of gin values, by default learning rate x weight decay (appendix B).

python -m flood_distill.sweep --gin_file=teacher.gin --data_dir=R --sweep_dir=S
python -m flood_distill.sweep --gin_file=student_distill.gin --data_dir=R --sweep_dir=S --teacher_model_dir=T

Start the same command as often as there are GPUs or machines that see S: they share the points. A sweep that was
stopped goes on with the same command, its trainings too. S/table.md and S/heatmap.png show how all points stand,
S/best.gin is the configuration with the highest pooled validation IoU. Another grid: sweep.grid in a gin file.
"""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from flood_distill import cli, exit_codes, object_store
from flood_distill.errors import UserError

cli.define_gin_flags()
flags.adopt_module_key_flags(cli)
flags.DEFINE_string("data_dir", None, "Folder of the converted datasets.", required=True)
flags.DEFINE_string("sweep_dir", None, "Folder of the sweep; all its processes see it.", required=True)
flags.DEFINE_string("teacher_model_dir", "", "model_dir of the frozen teacher; distillation needs it.")
flags.DEFINE_multi_string(
    "train_flag", [], "More flags of flood_distill.train, such as --train_flag=--strategy=mirrored. Repeatable."
)
flags.DEFINE_string(
    "storage", "", "URL of the database that keeps the trials, such as postgresql://user@host/db; default: a file in S."
)
flags.DEFINE_integer("num_trials", 0, "Most trials that this process runs; 0 runs all that are left.", 0)
flags.DEFINE_boolean("retry_failed", False, "Try the points that failed once more.")
FLAGS = flags.FLAGS


def main(_: list[str]) -> int:
    """Parses the configuration and runs the sweep."""
    from flood_distill.sweeping.folder import SweepFolder

    report, run, trial = _import_sweeping()
    object_store.local_only("--sweep_dir", FLAGS.sweep_dir)
    config = _checked_config(run.check_grid)
    training = trial.Training(
        FLAGS.gin_file, FLAGS.gin_param, FLAGS.data_dir, FLAGS.teacher_model_dir, FLAGS.train_flag
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(exit_codes.STOPPED))
    try:
        results = run.sweep(
            SweepFolder(Path(FLAGS.sweep_dir)),
            training,
            config,
            storage=FLAGS.storage,
            num_trials=FLAGS.num_trials,
            retry_failed=FLAGS.retry_failed,
        )
    except (trial.Interrupted, KeyboardInterrupt):
        print("stopped; the same command goes on", file=sys.stderr)
        return exit_codes.STOPPED
    print(report.summary(results))
    return exit_codes.DONE


def _import_sweeping():
    try:
        from flood_distill.sweeping import report, run, trial
    except ImportError as error:
        if error.name != "optuna":
            raise
        raise UserError("sweeps need Optuna: pip install 'flood_distill[sweep]'") from error
    return report, run, trial


def _checked_config(check_grid: Callable[[dict], None]) -> str:
    """Returns the whole configuration, once every name in it and in the grid is known to be right."""
    import gin

    from flood_distill.training import experiment  # noqa: F401  (its names are bound)

    cli.parse_gin(FLAGS.gin_file, FLAGS.gin_param)
    config = gin.config_str()
    try:
        grid = gin.query_parameter("sweep.grid")
    except ValueError as error:
        raise UserError("sweep.grid is not set: include base.gin, or give bindings and their values to try") from error
    check_grid(grid)
    cli.parse_gin(FLAGS.gin_file, [*FLAGS.gin_param, *(f"{name} = {values[0]!r}" for name, values in grid.items())])
    return config


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
