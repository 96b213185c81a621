"""What a run leaves for people to look at: training.csv and TensorBoard."""

import csv
import io

import tensorflow as tf
from etils import epath

from flood_distill import contract, files

COLUMNS = ("step", "learning_rate", "loss", "l2", "images_per_second", "validation_iou")


class RunLog:
    """Appends one row a report to training.csv and the same values to TensorBoard.

    Args:
        model_dir: where both are kept.
        step: step that the run goes on from; rows of later steps, left by a killed run, are dropped.
    """

    def __init__(self, model_dir: str, step: int):
        self._path = epath.Path(model_dir) / contract.TRAINING_CSV
        self._rows = [row for row in read_training_csv(model_dir) if int(row["step"]) <= step]
        self._writer = tf.summary.create_file_writer(str(epath.Path(model_dir) / contract.TENSORBOARD_DIR))

    def report(self, step: int, values: dict[str, float]) -> None:
        """Writes `values` (a subset of COLUMNS) for `step`."""
        self._rows.append({"step": step, **{name: f"{value:.6g}" for name, value in values.items()}})
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.scalar(name, value, step=step)

    def images(self, step: int, name: str, images: tf.Tensor) -> None:
        """Writes RGB images, float32 [number, height, width, 3] in [0, 1], to TensorBoard."""
        with self._writer.as_default():
            tf.summary.image(name, images, step=step, max_outputs=images.shape[0])

    def flush(self) -> None:
        """Makes everything reported so far visible; training.csv is replaced whole."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        files.write_text(self._path, text.getvalue())
        self._writer.flush()


def read_training_csv(model_dir: str) -> list[dict[str, str]]:
    """Returns the rows of training.csv, empty cells as '', or no rows if there is no such file."""
    path = epath.Path(model_dir) / contract.TRAINING_CSV
    if not path.exists():
        return []
    return [{k: v or "" for k, v in row.items()} for row in csv.DictReader(io.StringIO(path.read_text()))]
