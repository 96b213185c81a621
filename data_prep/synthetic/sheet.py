"""A contact sheet: chips as rows; radar, optical, label, truth and weak label as columns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.synthetic import chips
from flood_distill import contract

_TITLES = ("VV -25..0 dB", "VH -32..-5 dB", "true colour", "SWIR NIR red", "label", "truth", "weak label")
_CLASS_COLORS = np.array([[0, 0, 0], [60, 140, 60], [50, 90, 220]], np.uint8)  # ignored, dry, water (paper, figure 2)


def write(path: Path, specs: Sequence[chips.Spec]) -> None:
    """Writes a PNG with one row a chip."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        len(specs), len(_TITLES), figsize=(2.2 * len(_TITLES), 2.25 * len(specs)), squeeze=False
    )
    for row, spec in zip(axes, specs, strict=True):
        for axis, picture, title in zip(row, panels(chips.make_chip(spec), spec), _TITLES, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
            if row is axes[0]:
                axis.set_title(title, fontsize=8)
        row[0].text(4, 30, f"{spec.split} {spec.name} {spec.quirk}", fontsize=5, color="yellow")
    figure.subplots_adjust(0, 0, 1, 0.985, 0.01, 0.01)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def panels(chip: chips.Chip, spec: chips.Spec) -> list[np.ndarray]:
    """Returns one uint8 picture [height, width, 3] a column."""
    names = [b.name for b in contract.S2_BANDS] if spec.split == "external" else list(contract.S2_FILE_BANDS)
    false = ("B8", "B4", "B3") if "B11" not in names else ("B11", "B8", "B4")
    return [
        _grey(chip.s1[0], -25.0, 0.0),
        _grey(chip.s1[1], -32.0, -5.0),
        _colors(chip.s2, names, ("B4", "B3", "B2"), 3000.0),
        _colors(chip.s2, names, false, 4000.0),
        _CLASS_COLORS[chip.label + 1],
        _CLASS_COLORS[chip.truth.astype(int) + 1],
        _CLASS_COLORS[chip.weak + 1],
    ]


def _grey(decibel: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = np.clip((np.nan_to_num(decibel, nan=low) - low) / (high - low), 0.0, 1.0)
    return np.repeat((255 * scaled).astype(np.uint8)[..., None], 3, axis=-1)


def _colors(s2: np.ndarray, names: list[str], bands: tuple[str, ...], white: float) -> np.ndarray:
    stack = np.stack([s2[names.index(name)] for name in bands], axis=-1)
    return (255 * np.clip(stack / white, 0.0, 1.0)).astype(np.uint8)
