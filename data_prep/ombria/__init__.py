"""TFDS builder of OMBRIA."""
