"""One number that makes a network's probabilities honest: the temperature of its softmax (Guo et al. 2017, 4.2)."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import scipy.optimize
import scipy.special
from tqdm import tqdm

from flood_distill import contract, model_info, predictor, records, statistics
from flood_distill.errors import UserError

RANGE = (0.05, 20.0)  # of temperatures that are looked for
_MAX_LOGIT = 16.0  # float32 knows no probability nearer to 1 than 6e-8, whose logit is 16.6
_BINS = 3201  # of 0.01
_FEATURES = (contract.S1, contract.S2, contract.LABEL, contract.HAS_S2)


@dataclasses.dataclass
class LogitHistogram:
    """How often each difference of the logits, water minus dry, goes with each label; all that a fit needs.

    Attributes:
        counts: int64 [2, bins], by label.
    """

    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((2, _BINS), np.int64))

    def add(self, probability: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> None:
        """Adds pixels.

        Args:
            probability: float [pixels] in [0, 1].
            labels: integer [pixels], 1 water, 0 dry.
            temperature: that the probabilities were made with.
        """
        probability = probability.astype(np.float64)
        with np.errstate(divide="ignore"):
            logits = (np.log(probability) - np.log1p(-probability)) * temperature
        index = np.rint((np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT) / _MAX_LOGIT + 1) / 2 * (_BINS - 1)).astype(int)
        for label in (contract.DRY, contract.WATER):
            self.counts[label] += np.bincount(index[labels == label], minlength=_BINS)

    def cross_entropy(self, temperature: float) -> float:
        """Returns the mean of -log p(label) at a temperature, in nats."""
        logits = np.linspace(-_MAX_LOGIT, _MAX_LOGIT, _BINS) / temperature
        return float(np.sum(self.counts * [np.logaddexp(0, logits), np.logaddexp(0, -logits)]) / self.counts.sum())


def fit(histogram: LogitHistogram) -> float:
    """Returns the temperature with the lowest cross-entropy.

    Raises:
        UserError: if there are not both water and dry pixels.
    """
    if not histogram.counts.sum(axis=1).all():
        raise UserError("calibration needs both water and dry pixels with a label")
    limits = tuple(np.log(RANGE))
    found = scipy.optimize.minimize_scalar(
        lambda log: histogram.cross_entropy(float(np.exp(log))), bounds=limits, method="bounded"
    )
    return float(np.exp(found.x))


def same_mask(threshold: float, ratio: float) -> float:
    """Returns the threshold that gives the same mask when the temperature is multiplied by `ratio`."""
    return float(scipy.special.expit(scipy.special.logit(threshold) / ratio))


def calibrate(model_dir: str, dataset: records.Records, split: str = contract.VALIDATION_SPLIT) -> dict[str, float]:
    """Fits the temperature of a model_dir's best weights and writes it into its model.json.

    Masks stay as they are: a threshold other than 0.5 moves with the probabilities. Exports take both with them.

    Args:
        model_dir: folder of a training run.
        dataset: from `records.load`.
        split: one that no score is reported on.

    Returns:
        ``temperature``, and the mean cross-entropy without (``before``) and with it (``after``).

    Raises:
        UserError: if there is no such model or split, or nothing to fit.
    """
    model = predictor.load_predictor(model_dir)
    if not isinstance(model, predictor.NetworkPredictor) or predictor.find_saved_model(Path(model_dir)):
        raise UserError(f"--model_dir={model_dir}: calibrate the model_dir of a training run, then export it")
    histogram = LogitHistogram()
    for probability, labels in _scored(model, dataset, split):
        histogram.add(probability, labels, model.info.temperature)
    temperature = fit(histogram)
    threshold = same_mask(model.info.threshold, temperature / model.info.temperature)
    model_info.write(dataclasses.replace(model.info, temperature=temperature, threshold=threshold), model_dir)
    return {
        "temperature": temperature,
        "before": histogram.cross_entropy(1.0),
        "after": histogram.cross_entropy(temperature),
    }


def _scored(
    model: predictor.NetworkPredictor, dataset: records.Records, split: str
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Yields probabilities and labels of the pixels that count, chip by chip."""
    examples = records.stacked(dataset, split, _FEATURES).as_numpy_iterator()
    for example in tqdm(examples, total=dataset.num_examples(split), desc=f"calibrate on {split}", unit="chip"):
        scored = statistics.scored_pixels(example[contract.LABEL], example[contract.S1])
        s2 = example[contract.S2][np.newaxis] if example[contract.HAS_S2] else None
        (probability,) = model(example[contract.S1][np.newaxis], s2)
        yield probability[scored], example[contract.LABEL][scored]
