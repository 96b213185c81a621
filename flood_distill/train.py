r"""Trains a teacher, a supervised baseline or a student.

python -m flood_distill.train --gin_file=teacher.gin --data_dir=R --model_dir=M
python -m flood_distill.train --gin_file=student_distill.gin --data_dir=R --model_dir=M2 --teacher_model_dir=M

The same command goes on where an interrupted one stopped: docs/training.md.
"""

from absl import flags

from flood_distill import cli, contract, exit_codes

cli.define_gin_flags()
flags.adopt_module_key_flags(cli)
flags.DEFINE_string("data_dir", None, "Folder of the converted datasets.", required=True)
flags.DEFINE_string("model_dir", None, "Folder of the run: checkpoints, best weights, logs.", required=True)
flags.DEFINE_string("teacher_model_dir", "", "model_dir of the frozen teacher; distillation needs it.")
flags.DEFINE_enum("strategy", "auto", contract.STRATEGIES, "How to distribute the training.")
flags.DEFINE_string("tpu", "", "Name or address of the TPU, for --strategy=tpu.")
flags.DEFINE_list(
    "workers", [], "HOST:PORT of every worker, the same list on all, the chief first; writes TF_CONFIG for this one."
)
flags.DEFINE_integer("worker_index", 0, "Place of this worker in --workers, counted from 0.", 0)
flags.DEFINE_integer(
    "threads", 0, "Threads of the CPU's arithmetic; 1 makes a run bit-reproducible; 0 leaves it to TensorFlow.", 0
)
FLAGS = flags.FLAGS


def main(_: list[str]) -> int:
    """Parses the configuration and runs the training."""
    # Here, not above: TensorFlow takes seconds to import, and configurables come before their bindings.
    import tensorflow as tf

    from flood_distill.training import experiment, lost_workers, stopping, strategies, summary

    cli.parse_gin(FLAGS.gin_file, FLAGS.gin_param)
    if FLAGS.threads:
        tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
        tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)
    strategies.set_workers(FLAGS.workers, FLAGS.worker_index)
    with stopping.on_signals(stopping.leave_at_once), lost_workers.leave_when_one_is_lost():
        outcome = experiment.train(
            FLAGS.data_dir,
            FLAGS.model_dir,
            teacher_model_dir=FLAGS.teacher_model_dir,
            strategy=FLAGS.strategy,
            tpu=FLAGS.tpu,
        )
    if outcome.stopped:
        print(f"stopped at step {outcome.step} and saved; the same command goes on")
        return exit_codes.STOPPED
    print(summary.summary(FLAGS.model_dir, FLAGS.data_dir, outcome.best_step, outcome.best_iou, outcome.step))
    return exit_codes.DONE


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
