"""One trial: a training in a process of its own, watched by its training.csv."""

import dataclasses
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from flood_distill import child_process, exit_codes, model_info
from flood_distill.errors import UserError
from flood_distill.sweeping.folder import Point, SweepFolder
from flood_distill.sweeping.study import Claim
from flood_distill.training import training_csv

_POLL_S = 1.0
_STOP_S = 120.0  # for a training to save itself when it is told to stop
_MAX_REASON = 300  # characters


@dataclasses.dataclass(frozen=True)
class Training:
    """What all trials of a sweep have in common.

    Attributes:
        gin_files: paths or names of installed files.
        gin_params: bindings that override the files; those of the point come after them.
        data_dir: folder of the converted datasets.
        teacher_model_dir: model_dir of the frozen teacher, for distillation.
        flags: more flags of `module`.
        module: the command that trains.
    """

    gin_files: Sequence[str]
    gin_params: Sequence[str]
    data_dir: str
    teacher_model_dir: str = ""
    flags: Sequence[str] = ()
    module: str = "flood_distill.train"

    def command(self, point: Point, model_dir: str | Path) -> list[str]:
        """Returns the arguments of ``python -m`` that train a point."""
        teacher = [f"--teacher_model_dir={self.teacher_model_dir}"] if self.teacher_model_dir else []
        return [
            self.module,
            *(f"--gin_file={name}" for name in self.gin_files),
            *(f"--gin_param={binding}" for binding in (*self.gin_params, *bindings(point))),
            f"--data_dir={self.data_dir}",
            *teacher,
            *self.flags,
            f"--model_dir={model_dir}",
        ]


@dataclasses.dataclass(frozen=True)
class Result:
    """How a trial ended: with its highest validation IoU and the step that has it, stopped early, or with a reason."""

    iou: float = 0.0
    best_step: int = 0
    pruned: bool = False
    failure: str = ""


class Interrupted(Exception):
    """The training was asked to stop and has saved itself: the trial is to be taken up again."""


def bindings(point: Point) -> list[str]:
    """Returns a point as gin bindings."""
    return [f"{name} = {value!r}" for name, value in point.items()]


def run(training: Training, claimed: Claim, folder: SweepFolder, show: Callable[[int, float | None], None]) -> Result:
    """Trains a point to its end, going on where an earlier trial of it stopped.

    Args:
        training: what to train.
        claimed: the trial.
        folder: of the sweep.
        show: gets the last step reported and the highest validation IoU so far, every second.

    Raises:
        Interrupted: if the training was asked to stop; so is, then, whoever asked for it.
    """
    model_dir = folder.model_dir(claimed.point)
    process = child_process.start(training.command(claimed.point, model_dir), claimed.log)
    try:
        while not _ended(process):
            rows = training_csv.read(model_dir)
            if rows:
                show(int(rows[-1][training_csv.STEP]), training_csv.best_iou(rows))
            if _report(claimed, rows) and claimed.trial.should_prune():
                return Result(pruned=True)
    finally:
        _stop(process)
    _report(claimed, training_csv.read(model_dir))
    return _result(process.returncode, model_dir, folder.log(claimed.point))


def _ended(process: subprocess.Popen) -> bool:
    try:
        process.wait(_POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _report(claimed: Claim, rows: Sequence[dict[str, str]]) -> bool:
    """Tells Optuna of validations that it does not know yet; returns whether there were any."""
    known = claimed.reported
    new = [(step, iou) for step, iou in training_csv.validations(rows) if step not in known]
    for step, iou in new:
        claimed.trial.report(iou, step)
        known.add(step)
    return bool(new)


def _result(returncode: int, model_dir: Path, log: Path) -> Result:
    if returncode == exit_codes.STOPPED:
        raise Interrupted
    if returncode:
        return Result(failure=_reason(returncode, log))
    try:
        info = model_info.read(model_dir)
    except UserError as error:
        return Result(failure=str(error))
    return Result(iou=info.iou, best_step=info.step)


def _reason(returncode: int, log: Path) -> str:
    """Returns the error that the last command in the log ended with."""
    printed = log.read_text(errors="replace").rpartition("$ python -m")[2].splitlines()[1:]
    # Of a traceback the last line that is not indented says what went wrong.
    errors = [line for line in printed if line.startswith("error: ")] or [line for line in printed if line[:1].strip()]
    said = errors[-1][:_MAX_REASON] if errors else "no message"
    return said if returncode == exit_codes.USER_ERROR else f"exit code {returncode}: {said}"
