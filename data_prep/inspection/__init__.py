"""Statistics and health of converted datasets."""
