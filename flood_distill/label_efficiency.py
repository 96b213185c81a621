"""The label-efficiency plot: IoU over the number of hand labels, with and without a teacher."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flood_distill import bootstrap, files, rows
from flood_distill.tables import Method

_CURVES = (
    (rows.TEACHER, "tab:purple"),
    (rows.DISTILLED, "tab:blue"),
    (rows.HAND, "tab:orange"),
    (rows.HAND_SMALL_CROPS, "tab:brown"),
)
_LINES = ((rows.ALL_LABELS, "0.2", "-"), (rows.WEAK, "tab:green", "--"), (rows.OTSU, "0.55", ":"))
_MARGIN = 1.3  # factor between the outer numbers of labels and the panel's edge
_APART = 1.03  # factor between the places of two curves, so that their bars do not cover each other
DPI = 110


def draw(methods: Sequence[Method], path: Path) -> None:
    """Draws one panel a dataset: curves with 95 % intervals over chips, lines for what has no number of labels.

    Args:
        methods: all rows, one at least with a number of labels; those of one dataset share a panel, and a dataset
            whose rows have no number of labels yet has none.
        path: the PNG, written whole or not at all.
    """
    datasets = list(dict.fromkeys(one.row.dataset for one in methods if one.row.num_labels))
    figure = Figure(figsize=(5.6 * len(datasets), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    shown = {}
    for axis, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        _draw_panel(axis, dataset, [one for one in methods if one.row.dataset == dataset])
        shown |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=2 * len(datasets), fontsize=7)
    with files.whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def _draw_panel(axis, dataset: str, methods: Sequence[Method]) -> None:
    ticks = sorted({one.row.num_labels for one in methods if one.row.num_labels})
    for number, (role, color) in enumerate(_CURVES):
        chosen = sorted((one for one in methods if one.row.role == role), key=lambda one: one.row.num_labels)
        if chosen:
            found = [bootstrap.interval(one.sample(one.row.splits[0])) for one in chosen]
            places = [one.row.num_labels * _APART ** (number - (len(_CURVES) - 1) / 2) for one in chosen]
            values = [one.value for one in found]
            bars = [[one.value - one.low for one in found], [one.high - one.value for one in found]]
            axis.errorbar(
                places, values, bars, color=color, marker="o", markersize=4, capsize=3, label=chosen[0].row.title
            )
    for role, color, style in _LINES:
        for one in methods:
            if one.row.role == role:
                value = bootstrap.interval(one.sample(one.row.splits[0])).value
                axis.axhline(value, color=color, linestyle=style, linewidth=1.2, label=one.row.title)
    axis.set_xscale("log")
    axis.set_xlim(ticks[0] / _MARGIN, ticks[-1] * _MARGIN)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set(title=f"{dataset}: IoU on the test split, pooled", xlabel="hand-labelled chips", ylabel="IoU")
    axis.grid(alpha=0.3)
