"""The outer loop: trains from one report, validation or checkpoint to the next."""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

import gin
import tensorflow as tf
from etils import epath
from tqdm import tqdm

from flood_distill import contract, files
from flood_distill.errors import UserError
from flood_distill.training import training_csv, weight_averaging
from flood_distill.training.checkpoints import RunState
from flood_distill.training.observer import Observer
from flood_distill.training.progress import Progress
from flood_distill.training.run_log import RunLog
from flood_distill.training.source_losses import SourceLosses
from flood_distill.training.trainer import EMPTY, L2, LEARNING_RATE, LOSS, Trainer
from flood_distill.training.training_csv import VALIDATION_IOU, VALIDATION_THRESHOLD


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
        validate: () -> what is reported of the current weights, `VALIDATION_IOU` and
            `VALIDATION_THRESHOLD` among it.
        observer: looks at the network after validations.
        source_losses: the trainer's objective, which knows the loss on each dataset.
        examples_of: step, counted from 1 -> names of the examples in its batch.
        model_dir: where the operative configuration is written after the first steps, and what a run stopped at.
        name: of the run, beside the progress bar.
    """

    def __init__(
        self,
        trainer: Trainer,
        state: RunState,
        log: RunLog,
        cadence: Cadence,
        batch_size: int,
        validate: Callable[[], dict[str, float]],
        observer: Observer,
        source_losses: SourceLosses,
        examples_of: Callable[[int], list[dict[str, str]]],
        model_dir: str,
        name: str,
    ):
        self._trainer = trainer
        self._state = state
        self._log = log
        self._cadence = cadence
        self._batch_size = batch_size
        self._validate = validate
        self._observer = observer
        self._source_losses = source_losses
        self._examples_of = examples_of
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
            UserError: when loss or gradients are not finite; `contract.BAD_BATCH_JSON` says at which step, learning
                rate and examples.
        """
        with Progress(self._name, step, self._cadence.num_steps) as bar:
            while step < self._cadence.num_steps and not self._trainer.stopped:
                report = self._train(batches, step, self._cadence.next_stop(step))
                step = int(self._trainer.step.numpy())
                if self._cadence.validates(step):
                    with weight_averaging.averaged(self._trainer.model, self._trainer.optimizer):
                        report |= self._validate()
                        self._state.offer_best(report[VALIDATION_IOU], report[VALIDATION_THRESHOLD])
                        self._observer.look(step, last=step == self._cadence.num_steps)
                bar.show(step, report, self._state.best)
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
        metrics = {name: float(value) for name, value in metrics.items()}
        steps_made = int(self._trainer.step.numpy()) - step
        if bad_step:
            self._stop_at(int(bad_step), metrics)
        if metrics[EMPTY]:
            count = round(metrics[EMPTY] * steps_made)
            message = f"warning: {count} of the {steps_made} steps from {step + 1} on had no valid pixel"
            tqdm.write(message, file=sys.stderr)
        return {
            training_csv.LEARNING_RATE: learning_rate,
            training_csv.LOSS: metrics[LOSS],
            training_csv.L2: metrics[L2],
            **self._source_losses.take(),
            training_csv.IMAGES_PER_SECOND: steps_made * self._batch_size / (time.perf_counter() - started),
        }

    def _stop_at(self, step: int, metrics: dict[str, float]) -> NoReturn:
        """Says and writes down where the numbers went wrong."""
        what = "gradients" if math.isfinite(metrics[LOSS] + metrics[L2]) else "loss"
        learning_rate = metrics[LEARNING_RATE]
        found = {"step": step, "not_finite": what, "learning_rate": learning_rate, "examples": self._examples_of(step)}
        path = epath.Path(self._model_dir) / contract.BAD_BATCH_JSON
        files.write_text(path, json.dumps(found, indent=2) + "\n")
        raise UserError(
            f"{what} not finite at step {step} (learning rate {learning_rate:.3g}); {path} names the examples: look at "
            "them, lower poly_schedule.base_learning_rate or set train.max_gradient_norm; checkpoints are from before"
        )


def _save_operative_config(model_dir: str) -> None:
    path = epath.Path(model_dir) / contract.OPERATIVE_CONFIG_GIN
    if not path.exists():
        files.write_text(path, gin.operative_config_str())
