"""Checkpoints of a run: the latest few to go on from, the best to use."""

import math

import tensorflow as tf
from etils import epath
from tqdm import tqdm

from flood_distill import contract, model_info
from flood_distill.errors import UserError
from flood_distill.training import checkpoint_folder
from flood_distill.training.checkpoint_folder import CheckpointFolder
from flood_distill.training.trainer import Trainer


class RunState:
    """Saves and restores weights, batch-norm statistics, momenta, step and the best validation so far.

    The best validation is what `model_dir`/best says of itself: weights, step, IoU and threshold are one
    checkpoint.

    Args:
        trainer: whose state it is.
        model_dir: where it is kept; all workers see it.
        info: description that is written beside the best weights.
        max_to_keep: number of latest checkpoints to keep; from 2 on, a damaged one costs only the steps since the one
            before.
        write: whether this process writes to `model_dir`: of several workers, the chief. All of them call the same
            methods, because saving and comparing take all.
    """

    def __init__(
        self, trainer: Trainer, model_dir: str, info: model_info.ModelInfo, max_to_keep: int, write: bool = True
    ):
        self._trainer = trainer
        self._model_dir = model_dir
        self._info = info
        self._write = write
        self._best_iou = tf.Variable(-math.inf, dtype=tf.float64, trainable=False)
        self._best_step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._best_threshold = tf.Variable(info.threshold, dtype=tf.float64, trainable=False)
        self._numbers = {"iou": self._best_iou, "step": self._best_step, "threshold": self._best_threshold}
        self._latest = tf.train.Checkpoint(model=trainer.model, optimizer=trainer.optimizer, step=trainer.step)
        self._latest_folder = CheckpointFolder(self._latest, self._path(contract.CHECKPOINTS_DIR), max_to_keep, write)
        best = tf.train.Checkpoint(model=trainer.model, **self._numbers)
        self._best_folder = CheckpointFolder(best, self._path(contract.BEST_DIR), 1, write)

    @property
    def best(self) -> tuple[int, float]:
        """Step and pooled IoU of the best validation; -inf before the first."""
        return int(self._best_step.numpy()), float(self._best_iou.numpy())

    def restore(self) -> int:
        """Restores the latest whole checkpoint, if there is one, and returns the step.

        Raises:
            UserError: if the run was started with other settings of the network, if all checkpoints are damaged, or if
                workers do not see the same ones.
        """
        latest = checkpoint_folder.newest_whole(self._path(contract.CHECKPOINTS_DIR))
        if latest is not None:
            self._check_network()
            self._restore_latest(latest)
            self._restore_best()
        self._check_agreement()
        return int(self._trainer.step.numpy())

    def save(self) -> None:
        """Saves the state under the current step.

        Raises:
            UserError: if the disk is full; the checkpoints that are there stay.
        """
        self._latest_folder.save(int(self._trainer.step.numpy()))

    def offer_best(self, iou: float, threshold: float) -> bool:
        """Keeps the current weights if their validation beats every earlier one.

        Args:
            iou: pooled water IoU.
            threshold: of probability, that the IoU is measured at.

        Raises:
            UserError: if the disk is full; the best weights so far stay.
        """
        if not iou > self._best_iou.numpy():
            return False
        self._best_iou.assign(iou)
        self._best_step.assign(self._trainer.step.read_value())
        self._best_threshold.assign(threshold)
        # Numbered one by one, so that even a run that repeats its steps never writes over the only best weights.
        self._best_folder.save(self._best_folder.next_number())
        self._write_info()
        return True

    def _path(self, name: str) -> epath.Path:
        return epath.Path(self._model_dir) / name

    def _restore_latest(self, path: str) -> None:
        try:
            self._latest.restore(path).assert_consumed()
        except (AssertionError, ValueError) as error:
            raise UserError(
                f"{path}: holds another state than these settings make (network, optimizer); set them as they were, or "
                "give another --model_dir"
            ) from error
        if self._write:
            tqdm.write(f"resumed from {path}")

    def _restore_best(self) -> None:
        """A run without checkpoints starts anew, so it comes here only if there is one."""
        try:
            path = checkpoint_folder.newest_whole(self._path(contract.BEST_DIR))
        except UserError as error:
            checkpoint_folder.warn(f"{error}; the next validation chooses anew")
            return
        if path is not None:
            only_numbers = tf.train.Checkpoint(**self._numbers)
            only_numbers.restore(path).assert_existing_objects_matched().expect_partial()
            self._write_info()

    def _write_info(self) -> None:
        self._info.step, self._info.iou = self.best
        self._info.threshold = float(self._best_threshold.numpy())
        if self._write:
            model_info.write(self._info, self._model_dir)

    def _check_network(self) -> None:
        """Not all settings show in the shapes of the weights: strides and rates do not, nor does the input range."""
        before, now = (
            {**info.network, "precision": info.training_precision}
            for info in (model_info.read(self._model_dir), self._info)
        )
        changed = [name for name, value in now.items() if before.get(name, value) != value]
        if changed:
            values = ", ".join(f"{name} was {before[name]} and is {now[name]}" for name in changed)
            raise UserError(f"{self._model_dir}: the run was started with another network: {values}; set it as it was")

    def _check_agreement(self) -> None:
        """Workers that see different folders would train different runs under one name."""
        strategy, own = self._trainer.strategy, self._trainer.step.read_value()

        @tf.function
        def total() -> tf.Tensor:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(tf.identity, args=(own,)), axis=None)

        if int(total()) != int(own) * strategy.num_replicas_in_sync:
            raise UserError(
                f"{self._model_dir}: this worker goes on from step {int(own)}, another one does not: give a "
                "--model_dir on a disk or in a store that all workers see"
            )
