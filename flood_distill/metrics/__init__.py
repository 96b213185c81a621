"""Counts that metrics are made of: keras and keras.ops only."""
