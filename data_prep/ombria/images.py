"""From the PNGs of a tuple to one record: what `data_prep.tiles` does for GeoTIFFs. No TensorFlow, no state.

Read by Pillow, because GDAL gives zeros for the missing part of a truncated PNG without a word.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import measure

from data_prep import tiles
from data_prep.ombria import layout
from data_prep.tiles import Chip, Fault, LayerSpec, Tile
from flood_distill import contract

# What lies beyond the swath is filled with one value, mostly 255. In the published images pieces of 255 at the border
# have at most 4 pixels (bright targets) or at least 50; pieces of another value at most 146 or at least 2754.
SATURATED = 255
MIN_SATURATED_PX = 10
MIN_FILL_PX = 1000
DARKEST = 0  # calm water below the publisher's scale makes large pieces too: data
FLOOD = 255
MASK_VALUES = (0, FLOOD)
NOWHERE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # transform of an image without a place: pixels


def header_faults(chip: Chip, specs: Sequence[LayerSpec]) -> list[Fault]:
    """Returns the faults of a tuple's files that show without reading pixels."""
    return _visit(chip, specs, lambda image, spec: None)


def pixel_faults(chip: Chip, specs: Sequence[LayerSpec]) -> list[Fault]:
    """Returns all faults of a tuple's files; reads every pixel."""
    return _visit(chip, specs, _feature)


def read_or_faults(chip: Chip, specs: Sequence[LayerSpec]) -> Tile | list[Fault]:
    """Returns a tuple as a record without place, or all faults of its files.

    Returns:
        A `Tile` with every feature of the record but `contract.SOURCE`; its footprint is None.
    """
    features: dict = {}

    def keep(image: Image.Image, spec: LayerSpec) -> None:
        features[spec.feature] = _feature(image, spec)

    if faults := _visit(chip, specs, keep):
        return faults
    features |= {
        contract.HAS_S2: True,
        contract.CHIP_ID: chip.chip_id,
        contract.EVENT: chip.event,
        contract.CRS: "",
        contract.TRANSFORM: np.array(NOWHERE, np.float64),
    }
    return Tile(features, footprint=None, outside_share=0.0, cut_share=0.0)


def backscatter(pixels: np.ndarray) -> np.ndarray:
    """Returns Sentinel-1 with its unmarked no-data marked.

    No data are pieces of one value, connected side by side, that touch the border: of 255 with at least
    `MIN_SATURATED_PX` pixels, of any other value but 0 with at least `MIN_FILL_PX`.

    Args:
        pixels: uint8 [height, width].

    Returns:
        float32 [height, width, 1], 0..255, NaN = no data.
    """
    pieces = measure.label(pixels, connectivity=1, background=DARKEST)
    sizes_px = np.bincount(pieces.ravel())
    least_px = np.where(pixels == SATURATED, MIN_SATURATED_PX, MIN_FILL_PX)
    large = (pieces > 0) & (sizes_px[pieces] >= least_px)
    border = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    marked = np.where(large & np.isin(pieces, border), contract.S1_NODATA, pixels)
    return marked.astype(contract.S1_DTYPE)[..., np.newaxis]


def flood(pixels: np.ndarray) -> np.ndarray:
    """Returns labels, int8 [height, width], of a mask, uint8 [height, width].

    Raises:
        ValueError: if it holds anything but 0 and 255.
    """
    if strange := sorted(set(np.unique(pixels).tolist()) - set(MASK_VALUES)):
        raise ValueError(f"holds the values {strange[:5]}, only {list(MASK_VALUES)} are masks")
    return (pixels == FLOOD).astype(contract.LABEL_DTYPE)


def index_water(pixels: np.ndarray) -> np.ndarray:
    """Returns weak labels by an index of Sentinel-2: water where (visible - SWIR) / (visible + SWIR) > 0.

    It agrees with the masks of the training tuples at a pooled IoU of about 0.5: clouds are bright in the visible band
    too, and rivers are water but no flood.

    Args:
        pixels: uint8 [height, width, 3], in the order in which the bands look: SWIR, NIR, visible.

    Returns:
        int8 [height, width], 1 water, 0 dry, -1 where Sentinel-2 has no data.
    """
    swir, visible = pixels[..., 0], pixels[..., 2]
    labels = (visible > swir).astype(contract.LABEL_DTYPE)
    labels[(pixels == contract.S2_NODATA).all(axis=-1)] = contract.IGNORE_LABEL
    return labels


def color(pixels: np.ndarray) -> np.ndarray:
    """Returns Sentinel-2, int16 [height, width, 3]: its no-data, 0 in all bands, is that of the record."""
    return pixels.astype(contract.S2_DTYPE)


_CONVERTED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    contract.S1: backscatter,
    contract.S1_BEFORE: backscatter,
    contract.S2: color,
    contract.S2_BEFORE: color,
    contract.LABEL: flood,
}


def _feature(image: Image.Image, spec: LayerSpec) -> np.ndarray:
    convert = index_water if spec == layout.WEAK_LABEL else _CONVERTED[spec.feature]
    return convert(np.asarray(image))


def _visit(chip: Chip, specs: Sequence[LayerSpec], action: Callable[[Image.Image, LayerSpec], object]) -> list[Fault]:
    """Opens each file, checks its header and calls `action(image, spec)` where that is in order."""
    faults: list[Fault] = []
    for spec in specs:
        path = chip.files[spec.feature]
        faults += [Fault(chip.chip_id, str(path), reason) for reason in _reasons(path, spec, action)]
    return faults


def _reasons(path: Path, spec: LayerSpec, action: Callable[[Image.Image, LayerSpec], object]) -> list[str]:
    try:
        with Image.open(path) as image:
            reasons = _header_reasons(image, spec)
            if not reasons:
                action(image, spec)
            return reasons
    except FileNotFoundError:
        return [tiles.MISSING]
    except (OSError, SyntaxError) as error:  # what Pillow raises for a file that is no image or not whole
        return [f"unreadable or truncated ({' '.join(str(error).split())})"]
    except ValueError as error:
        return [str(error)]


def _header_reasons(image: Image.Image, spec: LayerSpec) -> list[str]:
    height, width = spec.layer.size
    mode = {1: "L", 3: "RGB"}[spec.layer.num_bands]
    reasons = []
    if (image.height, image.width) != (height, width):
        reasons.append(f"{image.height}x{image.width} pixels, not {height}x{width}")
    if image.mode != mode:
        reasons.append(f"image mode {image.mode}, not {mode} ({spec.layer.num_bands} band(s) of 8 bits)")
    return reasons
