"""The grid and its trials in Optuna's storage."""

import dataclasses
import math
import socket
from collections.abc import Mapping, Sequence
from typing import IO

import optuna
from optuna.samplers import GridSampler
from optuna.trial import FrozenTrial, TrialState

from flood_distill.errors import UserError
from flood_distill.sweeping.folder import JOURNAL, Point, SweepFolder

Grid = Mapping[str, Sequence[object]]  # gin binding -> what it is tried with

DONE, FAILED, PRUNED, RUNNING, WAITING = STATES = ("done", "failed", "pruned", "running", "waiting")
_STATES = {
    TrialState.COMPLETE: DONE,
    TrialState.FAIL: FAILED,
    TrialState.PRUNED: PRUNED,
    TrialState.RUNNING: RUNNING,
    TrialState.WAITING: WAITING,
}
# Attributes of a trial: GridSampler's own, then ours.
_GRID_ID = "grid_id"
_HOST = "host"
_ATTEMPT = "attempt"
_REASON = "reason"  # why it failed; a failed trial without it was interrupted
_BEST_STEP = "best_step"


@dataclasses.dataclass(frozen=True)
class Trial:
    """How the latest trial of a point stands.

    Attributes:
        point: gin binding -> value.
        state: one of STATES.
        iou: highest pooled validation IoU so far, None before the first.
        best_step: the step that has it.
        attempt: 1 for the first trial of the point.
        host: machine that it was started on.
        reason: why it failed, else empty.
    """

    point: Point
    state: str
    iou: float | None = None
    best_step: int | None = None
    attempt: int = 1
    host: str = ""
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A trial that this process is to run.

    Attributes:
        trial: Optuna's.
        point: gin binding -> value.
        log: the point's log, open and locked.
        reported: steps whose validation Optuna knows.
    """

    trial: optuna.Trial
    point: Point
    log: IO[bytes]
    reported: set[int] = dataclasses.field(default_factory=set)


class GridStudy:
    """The trials of a grid, shared by processes; every method is called with the folder's lock held.

    A point may have several trials: one that a killed process left is marked failed and followed by another of the same
    point, which goes on in the same model_dir.

    Args:
        folder: of the sweep.
        storage: URL of a database such as ``postgresql://user@host/sweeps``; empty for a journal file in the folder.
        name: of the study in the storage.
        grid: what is tried.
        pruner: decides which trials are stopped early.

    Raises:
        UserError: if the database does not answer or its driver is not installed.
    """

    def __init__(
        self, folder: SweepFolder, storage: str, name: str, grid: Grid, pruner: optuna.pruners.BasePruner | None = None
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._folder = folder
        self._grid = grid
        self._study = optuna.create_study(
            storage=_storage(storage) if storage else _journal(folder),
            study_name=name,
            sampler=_Sampler(grid, seed=0),
            pruner=pruner or optuna.pruners.NopPruner(),
            direction="maximize",
            load_if_exists=True,
        )

    @property
    def num_points(self) -> int:
        """Number of points of the grid."""
        return math.prod(len(values) for values in self._grid.values())

    def claim(self) -> Claim | None:
        """Takes up the next trial: one whose process is gone, one that waits, or a new point; None if there is none.

        Raises:
            UserError: if a process that should be gone still writes to the trial's log.
        """
        self._follow_interrupted()
        latest = self._latest()
        if len(latest) == self.num_points and all(trial.state != TrialState.WAITING for trial in latest):
            return None
        trial = self._study.ask()
        point = {name: trial.suggest_categorical(name, list(values)) for name, values in self._grid.items()}
        log = self._folder.claim(point)
        if log is None:
            raise UserError(f"{self._folder.log(point)}: another process still writes to it; end that first")
        trial.set_user_attr(_HOST, socket.gethostname())
        return Claim(trial, point, log)

    def finish(self, claimed: Claim, iou: float, best_step: int) -> None:
        """Notes the highest validation IoU of a trial that ended well."""
        claimed.trial.set_user_attr(_BEST_STEP, best_step)
        self._study.tell(claimed.trial, iou)

    def prune(self, claimed: Claim) -> None:
        """Notes that a trial was stopped early."""
        self._study.tell(claimed.trial, state=TrialState.PRUNED)

    def fail(self, claimed: Claim, reason: str) -> None:
        """Notes why a trial failed."""
        claimed.trial.set_user_attr(_REASON, reason)
        self._study.tell(claimed.trial, state=TrialState.FAIL)

    def retry_failed(self) -> int:
        """Makes every point whose latest trial failed wait for another one; returns how many."""
        failed = [trial for trial in self._latest() if trial.state == TrialState.FAIL]
        for trial in failed:
            self._follow(trial)
        return len(failed)

    def trials(self) -> list[Trial]:
        """Returns the latest trial of every point that has one."""
        return [self._described(trial) for trial in self._latest() if trial.params]

    def _latest(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        by_point = {trial.system_attrs[_GRID_ID]: trial for trial in trials if _GRID_ID in trial.system_attrs}
        return list(by_point.values())

    def _follow_interrupted(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            if not trial.params or self._is_free(trial):
                self._study.tell(trial.number, state=TrialState.FAIL)
        for trial in self._latest():
            if trial.state == TrialState.FAIL and _REASON not in trial.user_attrs:
                self._follow(trial)

    def _is_free(self, trial: FrozenTrial) -> bool:
        log = self._folder.claim(self._point(trial))
        if log is not None:
            log.close()
        return log is not None

    def _follow(self, trial: FrozenTrial) -> None:
        """Adds a trial of the same point, which `Study.ask` gives out before any new one."""
        self._study.add_trial(
            optuna.create_trial(
                state=TrialState.WAITING,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs={_ATTEMPT: trial.user_attrs.get(_ATTEMPT, 1) + 1},
                system_attrs=trial.system_attrs,
            )
        )

    def _described(self, trial: FrozenTrial) -> Trial:
        step, iou = max(trial.intermediate_values.items(), key=lambda item: item[1], default=(None, None))
        notes = trial.user_attrs
        if trial.state == TrialState.COMPLETE:
            step, iou = notes[_BEST_STEP], trial.value
        state, attempt = _STATES[trial.state], notes.get(_ATTEMPT, 1)
        return Trial(self._point(trial), state, iou, step, attempt, notes.get(_HOST, ""), notes.get(_REASON, ""))

    def _point(self, trial: FrozenTrial) -> Point:
        return {name: trial.params[name] for name in self._grid}


def best(trials: Sequence[Trial]) -> Trial | None:
    """Returns the trial with the highest validation IoU of those that ended well, or None."""
    return max((trial for trial in trials if trial.state == DONE), key=lambda trial: trial.iou, default=None)


class _Sampler(GridSampler):
    """Optuna's, without the end of `Study.optimize` that it asks for after the last point."""

    def after_trial(self, study, trial, state, values) -> None:
        """Does nothing: `GridStudy.claim` sees when the grid is used up."""


def _journal(folder: SweepFolder) -> optuna.storages.BaseStorage:
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder.path / JOURNAL)))


def _storage(url: str) -> optuna.storages.BaseStorage:
    import sqlalchemy.exc  # comes with Optuna

    try:
        return optuna.storages.RDBStorage(url)
    except (ImportError, ValueError, sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error).split("\n")[0]
        raise UserError(f"--storage={url}: no database that can be used ({reason})") from error
