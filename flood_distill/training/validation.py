"""What the validation split says of the current weights."""

from collections.abc import Iterable

from flood_distill import statistics
from flood_distill.training import agreement
from flood_distill.training.agreement import TeacherAgreement
from flood_distill.training.precise_batch_norm import PreciseBatchNorm
from flood_distill.training.trainer import Trainer
from flood_distill.training.training_csv import VALIDATION_IOU, VALIDATION_THRESHOLD


class Validation:
    """Scores the network, and compares it with its teacher where there is one.

    Args:
        trainer: holds the network.
        batches: distributed, one pass over the split.
        teacher: compares with the teacher of a distillation, else None; the batches then hold what it needs.
        batch_norms: measured first, if asked to.
    """

    def __init__(
        self,
        trainer: Trainer,
        batches: Iterable,
        teacher: TeacherAgreement | None = None,
        batch_norms: PreciseBatchNorm | None = None,
    ):
        self._trainer = trainer
        self._batches = batches
        self._teacher = teacher
        self._batch_norms = batch_norms

    def __call__(self) -> dict[str, float]:
        """Returns what is reported, by column of training.csv.

        The pooled water IoU is that of the best of the trainer's thresholds; 0 where nothing is water.
        """
        if self._batch_norms:
            self._batch_norms.measure()
        counts, sums = 0, 0
        for batch in self._batches:
            counts += self._trainer.evaluate_step(batch)
            if self._teacher:
                sums += self._teacher.sums(batch)
        iou, threshold = statistics.best_threshold(counts.numpy(), self._trainer.thresholds)
        report = {VALIDATION_IOU: iou, VALIDATION_THRESHOLD: threshold}
        return report | agreement.means(sums) if self._teacher else report
