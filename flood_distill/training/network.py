"""The one network of teacher, student and baselines, as gin configures it."""

from collections.abc import Sequence

import gin
import keras

from flood_distill import contract
from flood_distill.models import deeplab
from flood_distill.training import fused_batch_norm, mixed_precision


@gin.configurable(denylist=["num_channels", "input_range"])
def network(
    num_channels: int,
    input_range: Sequence[float] = contract.IMAGE_RANGE,
    *,
    output_stride: int = 16,
    decoder_strides: Sequence[int] = (4, 2),
    atrous_rates: Sequence[int] | None = None,
    image_pooling_size: int | None = None,
    width_multiplier: float = 1.0,
    num_middle_units: int = 16,
    batch_norm_momentum: float = 0.9997,
    dropout_rate: float = 0.1,
    input_stride: int = 1,
) -> dict:
    """Returns the arguments of `deeplab_v3_plus` for a network of `num_channels` input bands.

    Args:
        num_channels: input bands: 2 for a student, 6 for a teacher.
        input_range: what the weights expect of an image in [0, 1]; (-1, 1) for pretrained ones.
        output_stride: 8, 16 or 32; the paper leaves it open, 16 is DeepLab's training default.
        decoder_strides: strides of the encoder features that the decoder takes, descending (appendix B: 4 and 2).
        atrous_rates: of the three atrous branches; None for the reference's 6, 12, 18 at output stride 16. Keep them
            below crop / output stride, or their outer taps are never trained.
        image_pooling_size: window of the image-pooling branch, in pixels of the encoder's features; None for the whole
            image. For networks trained on crops smaller than the tiles that they are evaluated on.
        width_multiplier: scales every channel count; 1 is Xception-65.
        num_middle_units: middle-flow units; 16 is Xception-65.
        batch_norm_momentum: the reference's 0.9997 has a half-life of 2310 steps; short runs need 0.9 to 0.99.
        dropout_rate: before the decoder; the reference's 0.1.
        input_stride: at 2 the network sees means over 3 x 3 pixels at half the resolution; 1 is the reference. Crops of
            k * input_stride * output_stride + 1 pixels stay aligned.
    """
    return {
        "num_channels": num_channels,
        "input_range": list(input_range),
        "output_stride": output_stride,
        "decoder_strides": list(decoder_strides),
        "atrous_rates": list(atrous_rates) if atrous_rates else None,
        "image_pooling_size": image_pooling_size,
        "width_multiplier": width_multiplier,
        "num_middle_units": num_middle_units,
        "batch_norm_momentum": batch_norm_momentum,
        "dropout_rate": dropout_rate,
        "input_stride": input_stride,
    }


def build(arguments: dict, synchronized_batch_norm: bool = False, precision: str = contract.FLOAT32) -> keras.Model:
    """Builds the network that `network` described: image [batch, height, width, channels] -> logits.

    Weights and results are those of Keras's own batch normalisation; a training step is a third faster on a CPU.

    Args:
        arguments: what `network` returned.
        synchronized_batch_norm: statistics over all replicas of a tf.distribute strategy.
        precision: of activations and products, one of `contract.TRAINING_PRECISIONS`; weights and logits are float32.
    """
    with mixed_precision.policy(precision):
        return deeplab.deeplab_v3_plus(
            **arguments,
            synchronized_batch_norm=synchronized_batch_norm,
            batch_norm_layer=fused_batch_norm.FusedBatchNormalization,
        )
