r"""Weights of TF1 DeepLab checkpoints as Keras weights, and the weights of a training run as such a checkpoint.

python -m flood_distill.checkpoints import --checkpoint=CKPT --channels=2 --output=W.weights.h5
python -m flood_distill.checkpoints export --model_dir=M --output=DIR/model.ckpt

Training reads such checkpoints itself: train.pretrained_checkpoint in gin.
"""

from absl import flags

from flood_distill import cli, contract
from flood_distill.errors import UserError

IMPORT, EXPORT = "import", "export"

cli.define_gin_flags()
flags.adopt_module_key_flags(cli)
flags.DEFINE_string(
    "output", None, "import: W.weights.h5, with W.json beside it; export: DIR/model.ckpt.", required=True
)
flags.DEFINE_string("checkpoint", None, "import: a TF1 checkpoint, up to and with .ckpt, or its folder.")
flags.DEFINE_integer("channels", None, "import: channels of the network's input.", 1)
flags.DEFINE_integer("classes", contract.NUM_CLASSES, "import: classes of the network's logits.", 1)
flags.DEFINE_enum(
    "part",
    contract.PRETRAINED_WHOLE,
    contract.PRETRAINED_PARTS,
    "import: all that the network has too, or the backbone.",
)
flags.DEFINE_string("model_dir", None, "export: folder of a training run; its best weights are taken.")
FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
    """Converts one way or the other and says what became of which variable."""
    command = argv[1]
    _require(command, ("checkpoint", "channels") if command == IMPORT else ("model_dir",))
    # Here, not above: TensorFlow takes seconds to import, and configurables come before their bindings.
    from flood_distill.training import checkpoint_conversion, experiment  # noqa: F401

    cli.parse_gin(FLAGS.gin_file, FLAGS.gin_param)
    if command == IMPORT:
        print(
            checkpoint_conversion.import_weights(
                FLAGS.checkpoint, FLAGS.output, FLAGS.channels, FLAGS.classes, FLAGS.part
            )
        )
    else:
        low, high = checkpoint_conversion.export_weights(FLAGS.model_dir, FLAGS.output)
        print(f"Exported to {FLAGS.output}; the weights expect inputs in [{low:g}, {high:g}]")


def _require(command: str, names: tuple[str, ...]) -> None:
    for name in names:
        if FLAGS[name].value is None:
            raise UserError(f"{command} needs --{name}; see --help")


def entry_point() -> None:
    """Console script."""
    cli.run(main, commands=(IMPORT, EXPORT))


if __name__ == "__main__":
    entry_point()
