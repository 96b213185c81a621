"""The progress bar of a run: loss, IoU, speed; tqdm adds the time left."""

from tqdm import tqdm

from flood_distill.training.training_csv import IMAGES_PER_SECOND, LOSS, VALIDATION_IOU


class Progress:
    """A bar from the step that the run goes on from to its last.

    Args:
        name: of the run.
        step: steps already made.
        num_steps: the run's last step.
    """

    def __init__(self, name: str, step: int, num_steps: int):
        self._bar = tqdm(total=num_steps, initial=step, desc=name, unit="step", dynamic_ncols=True)
        self._iou: float | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, step: int, report: dict[str, float], best: tuple[int, float]) -> None:
        """Moves on to a step.

        Args:
            step: steps made so far.
            report: what is reported of it, by column of training.csv.
            best: step and IoU of the best validation so far; step 0 before the first.
        """
        self._iou = report.get(VALIDATION_IOU, self._iou)
        words = [f"loss {report[LOSS]:.4f}"]
        words += [] if self._iou is None else [f"IoU {self._iou:.4f}"]
        words += [f"best {best[1]:.4f} at {best[0]}"] if best[0] else []
        words.append(f"{report[IMAGES_PER_SECOND]:.3g} images/s")
        self._bar.set_postfix_str(", ".join(words), refresh=False)
        self._bar.update(step - self._bar.n)
