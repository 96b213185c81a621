"""Grids, warping and windows that conversion and prediction share; no TensorFlow."""
