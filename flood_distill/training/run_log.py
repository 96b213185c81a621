"""What a run leaves for people to look at: training.csv and TensorBoard."""

import time
from collections.abc import Sequence

import keras
import tensorflow as tf
from etils import epath

from flood_distill import contract
from flood_distill.training import training_csv
from flood_distill.training.training_csv import HOURS, STEP

_SECONDS_PER_HOUR = 3600


class RunLog:
    """Writes every report as a row of training.csv, and the same values to TensorBoard.

    Args:
        model_dir: where both are kept.
        step: step that the run goes on from; rows of later steps, left by a killed run, are dropped.
        columns: of training.csv, from `training_csv.columns`.
    """

    def __init__(self, model_dir: str, step: int, columns: Sequence[str] = training_csv.COLUMNS):
        self._model_dir = model_dir
        self._columns = columns
        self._rows = [row for row in training_csv.read(model_dir) if int(row[STEP]) <= step]
        self._started = time.monotonic() - training_csv.hours(self._rows) * _SECONDS_PER_HOUR
        self._writer = tf.summary.create_file_writer(str(epath.Path(model_dir) / contract.TENSORBOARD_DIR))

    def report(self, step: int, values: dict[str, float]) -> None:
        """Writes `values` (by column, any of them) for `step`."""
        hours = (time.monotonic() - self._started) / _SECONDS_PER_HOUR
        row = {STEP: str(step), HOURS: f"{hours:.6f}"}
        self._rows.append(row | {name: f"{value:.6g}" for name, value in values.items()})
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)

    def weight_histograms(self, step: int, model: keras.Model) -> None:
        """Writes the distribution of every trainable weight to TensorBoard."""
        with self._writer.as_default():
            for variable in model.trainable_variables:
                tf.summary.histogram(f"weights/{variable.path}", variable.numpy(), step=step)

    def picture(self, step: int, name: str, png: epath.Path) -> None:
        """Writes a PNG to TensorBoard."""
        image = tf.io.decode_png(png.read_bytes(), channels=3)
        with self._writer.as_default():
            tf.summary.image(name, image[tf.newaxis], step=step)

    def flush(self) -> None:
        """Makes everything reported so far visible; training.csv is replaced whole."""
        training_csv.write(self._model_dir, self._columns, self._rows)
        self._writer.flush()
