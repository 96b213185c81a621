"""Losses as pure functions: keras and keras.ops only."""
