"""Untrained networks so small that a test can afford them, as model_dirs."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from flood_distill import contract, model_info
from flood_distill.models import layers
from flood_distill.training import network
from flood_distill.training.checkpoint_folder import CheckpointFolder


def write_model_dir(
    folder: Path, inputs: str = contract.INPUT_S1, name: str = "tiny", dataset: str = contract.HAND
) -> keras.Model:
    """Writes a model_dir with a best checkpoint of random weights; returns the network."""
    arguments = network.network(
        len(contract.imagery(dataset).bands(inputs)),
        width_multiplier=0.05,
        num_middle_units=1,
        output_stride=16,
        batch_norm_momentum=0.01,
    )
    keras.utils.set_random_seed(3)
    model = network.build(arguments)
    # Fresh weights let nothing through: statistics of some noise and louder logits make it answer to its input.
    noise = np.random.default_rng(0).random((2, 65, 65, arguments["num_channels"]), np.float32)
    model(noise, training=True)
    kernel = model.get_layer(layers.layer_name("logits/semantic")).kernel
    kernel.assign(kernel * 100)
    folder.mkdir(parents=True, exist_ok=True)
    info = model_info.ModelInfo(
        name=name,
        task="supervised",
        inputs=inputs,
        network=arguments,
        train_datasets=[dataset],
        dataset=dataset,
        source=contract.SOURCE_SYNTHETIC,
        seed=0,
    )
    model_info.write(info, folder)
    CheckpointFolder(tf.train.Checkpoint(model=model), folder / contract.BEST_DIR, max_to_keep=1).save(1)
    return model
