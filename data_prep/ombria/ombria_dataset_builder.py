"""TFDS builder of OMBRIA: 694 tuples of Sentinel-1 and Sentinel-2 before and after a flood, with a flood mask."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from data_prep import tile_builder
from data_prep.ombria import images, layout
from data_prep.tile_builder import Plan
from data_prep.tiles import LayerSpec
from flood_distill import contract

_NAMES = (contract.OMBRIA_AFTER, contract.OMBRIA_BEFORE_AFTER)
_WEAK_NAMES = (contract.OMBRIA_AFTER_WEAK, contract.OMBRIA_BEFORE_AFTER_WEAK)
_AFTER, _BEFORE_AFTER, _AFTER_WEAK, _BEFORE_AFTER_WEAK = (name.split("/")[1] for name in _NAMES + _WEAK_NAMES)


class Builder(tile_builder.TileBuilder):
    """OMBRIA; `manual_dir` is the folder that holds ``OmbriaS1`` and ``OmbriaS2``."""

    reader = images
    HOMEPAGE = "https://github.com/geodrak/OMBRIA"
    RELEASE_NOTES = {"1.0.0": "Images of 256 x 256 pixels without a place, as published."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "git clone https://github.com/geodrak/OMBRIA <manual_dir>"
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=_AFTER, description="The images after the flood."),
        tfds.core.BuilderConfig(name=_BEFORE_AFTER, description="The images before and after the flood."),
        tfds.core.BuilderConfig(name=_AFTER_WEAK, description="after, labelled by an index of Sentinel-2; train only."),
        tfds.core.BuilderConfig(
            name=_BEFORE_AFTER_WEAK, description="before_after, labelled by an index of Sentinel-2; train only."
        ),
    ]

    @property
    def layers(self) -> Sequence[LayerSpec]:
        """The layers of this config's tuples."""
        before = layout.BEFORE_LAYERS * (self.builder_config.name in (_BEFORE_AFTER, _BEFORE_AFTER_WEAK))
        layers = layout.AFTER_LAYERS + before
        return [layout.WEAK_LABEL if self._weak and spec.feature == contract.LABEL else spec for spec in layers]

    def make_plan(self, input_dir: Path) -> Plan:
        """Lists the tuples: the published test set, and the published training set less the validation split."""
        splits = layout.chips(layout.find_root(input_dir), self.layers)
        if self._weak:
            splits = {contract.TRAIN_SPLIT: splits[contract.TRAIN_SPLIT]}
        return Plan(splits, self.layers)

    @property
    def _weak(self) -> bool:
        return self.builder_config.name in (_AFTER_WEAK, _BEFORE_AFTER_WEAK)
