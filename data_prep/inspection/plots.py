"""Pictures of what a survey found."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_prep.inspection import tally as tally_lib
from data_prep.inspection.tally import Histogram, Tally
from flood_distill import contract, panels

MAX_EVENTS = 40  # events that are drawn, those with most tiles; the report lists all
_COLUMNS = 2
_LEAST_NO_DATA = 0.02  # the axis of no-data shares reaches at least so far
_DPI = 110
_ABOVE_LEGEND = 20  # points
_NODATA_COLOR = (0.45, 0.45, 0.45)
_CLIPPED_COLOR = (0.85, 0.2, 0.15)
_MARGIN = 0.15  # of the drawn range beyond what occurs and the limits


def histograms(splits: dict[str, Tally], title: str, path: Path) -> None:
    """Draws a panel a band: a line a split, the limits of normalisation, what they clip.

    Args:
        splits: tally of each split.
        title: above everything.
        path: the PNG.
    """
    by_band = {split: dict(tally.by_band()) for split, tally in splits.items()}
    labels = list(next(iter(by_band.values())))
    figure, axes = _figure(len(labels), title)
    for axis, label in zip(axes, labels, strict=True):
        _draw_band(axis, label, {split: bands[label] for split, bands in by_band.items()})
    figure.savefig(path, dpi=_DPI)


def events(groups: dict[str, Tally], title: str, path: Path) -> None:
    """Draws a panel a band: a row an event, dark where its values are, with the limits and the share they clip.

    Args:
        groups: tally by ``split / event``.
        title: above everything.
        path: the PNG.
    """
    groups = _largest(groups)
    by_band = {name: dict(tally.by_band()) for name, tally in groups.items()}
    labels = list(next(iter(by_band.values())))
    figure, axes = _figure(len(labels), title, rows=len(groups))
    for axis, label in zip(axes, labels, strict=True):
        _draw_events(axis, label, {name: bands[label] for name, bands in by_band.items()})
    figure.savefig(path, dpi=_DPI)


def shares(groups: dict[str, Tally], target: str, title: str, path: Path) -> None:
    """Draws a bar a group: its classes on the left, where images lack data on the right.

    Args:
        groups: tally by ``split`` and ``split / event``.
        target: what label 1 means.
        title: above everything.
        path: the PNG.
    """
    groups = _largest(groups)
    figure = Figure(figsize=(11, 1.6 + 0.3 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    classes, nodata = figure.subplots(1, 2, sharey=True)
    names, tallies = list(groups), list(groups.values())
    _draw_classes(classes, names, tallies, target)
    _draw_no_data(nodata, names, tallies)
    classes.invert_yaxis()
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=_DPI)


def _draw_band(axis: Axes, label: str, found: dict[str, Histogram]) -> None:
    band = next(iter(found.values())).band
    borders = tally_lib.edges(band)
    for split, histogram in found.items():
        if histogram.num_values:
            summary = histogram.summary()
            clipped = f"{summary['share_clipped_low']:.1%} below, {summary['share_clipped_high']:.1%} above"
            density = histogram.counts / histogram.num_values / np.diff(borders)
            axis.stairs(density, borders, label=f"{split}: {clipped}", linewidth=1)
    low, high = _drawn_range(found.values())
    axis.set(xlim=(low, high), title=label, xlabel=band.unit, yticks=[])
    axis.axvspan(low, band.low, color=_CLIPPED_COLOR, alpha=0.08, linewidth=0)
    axis.axvspan(band.high, high, color=_CLIPPED_COLOR, alpha=0.08, linewidth=0)
    _draw_limits(axis, band)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, frameon=False)


def _draw_events(axis: Axes, label: str, found: dict[str, Histogram]) -> None:
    band = next(iter(found.values())).band
    borders = tally_lib.edges(band)
    counts = np.array([histogram.counts for histogram in found.values()], np.float64)
    tallest = np.maximum(counts.max(axis=1, keepdims=True), 1)
    axis.pcolormesh(borders, np.arange(len(found) + 1), counts / tallest, cmap="Greys", shading="flat")
    low, high = _drawn_range(found.values())
    axis.set(xlim=(low, high), title=f"{label} (right: share clipped)", xlabel=band.unit)
    axis.set_yticks(np.arange(len(found)) + 0.5, list(found), fontsize=7)
    axis.invert_yaxis()
    for row, histogram in enumerate(found.values()):
        if histogram.num_values:
            share = (histogram.num_below + histogram.num_above) / histogram.num_values
            axis.text(high, row + 0.5, f" {share:.1%}", va="center", fontsize=7)
    _draw_limits(axis, band)


def _draw_limits(axis: Axes, band: contract.Band) -> None:
    for limit in (band.low, band.high):
        axis.axvline(limit, color=_CLIPPED_COLOR, linestyle="--", linewidth=1)


def _draw_classes(axis: Axes, names: list[str], tallies: list[Tally], target: str) -> None:
    pixels = np.array([tally.num_pixels for tally in tallies])
    left = np.zeros(len(tallies))
    for value, name, color in (
        (contract.WATER, target, panels.WATER_COLOR),
        (contract.DRY, "dry", panels.DRY_COLOR),
        (contract.IGNORE_LABEL, "no label", _NODATA_COLOR),
    ):
        share = np.array([tally.labels[value] for tally in tallies]) / pixels
        axis.barh(names, share, left=left, color=color, label=name)
        left += share
    axis.set(xlim=(0, 1), xlabel="share of all pixels")
    axis.set_title("label", pad=_ABOVE_LEGEND)
    axis.tick_params(axis="y", labelsize=7)
    axis.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)


def _draw_no_data(axis: Axes, names: list[str], tallies: list[Tally]) -> None:
    features = list(tallies[0].num_seen)
    height = 0.8 / len(features)
    rows, most = np.arange(len(names)), _LEAST_NO_DATA
    for index, feature in enumerate(features):
        shares_ = [tally.num_invalid[feature] / max(tally.num_seen[feature], 1) for tally in tallies]
        axis.barh(rows - 0.4 + (index + 0.5) * height, shares_, height, label=feature)
        most = max(most, *shares_)
    axis.set_title("no data", pad=_ABOVE_LEGEND)
    axis.set(xlim=(0, most), xlabel="share of the pixels of tiles that have the image")
    axis.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(features), frameon=False)


def _drawn_range(found) -> tuple[float, float]:
    """From the first to the last value that matters: 1 in 10,000 lies beyond, and the limits are always shown."""
    found = [histogram for histogram in found if histogram.num_values]
    if not found:
        return 0.0, 1.0
    band = found[0].band
    low = min(band.low, *(histogram.percentile(0.0001) for histogram in found))
    high = max(band.high, *(histogram.percentile(0.9999) for histogram in found))
    margin = _MARGIN * (band.high - band.low)
    return low - margin, high + margin


def _largest(groups: dict[str, Tally]) -> dict[str, Tally]:
    names = sorted(groups, key=lambda name: -groups[name].num_tiles)[:MAX_EVENTS]
    return {name: tally for name, tally in groups.items() if name in names}


def _figure(num_panels: int, title: str, rows: int = 0) -> tuple[Figure, list[Axes]]:
    num_rows = -(-num_panels // _COLUMNS)
    height = 2.6 if not rows else 1.0 + 0.2 * rows
    figure = Figure(figsize=(5.5 * _COLUMNS, height * num_rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(num_rows, _COLUMNS, squeeze=False).ravel()
    for axis in axes[num_panels:]:
        axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return figure, list(axes[:num_panels])
