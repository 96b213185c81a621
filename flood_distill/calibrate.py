r"""Calibrates the probabilities of a trained model on the validation split.

python -m flood_distill.calibrate --model_dir=M --data_dir=R

fits the temperature of the softmax and writes it into M/model.json; export, evaluate and predict use it from then on.
Water masks do not change: a threshold other than 0.5 moves with the probabilities.
"""

from absl import flags

from flood_distill import cli, contract

flags.DEFINE_string("model_dir", None, "Folder of a training run.", required=True)
flags.DEFINE_string("data_dir", None, "Folder of the converted datasets.", required=True)
flags.DEFINE_string("dataset", "", "Dataset; by default the one that the model was validated on.")
flags.DEFINE_string("split", contract.VALIDATION_SPLIT, "Split to fit on; one that no score is reported on.")
FLAGS = flags.FLAGS


def main(_: list[str]) -> None:
    """Fits, writes, prints."""
    from flood_distill import model_info, records, temperature  # here: TensorFlow takes seconds to import

    name = FLAGS.dataset or model_info.read(FLAGS.model_dir).dataset
    found = temperature.calibrate(FLAGS.model_dir, records.load(FLAGS.data_dir, name), FLAGS.split)
    print(
        f"Temperature {found['temperature']:.3f}: cross-entropy {found['before']:.4f} before, {found['after']:.4f} "
        f"after, on {name}, {FLAGS.split} split; written to {FLAGS.model_dir}/{contract.MODEL_JSON}"
    )


def entry_point() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    entry_point()
