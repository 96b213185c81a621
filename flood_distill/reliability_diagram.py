"""The reliability diagram: how often it is water where a model says how probable water is."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flood_distill import files, plot_colors
from flood_distill.calibration import NUM_BINS, Reliability

DPI = 110


def draw(models: Mapping[str, Reliability], path: str | Path, target: str = "water") -> None:
    """Draws share over mean probability of each bin, and below it how many pixels each bin holds.

    Args:
        models: name in the legend -> its histograms.
        path: the PNG, written whole or not at all.
        target: what label 1 means.
    """
    figure = Figure(figsize=(5.2, 7.8), layout="constrained")
    FigureCanvasAgg(figure)
    curve, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    plot_colors.set_cycle((curve, histogram), len(models))
    curve.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
    edges = np.linspace(0, 1, NUM_BINS + 1)
    for name, model in models.items():
        filled = model.num_pixels > 0
        label = f"{name} (ECE {model.expected_calibration_error:.3f})"
        curve.plot(
            model.mean_probability[filled],
            model.share_water[filled],
            marker="o",
            markersize=3.5,
            linewidth=1.2,
            label=label,
        )
        histogram.stairs(model.num_pixels, edges, linewidth=1.2)
    curve.set(ylabel=f"share of {target}", xlim=(0, 1), ylim=(0, 1))
    histogram.set(xlabel=f"predicted probability of {target}", ylabel="scored pixels", yscale="symlog")
    for axis in (curve, histogram):
        axis.grid(alpha=0.3)
    figure.legend(*curve.get_legend_handles_labels(), loc="outside lower center", fontsize=7)
    with files.whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI)
