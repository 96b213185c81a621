"""TFDS builder of Sen1Floods11: hand labels (446 chips) and weak labels (4,384 chips) of 11 flood events."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from data_prep import exclusion, tile_builder
from data_prep.sen1floods11 import layout
from data_prep.tile_builder import Plan
from data_prep.tiles import LayerSpec
from flood_distill import contract

_HAND, _WEAK = (name.split("/")[1] for name in (contract.HAND, contract.WEAK))


class Builder(tile_builder.TileBuilder):
    """Sen1Floods11 v1.1; `manual_dir` is the folder that holds the bucket's ``v1.1``."""

    HOMEPAGE = "https://github.com/cloudtostreet/Sen1Floods11"
    MANUAL_DOWNLOAD_INSTRUCTIONS = "python -m data_prep.download --dataset=sen1floods11 --output_dir=<manual_dir>"
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=_HAND, description="Hand labels; official train, validation, test and Bolivia."),
        tfds.core.BuilderConfig(
            name=_WEAK, description="Labels by index thresholds; train only, without ground that is evaluated on."
        ),
    ]

    @property
    def layers(self) -> Sequence[LayerSpec]:
        """The layers of this config's chips."""
        return layout.HAND_LAYERS if self.builder_config.name == _HAND else layout.WEAK_LAYERS

    def make_plan(self, input_dir: Path) -> Plan:
        """Lists the chips: by the official lists (hand), or all that are there and may be trained on (weak)."""
        root = layout.find_root(input_dir)
        if self.builder_config.name == _HAND:
            return Plan(layout.hand_chips(root), self.layers)
        ground = exclusion.evaluation_ground(root, self.records_dir)
        chips, excluded = exclusion.exclude(layout.weak_chips(root), ground)
        return Plan({contract.TRAIN_SPLIT: chips}, self.layers, unknown=ground.unknown, excluded=excluded)
