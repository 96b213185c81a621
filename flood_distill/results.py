"""One small file for each finished run, to be kept: all tables and plots are made from these."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from flood_distill import calibration, contract, files, per_chip, stages, work_dir
from flood_distill.errors import UserError
from flood_distill.statistics import ChipResult

_METRICS_JSON = "metrics.json"  # of an evaluation
# What is kept of an evaluation; the rest follows from the counts of the chips.
_KEPT_METRICS = (
    "dataset",
    "source",
    "target",
    "threshold",
    "unscorable_chips",
    "share_without_s2",
    "iou_pooled",
    "iou_per_chip",
    "precision",
    "recall",
    "f1",
    "boundary_iou",
    "boundary_width_px",
    "ece",
    "reliability",
)
_KEPT_INFO = ("name", "seed", "step", "iou", "source", "train_datasets", "dataset", "teacher", "training_precision")


@dataclasses.dataclass(frozen=True)
class Kept:
    """A finished run.

    Attributes:
        run: its name.
        settings: digest of what it was configured by.
        training: command (W, R: the folders), seconds, what model.json says; empty where nothing was trained.
        splits: what it scored, by split.
    """

    run: str
    settings: str
    training: dict
    splits: dict[str, dict]

    def chips(self, split: str) -> list[ChipResult]:
        """Returns the counts of every scored chip."""
        return per_chip.parse(self.splits[split]["chips"])

    def reliability(self, split: str) -> calibration.Reliability:
        """Returns the histograms of its probabilities."""
        return calibration.from_json(self.splits[split]["reliability"])


def keep(work: Path, run: str, results_dir: Path) -> Path:
    """Writes RESULTS_DIR/RUN.json from what the run left in the work_dir.

    Raises:
        UserError: if the run has no evaluation there.
    """
    evaluations = sorted((work / "evaluation" / run).glob(f"*/{_METRICS_JSON}"))
    if not evaluations:
        raise UserError(f"{work}: no evaluation of {run} in it; run flood_distill.reproduce with this --work_dir")
    plan = json.loads((work / work_dir.PLAN_JSON).read_text())
    marker = stages.marker(f"train_{run}", work)
    trained = json.loads(marker.read_text()) if marker.exists() else {}
    kept = Kept(
        run,
        trained.get("settings", ""),
        _training(work, run, trained, plan["data_dir"]) if trained else {},
        {path.parent.name: _split(path) for path in evaluations},
    )
    path = results_dir / f"{run}.json"
    files.write_text(path, json.dumps(dataclasses.asdict(kept), indent=1) + "\n")
    return path


def read(results_dir: Path, run: str) -> Kept | None:
    """Returns what is kept of a run, or None if nothing is.

    Raises:
        UserError: for a file that is not one of ours.
    """
    path = results_dir / f"{run}.json"
    if not path.exists():
        return None
    try:
        return Kept(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: is no kept result of this version ({error}); move it away") from error


def is_kept(results_dir: Path, run: str, settings: str) -> bool:
    """Returns whether a run with these settings has been kept.

    Raises:
        UserError: if one with other settings has.
    """
    kept = read(results_dir, run)
    if kept is None:
        return False
    if kept.settings != settings:
        raise UserError(f"{results_dir}/{run}.json: is of a run with other settings; give another --results_dir")
    return True


def _training(work: Path, run: str, trained: dict, data_dir: str) -> dict:
    info = json.loads((work_dir.model_dir(work, run) / contract.MODEL_JSON).read_text())
    return {
        "command": _without_places(stages.shell_command(trained["command"]), work, data_dir),
        "seconds": trained["seconds"],
        **{name: info[name] for name in _KEPT_INFO},
        "best_gin": _best_gin(trained["command"]),
    }


def _without_places(text: str, work: Path, data_dir: str) -> str:
    """Names the folders W and R: where they lay is nobody's business."""
    for place, name in sorted(((data_dir, "R"), (str(work), "W")), key=lambda pair: -len(pair[0])):
        text = text.replace(place, name)  # the longer one first: it may begin with the other
    return text


def _best_gin(command: Sequence[str]) -> list[str]:
    """The bindings that a sweep chose, if there was one."""
    chosen = [Path(flag.partition("=")[2]) for flag in command if flag.endswith(f"/{work_dir.BEST_GIN}")]
    lines = [line for path in chosen for line in path.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "include"))]


def _split(metrics_json: Path) -> dict:
    metrics = json.loads(metrics_json.read_text())
    chips = (metrics_json.parent / per_chip.PER_CHIP_CSV).read_text().splitlines()
    return {**{name: metrics[name] for name in _KEPT_METRICS}, "chips": chips}
