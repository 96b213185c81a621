"""The preview picture of a scene's flood map."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flood_distill import contract, panels

_LONG_SIDE_INCHES = 6.0
_SHORT_SIDE_INCHES = 0.6  # of a scene that is a thousand times wider than high
_DPI = 120
_NODATA_COLOR = (0.93, 0.90, 0.84)  # black, as in Figure 2, would look like dark water here


def draw(vv_db: np.ndarray, mask: np.ndarray, title: str, path: Path) -> None:
    """Draws VV, and VV with the water on it.

    Args:
        vv_db: float32 [height, width], decimated, NaN = no data.
        mask: uint8 [height, width], 0 dry, 1 water, 255 no data.
        title: above the pictures.
        path: the PNG.
    """
    grey = panels.backscatter_image(vv_db[..., np.newaxis])
    grey[np.isnan(vv_db)] = _NODATA_COLOR
    overlay = np.where((mask == contract.WATER)[..., np.newaxis], panels.WATER_COLOR, grey)
    overlay[mask == contract.MASK_NODATA] = _NODATA_COLOR
    height, width = (max(size * _LONG_SIDE_INCHES / max(mask.shape), _SHORT_SIDE_INCHES) for size in mask.shape)
    figure = Figure(figsize=(max(2 * width, 5) + 0.3, height + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, image, name in zip(figure.subplots(1, 2), (grey, overlay), ("Sentinel-1 VV", "water"), strict=True):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=9)
    entries = (("water", panels.WATER_COLOR), ("no data", _NODATA_COLOR))
    handles = [Patch(facecolor=color, edgecolor="0.4", label=label) for label, color in entries]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, dpi=_DPI, pil_kwargs={"compress_level": 3})  # 6 takes three times as long
