"""The tables of a report, from kept results: scores with intervals, differences with paired ones, events."""

import dataclasses
import itertools
import math
import statistics as stdlib_statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from flood_distill import bootstrap, contract, results, rows, statistics
from flood_distill.bootstrap import Interval, Sample
from flood_distill.results import Kept
from flood_distill.rows import Row
from flood_distill.statistics import ChipResult, Counts

_ON_LABELS = (rows.HAND, rows.HAND_SMALL_CROPS)


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the table with its finished runs.

    Attributes:
        row: the row.
        runs: those of its seeds that are finished.
    """

    row: Row
    runs: Sequence[Kept]

    @property
    def title(self) -> str:
        """Its name where rows with different numbers of hand labels stand together."""
        return self.row.title if self.row.num_labels is None else f"{self.row.title}, {self.row.num_labels} labels"

    def sample(self, split: str, counts_of: Callable[[ChipResult], Counts] = lambda one: one.counts) -> Sample:
        """Returns the chips of a split, each the mean over the runs."""
        return bootstrap.sample([run.chips(split) for run in self.runs], counts_of)


def read_methods(table: Sequence[Row], results_dir: Path) -> list[Method]:
    """Returns the rows that have at least one finished run."""
    found = []
    for row in table:
        runs = [kept for name in row.run_names() if (kept := results.read(results_dir, name))]
        found += [Method(row, runs)] if runs else []
    return found


def scores(methods: Sequence[Method], split: str, other_split: str = "") -> str:
    """Returns the main table: mean and standard deviation over seeds, 95 % interval over chips."""
    with_paper = any(one.row.paper_iou for one in methods)
    heads = ["Method", *["Paper: IoU"] * with_paper, "Seeds", "Ours: IoU pooled", "95 % interval", "Ours: IoU per chip"]
    chosen = any(run.splits[split]["threshold"] != contract.WATER_THRESHOLD for one in methods for run in one.runs)
    heads += [
        "95 % interval",
        "Precision",
        "Recall",
        *["Thresholds"] * chosen,
        *[f"{other_split.capitalize()}: IoU pooled"] * bool(other_split),
    ]
    body = []
    for one in methods:
        sample = one.sample(split)
        cells = [one.title, *[_paper(one.row)] * with_paper, str(len(one.runs)) if one.row.trained else "-"]
        cells += [f"**{percent(one, split, 'iou_pooled')}**", ends(bootstrap.interval(sample))]
        cells += [percent(one, split, "iou_per_chip"), ends(bootstrap.interval(sample, bootstrap.IOU_PER_CHIP))]
        cells += [percent(one, split, name) for name in ("precision", "recall")]
        cells += [_thresholds(one, split)] * chosen
        body.append([*cells, *([percent(one, other_split, "iou_pooled")] if other_split else [])])
    return markdown(heads, body)


def more_scores(methods: Sequence[Method], split: str) -> str:
    """Returns boundary IoU, IoU of the flood alone and calibration."""
    heads = ["Method", "Boundary IoU", "95 % interval", "Flood without permanent water: IoU pooled", "95 % interval"]
    heads.append("Expected calibration error")
    body = []
    for one in methods:
        shore = bootstrap.interval(one.sample(split, lambda chip: chip.boundary))
        flood = bootstrap.interval(one.sample(split, lambda chip: chip.flood))
        cells = [number(shore.value), ends(shore), number(flood.value), ends(flood), percent(one, split, "ece")]
        body.append([one.title, *cells])
    return markdown(heads, body)


def differences(methods: Sequence[Method], split: str) -> str:
    """Returns every comparison of `rows.COMPARISONS`, in points, with its paired interval."""
    heads = ["Difference, points of IoU", "Pooled", "Paired 95 % interval", "Per chip", "Paired 95 % interval"]
    body = []
    for first, second in compared(methods):
        one, other = first.sample(split), second.sample(split)
        pooled = bootstrap.difference(one, other)
        per_chip = bootstrap.difference(one, other, bootstrap.IOU_PER_CHIP)
        cells = [signed(pooled), ends(pooled), signed(per_chip), ends(per_chip)]
        body.append([f"{first.title} - {second.title}", *cells])
    return markdown(heads, body)


def compared(methods: Sequence[Method]) -> list[tuple[Method, Method]]:
    """Returns the pairs that `rows.COMPARISONS` names."""
    return [
        (first, second)
        for better, worse in rows.COMPARISONS
        for first in methods
        for second in methods
        if (first.row.role, second.row.role) == (better, worse) and rows.comparable(first.row, second.row)
    ]


def events(methods: Sequence[Method], split: str) -> str:
    """Returns the pooled IoU of every event with its interval; empty where there is one event only."""
    names = sorted({chip.event for chip in methods[0].runs[0].chips(split)})
    if len(names) < 2:
        return ""
    body = []
    for event in names:
        samples = [
            bootstrap.sample([[chip for chip in run.chips(split) if chip.event == event] for run in one.runs])
            for one in methods
        ]
        found = map(bootstrap.interval, samples)
        cells = [number(one.value) + ("" if math.isnan(one.low) else f" ({ends(one)})") for one in found]
        body.append([event, str(len(samples[0].chip_ids)), *cells])
    return markdown(["Event", "Chips", *(one.title for one in methods)], body)


def gap_closed(methods: Sequence[Method], split: str) -> str:
    """Returns for each number of labels what distillation gains.

    Columns: the share of the gap to the all-labels student that it closes, and how many times as many hand labels the
    student without a teacher needs for the same IoU, read off its curve (`labels_needed`).
    """
    heads = [
        "Dataset",
        "Hand labels",
        "Against",
        "Its IoU",
        "Distilled",
        "Gain, points",
        "Paired 95 % interval",
        "Gap closed",
        "A label is worth",
    ]
    body = []
    for first, second in compared(methods):
        if second.row.role not in _ON_LABELS or first.row.num_labels is None:
            continue
        one, other = first.sample(split), second.sample(split)
        gain = bootstrap.difference(one, other)
        cells = [
            first.row.dataset,
            str(first.row.num_labels),
            second.row.title,
            number(_value(other)),
            number(_value(one)),
        ]
        cells += [signed(gain), ends(gain), _share(gain, other, methods, first.row, split)]
        body.append([*cells, _factor(_value(one), methods, second.row, split)])
    return markdown(heads, body) if body else ""


def _share(gain: Interval, hand: Sample, methods: Sequence[Method], row: Row, split: str) -> str:
    whole = [one for one in methods if one.row.role == rows.ALL_LABELS and rows.comparable(one.row, row)]
    gap = _value(whole[0].sample(split)) - _value(hand) if whole else 0.0
    return f"{100 * gain.value / gap:.0f} %" if gap > 0 else "n/a"


def labels_needed(curve: Sequence[tuple[int, float]], iou: float) -> float:
    """Returns the number of labels at which a curve first reaches an IoU, infinity where it does not.

    Args:
        curve: (number of labels, IoU), by number; between them the IoU is linear in the logarithm of the number. It is
            taken to be reached at the first number already where that has it, however few labels would do.
        iou: to reach.
    """
    if curve[0][1] >= iou:
        return curve[0][0]
    for (low, before), (high, after) in itertools.pairwise(curve):
        if before < iou <= after:
            return low * (high / low) ** ((iou - before) / (after - before))
    return math.inf


def _factor(iou: float, methods: Sequence[Method], row: Row, split: str) -> str:
    hand = [one for one in methods if (one.row.role, one.row.dataset) == (row.role, row.dataset)]
    curve = sorted((one.row.num_labels, _value(one.sample(split))) for one in hand if one.row.num_labels)
    if len(curve) < 2:
        return "n/a"
    needed = labels_needed(curve, iou)
    if math.isinf(needed):
        return f"more than {curve[-1][0] / row.num_labels:.1f}"
    return f"{'at most ' * (needed == curve[0][0])}{needed / row.num_labels:.1f}"


def _value(sample: Sample) -> float:
    return bootstrap.interval(sample).value


def _thresholds(one: Method, split: str) -> str:
    return ", ".join(f"{run.splits[split]['threshold']:.2f}" for run in one.runs) if one.row.trained else "-"


def percent(one: Method, split: str, score: str) -> str:
    """Returns the mean over runs in percent, with the standard deviation where there are several."""
    values = [100 * run.splits[split][score] for run in one.runs if run.splits[split][score] is not None]
    if not values:
        return "n/a"
    mean = f"{stdlib_statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {stdlib_statistics.stdev(values):.2f}"


def number(share: float) -> str:
    """Returns a share in percent."""
    return "n/a" if math.isnan(share) else f"{100 * share:.2f}"


def signed(one: Interval) -> str:
    """Returns a difference in points."""
    return "n/a" if math.isnan(one.value) else f"{100 * one.value:+.2f}"


def ends(one: Interval) -> str:
    """Returns both ends of an interval in percent."""
    return "n/a" if math.isnan(one.low) else f"{100 * one.low:.2f} to {100 * one.high:.2f}"


def markdown(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Returns a table."""
    lines = [heads, ["---"] * len(heads), *body]
    return (
        "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        .replace("| --- ", "|---")
        .replace("|--- |", "|---|")
    )


def _paper(row: Row) -> str:
    if row.paper_iou is None:
        return "-"
    return f"{row.paper_iou:.2f}" + ("" if row.paper_std is None else f" ± {row.paper_std:.2f}")


def scored_pixels(methods: Sequence[Method], split: str) -> str:
    """Returns which pixels all rows are scored on."""
    first = methods[0].runs[0]
    total = statistics.pooled(first.chips(split))
    info = first.splits[split]
    missing = "n/a" if info["share_without_s2"] is None else f"{100 * info['share_without_s2']:.2f} %"
    return (
        f"All rows are scored on the same {total.scored_pixels} pixels of {len(first.chips(split))} {split} chips; not "
        f"scorable: {', '.join(info['unscorable_chips']) or 'none'}. Of the scored pixels {missing} have no Sentinel-2."
    )
