"""What a sweep shows: a table, a heat map, and the gin file of the best point."""

import collections
import csv
import dataclasses
import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from flood_distill import contract, files, model_info
from flood_distill.sweeping import folder as names
from flood_distill.sweeping.folder import Point, SweepFolder, point_name, short_names
from flood_distill.sweeping.study import DONE, FAILED, PRUNED, RUNNING, STATES, Grid, Trial, best
from flood_distill.sweeping.trial import Training, bindings
from flood_distill.training import training_csv

NOT_STARTED = "not started"
_COLORS = "viridis"
_STATE_COLORS = {FAILED: "0.75", PRUNED: "0.88"}
_DPI = 110


@dataclasses.dataclass(frozen=True)
class SweepResults:
    """Everything that is shown.

    Attributes:
        folder: of the sweep.
        training: what all trials have in common.
        grid: what is tried.
        trials: the latest of every point that has one.
    """

    folder: SweepFolder
    training: Training
    grid: Grid
    trials: Sequence[Trial]

    @property
    def best(self) -> Trial | None:
        """The trial with the highest validation IoU of those that ended well, or None."""
        return best(self.trials)

    @property
    def all_trials(self) -> list[Trial]:
        """The trials, and one that has not started for every other point; the best first."""
        points = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        started = {tuple(trial.point.values()): trial for trial in self.trials}
        trials = [started.get(tuple(point.values()), Trial(point, NOT_STARTED, attempt=0)) for point in points]
        return sorted(trials, key=_rank, reverse=True)


def write(results: SweepResults) -> None:
    """Writes table.md, table.csv, heatmap.png and, once a trial has ended well, best.gin into the sweep's folder."""
    path = results.folder.path
    files.write_text(path / names.TABLE_MD, _table(results))
    _write_csv(results, path / names.TABLE_CSV)
    _draw(results, path / names.HEATMAP_PNG)
    if results.best:
        files.write_text(path / names.BEST_GIN, _best_gin(results))


def count_states(trials: Sequence[Trial]) -> str:
    """Returns how many trials there are in each state, in words."""
    counts = collections.Counter(trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {state}" for state in (*STATES, NOT_STARTED) if counts[state])


def summary(results: SweepResults) -> str:
    """Returns what to say at the end: how all points stand, the best, what to do next."""
    path, trial = results.folder.path, results.best
    lines = [f"{count_states(results.all_trials)}: {path / names.TABLE_MD}, {path / names.HEATMAP_PNG}"]
    if trial:
        lines += [
            f"best validation IoU {trial.iou:.4f} at step {trial.best_step} with {_in_words(trial.point)}; next:",
            f"  {_evaluate_command(results, trial)}",
            f"  python -m flood_distill.train --gin_file={shlex.quote(str(path / names.BEST_GIN))} ...",
        ]
    return "\n".join(lines)


def _rank(trial: Trial) -> tuple[bool, float]:
    return trial.state == DONE, -1.0 if trial.iou is None else trial.iou


def _table(results: SweepResults) -> str:
    trials, columns = results.all_trials, list(short_names(dict.fromkeys(results.grid)))
    lines = [
        f"# Sweep over {', '.join(f'`{name}`' for name in results.grid)}",
        "",
        f"Highest pooled water IoU on the validation split, of each point. {len(trials)} points: "
        f"{count_states(trials)}.{' **Synthetic data.**' * _synthetic(results)}",
        "",
        *_best_lines(results),
        f"![Validation IoU of every point]({names.HEATMAP_PNG})",
        "",
        "| " + " | ".join([*columns, "IoU", "at step", "state", "hours", "attempts", "model_dir", "note"]) + " |",
        "|---" * (len(columns) + 7) + "|",
        *(_table_row(results, trial) for trial in trials),
        "",
    ]
    return "\n".join(lines)


def _best_lines(results: SweepResults) -> list[str]:
    trial = results.best
    if trial is None:
        return []
    return [
        f"Best: **{trial.iou:.4f}** at step {trial.best_step} with {_in_words(trial.point)}; the gin file is "
        f"[{names.BEST_GIN}]({names.BEST_GIN}). Its score on the test split:",
        "",
        f"    {_evaluate_command(results, trial)}",
        "",
        *(line for name in results.grid for line in _edge_lines(results.grid, name, trial.point[name])),
    ]


def _evaluate_command(results: SweepResults, trial: Trial) -> str:
    model_dir = results.folder.model_dir(trial.point)
    flags = {
        "model": model_dir,
        "data_dir": results.training.data_dir,
        "split": contract.TEST_SPLIT,
        "output_dir": results.folder.path / "evaluation",
    }
    return shlex.join(
        ["python", "-m", "flood_distill.evaluate", *(f"--{flag}={value}" for flag, value in flags.items())]
    )


def _edge_lines(grid: Grid, name: str, value: object) -> list[str]:
    """Says so where the best value is the first or last of the numbers tried: a better one may lie outside."""
    values = [number for number in grid[name] if isinstance(number, int | float)]
    if len(values) < 3 or value not in (min(values), max(values)):
        return []
    side = "largest" if value == max(values) else "smallest"
    return [f"The best `{name}` is the {side} that was tried: a wider grid may hold a better one.", ""]


def _table_row(results: SweepResults, trial: Trial) -> str:
    cells = [
        *(f"{value}" for value in trial.point.values()),
        "" if trial.iou is None else f"{trial.iou:.4f}",
        "" if trial.best_step is None else f"{trial.best_step}",
        f"**{trial.state}**" if trial == results.best else trial.state,
        _hours(results, trial),
        f"{trial.attempt or ''}",
        f"trials/{point_name(trial.point)}" if trial.attempt else "",
        (trial.reason or (f"on {trial.host}" if trial.state == RUNNING else "")).replace("|", "/"),
    ]
    return "| " + " | ".join(cells) + " |"


def _hours(results: SweepResults, trial: Trial) -> str:
    rows = training_csv.read(results.folder.model_dir(trial.point))
    return f"{training_csv.hours(rows):.2f}" if rows else ""


def _write_csv(results: SweepResults, path: Path) -> None:
    with files.whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*results.grid, "validation_iou", "best_step", "state", "hours", "attempts", "host", "reason"])
        for trial in results.all_trials:
            found = ("" if trial.iou is None else trial.iou, "" if trial.best_step is None else trial.best_step)
            told = (trial.state, _hours(results, trial), trial.attempt, trial.host, trial.reason)
            writer.writerow([*trial.point.values(), *found, *told])


def _best_gin(results: SweepResults) -> str:
    """Returns a gin file that is complete: what the trials share, then the best point."""
    trial, training = results.best, results.training
    teacher = " --teacher_model_dir=T" * bool(training.teacher_model_dir)
    lines = [
        f"# Best of {count_states(results.all_trials)} of the sweep in {results.folder.path.resolve()}:",
        f"# pooled validation IoU {trial.iou:.4f} at step {trial.best_step}."
        + " SYNTHETIC DATA." * _synthetic(results),
        f"# python -m flood_distill.train --gin_file={names.BEST_GIN} --data_dir=R --model_dir=M{teacher}",
        *(f"include {_include(name)!r}" for name in training.gin_files),
        "",
        *training.gin_params,
        *bindings(trial.point),
    ]
    return "\n".join(lines) + "\n"


def _include(gin_file: str) -> str:
    """Makes a path absolute; the name of an installed file stays as it is."""
    return str(Path(gin_file).resolve()) if Path(gin_file).is_file() else gin_file


def _draw(results: SweepResults, path: Path) -> None:
    """Draws the IoU over the two bindings with most values; the best over all others."""
    across = sorted(results.grid, key=lambda name: -len(results.grid[name]))[:2]
    rows, columns = [name for name in results.grid if name in across] if len(across) == 2 else [None, across[0]]
    row_values, column_values = results.grid.get(rows, ("",)), results.grid[columns]
    figure = Figure(figsize=(2.6 + 1.25 * len(column_values), 1.9 + 0.75 * len(row_values)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    cells = {}
    for trial in reversed(results.all_trials):  # the best comes last and stays
        row = 0 if rows is None else row_values.index(trial.point[rows])
        cells[row, column_values.index(trial.point[columns])] = trial
    image = np.full((len(row_values), len(column_values)), np.nan)
    for place, trial in cells.items():
        image[place] = trial.iou if trial.state == DONE else np.nan
    shown = axis.imshow(np.ma.masked_invalid(image), cmap=_COLORS, aspect="auto")
    for (row, column), trial in cells.items():
        _draw_cell(axis, row, column, trial, trial == results.best, shown)
    axis.set_xticks(range(len(column_values)), [str(value) for value in column_values])
    axis.set_yticks(range(len(row_values)), [str(value) for value in row_values])
    axis.set(xlabel=columns, ylabel=rows or "")
    axis.set_title(_title(results), fontsize=9)
    if np.isfinite(image).any():
        figure.colorbar(shown, label="validation water IoU, pooled")
    with files.whole_file(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def _draw_cell(axis, row: int, column: int, trial: Trial, is_best: bool, shown) -> None:
    words = [] if trial.iou is None else [f"{trial.iou:.3f}"]
    if trial.state == DONE:
        red, green, blue, _ = shown.to_rgba(trial.iou)
        color = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
    else:
        words.append(trial.state)
        color = "black"
        face = _STATE_COLORS.get(trial.state, "white")
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=face, edgecolor="0.6", linewidth=0.5))
    axis.text(column, row, "\n".join(words), ha="center", va="center", fontsize=8, color=color)
    if is_best:
        frame = Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, edgecolor="red", linewidth=2.5)
        axis.add_patch(frame)


def _title(results: SweepResults) -> str:
    words = [count_states(results.all_trials) + " (synthetic data)" * _synthetic(results)]
    if results.best:
        words.append(f"best {results.best.iou:.4f}: {_in_words(results.best.point)}")
    if len(results.grid) > 2:
        words.append("each cell: the best over the other bindings")
    return "\n".join(words)


def _in_words(point: Point) -> str:
    return ", ".join(f"{name} {value}" for name, value in short_names(point).items())


def _synthetic(results: SweepResults) -> bool:
    if results.best is None:
        return False
    return model_info.read(results.folder.model_dir(results.best.point)).source == contract.SOURCE_SYNTHETIC
