"""training.csv of a run: one row a report. Reading it needs no TensorFlow."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from etils import epath

from flood_distill import contract, files

STEP = "step"
HOURS = "hours"  # since the run's first start, the time between a kill and the restart left out
LEARNING_RATE = "learning_rate"
LOSS = "loss"  # data term, the mean of the steps since the row before
L2 = "l2"  # weight decay, the other term of the loss
IMAGES_PER_SECOND = "images_per_second"  # of the training steps alone
VALIDATION_IOU = "validation_iou"  # pooled
VALIDATION_THRESHOLD = "validation_threshold"  # of probability, that the IoU is measured at
# Distillation: on the pixels of the validation split that Sentinel-1 and 2 are valid at.
TEACHER_DISTANCE = "teacher_distance"  # the distillation loss
TEACHER_AGREEMENT = "teacher_agreement"  # share of the pixels that both call the same
COLUMNS = (STEP, HOURS, LEARNING_RATE, LOSS, L2, IMAGES_PER_SECOND, VALIDATION_IOU, VALIDATION_THRESHOLD)
TEACHER_COLUMNS = (TEACHER_DISTANCE, TEACHER_AGREEMENT)

Row = dict[str, str]


def loss_of(dataset: str) -> str:
    """Returns the column of the loss on one of several datasets."""
    return f"{LOSS}/{dataset}"


def columns(datasets: Sequence[str], distillation: bool) -> list[str]:
    """Returns the columns of a run that trains on `datasets`."""
    by_dataset = [loss_of(dataset) for dataset in datasets] if len(datasets) > 1 else []
    return [*COLUMNS, *by_dataset, *TEACHER_COLUMNS * distillation]


def read(model_dir: str | Path) -> list[Row]:
    """Returns the rows of training.csv, empty cells as '', or no rows if there is no such file."""
    path = epath.Path(model_dir) / contract.TRAINING_CSV
    if not path.exists():
        return []
    return [{key: value or "" for key, value in row.items()} for row in csv.DictReader(io.StringIO(path.read_text()))]


def write(model_dir: str | Path, header: Sequence[str], rows: Iterable[Row]) -> None:
    """Writes training.csv whole; a row lacks the columns that it has nothing to say of."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(epath.Path(model_dir) / contract.TRAINING_CSV, text.getvalue())


def validations(rows: Iterable[Row]) -> list[tuple[int, float]]:
    """Returns step and pooled IoU of every validation."""
    return [(int(row[STEP]), float(row[VALIDATION_IOU])) for row in rows if row[VALIDATION_IOU]]


def best_iou(rows: Iterable[Row]) -> float | None:
    """Returns the highest pooled IoU of all validations, or None before the first."""
    return max((iou for _, iou in validations(rows)), default=None)


def hours(rows: Sequence[Row]) -> float:
    """Returns how long the whole run took so far; 0 before the first row."""
    return float(rows[-1].get(HOURS) or 0) if rows else 0.0


def images_per_second(rows: Sequence[Row]) -> float:
    """Returns the throughput of all steps together, validation and checkpoints left out; 0 before the first row."""
    steps = [int(row[STEP]) for row in rows]
    counts = [later - earlier for earlier, later in zip([0, *steps], steps, strict=False)]
    time = sum(count / float(row[IMAGES_PER_SECOND]) for count, row in zip(counts, rows, strict=True))
    return sum(counts) / time if time else 0.0
