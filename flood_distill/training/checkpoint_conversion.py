"""Checkpoints from the reference's form to ours and back, for use outside of a training run."""

import json

from etils import epath

from flood_distill import contract, files
from flood_distill.errors import UserError
from flood_distill.models import deeplab
from flood_distill.training import model_files, network, pretrained

WEIGHTS_SUFFIX = ".weights.h5"  # Keras asks for it


def import_weights(
    checkpoint: str,
    output: str,
    num_channels: int,
    num_classes: int = contract.NUM_CLASSES,
    part: str = contract.PRETRAINED_WHOLE,
) -> pretrained.Report:
    """Writes the weights of a TF1 checkpoint as Keras weights, and beside them the network's arguments.

    `deeplab.deeplab_v3_plus(**arguments)` with the arguments in W.json takes W.weights.h5 on every Keras backend.
    What the checkpoint lacks has the initial values of seed 0.

    Args:
        checkpoint: as `tf1_checkpoints.find` takes it.
        output: such as ``W.weights.h5``.
        num_channels: of the network's input.
        num_classes: of its logits.
        part: ``whole`` or ``encoder``.

    Raises:
        UserError: if `output` ends otherwise, or the checkpoint is not of this network.
    """
    if not output.endswith(WEIGHTS_SUFFIX):
        raise UserError(f"--output={output}: has to end in {WEIGHTS_SUFFIX}")
    arguments = network.network(num_channels, pretrained.input_range(checkpoint)) | {"num_classes": num_classes}
    model = deeplab.deeplab_v3_plus(**arguments, seed=0)
    report = pretrained.load(model, checkpoint, part)
    with files.partial(output) as folder:
        folder.mkdir()
        model.save_weights(folder / f"new{WEIGHTS_SUFFIX}")
        files.publish(folder / f"new{WEIGHTS_SUFFIX}", output)
    files.write_text(output.removesuffix(WEIGHTS_SUFFIX) + ".json", json.dumps(arguments, indent=2) + "\n")
    return report


def export_weights(model_dir: str, output: str) -> tuple[float, float]:
    """Writes the best weights of a model_dir as a TF1 checkpoint with the reference's variable names.

    Args:
        model_dir: of a training run.
        output: prefix of the checkpoint, such as ``DIR/model.ckpt``.

    Returns:
        The range of the input that the weights expect; the checkpoint holds it as ``flood_distill/input_range``.

    Raises:
        UserError: if there are no best weights.
    """
    model, info = model_files.load_best(model_dir)
    low, high = info.network.get("input_range", contract.IMAGE_RANGE)
    pretrained.save(model, str(epath.Path(output)), (low, high), info.step)
    return low, high
