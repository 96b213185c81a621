"""Our network beside `reference_graph`, output by output."""

import functools
from pathlib import Path

import keras
import numpy as np
import reference_graph

from flood_distill.models import deeplab, layers
from flood_distill.training import pretrained, tf1_checkpoints

TOLERANCE = 1e-4  # of the largest value
TAPS = {
    "tap2": "entry_flow/block1/unit_1",
    "tap4": "entry_flow/block2/unit_1",
    "tap8": "entry_flow/block3/unit_1",
    "tap16": "exit_flow/block1/unit_1",
}
OUTPUTS = {
    **{name: f"xception_65/{unit}/xception_module/separable_conv2_pointwise/BatchNorm" for name, unit in TAPS.items()},
    "image_pooling": "image_pooling/resize",
    "aspp0": "aspp0/relu",
    **{f"aspp{number}": f"aspp{number}_pointwise/relu" for number in (1, 2, 3)},
    "concat_projection": "concat_projection/relu",
    "logits": "logits/resize",
}


def random_image(height: int, width: int, channels: int = 2) -> np.ndarray:
    """Returns two images, float32 [2, height, width, channels] in [0, 1]."""
    return np.random.default_rng(1).random((2, height, width, channels), dtype=np.float32)


def reference_network(channels: int = 2, width_multiplier: float = 1.0, **arguments) -> reference_graph.ReferenceGraph:
    """Returns the reference, given all its variables by a first image of so many channels."""
    width = functools.partial(layers.scaled_channels, width_multiplier=width_multiplier)
    graph = reference_graph.ReferenceGraph(width=width, **arguments)
    graph(random_image(33, 33, channels))
    return graph


def write_checkpoint(reference: reference_graph.ReferenceGraph, folder: Path) -> str:
    """Writes the reference's variables as it does itself; returns the checkpoint's prefix."""
    prefix = str(folder / "model.ckpt")
    tf1_checkpoints.write(reference.variables, prefix)
    return prefix


def network(checkpoint: str, **arguments) -> keras.Model:
    """Returns our network, image as it is -> every output of `reference_graph`, with all weights of a checkpoint."""
    model = deeplab.deeplab_v3_plus(2, **arguments)
    report = pretrained.load(model, checkpoint)
    assert not report.initial
    assert not report.adapted
    outputs = {name: model.get_layer(layers.layer_name(scope)).output for name, scope in OUTPUTS.items()}
    return keras.Model(model.input, outputs)


def assert_equal(ours: dict, theirs: dict[str, np.ndarray]) -> None:
    """Compares every output to 1e-4 of its largest value."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        largest = np.abs(expected).max()
        assert expected.std() > 0.01 * largest, f"{name} does not answer to the image"
        np.testing.assert_allclose(ours[name] / largest, expected / largest, atol=TOLERANCE, err_msg=name)
