"""The outer loop: trains from one report, validation or checkpoint to the next."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator

import gin
import tensorflow as tf
from etils import epath
from tqdm import tqdm

from flood_distill import contract, files, statistics
from flood_distill.errors import UserError
from flood_distill.training.checkpoints import RunState
from flood_distill.training.run_log import RunLog
from flood_distill.training.trainer import L2, LOSS, Trainer


@dataclasses.dataclass(frozen=True)
class Cadence:
    """When what happens; the last step has a report, a validation and a checkpoint always.

    Attributes:
        num_steps: the run's last step.
        report_every: steps between two rows of training.csv.
        validate_every: steps between two validations.
        checkpoint_every: steps between two checkpoints.
    """

    num_steps: int
    report_every: int
    validate_every: int
    checkpoint_every: int

    def next_stop(self, step: int) -> int:
        """Returns the next step after `step` at which anything happens."""
        every = (self.report_every, self.validate_every, self.checkpoint_every)
        return min(self.num_steps, *((step // steps + 1) * steps for steps in every))

    def validates(self, step: int) -> bool:
        """Whether `step` is followed by a validation."""
        return step % self.validate_every == 0 or step == self.num_steps

    def saves(self, step: int) -> bool:
        """Whether `step` is followed by a checkpoint."""
        return step % self.checkpoint_every == 0 or step == self.num_steps


class Loop:
    """Trains, reports, validates and saves in turn.

    Args:
        trainer: makes the steps.
        state: keeps checkpoints and best weights.
        log: takes the reports.
        cadence: when what happens.
        batch_size: examples of a step, for the throughput.
        validate: () -> pooled validation IoU of the current weights.
        model_dir: where the operative configuration is written after the first steps.
        name: of the run, beside the progress bar.
    """

    def __init__(
        self,
        trainer: Trainer,
        state: RunState,
        log: RunLog,
        cadence: Cadence,
        batch_size: int,
        validate: Callable[[], float],
        model_dir: str,
        name: str,
    ):
        self._trainer = trainer
        self._state = state
        self._log = log
        self._cadence = cadence
        self._batch_size = batch_size
        self._validate = validate
        self._model_dir = model_dir
        self._name = name

    def run(self, batches: Iterator, step: int) -> int:
        """Goes on from `step` to the end.

        Args:
            batches: endless, from the batch of `step` on.
            step: steps already made.

        Returns:
            The last step; an earlier one than the run's last if a signal asked it to stop.

        Raises:
            UserError: when the loss is not finite.
        """
        with tqdm(total=self._cadence.num_steps, initial=step, desc=self._name, unit="step") as bar:
            while step < self._cadence.num_steps and not self._trainer.stopped:
                report = self._train(batches, step, self._cadence.next_stop(step))
                step = int(self._trainer.step.numpy())
                bar.update(step - bar.n)
                if self._cadence.validates(step):
                    report["validation_iou"] = self._validate()
                    self._state.offer_best(report["validation_iou"])
                self._show(bar, report)
                self._log.report(step, report)
                _save_operative_config(self._model_dir)
                if self._cadence.saves(step) or self._trainer.stopped:
                    self._log.flush()
                    self._state.save()
        return step

    def _train(self, batches: Iterator, step: int, stop: int) -> dict[str, float]:
        """Makes the steps up to `stop`, or fewer when asked to stop; returns what is reported of them."""
        learning_rate, started = self._trainer.learning_rate(), time.perf_counter()
        metrics, bad_step = self._trainer.train_steps(batches, tf.constant(stop - step, tf.int64))
        _check_finite(int(bad_step), learning_rate)
        metrics = {name: float(value) for name, value in metrics.items()}
        steps_made = int(self._trainer.step.numpy()) - step
        return {
            "learning_rate": learning_rate,
            "loss": metrics[LOSS],
            "l2": metrics[L2],
            "images_per_second": steps_made * self._batch_size / (time.perf_counter() - started),
        }

    def _show(self, bar: tqdm, report: dict[str, float]) -> None:
        shown = {"loss": f"{report['loss']:.4f}", "best_iou": f"{self._state.best[1]:.4f}"}
        bar.set_postfix(shown, refresh=False)


def validation_iou(trainer: Trainer, batches: Iterable) -> float:
    """Returns the pooled water IoU of the current weights over all batches; 0 where nothing is water."""
    counts = sum(trainer.evaluate_step(batch) for batch in batches)
    iou = statistics.iou(statistics.Counts(*(int(count) for count in counts)))
    return 0.0 if math.isnan(iou) else iou


def _check_finite(bad_step: int, learning_rate: float) -> None:
    if bad_step:
        raise UserError(
            f"the loss is not finite at step {bad_step} (learning rate {learning_rate:.3g}); "
            "lower poly_schedule.base_learning_rate or look for bad chips; checkpoints are from before"
        )


def _save_operative_config(model_dir: str) -> None:
    path = epath.Path(model_dir) / contract.OPERATIVE_CONFIG_GIN
    if not path.exists():
        files.write_text(path, gin.operative_config_str())
