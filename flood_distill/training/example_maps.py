"""Pictures of a run at work: validation chips, their label, and what teacher and network make of them."""

import functools

import keras
import numpy as np
import tensorflow as tf
from etils import epath

from flood_distill import chips, contract, model_info, panels, records, statistics
from flood_distill.probability import water_mask, water_probability
from flood_distill.training import mixed_precision
from flood_distill.training.teacher import Teacher

_FEATURES = (contract.S1, contract.LABEL, contract.CHIP_ID, contract.EVENT)


class ExampleMaps:
    """The chips with most of both water and dry land, event by event; the teacher's maps are made once.

    Args:
        validation: the dataset.
        teacher: of a distillation, else None.
        num_maps: number of chips; at least 1.
    """

    def __init__(self, validation: records.Records, teacher: Teacher | None, num_maps: int):
        names = chips.telling_chips(_label_counts(validation), num_maps)
        self._chips = chips.read_chips(validation, contract.VALIDATION_SPLIT, names)
        synthetic = " (synthetic data)" if validation.source == contract.SOURCE_SYNTHETIC else ""
        self._title = f"{validation.name}, {contract.VALIDATION_SPLIT} split{synthetic}"
        self._teacher = {f"Teacher: {teacher.info.name}": self._masks(teacher.model, teacher.info)} if teacher else {}

    def draw(self, model: keras.Model, info: model_info.ModelInfo, step: int, path: epath.Path) -> bool:
        """Draws one row a chip: Sentinel-1, Sentinel-2, label, teacher, network; nothing where no chip has a label.

        Args:
            model: the network that is trained.
            info: its description.
            step: steps made so far.
            path: of the PNG.

        Returns:
            Whether there was anything to draw.
        """
        if not self._chips:
            return False
        columns = self._teacher | {f"Step {step}: {info.name}": self._masks(model, info)}
        panels.comparison_panel(self._chips, columns, path, self._title)
        return True

    def _masks(self, model: keras.Model, info: model_info.ModelInfo) -> dict[str, np.ndarray]:
        """Returns the water mask of each chip by its name, uint8 [height, width]: 0, 1, 255."""
        if not self._chips:
            return {}
        s1 = tf.constant(np.stack([chip.s1 for chip in self._chips]))
        s2 = tf.constant(np.stack([_reflectance(chip, info) for chip in self._chips]), tf.float32)
        with mixed_precision.float32_arithmetic(model):
            probabilities = water_probability(functools.partial(model, training=False), info, s1, s2).numpy()
        masks = [water_mask(probability, info.threshold) for probability in probabilities]
        return {chip.chip_id: mask for chip, mask in zip(self._chips, masks, strict=True)}


def _label_counts(validation: records.Records) -> list[statistics.ChipResult]:
    """Returns how much water and dry land each chip has: the counts of a prediction that is the label."""
    results = []
    for example in records.stacked(validation, contract.VALIDATION_SPLIT, _FEATURES).as_numpy_iterator():
        label = example[contract.LABEL]
        scored = statistics.scored_pixels(label, example[contract.S1])
        counts = statistics.count(label == contract.WATER, label, scored)
        results.append(
            statistics.ChipResult(example[contract.CHIP_ID].decode(), example[contract.EVENT].decode(), counts)
        )
    return results


def _reflectance(chip: panels.Chip, info: model_info.ModelInfo) -> np.ndarray:
    """Returns the chip's Sentinel-2, all no-data where it has none."""
    return np.zeros((*chip.label.shape, len(info.imagery.s2_bands))) if chip.s2 is None else chip.s2
