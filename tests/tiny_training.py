"""Bindings that make a training of a shipped gin file as short as it can be."""

BINDINGS = (
    "network.width_multiplier=0.05",
    "network.num_middle_units=1",
    "network.batch_norm_momentum=0.5",
    "train.num_steps=4",
    "train.batch_size=2",
    "train.crop_size_px=65",
    "train.validate_every=2",
    "train.checkpoint_every=2",
    "train.report_every=2",
)
