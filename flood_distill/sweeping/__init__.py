"""A search over a grid of gin values: every point is one training run, shared by as many processes as there are."""
