r"""Scores a model on a split of a dataset.

python -m flood_distill.evaluate --model=M --data_dir=R --split=test --output_dir=O
python -m flood_distill.evaluate --model=otsu --data_dir=R --split=bolivia --output_dir=O

M is a model_dir (its best weights) or an exported SavedModel. Written to O: metrics.json, metrics.md, per_chip.csv,
predictions.npz (water masks) and panels.png.
"""

from absl import flags

from flood_distill import cli, contract

cli.define_gin_flags()
flags.adopt_module_key_flags(cli)  # so that --help shows them
flags.DEFINE_string("model", None, "A model_dir, an exported SavedModel, or the word otsu.", required=True)
flags.DEFINE_string("data_dir", None, "Folder of the converted datasets.", required=True)
flags.DEFINE_string(
    "dataset", "", f"Dataset to score, such as {contract.HAND}; by default the one that the model was validated on."
)
flags.DEFINE_string("split", contract.TEST_SPLIT, "Split to score, such as test, validation or bolivia.")
flags.DEFINE_string("output_dir", None, "Folder for the tables and pictures.", required=True)
flags.DEFINE_enum(
    "engine",
    contract.TENSORFLOW,
    contract.ENGINES,
    "What runs an exported SavedModel; openvino is the faster one on most CPUs (extra openvino).",
)
FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Loads model and records, scores, prints the table."""
    # Here, not above: TensorFlow takes seconds to import, and configurables come before their bindings.
    from flood_distill import evaluation, predictor, records

    cli.parse_gin(FLAGS.gin_file, FLAGS.gin_param)
    model = predictor.load_predictor(FLAGS.model, FLAGS.dataset or contract.HAND, FLAGS.engine)
    dataset = records.load(FLAGS.data_dir, FLAGS.dataset or model.dataset or contract.HAND)
    metrics = evaluation.evaluate(model, dataset, FLAGS.split, FLAGS.output_dir)
    print(evaluation.as_markdown(metrics))
    print(f"Written to {FLAGS.output_dir}")


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
