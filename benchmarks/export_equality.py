r"""What every form of a trained network changes in the numbers: ``python -m benchmarks.export_equality``.

Exports the network in each precision, predicts a split with each engine, and compares with the training network:
probabilities, masks and pooled IoU. Prints a table and one line of JSON. OpenVINO is left out where it is not
installed. On a processor without bfloat16, OpenVINO computes a bfloat16 export in float32.
"""

import importlib.util
import itertools
import json
import tempfile

import numpy as np
from absl import app, flags

from flood_distill import contract, evaluation, export_model, predictor, records, statistics

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Folder of a training run.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the converted datasets.", required=True)
_DATASET = flags.DEFINE_string("dataset", "", "Dataset to predict; by default the one it was validated on.")
_SPLITS = flags.DEFINE_multi_string("split", [contract.TEST_SPLIT], "Split to predict; repeatable.")
_PRECISIONS = flags.DEFINE_multi_enum("precision", contract.PRECISIONS, contract.PRECISIONS, "Of the exports.")
_BATCH_SIZE = 4

_COLUMNS = {
    "largest difference": "{:.1e}",
    "mean difference": "{:.1e}",
    "mask agrees, %": "{:.3f}",
    "pooled IoU, %": "{:.3f}",
}


class _Kept:
    """A predictor whose answers are kept.

    Args:
        inner: the predictor.
    """

    def __init__(self, inner: predictor.Predictor):
        self._inner = inner
        self.probabilities: list[np.ndarray] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def __call__(self, s1: np.ndarray, s2: np.ndarray | None = None) -> np.ndarray:
        probabilities = self._inner(s1, s2)
        self.probabilities.extend(probabilities)
        return probabilities


def main(argv: list[str]) -> None:
    """Exports, predicts, prints."""
    del argv
    reference = predictor.load_predictor(_MODEL_DIR.value)
    dataset = records.load(_DATA_DIR.value, _DATASET.value or reference.dataset)
    with tempfile.TemporaryDirectory() as scratch:
        forms = _exports(scratch)
        tables = {split: _table({"training network": reference, **forms}, dataset, split) for split in _SPLITS.value}
    for split, rows in tables.items():
        print(f"\n| {split} | {' | '.join(_COLUMNS)} |\n|---|{'---:|' * len(_COLUMNS)}")
        for form, row in rows.items():
            print(f"| {form} | {' | '.join(text.format(row[name]) for name, text in _COLUMNS.items())} |")
    print(json.dumps({"benchmark": "export_equality", "splits": tables}))


def _exports(scratch: str) -> dict[str, predictor.Predictor]:
    engines = [name for name in contract.ENGINES if name != contract.OPENVINO or importlib.util.find_spec(name)]
    folders = {
        precision: export_model.export(_MODEL_DIR.value, f"{scratch}/{precision}", precision=precision)
        for precision in _PRECISIONS.value
    }
    return {
        f"{precision} export, {engine}": predictor.load_predictor(str(folders[precision]), engine=engine)
        for precision, engine in itertools.product(folders, engines)
    }


def _table(forms: dict[str, predictor.Predictor], dataset: records.Records, split: str) -> dict[str, dict[str, float]]:
    """Returns a row for each form; the first is what the others are compared with."""
    rows, expected = {}, None
    for form, one in forms.items():
        kept = _Kept(one)
        results, _, _ = evaluation.score_chips(kept, dataset, split, _BATCH_SIZE)
        probabilities = np.stack(kept.probabilities)
        expected = probabilities if expected is None else expected
        rows[form] = differences(expected, probabilities, one.threshold)
        rows[form]["pooled IoU, %"] = 100 * statistics.scores(results)["iou_pooled"]
    return rows


def differences(expected: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    """Compares the probabilities of two forms of a network.

    Args:
        expected: float32 [chips, height, width], NaN for no data.
        probabilities: the same, of the other form.
        threshold: water where the probability is at least this.

    Returns:
        By column of the table.

    Raises:
        ValueError: if they differ in which pixels have data.
    """
    if not np.array_equal(np.isnan(expected), np.isnan(probabilities)):
        raise ValueError("a form of the network has data where another has none")
    valid = ~np.isnan(expected)
    difference = np.abs(expected - probabilities)[valid]
    same = (expected >= threshold)[valid] == (probabilities >= threshold)[valid]
    return {
        "largest difference": float(difference.max()),
        "mean difference": float(difference.mean()),
        "mask agrees, %": 100 * float(same.mean()),
    }


if __name__ == "__main__":
    app.run(main)
