"""DeepLab v3+ on Xception-65 a second time, in plain TensorFlow operations and without our code.

Written from the facts of tensorflow/models, research/deeplab (core/xception.py, model.py, core/utils.py) alone: names
and shapes of the variables, explicit padding, atrous rates, epsilons, and the align-corners resize of TF1.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

BACKBONE_EPSILON = 1e-3
HEAD_EPSILON = 1e-5


class ReferenceGraph:
    """The network and its random variables, drawn by name where the graph first asks for them.

    Kernels keep the size of the signal (He et al. 2015), and every batch norm has statistics of its own.

    Args:
        decoder_strides: descending.
        num_classes: of the logits.
        num_middle_units: 16 in Xception-65.
        width: published number of channels -> that of a narrow network.
        seed: of the variables.
    """

    def __init__(
        self,
        decoder_strides: tuple[int, ...] = (4, 2),
        num_classes: int = 2,
        num_middle_units: int = 16,
        width: Callable[[int], int] = int,
        seed: int = 0,
    ):
        self.variables: dict[str, np.ndarray] = {}
        self._decoder_strides = decoder_strides
        self._num_classes = num_classes
        self._num_middle_units = num_middle_units
        self._width = width
        self._rng = np.random.default_rng(seed)

    def __call__(self, image: np.ndarray, output_stride: int = 16) -> dict[str, np.ndarray]:
        """Evaluates the network.

        Args:
            image: float32 [batch, height, width, channels], already in the range that the weights expect.
            output_stride: 8 or 16.

        Returns:
            By name: the decoder taps ``tap2``, ``tap4``, ``tap8``, ``tap16`` (their nominal strides), the branches
            ``image_pooling``, ``aspp0`` to ``aspp3``, then ``concat_projection`` and ``logits``.
        """
        outputs = self._backbone(tf.constant(image), output_stride)
        hidden = self._aspp(outputs, output_stride)
        for stage, stride in enumerate(self._decoder_strides):
            hidden = self._decoder(hidden, outputs[f"tap{stride}"], f"_{stage}" if stage else "")
        kernel = self._kernel("logits/semantic/weights", (1, 1, hidden.shape[-1], self._num_classes))
        bias = self._variable("logits/semantic/biases", lambda: self._rng.normal(0, 0.3, self._num_classes))
        outputs["logits"] = _resized(tf.nn.conv2d(hidden, kernel, 1, "VALID") + bias, image.shape[1:3])
        return {name: value.numpy() for name, value in outputs.items()}

    # --- Backbone: core/xception.py ---

    def _backbone(self, hidden: tf.Tensor, output_stride: int) -> dict[str, tf.Tensor]:
        dense = output_stride == 8
        hidden = tf.nn.relu(self._conv(hidden, "xception_65/entry_flow/conv1_1", 32, 3, stride=2))
        hidden = tf.nn.relu(self._conv(hidden, "xception_65/entry_flow/conv1_2", 64, 3))
        taps = {}
        hidden, taps["tap2"] = self._module(hidden, "entry_flow/block1/unit_1", (128, 128, 128), stride=2)
        hidden, taps["tap4"] = self._module(hidden, "entry_flow/block2/unit_1", (256, 256, 256), stride=2)
        hidden, taps["tap8"] = self._module(
            hidden, "entry_flow/block3/unit_1", (728, 728, 728), stride=1 if dense else 2
        )
        rate = 2 if dense else 1
        for number in range(1, self._num_middle_units + 1):
            unit = f"middle_flow/block1/unit_{number}"
            hidden, _ = self._module(hidden, unit, (728, 728, 728), rate=rate, skip="sum")
        hidden, taps["tap16"] = self._module(hidden, "exit_flow/block1/unit_1", (728, 1024, 1024), rate=rate)
        unit = "exit_flow/block2/unit_1"
        hidden, _ = self._module(hidden, unit, (1536, 1536, 2048), rate=2 * rate, skip="none")
        return {**taps, "features": hidden}

    def _module(
        self,
        inputs: tf.Tensor,
        unit: str,
        depths: tuple[int, int, int],
        stride: int = 1,
        rate: int = 1,
        skip: str = "conv",
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the module's output and what its second separable convolution gives, before any ReLU."""
        scope = f"xception_65/{unit}/xception_module"
        hidden, tap = inputs, None
        for number, depth in enumerate(depths, start=1):
            name = f"{scope}/separable_conv{number}"
            last = {"stride": stride} if number == 3 else {}
            if skip == "none":
                hidden = tf.nn.relu(self._depthwise(hidden, f"{name}_depthwise", rate=rate, **last))
                hidden = tf.nn.relu(self._conv(hidden, f"{name}_pointwise", depth))
            else:
                hidden = self._depthwise(tf.nn.relu(hidden), f"{name}_depthwise", rate=rate, **last)
                hidden = self._conv(hidden, f"{name}_pointwise", depth)
            tap = hidden if number == 2 else tap
        if skip == "sum":
            return hidden + inputs, tap
        if skip == "conv":
            return hidden + self._conv(inputs, f"{scope}/shortcut", depths[-1], stride=stride), tap
        return hidden, tap

    # --- Head: model.py ---

    def _aspp(self, outputs: dict[str, tf.Tensor], output_stride: int) -> tf.Tensor:
        """Adds the branches to `outputs` and returns their projection; dropout does nothing in evaluation."""
        features = outputs.pop("features")
        pooled = tf.reduce_mean(features, [1, 2], keepdims=True)
        pooled = tf.nn.relu(self._conv(pooled, "image_pooling", 256, epsilon=HEAD_EPSILON))
        outputs["image_pooling"] = _resized(pooled, features.shape[1:3])
        outputs["aspp0"] = tf.nn.relu(self._conv(features, "aspp0", 256, epsilon=HEAD_EPSILON))
        for number, rate in enumerate({16: (6, 12, 18), 8: (12, 24, 36)}[output_stride], start=1):
            outputs[f"aspp{number}"] = self._separable(features, f"aspp{number}", rate)
        branches = [outputs[name] for name in ("image_pooling", "aspp0", "aspp1", "aspp2", "aspp3")]
        projected = self._conv(tf.concat(branches, axis=3), "concat_projection", 256, epsilon=HEAD_EPSILON)
        outputs["concat_projection"] = tf.nn.relu(projected)
        return outputs["concat_projection"]

    def _decoder(self, hidden: tf.Tensor, tap: tf.Tensor, suffix: str) -> tf.Tensor:
        skip = tf.nn.relu(self._conv(tap, f"decoder/feature_projection0{suffix}", 48, epsilon=HEAD_EPSILON))
        hidden = tf.concat([_resized(hidden, tap.shape[1:3]), skip], axis=3)
        hidden = self._separable(hidden, f"decoder/decoder_conv0{suffix}")
        return self._separable(hidden, f"decoder/decoder_conv1{suffix}")

    def _separable(self, hidden: tf.Tensor, scope: str, rate: int = 1) -> tf.Tensor:
        """core/utils.py, split_separable_conv2d with batch norm and ReLU after both."""
        hidden = tf.nn.relu(self._depthwise(hidden, f"{scope}_depthwise", rate=rate, epsilon=HEAD_EPSILON))
        return tf.nn.relu(self._conv(hidden, f"{scope}_pointwise", 256, epsilon=HEAD_EPSILON))

    # --- Operations ---

    def _conv(
        self,
        inputs: tf.Tensor,
        scope: str,
        depth: int,
        size: int = 1,
        stride: int = 1,
        epsilon: float = BACKBONE_EPSILON,
    ) -> tf.Tensor:
        kernel = self._kernel(f"{scope}/weights", (size, size, inputs.shape[-1], self._width(depth)))
        return self._norm(tf.nn.conv2d(_padded(inputs, size // 2), kernel, stride, "VALID"), scope, epsilon)

    def _depthwise(
        self, inputs: tf.Tensor, scope: str, stride: int = 1, rate: int = 1, epsilon: float = BACKBONE_EPSILON
    ) -> tf.Tensor:
        kernel = self._kernel(f"{scope}/depthwise_weights", (3, 3, inputs.shape[-1], 1))
        padded, strides = _padded(inputs, rate), [1, stride, stride, 1]
        outputs = tf.nn.depthwise_conv2d(padded, kernel, strides, "VALID", dilations=[rate, rate])
        return self._norm(outputs, scope, epsilon)

    def _norm(self, inputs: tf.Tensor, scope: str, epsilon: float) -> tf.Tensor:
        depth = inputs.shape[-1]
        offset, mean = (
            self._variable(f"{scope}/BatchNorm/{name}", lambda: self._rng.normal(0, 0.3, depth))
            for name in ("beta", "moving_mean")
        )
        scale, variance = (
            self._variable(f"{scope}/BatchNorm/{name}", lambda: self._rng.uniform(0.3, 1.5, depth))
            for name in ("gamma", "moving_variance")
        )
        return tf.nn.batch_normalization(inputs, mean, variance, offset, scale, epsilon)

    def _kernel(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        fan_in = np.prod(shape[:2]) if "depthwise" in name else np.prod(shape[:3])
        return self._variable(name, lambda: self._rng.normal(0, 1.4 / np.sqrt(fan_in), shape))

    def _variable(self, name: str, draw: Callable[[], np.ndarray]) -> np.ndarray:
        if name not in self.variables:
            self.variables[name] = draw().astype(np.float32)
        return self.variables[name]


def _padded(inputs: tf.Tensor, reach: int) -> tf.Tensor:
    """Zeros around the image; with a stride of 2 this is fixed_padding of the reference, with 1 it is SAME."""
    return tf.pad(inputs, [[0, 0], [reach, reach], [reach, reach], [0, 0]])


def _resized(inputs: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    return tf.compat.v1.image.resize_bilinear(inputs, size, align_corners=True)
