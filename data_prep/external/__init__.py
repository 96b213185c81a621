"""TFDS builder of the External Dataset."""
