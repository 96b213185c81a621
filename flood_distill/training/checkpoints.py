"""Checkpoints of a run: the latest few to go on from, the best to use."""

import math

import tensorflow as tf
from etils import epath
from tqdm import tqdm

from flood_distill import contract, model_info
from flood_distill.errors import UserError
from flood_distill.training import model_files
from flood_distill.training.trainer import Trainer


class RunState:
    """Saves and restores weights, batch-norm statistics, momenta, step and the best validation so far.

    Args:
        trainer: whose state it is.
        model_dir: where it is kept.
        info: description that is written beside the best weights.
        max_to_keep: number of latest checkpoints to keep.
    """

    def __init__(self, trainer: Trainer, model_dir: str, info: model_info.ModelInfo, max_to_keep: int):
        self._trainer = trainer
        self._model_dir = model_dir
        self._info = info
        self._best_iou = tf.Variable(-math.inf, dtype=tf.float64, trainable=False)
        self._best_step = tf.Variable(0, dtype=tf.int64, trainable=False)
        checkpoint = tf.train.Checkpoint(
            model=trainer.model,
            optimizer=trainer.optimizer,
            step=trainer.step,
            best_iou=self._best_iou,
            best_step=self._best_step,
        )
        self._manager = tf.train.CheckpointManager(
            checkpoint,
            str(epath.Path(model_dir) / contract.CHECKPOINTS_DIR),
            max_to_keep=max_to_keep,
            step_counter=trainer.step,
        )
        self._best_manager = model_files.best_checkpoint_manager(trainer.model, model_dir)

    @property
    def best(self) -> tuple[int, float]:
        """Step and pooled IoU of the best validation; -inf before the first."""
        return int(self._best_step.numpy()), float(self._best_iou.numpy())

    def restore(self) -> int:
        """Restores the latest checkpoint, if there is one, and returns the step.

        Raises:
            UserError: if the run was started with other settings of the network.
        """
        latest = self._manager.latest_checkpoint
        if latest is not None:
            self._check_network()
            self._manager.checkpoint.restore(latest).assert_consumed()
            tqdm.write(f"resumed from {latest}")
        return int(self._trainer.step.numpy())

    def save(self) -> None:
        """Saves the state under the current step."""
        self._manager.save(checkpoint_number=self._trainer.step)

    def offer_best(self, iou: float) -> bool:
        """Keeps the current weights if `iou`, the pooled validation IoU, beats every earlier one."""
        if not iou > self._best_iou.numpy():
            return False
        step = int(self._trainer.step.numpy())
        self._best_iou.assign(iou)
        self._best_step.assign(step)
        self._best_manager.save(checkpoint_number=step)
        self._info.step, self._info.iou = step, iou
        model_info.write(self._info, self._model_dir)
        return True

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
