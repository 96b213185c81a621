"""Training steps that keep less of the forward pass: what lies inside a block is computed again for its gradients."""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from flood_distill.training.fused_batch_norm import FusedBatchNormalization

_Forward = Callable[[tf.Tensor], tf.Tensor]
_UNIT = re.compile(r".*-unit_\d+")  # a residual unit of Xception


def recomputing(model: keras.Model) -> _Forward:
    """Returns the training pass of a network that keeps only what passes between its blocks.

    Blocks are the residual units of the encoder and each separable convolution of the decoder; the inside of a block is
    computed a second time for its gradients (Chen et al. 2016, Training deep nets with sublinear memory cost). Outputs,
    gradients and moving statistics are those of ``model(image, training=True)``: batch norms move their averages once,
    and dropout lies in a block of its own that is not computed again.

    Args:
        model: one image -> logits; a functional network, each layer used once, whose batch norms are of
            `FusedBatchNormalization`.

    Raises:
        ValueError: if it has other batch norms, which would move their averages twice.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and not isinstance(layer, FusedBatchNormalization):
            raise ValueError(f"{layer.name}: only batch norms of FusedBatchNormalization can be computed again")
    operations = [op for op in model.operations if not isinstance(op, keras.layers.InputLayer)]
    blocks = [_Block(model, operations, list(block)) for _, block in itertools.groupby(operations, key=_block_name)]

    def forward(image: tf.Tensor) -> tf.Tensor:
        values = {id(model.inputs[0]): image}
        for block in blocks:
            made = block([values[id(tensor)] for tensor in block.inputs])
            values |= {id(tensor): value for tensor, value in zip(block.outputs, made, strict=True)}
        return values[id(model.outputs[0])]

    return forward


def _block_name(operation: keras.Operation) -> str:
    if isinstance(operation, keras.layers.Dropout):
        return operation.name
    if unit := _UNIT.match(operation.name):
        return unit[0]
    scope = operation.name.split("-")[:2]
    return re.sub(r"_(depthwise|pointwise)$", "", "-".join(scope))


class _Block:
    """Some operations that follow one another, as a network of its own.

    Attributes:
        inputs: tensors of the whole network that it takes.
        outputs: tensors of the whole network that others take from it.
    """

    def __init__(self, model: keras.Model, operations: Sequence[keras.Operation], block: Sequence[keras.Operation]):
        made = [tensor for operation in block for tensor in _node(operation).output_tensors]
        others = [operation for operation in operations if operation not in block]
        wanted = {id(tensor) for operation in others for tensor in _node(operation).input_tensors}
        wanted |= {id(tensor) for tensor in model.outputs}
        taken = {id(tensor): tensor for operation in block for tensor in _node(operation).input_tensors}
        for tensor in made:
            taken.pop(id(tensor), None)
        self.inputs = list(taken.values())
        self.outputs = [tensor for tensor in made if id(tensor) in wanted]
        self._network = keras.Model(self.inputs, self.outputs)
        self._norms = [operation for operation in block if isinstance(operation, FusedBatchNormalization)]
        self._random = any(isinstance(operation, keras.layers.Dropout) for operation in block)

    def __call__(self, values: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        if self._random:
            return keras.tree.flatten(self._network(list(values), training=True))
        calls = itertools.count()

        def compute(*again: tf.Tensor) -> tuple[tf.Tensor, ...]:
            """TensorFlow traces this once for the forward pass and once for the gradients."""
            with _held(self._norms if next(calls) else []):
                return tuple(keras.tree.flatten(self._network(list(again), training=True)))

        return tf.recompute_grad(compute)(*values)


def _node(operation: keras.Operation):
    return operation._inbound_nodes[0]  # keras has no public way to the tensors of an operation


@contextlib.contextmanager
def _held(norms: Sequence[FusedBatchNormalization]) -> Iterator[None]:
    for norm in norms:
        norm.holds_averages = True
    try:
        yield
    finally:
        for norm in norms:
            norm.holds_averages = False
