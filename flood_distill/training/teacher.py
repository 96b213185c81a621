"""The frozen teacher of a distillation."""

import dataclasses

import keras

from flood_distill import model_info


@dataclasses.dataclass(frozen=True)
class Teacher:
    """What a student is compared with.

    Attributes:
        model: image -> logits [batch, height, width, 2]; runs with training=False.
        info: its description.
    """

    model: keras.Model
    info: model_info.ModelInfo
