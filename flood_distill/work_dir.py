"""Where `reproduce` puts things and `report` finds them."""

from pathlib import Path

from flood_distill import contract, table1

PLAN_JSON = "plan.json"
REPORT_MD = "report.md"
WORLD = "world"
DATA = "data"
MAPS = "maps"
SPLITS = (contract.TEST_SPLIT, contract.BOLIVIA_SPLIT)


def run_name(row: table1.Row, seed: int) -> str:
    """Name of a run; the row's name alone where nothing is trained."""
    return f"{row.key}_seed{seed}" if row.trained else row.key


def model_dir(work: Path, row: table1.Row, seed: int) -> Path:
    """model_dir of a trained row."""
    return work / "models" / run_name(row, seed)


def evaluation_dir(work: Path, row: table1.Row, seed: int, split: str) -> Path:
    """Output of the evaluation of a row on a split."""
    return work / "evaluation" / run_name(row, seed) / split


def export_dir(work: Path, row: table1.Row, seed: int) -> Path:
    """Folder of the SavedModel versions of a row."""
    return work / "export" / run_name(row, seed)
