"""From GeoTIFF tiles to TFDS datasets."""
