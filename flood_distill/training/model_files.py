"""Best weights of a run: what evaluation, export, prediction and distillation load."""

import keras
import tensorflow as tf
from etils import epath

from flood_distill import contract, model_info, object_store
from flood_distill.errors import UserError
from flood_distill.training import checkpoint_folder, network


def load_best(model_dir: str) -> tuple[keras.Model, model_info.ModelInfo]:
    """Rebuilds the network of `model_dir` with its best weights.

    Returns:
        The model, image float32 [batch, height, width, channels] in [0, 1] -> logits float32 [batch, height, width, 2],
        and its description.

    Raises:
        UserError: if `model_dir` is no model_dir, if its run has not been validated yet, or its weights are damaged.
    """
    object_store.connect(model_dir)
    info = model_info.read(model_dir)
    model = network.build(info.network)
    path = checkpoint_folder.newest_whole(epath.Path(model_dir) / contract.BEST_DIR)
    if path is None:
        raise UserError(f"{model_dir}: no best checkpoint yet; train until the first validation")
    tf.train.Checkpoint(model=model).restore(path).assert_existing_objects_matched().expect_partial()
    model.trainable = False
    return model, info
