r"""Radar of the synthetic world beside real radar, as the network sees it: backscatter, texture, correlation.

python -m benchmarks.radar_statistics --real=R --synthetic=S --output_dir=O

R and S are folders of converted datasets. Of the pixels that are labelled water, and of those labelled dry, draws into
O/radar_statistics.png and prints as a table and JSON

* how VV and VH are distributed, dB;
* texture: the standard deviation inside 5 x 5 pixels of one class, dB;
* correlation: of pixels 1 to 4 columns apart, after the mean of the 9 x 9 pixels around (of one class) is taken off.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import app, flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import ndimage

from flood_distill import contract

_REAL = flags.DEFINE_string("real", None, "Folder of converted real datasets.", required=True)
_SYNTHETIC = flags.DEFINE_string("synthetic", None, "Folder of converted synthetic datasets.", required=True)
_DATASET = flags.DEFINE_string("dataset", "sen1floods11/hand", "Dataset with VV and VH in dB.")
_SPLITS = flags.DEFINE_multi_string("split", ["test"], "Split; repeatable.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for the picture.", required=True)

_CLASSES = {"water": contract.WATER, "dry": contract.DRY}
_BANDS = [band.name for band in contract.S1_BANDS]
_TEXTURE_PX, _AROUND_PX, _LAGS_PX = 5, 9, (1, 2, 3, 4)
_DB = np.arange(-40, 5.01, 0.5)
_TEXTURE_DB = np.arange(0, 6.01, 0.1)


def main(_: list[str]) -> None:
    """Measures, draws, prints."""
    output_dir = Path(_OUTPUT_DIR.value)
    output_dir.mkdir(parents=True, exist_ok=True)
    found = {
        kind: measure(list(_chips(data_dir)))
        for kind, data_dir in (("real", _REAL.value), ("synthetic", _SYNTHETIC.value))
    }
    _draw(found, output_dir / "radar_statistics.png")
    rows = [_row(kind, name, found[kind][name]) for name in _CLASSES for kind in found]
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(f'{value:.2f}' if isinstance(value, float) else str(value) for value in row.values())} |")
    print(json.dumps({"benchmark": "radar_statistics", "results": rows}))


def measure(chips: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, dict]:
    """Returns by class the pixels, textures and correlations of chips.

    Args:
        chips: backscatter in dB, float32 [height, width, 2], NaN = no data, and labels, integers [height, width].

    Returns:
        For each class ``db`` float32 [pixels, 2], ``texture_db`` float32 [windows, 2], ``correlation`` by band and lag,
        and ``num_chips`` that have the class.
    """
    found = {}
    for name, label in _CLASSES.items():
        masks = [(labels == label) & np.isfinite(db).all(axis=-1) for db, labels in chips]
        there = [(db, mask) for (db, _), mask in zip(chips, masks, strict=True) if mask.any()]
        found[name] = {
            "db": np.concatenate([db[mask] for db, mask in there]),
            "texture_db": np.concatenate([_texture(db, mask) for db, mask in there]),
            "correlation": _correlations(there),
            "num_chips": len(there),
        }
    return found


def _texture(db: np.ndarray, mask: np.ndarray) -> np.ndarray:
    inner = ndimage.binary_erosion(mask, np.ones((_TEXTURE_PX, _TEXTURE_PX)))
    return np.sqrt(np.maximum(_mean(db**2, mask, _TEXTURE_PX) - _mean(db, mask, _TEXTURE_PX) ** 2, 0))[inner]


def _correlations(chips: list[tuple[np.ndarray, np.ndarray]]) -> list[list[float]]:
    """Returns the correlation by band and lag, over the pairs of all chips."""
    around = np.ones((_AROUND_PX, _AROUND_PX))
    rests = [(db - _mean(db, mask, _AROUND_PX), ndimage.binary_erosion(mask, around)) for db, mask in chips]
    return [[_correlation(rests, band, lag) for lag in _LAGS_PX] for band in range(len(_BANDS))]


def _correlation(rests: list[tuple[np.ndarray, np.ndarray]], band: int, lag_px: int) -> float:
    pairs = []
    for rest, inner in rests:
        both = inner[:, :-lag_px] & inner[:, lag_px:]
        pairs.append(np.stack([rest[:, :-lag_px, band][both], rest[:, lag_px:, band][both]]))
    first, second = np.concatenate(pairs, axis=1)
    return float((first * second).mean() / np.sqrt((first**2).mean() * (second**2).mean()))


def _mean(values: np.ndarray, mask: np.ndarray, size_px: int) -> np.ndarray:
    """Mean over squares; right where the whole square is in the mask."""
    filled = np.where(mask[..., np.newaxis], values, 0).astype(np.float64)
    return ndimage.uniform_filter(filled, (size_px, size_px, 1))


def _chips(data_dir: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from flood_distill import records  # it needs TensorFlow

    dataset = records.load(data_dir, _DATASET.value)
    for split in _SPLITS.value:
        for example in records.stacked(dataset, split, (contract.S1, contract.LABEL)).as_numpy_iterator():
            yield example[contract.S1], np.squeeze(example[contract.LABEL])


def _row(kind: str, name: str, measured: dict) -> dict:
    row = {"class": name, "data": kind, "chips": measured["num_chips"]}
    for band, polarisation in enumerate(_BANDS):
        low, middle, high = np.percentile(measured["db"][:, band], (5, 50, 95))
        row[f"{polarisation}, dB"] = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        row[f"{polarisation} texture, dB"] = float(np.median(measured["texture_db"][:, band]))
        row[f"{polarisation} correlation, 1 px"] = measured["correlation"][band][0]
        row[f"{polarisation} correlation, 2 px"] = measured["correlation"][band][1]
    return row


def _draw(found: dict[str, dict], path: Path) -> None:
    figure = Figure(figsize=(15, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(2, 4), _CLASSES, strict=True):
        for kind, color in zip(found, ("black", "tab:orange"), strict=True):
            one = found[kind][name]
            style = {"color": color, "label": f"{kind} ({one['num_chips']} chips)"}
            for band in (0, 1):
                axes[band].hist(one["db"][:, band], _DB, density=True, histtype="step", **style)
            axes[2].hist(one["texture_db"][:, 1], _TEXTURE_DB, density=True, histtype="step", **style)
            axes[3].plot(_LAGS_PX, one["correlation"][1], marker="o", **style)
        axes[0].set(xlabel="VV, dB", ylabel=f"{name}: density")
        axes[1].set(xlabel="VH, dB")
        axes[2].set(xlabel=f"texture of VH: deviation in {_TEXTURE_PX} x {_TEXTURE_PX} pixels, dB")
        axes[3].set(xlabel="pixels apart", ylabel="correlation of VH", ylim=(-0.4, 1), xticks=_LAGS_PX)
        axes[3].axhline(0, color="0.8")
        axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    app.run(main)
