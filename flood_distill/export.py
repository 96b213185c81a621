r"""Exports the best weights of a model_dir as a SavedModel, ready for TensorFlow Serving.

python -m flood_distill.export --model_dir=M --export_dir=X

writes X/<version>/ with the next free version number, after the exported model has been loaded again and compared with
the one it came from.
"""

from absl import flags

from flood_distill import cli

flags.DEFINE_string("model_dir", None, "Folder of a training run; its best weights are exported.", required=True)
flags.DEFINE_string("export_dir", None, "Folder of the model's versions.", required=True)
FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Exports, verifies, prints where."""
    from flood_distill import export_model  # here, not above: TensorFlow takes seconds to import

    exported = export_model.export(FLAGS.model_dir, FLAGS.export_dir)
    print(f"Exported to {exported}")


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
