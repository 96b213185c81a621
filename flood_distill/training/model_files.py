"""Best weights of a run: what evaluation, export, prediction and distillation load."""

import keras
import tensorflow as tf
from etils import epath

from flood_distill import contract, model_info, object_store
from flood_distill.errors import UserError
from flood_distill.training import network


def best_checkpoint_manager(model: keras.Model, model_dir: str) -> tf.train.CheckpointManager:
    """Keeps one checkpoint of weights and batch-norm statistics under `model_dir`/best."""
    return tf.train.CheckpointManager(
        tf.train.Checkpoint(model=model), str(epath.Path(model_dir) / contract.BEST_DIR), max_to_keep=1
    )


def load_best(model_dir: str) -> tuple[keras.Model, model_info.ModelInfo]:
    """Rebuilds the network of `model_dir` with its best weights.

    Returns:
        The model, image float32 [batch, height, width, channels] in [0, 1] -> logits float32 [batch, height, width, 2],
        and its description.

    Raises:
        UserError: if `model_dir` is no model_dir, or its run has not been validated yet.
    """
    object_store.connect(model_dir)
    info = model_info.read(model_dir)
    model = network.build(info.network)
    manager = best_checkpoint_manager(model, model_dir)
    if manager.latest_checkpoint is None:
        raise UserError(f"{model_dir}: no best checkpoint yet; train until the first validation")
    manager.checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched().expect_partial()
    model.trainable = False
    return model, info
