"""Figure 2 of ours: chips beside all predictions: chosen by their labels, drawn at random, and the extremes by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flood_distill import evaluation, panels, records, rows, statistics, tables, work_dir
from flood_distill.chips import read_chips, telling_chips
from flood_distill.statistics import ChipResult
from flood_distill.tables import Method

CHOSEN_PNG = "report_panels.png"
RANDOM_PNG = "report_panels_random.png"
EXTREME_PNG = "report_panels_extreme.png"
NUM_CHIPS = 6  # of each kind
_SEED = 0
_MIN_WATER_PX = 100  # a chip with less water says little about who finds it


def sections(methods: Sequence[Method], work: Path, data_dir: str, output_dir: Path) -> list[str]:
    """Draws the pictures of the first dataset and returns what the report says of them.

    Of every row the first seed that has predictions in the work_dir is shown; of rows that vary the number of hand
    labels, those with the number that has most seeds.
    """
    shown = _shown(methods, work)
    if not shown:
        return []
    row = shown[0].row
    split = row.splits[0]
    predictions = {one.title: np.load(_evaluation(one, work) / evaluation.PREDICTIONS_NPZ) for one in shown}
    chips = shown[0].runs[0].chips(split)
    extremes = extreme_chips(shown, split)
    pictures = {
        CHOSEN_PNG: dict.fromkeys(telling_chips(chips, NUM_CHIPS), ""),
        RANDOM_PNG: dict.fromkeys(random_chips(chips, NUM_CHIPS), ""),
        EXTREME_PNG: extremes,
    }
    dataset = records.load(data_dir, row.dataset)
    for name, chosen in pictures.items():
        if chosen:
            read = read_chips(dataset, split, list(chosen))
            panels.comparison_panel(read, predictions, output_dir / name, captions=chosen)
    return [_chosen_text(), _random_text(), *([_extreme_text(extremes)] if extremes else [])]


def random_chips(chips: Sequence[ChipResult], number: int) -> list[str]:
    """Returns chips drawn by a fixed seed from the scored ones."""
    names = sorted(chip.chip_id for chip in chips if chip.counts.scored_pixels)
    return sorted(np.random.default_rng(_SEED).permutation(names)[:number].tolist())


def extreme_chips(methods: Sequence[Method], split: str, number: int = NUM_CHIPS // 2) -> dict[str, str]:
    """Returns the chips that distillation gained and lost most on against hand labels, each with its gain in words.

    The gain is the difference of the chips' IoU, the mean over seeds, on chips with at least 100 water pixels.
    """
    roles = {one.row.role: one for one in reversed(methods)}
    if rows.DISTILLED not in roles or rows.HAND not in roles:
        return {}
    wet = {
        chip.chip_id
        for chip in roles[rows.HAND].runs[0].chips(split)
        if chip.counts.tp + chip.counts.fn >= _MIN_WATER_PX
    }
    first, second = (_chip_ious(roles[role], split) for role in (rows.DISTILLED, rows.HAND))
    gains = sorted((100 * (first[chip_id] - second[chip_id]), chip_id) for chip_id in wet)
    worst, best = gains[:number], gains[::-1][: max(0, min(number, len(gains) - number))]
    named = {chip_id: f"best: {gain:+.1f}" for gain, chip_id in best}
    return named | {chip_id: f"worst: {gain:+.1f}" for gain, chip_id in reversed(worst)}


def _chip_ious(one: Method, split: str) -> Mapping[str, float]:
    runs = [{chip.chip_id: statistics.chip_iou(chip.counts) for chip in run.chips(split)} for run in one.runs]
    return {chip_id: float(np.mean([run[chip_id] for run in runs])) for chip_id in runs[0]}


def _shown(methods: Sequence[Method], work: Path) -> list[Method]:
    """The rows to draw, in the order Otsu, hand (both), weak, distilled, teacher, all labels."""
    order = (rows.OTSU, rows.HAND, rows.HAND_SMALL_CROPS, rows.WEAK, rows.DISTILLED, rows.TEACHER, rows.ALL_LABELS)
    there = [one for one in methods if (_evaluation(one, work) / evaluation.PREDICTIONS_NPZ).exists()]
    there = [one for one in there if one.row.dataset == there[0].row.dataset]
    numbers = {one.row.num_labels: len(one.runs) for one in there if one.row.num_labels}
    most = max(numbers, key=lambda number: (numbers[number], -number), default=None)
    return sorted(
        (one for one in there if one.row.num_labels in (None, most)), key=lambda one: order.index(one.row.role)
    )


def _evaluation(one: Method, work: Path) -> Path:
    """Of the first seed that was predicted here: others may be kept results of another machine."""
    folders = [work_dir.evaluation_dir(work, run.run, one.row.splits[0]) for run in one.runs]
    return next((folder for folder in folders if (folder / evaluation.PREDICTIONS_NPZ).exists()), folders[0])


def _chosen_text() -> str:
    return (
        "## Test chips\n\nDry green, water blue, invalid black, cloud white, as in the paper's Figure 2. Event by "
        "event the chips with most of both water and dry land.\n\n"
        f"![Inputs, ground truth and predictions]({CHOSEN_PNG})"
    )


def _random_text() -> str:
    return f"### Drawn at random\n\n![Inputs, ground truth and predictions of random chips]({RANDOM_PNG})"


def _extreme_text(extremes: Mapping[str, str]) -> str:
    table = tables.markdown(["Chip", "Distilled - hand, points of IoU"], [list(item) for item in extremes.items()])
    return (
        "### Best and worst cases\n\nWhere the distilled student gains and loses most against the hand-label student "
        f"(mean over seeds; chips with at least {_MIN_WATER_PX} water pixels).\n\n{table}\n\n"
        f"![Best and worst cases]({EXTREME_PNG})"
    )
