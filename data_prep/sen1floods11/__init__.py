"""TFDS builder of Sen1Floods11."""
