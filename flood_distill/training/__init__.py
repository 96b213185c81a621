"""The tf.distribute training loop and what belongs to it."""
