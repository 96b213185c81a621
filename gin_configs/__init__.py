"""Gin files, installed with the package so that binaries find them by name."""
