"""Evaluation of any predictor on any split: the numbers of Table 1 and the pictures of Figure 2."""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import gin
import numpy as np
from etils import epath
from tqdm import tqdm

from flood_distill import (
    bootstrap,
    boundary,
    calibration,
    chips,
    contract,
    files,
    normalization,
    object_store,
    panels,
    per_chip,
    reliability_diagram,
    statistics,
)
from flood_distill.errors import UserError
from flood_distill.predictor import Predictor
from flood_distill.probability import water_mask
from flood_distill.records import Records, stacked

METRICS_JSON = "metrics.json"
METRICS_MD = "metrics.md"
PREDICTIONS_NPZ = "predictions.npz"
PANELS_PNG = "panels.png"
RELIABILITY_PNG = "reliability.png"
_FEATURES = (contract.S1, contract.S2, contract.LABEL, contract.HAS_S2, contract.CHIP_ID, contract.EVENT)
_PERMANENT = (contract.PERMANENT_WATER, contract.HAS_PERMANENT_WATER)  # where the dataset has the layer
_SCORES = ("iou_pooled", "iou_per_chip", "precision", "recall", "f1")


@gin.configurable
def evaluate(
    predictor: Predictor,
    records: Records,
    split: str,
    output_dir: str | Path,
    *,
    batch_size: int = 4,
    num_panels: int = 8,
    boundary_width_px: int = 2,
) -> dict:
    """Scores a predictor on a split and writes what came out.

    Every predictor is scored on the same pixels: label 0 or 1 and Sentinel-1 finite. Written, each file whole or not
    at all, metrics.json last: per_chip.csv (scored chips), predictions.npz (chip_id -> uint8 [height, width]: 0, 1,
    255), panels.png, reliability.png, metrics.md and metrics.json.

    Args:
        predictor: from `predictor.load_predictor`.
        records: from `records.load`.
        split: one of the records' splits.
        output_dir: folder for the files, made if it is not there.
        batch_size: chips given to the predictor at once.
        num_panels: chips drawn in panels.png.
        boundary_width_px: width of the bands of the boundary IoU; ours: 2 pixels, 32 m at 16 m pixels, about the
            geolocation of Sentinel-1 and the hand of the labeller.

    Returns:
        What metrics.json holds; NaN where the file has null.

    Raises:
        UserError: if the dataset has no such split or images of another kind than the predictor looks at, or the
            predictor gives no value at a scored pixel.
    """
    if boundary_width_px < 1:
        raise UserError(f"evaluate.boundary_width_px={boundary_width_px}: give at least 1")
    if predictor.imagery != records.imagery:
        raise UserError(
            f"--model={predictor.model}: looks at images of {predictor.dataset or 'another kind'}, whose bands are not "
            f"those of {records.name}; score it on a dataset of its own kind"
        )
    object_store.connect(output_dir)
    output_dir = epath.Path(output_dir)
    results, masks, reliability = score_chips(predictor, records, split, batch_size, boundary_width_px)
    flood = statistics.scores(statistics.flood_only(results))
    metrics = {
        "split": split,
        "dataset": records.name,
        "source": records.source,
        "target": records.imagery.target,
        "model": predictor.model,
        "model_name": predictor.name,
        "model_source": predictor.source,
        "threshold": predictor.threshold,
        **statistics.scores(results),
        "share_without_s2": statistics.share_without_s2(results),
        "unscorable_chips": statistics.unscorable(results),
        "per_event": _per_event(results),
        "boundary_iou": statistics.iou(statistics.pooled(_shores(results))),
        "boundary_width_px": boundary_width_px,
        "flood": flood if flood["num_chips"] else None,
        "ece": reliability.expected_calibration_error,
        "reliability": reliability.as_json(),
        "intervals": bootstrap.intervals(results),
        "definitions": statistics.DEFINITIONS,
    }
    per_chip.write(results, output_dir / per_chip.PER_CHIP_CSV)
    with files.whole_file(output_dir / PREDICTIONS_NPZ) as temporary:
        np.savez_compressed(temporary, **masks)
    draw_panels(records, split, results, {predictor.name: masks}, output_dir / PANELS_PNG, num_panels)
    reliability_diagram.draw({predictor.name: reliability}, output_dir / RELIABILITY_PNG, records.imagery.target)
    files.write_text(output_dir / METRICS_MD, as_markdown(metrics))
    files.write_text(output_dir / METRICS_JSON, json.dumps(_without_nan(metrics), indent=2) + "\n")
    return metrics


def score_chips(
    predictor: Predictor, records: Records, split: str, batch_size: int, boundary_width_px: int = 2
) -> tuple[list[statistics.ChipResult], dict[str, np.ndarray], calibration.Reliability]:
    """Returns the counts of every chip of a split, its mask by chip_id (uint8: 0, 1, 255), and the reliability."""
    results, masks, reliability = [], {}, calibration.empty()
    features = _FEATURES + _PERMANENT * (contract.PERMANENT_WATER in records.features)
    bar = tqdm(total=records.num_examples(split), desc=f"evaluate {predictor.name} on {split}", unit="chip")
    with bar:
        for batch in _batches(stacked(records, split, features).as_numpy_iterator(), batch_size):
            s2 = np.stack([_reflectance(example) for example in batch])
            probabilities = predictor(np.stack([example[contract.S1] for example in batch]), s2)
            for example, chip_s2, probability in zip(batch, s2, probabilities, strict=True):
                result = score_chip(
                    example, chip_s2, probability, predictor.threshold, records.imagery, boundary_width_px
                )
                results.append(result)
                scored = statistics.scored_pixels(example[contract.LABEL], example[contract.S1])
                reliability += calibration.reliability(probability, example[contract.LABEL], scored)
                masks[result.chip_id] = water_mask(probability, predictor.threshold)
            bar.update(len(batch))
    return results, masks, reliability


def score_chip(
    example: dict,
    s2: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    imagery: contract.Imagery,
    boundary_width_px: int = 2,
) -> statistics.ChipResult:
    """Returns the counts of one chip.

    Args:
        example: a decoded record, with its dates stacked.
        s2: [height, width, bands of all dates], 0 in all bands of a date = no data.
        probability: float32 [height, width], NaN = no data.
        threshold: water where the probability is at least this.
        imagery: what the bands are.
        boundary_width_px: width of the bands of the boundary IoU.

    Raises:
        UserError: if the probability is NaN at a scored pixel.
    """
    chip_id = example[contract.CHIP_ID].decode()
    scored = statistics.scored_pixels(example[contract.LABEL], example[contract.S1])
    num_missing = int(np.sum(scored & np.isnan(probability)))
    if num_missing:
        raise UserError(f"{chip_id}: the model gives no probability at {num_missing} pixels with label and Sentinel-1")
    water, labels = probability >= threshold, example[contract.LABEL]
    return statistics.ChipResult(
        chip_id=chip_id,
        event=example[contract.EVENT].decode(),
        counts=statistics.count(water, labels, scored),
        num_without_s2=int(np.sum(scored & ~normalization.s2_valid(s2, imagery).numpy())),
        boundary=boundary.count(water, labels, scored, boundary_width_px),
        flood=statistics.count(water, labels, scored & _never_wet(example)),
    )


def _never_wet(example: dict) -> np.ndarray | bool:
    """Where the layer of permanent water says dry; nowhere for a chip without it."""
    if not example.get(contract.HAS_PERMANENT_WATER, False):
        return False
    return example[contract.PERMANENT_WATER] == contract.DRY


def _shores(results: Sequence[statistics.ChipResult]) -> list[statistics.ChipResult]:
    return [dataclasses.replace(result, counts=result.boundary) for result in results]


def _per_event(results: Sequence[statistics.ChipResult]) -> dict[str, dict]:
    """The scores of each event, with the interval of its pooled IoU over its chips."""
    table = statistics.per_event(results)
    for event, row in table.items():
        one = bootstrap.interval(bootstrap.sample([[result for result in results if result.event == event]]))
        row["iou_pooled_interval"] = [one.low, one.high]
    return table


def draw_panels(
    records: Records,
    split: str,
    results: Sequence[statistics.ChipResult],
    predictions: dict[str, dict[str, np.ndarray]],
    path: Path,
    num_panels: int,
) -> None:
    """Draws the telling chips of a split; draws nothing where no chip can be scored."""
    chip_ids = chips.telling_chips(results, num_panels)
    if not chip_ids:
        return
    synthetic = " (synthetic data)" if records.source == contract.SOURCE_SYNTHETIC else ""
    title = f"{records.name}, {split} split{synthetic}"
    panels.comparison_panel(chips.read_chips(records, split, chip_ids), predictions, path, title)


def as_markdown(metrics: dict) -> str:
    """Returns the scores as a readable table: all chips, then event by event, with the definitions."""
    synthetic = " **Synthetic data.**" if metrics["source"] == contract.SOURCE_SYNTHETIC else ""
    lines = [
        f"# {metrics['model_name']} on {metrics['dataset']}, {metrics['split']} split",
        "",
        f"Model `{metrics['model']}`, {metrics['target']} where the probability is at least "
        f"{metrics['threshold']:g}.{synthetic}",
        "",
        "| chips | number | IoU pooled | IoU per chip | precision | recall | F1 | 95 % interval of IoU pooled |",
        "|---|---|---|---|---|---|---|---|",
        _row("all", metrics, metrics["intervals"]["iou_pooled"]),
        *(_row(event, scores, scores["iou_pooled_interval"]) for event, scores in metrics["per_event"].items()),
        *([_row("flood only", metrics["flood"], metrics["intervals"]["flood_iou_pooled"])] if metrics["flood"] else []),
        "",
        f"Boundary IoU, bands of {metrics['boundary_width_px']} pixels: {_number(metrics['boundary_iou'], '.4f')} "
        f"({_ends(metrics['intervals']['boundary_iou'])}). Expected calibration error: "
        f"{_number(metrics['ece'], '.4f')} ([reliability diagram]({RELIABILITY_PNG})).",
        f"Pixels: TP {metrics['tp']}, FP {metrics['fp']}, FN {metrics['fn']}, TN {metrics['tn']}; "
        f"{_number(metrics['share_without_s2'], '.2%')} of them without Sentinel-2.",
        f"Unscorable chips, not counted: {', '.join(metrics['unscorable_chips']) or 'none'}.",
        "",
        "Definitions:",
        "",
        *(f"* {name}: {text}" for name, text in statistics.DEFINITIONS.items()),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, scores: dict, ends: Sequence[float]) -> str:
    cells = [name, str(scores["num_chips"]), *(_number(scores[key], ".4f") for key in _SCORES), _ends(ends)]
    return "| " + " | ".join(cells) + " |"


def _ends(ends: Sequence[float]) -> str:
    return "n/a" if math.isnan(ends[0]) else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _number(value: float, spec: str) -> str:
    return "n/a" if math.isnan(value) else format(value, spec)


def _without_nan(value):
    """Returns the structure with None for NaN: strict JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _reflectance(example: dict) -> np.ndarray:
    """Returns the chip's Sentinel-2, all no-data where it has none."""
    return example[contract.S2] if example[contract.HAS_S2] else np.zeros_like(example[contract.S2])


def _batches(examples: Iterable[dict], batch_size: int) -> Iterator[list[dict]]:
    batch = []
    for example in examples:
        batch.append(example)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
