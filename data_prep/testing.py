"""Small real tiles for tests: right layout, sizes and dtypes, contents that compress to nothing."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.external import layout as external
from data_prep.ombria import layout as ombria
from data_prep.sen1floods11 import layout as sen1floods11
from data_prep.tiles import LayerSpec
from flood_distill import contract
from flood_distill.geo import raster
from flood_distill.geo.grid import Grid

DEGREES_PER_PX = 8.983152841195215e-05  # of Sen1Floods11's chips
CHIP_SIZE_DEG = DEGREES_PER_PX * sen1floods11.CHIP_SIZE[0]


def chip_grid(west: float, north: float) -> Grid:
    """Returns the grid of a 512 x 512 chip in degrees."""
    height, width = sen1floods11.CHIP_SIZE
    return Grid("EPSG:4326", (DEGREES_PER_PX, 0.0, west, 0.0, -DEGREES_PER_PX, north), width, height)


def utm_grid(left: float, top: float, zone: int = 32631) -> Grid:
    """Returns the grid of a 320 x 320 tile of 16 m."""
    size = contract.TILE_SIZE_PX
    return Grid(f"EPSG:{zone}", (16.0, 0.0, left, 0.0, -16.0, top), size, size)


def layer_array(spec: LayerSpec, shape: tuple[int, int]) -> np.ndarray:
    """Returns a constant layer: -10 dB, -17 dB, ...; 1000 x band number; water in the upper half."""
    num_bands = spec.layer.num_bands
    if spec.feature == contract.S1:
        return np.broadcast_to(np.array([-10, -17], np.float32), (*shape, num_bands)).copy()
    if spec.feature == contract.S2:
        return np.broadcast_to(1000 * np.arange(1, num_bands + 1, dtype=np.int16), (*shape, num_bands)).copy()
    return (np.arange(shape[0]) < shape[0] // 2)[:, None].astype(np.int16) * np.ones(shape, np.int16)


def write_chip(
    folder: Path,
    chip_id: str,
    grid: Grid,
    specs: Iterable[LayerSpec],
    arrays: Mapping[str, np.ndarray] | None = None,
    without: Iterable[str] = (),
) -> dict[str, Path]:
    """Writes the layers of a chip, one folder a layer; `arrays` replaces contents, `without` omits layers, by feature.

    Returns:
        The files by feature.
    """
    nodata = {contract.S1: np.nan, contract.S2: contract.S2_NODATA}
    written = {}
    for spec in specs:
        if spec.feature in without:
            continue
        path = folder / spec.layer.name / f"{chip_id}_{spec.layer.name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        array = (arrays or {}).get(spec.feature)
        array = layer_array(spec, grid.shape) if array is None else array
        raster.write_geotiff(path, array, grid, nodata.get(spec.feature), cog=False)
        written[spec.feature] = path
    return written


def write_hand_chip(root: Path, chip_id: str, grid: Grid, **kwargs) -> dict[str, Path]:
    """Writes a hand-labelled chip; see `write_chip`."""
    return write_chip(root / sen1floods11.HAND_FOLDER, chip_id, grid, sen1floods11.HAND_LAYERS, **kwargs)


def write_weak_chip(root: Path, chip_id: str, grid: Grid, **kwargs) -> dict[str, Path]:
    """Writes a weakly labelled chip; see `write_chip`."""
    return write_chip(root / sen1floods11.WEAK_FOLDER, chip_id, grid, sen1floods11.WEAK_LAYERS, **kwargs)


def write_external_tile(root: Path, chip_id: str, grid: Grid, **kwargs) -> dict[str, Path]:
    """Writes a tile of the External Dataset; see `write_chip`."""
    return write_chip(root, chip_id, grid, external.LAYERS, **kwargs)


def write_splits(root: Path, splits: Mapping[str, Iterable[str]]) -> None:
    """Writes the official lists as the publisher does: no header, CRLF; splits that are not given are empty."""
    for split, name in sen1floods11.SPLIT_FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{chip_id}_S1Hand.tif,{chip_id}_LabelHand.tif\r\n" for chip_id in splits.get(split, ())]
        path.write_text("".join(lines), newline="")


def write_ombria_tuple(
    root: Path, folder: str, number: int, arrays: Mapping[str, np.ndarray] | None = None, without: Iterable[str] = ()
) -> dict[str, Path]:
    """Writes an OMBRIA tuple, flooded in the upper half; `arrays` and `without` by feature.

    Returns:
        The files by feature.
    """
    written = {}
    for spec in ombria.AFTER_LAYERS + ombria.BEFORE_LAYERS:
        if spec.feature in without:
            continue
        path = ombria.path(root, folder, spec.layer.name, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        array = (arrays or {}).get(spec.feature)
        Image.fromarray(ombria_array(spec) if array is None else array).save(path)
        written[spec.feature] = path
    return written


def ombria_array(spec: LayerSpec) -> np.ndarray:
    """Returns a layer of OMBRIA: radar 30 to 79 where flooded, 150 to 199 elsewhere and before; one colour a date."""
    rows, columns = np.mgrid[: ombria.SIZE[0], : ombria.SIZE[1]]
    flooded = rows < ombria.SIZE[0] // 2
    if spec.feature == contract.LABEL:
        return np.where(flooded, 255, 0).astype(np.uint8)
    if spec.feature in (contract.S1, contract.S1_BEFORE):
        texture = (rows + 3 * columns) % 50
        return (np.where(flooded & (spec.feature == contract.S1), 30, 150) + texture).astype(np.uint8)
    color = (40, 60, 80) if spec.feature == contract.S2 else (90, 70, 50)
    return np.broadcast_to(np.array(color, np.uint8), (*ombria.SIZE, 3)).copy()


def mark_synthetic(folder: Path) -> None:
    """Marks a folder of tiles as synthetic."""
    (folder / contract.SYNTHETIC_MARKER).write_text(json.dumps({"seed": 0}))


def truncate(path: Path, share: float = 0.5) -> None:
    """Cuts a file off."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flip_byte(path: Path) -> None:
    """Changes one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
