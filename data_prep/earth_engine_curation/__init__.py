"""Curates the External Dataset from Earth Engine (section 2.2 of the paper)."""
