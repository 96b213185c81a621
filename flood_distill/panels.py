"""Pictures of chips beside their predictions, in the colours of the paper's Figure 2."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flood_distill import contract, files, statistics

# Figure 2: "dry pixels are shown in green, water pixels in blue and invalid pixels in black", cloud in white.
DRY_COLOR = (0.35, 0.62, 0.28)
WATER_COLOR = (0.12, 0.35, 0.85)
INVALID_COLOR = (0.0, 0.0, 0.0)
CLOUD_COLOR = (1.0, 1.0, 1.0)
# An unlabelled pixel is drawn as cloud where the mean of the three bands that are drawn is at least this share of their
# normalisation's range: 2000 of 3000 for B2, B3 and B4 (reflectance x 10000). Bare soil stays below; the drawing is all
# that hangs on it.
CLOUD_MIN_BRIGHTNESS = 2 / 3
CELL_INCHES = 2.1
DPI = 110


@dataclasses.dataclass(frozen=True)
class Chip:
    """What a panel shows of one chip.

    Attributes:
        chip_id: the chip's name.
        s1: float32 [height, width, bands of all dates], NaN = no data.
        s2: int16 [height, width, bands of all dates], 0 in all bands = no data; None where there is none.
        label: int8 [height, width], 1 water, 0 dry, -1 no data.
        imagery: what the bands are; the latest date is drawn.
    """

    chip_id: str
    s1: np.ndarray
    s2: np.ndarray | None
    label: np.ndarray
    imagery: contract.Imagery = contract.SENTINEL


def backscatter_image(s1: np.ndarray, imagery: contract.Imagery = contract.SENTINEL) -> np.ndarray:
    """Returns the first band (VV) as grey over the range of its normalisation; no data is black.

    Returns:
        float [height, width, 3] in [0, 1].
    """
    band = imagery.s1[0]
    grey = np.clip((s1[..., 0] - band.low) / (band.high - band.low), 0, 1)
    valid = np.isfinite(s1).all(axis=-1)
    return np.repeat(np.where(valid, grey, 0.0)[..., np.newaxis], 3, axis=-1)


def color_image(s2: np.ndarray, imagery: contract.Imagery = contract.SENTINEL) -> np.ndarray:
    """Returns red, green and blue (B4, B3, B2) as shares of their normalisation's range, float [height, width, 3]."""
    names = [band.name for band in imagery.s2]
    indices = [names.index(name) for name in imagery.rgb]
    low, high = (np.array([getattr(imagery.s2[index], limit) for index in indices]) for limit in ("low", "high"))
    return (s2[..., indices] - low) / (high - low)


def mask_image(mask: np.ndarray) -> np.ndarray:
    """Returns a water mask (uint8 [height, width]: 0, 1, 255) in Figure 2's colours, float [height, width, 3]."""
    image = np.empty((*mask.shape, 3))
    image[:] = INVALID_COLOR
    image[mask == contract.DRY] = DRY_COLOR
    image[mask == contract.WATER] = WATER_COLOR
    return image


def label_image(chip: Chip) -> np.ndarray:
    """Returns the ground truth in Figure 2's colours: unlabelled is white under bright Sentinel-2, else black."""
    image = mask_image(np.where(chip.label == contract.IGNORE_LABEL, contract.MASK_NODATA, chip.label))
    if chip.s2 is not None:
        brightness = color_image(chip.s2, chip.imagery).mean(axis=-1)
        image[(chip.label == contract.IGNORE_LABEL) & (brightness >= CLOUD_MIN_BRIGHTNESS)] = CLOUD_COLOR
    return image


def comparison_panel(
    chips: Sequence[Chip],
    predictions: Mapping[str, Mapping[str, np.ndarray]],
    path: str | Path,
    title: str = "",
    captions: Mapping[str, str] | None = None,
) -> None:
    """Draws one row a chip: Sentinel-1, Sentinel-2, ground truth and each model's prediction with its IoU.

    Args:
        chips: the rows.
        predictions: column title -> chip_id -> uint8 [height, width] (0, 1, 255): an opened predictions.npz will do.
        path: the PNG, written whole or not at all.
        title: above everything.
        captions: what to say of a chip beside its name, by chip_id.
    """
    if not chips:
        raise ValueError("comparison_panel needs at least one chip")
    columns = [f"Sentinel-1 {chips[0].imagery.s1[0].name}", "Sentinel-2", "Ground truth", *predictions]
    width, height = CELL_INCHES * len(columns), CELL_INCHES * 1.04 * len(chips) + 0.8
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(chips), len(columns), squeeze=False)
    for axes, chip in zip(grid, chips, strict=True):
        cells = [_input_cells(chip), _prediction_cells(chip, predictions)]
        for axis, (image, caption) in zip(axes, cells[0] + cells[1], strict=True):
            _draw_cell(axis, image, caption)
        axes[0].set_ylabel("\n".join(filter(None, (chip.chip_id, (captions or {}).get(chip.chip_id)))), fontsize=7)
    for axis, column in zip(grid[0], columns, strict=True):
        axis.set_title(_wrapped(column), fontsize=8)
    if title:
        figure.suptitle(title, fontsize=9)
    figure.legend(
        handles=_legend(chips[0].imagery.target), loc="outside lower center", ncols=4, fontsize=8, frameon=False
    )
    with files.whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def _input_cells(chip: Chip) -> list[tuple[np.ndarray | None, str]]:
    optical = None if chip.s2 is None else np.clip(color_image(chip.s2, chip.imagery), 0, 1)
    return [(backscatter_image(chip.s1, chip.imagery), ""), (optical, ""), (label_image(chip), "")]


def _prediction_cells(chip: Chip, predictions: Mapping[str, Mapping[str, np.ndarray]]) -> list[tuple[np.ndarray, str]]:
    cells = []
    scored = statistics.scored_pixels(chip.label, chip.s1)
    for masks in predictions.values():
        mask = masks[chip.chip_id]
        iou = statistics.chip_iou(statistics.count(mask == contract.WATER, chip.label, scored))
        cells.append((mask_image(mask), "not scored" if np.isnan(iou) else f"IoU {iou:.3f}"))
    return cells


def _draw_cell(axis, image: np.ndarray | None, caption: str) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(caption, fontsize=7, labelpad=2)
    if image is None:
        axis.set_facecolor("0.92")
        axis.set_box_aspect(1)
        axis.text(0.5, 0.5, "n/a", ha="center", va="center", fontsize=9, color="0.4", transform=axis.transAxes)
    else:
        axis.imshow(image, interpolation="nearest")


def _wrapped(text: str, width: int = 22) -> str:
    """Breaks a long column title at spaces."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _legend(target: str) -> list[Patch]:
    entries = [("dry", DRY_COLOR), (target, WATER_COLOR), ("invalid", INVALID_COLOR), ("cloud", CLOUD_COLOR)]
    return [Patch(facecolor=color, edgecolor="0.4", label=label) for label, color in entries]
