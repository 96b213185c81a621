r"""Exports the best weights of a model_dir as a SavedModel, ready for TensorFlow Serving, or as ONNX.

python -m flood_distill.export --model_dir=M --export_dir=X
python -m flood_distill.export --model_dir=M --export_dir=X --precision=bfloat16
python -m flood_distill.export --model_dir=M --export_dir=Y --format=onnx

writes X/<version>/ with the next free version number, after the exported model has been loaded again and compared with
the one it came from.
"""

from absl import flags

from flood_distill import cli, contract

flags.DEFINE_string("model_dir", None, "Folder of a training run; its best weights are exported.", required=True)
flags.DEFINE_string("export_dir", None, "Folder of the model's versions.", required=True)
flags.DEFINE_enum(
    "precision", contract.FLOAT32, contract.PRECISIONS, "Arithmetic of the network, for processors that have it."
)
flags.DEFINE_enum("format", contract.SAVED_MODEL, contract.EXPORT_FORMATS, "SavedModel or ONNX (extra onnx).")
flags.DEFINE_multi_string("metrics", [], "metrics.json of an evaluation of this model, for its model card; repeatable.")
FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Exports, verifies, prints where."""
    from flood_distill import export_model  # here, not above: TensorFlow takes seconds to import

    exported = export_model.export(
        FLAGS.model_dir,
        FLAGS.export_dir,
        precision=FLAGS.precision,
        export_format=FLAGS.format,
        metrics_files=FLAGS.metrics,
    )
    print(f"Exported to {exported}")


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
