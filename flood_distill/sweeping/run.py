"""A sweep, put together: claim a point, train it, note how it ended, show it; until no point is left."""

import functools
import sys
from collections.abc import Mapping, Sequence

import gin
import optuna
from tqdm import tqdm

from flood_distill.errors import UserError
from flood_distill.sweeping import report, trial
from flood_distill.sweeping.folder import SweepFolder, point_name
from flood_distill.sweeping.report import SweepResults
from flood_distill.sweeping.study import DONE, FAILED, PRUNED, Claim, Grid, GridStudy, Trial
from flood_distill.sweeping.trial import Training

_MAX_FIRST_FAILURES = 3  # so many in a row, and none that ended well: the settings are wrong, not the points


@gin.configurable
def sweep(
    folder: SweepFolder,
    training: Training,
    config: str,
    *,
    storage: str = "",
    num_trials: int = 0,
    retry_failed: bool = False,
    grid: Grid = gin.REQUIRED,
    prune_from_step: int = 0,
    prune_percentile: float = 50.0,
    prune_min_trials: int = 4,
) -> SweepResults:
    """Trains every point of a grid, one after the other, beside other processes that do the same in the same folder.

    Args:
        folder: of the sweep.
        training: what all points have in common.
        config: the whole gin configuration; all processes of a sweep must have the same.
        storage: URL of the database that keeps the trials; empty for a file in the folder.
        num_trials: most trials that this process runs; 0 runs all that are left.
        retry_failed: try the points that failed once more, from their last checkpoint on.
        grid: gin binding -> values (appendix B: learning rate and weight decay).
        prune_from_step: from this step on a trial is stopped whose highest validation IoU so far is not among the upper
            share of what the trials that ended well had at the same step; 0 stops none.
        prune_percentile: the upper share, in percent; 50 stops what is below the median.
        prune_min_trials: no trial is stopped before so many have ended well.

    Returns:
        How all points stand.

    Raises:
        UserError: for settings that are not those the sweep was started with, or where no training ends well.
    """
    # 1. The study that all processes share.
    check_grid(grid)
    shared = {"data_dir": training.data_dir, "teacher_model_dir": training.teacher_model_dir}
    with folder.locked():
        name = folder.study_name(shared | {"train_flag": " ".join(training.flags)}, config)
        study = GridStudy(folder, storage, name, grid, _pruner(prune_from_step, prune_percentile, prune_min_trials))
        if retry_failed:
            study.retry_failed()
        num_finished = _num_finished(study.trials())

    # 2. Trial after trial.
    num_run = 0
    with tqdm(total=study.num_points, initial=num_finished, desc="sweep", unit="trial") as bar:
        while True:
            with folder.locked():
                claimed = None if num_trials and num_run == num_trials else study.claim()
                results = SweepResults(folder, training, grid, study.trials())
                report.write(results)
            if claimed is None:
                return results
            with claimed.log:
                result = trial.run(training, claimed, folder, functools.partial(_show, bar, results, claimed))
                with folder.locked():
                    _note(study, claimed, result)
            num_run += 1
            bar.update(_num_finished(study.trials()) - bar.n)
            _check_first(study.trials(), folder)


def check_grid(grid: Grid) -> None:
    """Refuses what is no grid.

    Raises:
        UserError: naming the binding that is wrong.
    """
    if not isinstance(grid, Mapping) or not grid:
        raise UserError("sweep.grid: give a dictionary of gin binding -> values to try")
    for name, values in grid.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise UserError(f"sweep.grid: {name}: give a list of values to try")
        if any(not isinstance(value, str | int | float | None) for value in values):
            raise UserError(f"sweep.grid: {name}: a value must be a number, a string, True, False or None")
        if len({point_name({name: value}) for value in values}) < len(values):
            raise UserError(
                f"sweep.grid: {name}: two values are the same, or differ only in what no file name can hold"
            )


def _pruner(from_step: int, percentile: float, min_trials: int) -> optuna.pruners.BasePruner | None:
    if not from_step:
        return None
    return optuna.pruners.PercentilePruner(percentile, n_startup_trials=min_trials, n_warmup_steps=from_step)


def _note(study: GridStudy, claimed: Claim, result: trial.Result) -> None:
    name = point_name(claimed.point)
    if result.failure:
        study.fail(claimed, result.failure)
        tqdm.write(f"{name}: failed: {result.failure}", file=sys.stderr)
    elif result.pruned:
        study.prune(claimed)
        tqdm.write(f"{name}: stopped early", file=sys.stderr)
    else:
        study.finish(claimed, result.iou, result.best_step)
        tqdm.write(f"{name}: validation IoU {result.iou:.4f} at step {result.best_step}", file=sys.stderr)


def _show(bar: tqdm, results: SweepResults, claimed: Claim, step: int, iou: float | None) -> None:
    words = [f"{point_name(claimed.point)}: step {step}"]
    words += [] if iou is None else [f"IoU {iou:.4f}"]
    words += [f"best {results.best.iou:.4f}"] if results.best else []
    bar.set_postfix_str(", ".join(words))


def _num_finished(trials: Sequence[Trial]) -> int:
    return sum(one.state in (DONE, FAILED, PRUNED) for one in trials)


def _check_first(trials: Sequence[Trial], folder: SweepFolder) -> None:
    failed = [one for one in trials if one.state == FAILED]
    if len(failed) >= _MAX_FIRST_FAILURES and not any(one.state in (DONE, PRUNED) for one in trials):
        raise UserError(
            f"{folder.path}: the first {len(failed)} trials failed, the last with: {failed[-1].reason}; "
            "mend that, then go on with --retry_failed"
        )
