"""The folders of the External Dataset: ``S1``, ``S2`` and ``NDWILabel``, files ``EVENT_TILEID_LAYER.tif``."""

from pathlib import Path

from data_prep import tiles
from data_prep.tiles import Chip, LayerSpec
from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.geo import raster

TILE_SIZE = (contract.TILE_SIZE_PX, contract.TILE_SIZE_PX)
LAYERS = (
    LayerSpec(contract.S1, raster.Layer("S1", 2, ("float32",), TILE_SIZE), (1, 2)),
    LayerSpec(contract.LABEL, raster.Layer("NDWILabel", 1, ("int16", "int8", "uint8"), TILE_SIZE), (1,)),
    # Only the model's bands are in the files: B2, B3, B4, B8.
    LayerSpec(contract.S2, raster.Layer("S2", 4, ("int16", "uint16"), TILE_SIZE), (1, 2, 3, 4)),
)


def chips(input_dir: Path) -> list[Chip]:
    """Returns all tiles of which at least one layer is there, sorted by id.

    Raises:
        UserError: if there is none.
    """
    folders = {spec.layer.name: input_dir / spec.layer.name for spec in LAYERS}
    chip_ids = set().union(*(tiles.list_chip_ids(folder, name) for name, folder in folders.items()))
    if not chip_ids:
        raise UserError(f"{input_dir}: no tiles S1/*_S1.tif in it; give the folder that holds S1, S2 and NDWILabel")
    return [tiles.find_chip(chip_id, folders, LAYERS) for chip_id in sorted(chip_ids)]
