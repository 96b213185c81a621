"""Where `reproduce` puts things and `report` finds them."""

from pathlib import Path

PLAN_JSON = "plan.json"
REPORT_MD = "report.md"
WORLD = "world"
DATA = "data"
MAPS = "maps"
RESULTS = "results"
BEST_GIN = "best.gin"  # of a sweep


def model_dir(work: Path, run: str) -> Path:
    """model_dir of a run."""
    return work / "models" / run


def sweep_dir(work: Path, row_key: str) -> Path:
    """Folder of the sweep that chooses the settings of a row."""
    return work / "sweeps" / row_key


def evaluation_dir(work: Path, run: str, split: str) -> Path:
    """Output of the evaluation of a run on a split."""
    return work / "evaluation" / run / split


def export_dir(work: Path, run: str) -> Path:
    """Folder of the SavedModel versions of a run."""
    return work / "export" / run
