"""Network architectures: keras and keras.ops only."""
