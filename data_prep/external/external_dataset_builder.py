"""TFDS builder of the External Dataset: Sentinel-1 and Sentinel-2 pairs of floods, labelled by an NDWI threshold."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from data_prep import exclusion, tile_builder
from data_prep.external import layout
from data_prep.sen1floods11 import layout as sen1floods11_layout
from data_prep.tile_builder import Plan
from data_prep.tiles import LayerSpec
from flood_distill import contract


class Builder(tile_builder.TileBuilder):
    """Pairs curated as in section 2.2 of the paper; `manual_dir` holds S1, S2 and NDWILabel."""

    HOMEPAGE = "https://earthengine.google.com"
    MANUAL_DOWNLOAD_INSTRUCTIONS = "python -m data_prep.earth_engine --events=E.csv --output_dir=<manual_dir>"
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=contract.EXTERNAL.split("/")[1], description="Weak labels, train only.")
    ]

    @property
    def layers(self) -> Sequence[LayerSpec]:
        """The layers of a tile."""
        return layout.LAYERS

    def make_plan(self, input_dir: Path) -> Plan:
        """Lists the tiles that may be trained on.

        The ground of Sen1Floods11's validation, test and Bolivia chips is excluded: as told by `sen1floods11_dir`, or
        by a folder ``sen1floods11`` beside `input_dir`, or by ``sen1floods11/hand`` in the same data_dir.
        """
        chips = layout.chips(input_dir)
        root = sen1floods11_layout.find_root_beside(input_dir, self.sen1floods11_dir)
        ground = exclusion.evaluation_ground(root, self.records_dir)
        if ground is None:
            note = "no Sen1Floods11 found to keep its evaluation ground out of training; see --sen1floods11_dir"
            return Plan({contract.TRAIN_SPLIT: chips}, self.layers, notes=[note])
        kept, excluded = exclusion.exclude(chips, ground)
        notes = []
        if ground.unknown:
            notes.append(
                f"{len(ground.unknown)} evaluation chips of Sen1Floods11 have no known footprint: not compared"
            )
        return Plan({contract.TRAIN_SPLIT: kept}, self.layers, excluded=excluded, notes=notes)
